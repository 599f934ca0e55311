// Package forms fills in the forms of elicitation and the arguments of tools, for the examples.
package forms

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Schema is as much of JSON Schema as a form has.
type Schema struct {
	Type        json.RawMessage   `json:"type"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Properties  map[string]Schema `json:"properties"`
	Required    []string          `json:"required"`
	Default     json.RawMessage   `json:"default"`
	Enum        []json.RawMessage `json:"enum"`
	Const       json.RawMessage   `json:"const"`
	OneOf       []Schema          `json:"oneOf"`
	AnyOf       []Schema          `json:"anyOf"`
	Minimum     *float64          `json:"minimum"`
	Items       *Schema           `json:"items"`
	MinItems    int               `json:"minItems"`
	Format      string            `json:"format"`
}

// Parse reads a schema; none is that of an object without properties.
func Parse(raw json.RawMessage) (*Schema, error) {
	form := new(Schema)
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, form); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	}
	return form, nil
}

// Names returns the properties in order: the required ones first, in their order, then the others.
func (s *Schema) Names() []string {
	names := slices.DeleteFunc(slices.Clone(s.Required), func(name string) bool {
		_, ok := s.Properties[name]
		return !ok
	})
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Object returns an object that fits, with every property; those with a default may be left out.
func (s *Schema) Object(leaveDefaults bool) map[string]any {
	object := map[string]any{}
	for name, property := range s.Properties {
		if leaveDefaults && property.Default != nil {
			continue
		}
		object[name] = property.Value()
	}
	return object
}

// kind is the type; "string" where there is none, or a choice.
func (s *Schema) kind() string {
	kind := ""
	if json.Unmarshal(s.Type, &kind) != nil || kind == "" {
		return "string"
	}
	return kind
}

// Value returns a value that fits.
func (s *Schema) Value() any {
	switch {
	case s.Default != nil:
		return s.Default
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.OneOf) > 0:
		return s.OneOf[0].Value()
	case len(s.AnyOf) > 0:
		return s.AnyOf[0].Value()
	}
	switch s.kind() {
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return true
	case "array":
		list := []any{}
		for s.Items != nil && len(list) < s.MinItems {
			list = append(list, s.Items.Value())
		}
		return list
	case "object":
		return s.Object(false)
	case "null":
		return nil
	}
	switch s.Format {
	case "email":
		return "a@example.com"
	case "uri":
		return "https://example.com/"
	case "date":
		return "2026-01-01"
	case "date-time":
		return "2026-01-01T00:00:00Z"
	}
	return "text"
}

// Read makes the text that a person typed the property's value.
func (s *Schema) Read(text string) (any, error) {
	switch s.kind() {
	case "integer":
		return strconv.ParseInt(text, 10, 64)
	case "number":
		return strconv.ParseFloat(text, 64)
	case "boolean":
		switch strings.ToLower(text) {
		case "y", "yes", "true":
			return true, nil
		case "n", "no", "false":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither yes nor no", text)
	case "array":
		list := []string{}
		for _, word := range strings.Split(text, ",") {
			list = append(list, strings.TrimSpace(word))
		}
		return list, nil
	}
	return text, nil
}

// Hint says in a few words what is wanted.
func (s *Schema) Hint() string {
	words := []string{s.kind()}
	if s.Format != "" {
		words = append(words, s.Format)
	}
	for _, choice := range s.Enum {
		words = append(words, string(choice))
	}
	for _, choice := range s.OneOf {
		words = append(words, string(choice.Const))
	}
	if s.Default != nil {
		words = append(words, "default "+string(s.Default))
	}
	return strings.Join(words, ", ")
}
