package main

import (
	"encoding/json"
	"fmt"
)

// schema is as much of JSON Schema as it takes to fill in a form.
type schema struct {
	Type       json.RawMessage   `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Default    json.RawMessage   `json:"default"`
	Enum       []json.RawMessage `json:"enum"`
	Const      json.RawMessage   `json:"const"`
	OneOf      []schema          `json:"oneOf"`
	Minimum    *float64          `json:"minimum"`
	Items      *schema           `json:"items"`
	MinItems   int               `json:"minItems"`
	Format     string            `json:"format"`
}

// objectFor returns an object that fits, with every property; those with a default may be left out.
func objectFor(raw json.RawMessage, leaveDefaults bool) (map[string]any, error) {
	var form schema
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &form); err != nil {
			return nil, fmt.Errorf("schema: %w", err)
		}
	}
	return form.object(leaveDefaults), nil
}

func (s *schema) object(leaveDefaults bool) map[string]any {
	object := map[string]any{}
	for name, property := range s.Properties {
		if leaveDefaults && property.Default != nil {
			continue
		}
		object[name] = property.value()
	}
	return object
}

func (s *schema) value() any {
	switch {
	case s.Default != nil:
		return s.Default
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.OneOf) > 0:
		return s.OneOf[0].value()
	}
	var kind string
	if json.Unmarshal(s.Type, &kind) != nil {
		kind = "string" // none, or a choice
	}
	switch kind {
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
			list = append(list, s.Items.value())
		}
		return list
	case "object":
		return s.object(false)
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
