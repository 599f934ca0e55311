package mcp

import (
	"bytes"
	"encoding/json"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// Skills are an extension (SEP-2640) that the official Go SDK has no types for.

// Skill is one entry of a server's list of skills.
type Skill struct {
	Meta `json:"_meta,omitempty"`
	// URI is that of the skill's SKILL.md.
	URI string `json:"uri"`
	// Frontmatter is the front matter of SKILL.md, a JSON object; name and description are in it.
	Frontmatter json.RawMessage `json:"frontmatter"`
	// Resources are the skill's files, SKILL.md among them; nil where Dynamic.
	Resources []*SkillResource `json:"-"`
	// Dynamic says that the server does not list the skill's files.
	Dynamic bool `json:"-"`
	// Raw holds the bytes as they came, unknown fields and all.
	Raw json.RawMessage `json:"-"`
}

// SkillResource is one file of a skill.
type SkillResource struct {
	URI string `json:"uri"`
	// Digest is "sha256:" and lower-case hex.
	Digest string `json:"digest"`
	// Size is in bytes.
	Size int64 `json:"size"`
}

// Name returns the name in the front matter.
func (x *Skill) Name() string { return x.word("name") }

// Description returns the description in the front matter.
func (x *Skill) Description() string { return x.word("description") }

func (x *Skill) word(name string) string {
	word := ""
	if jsonscan.Kind(x.Frontmatter) != '{' {
		return ""
	}
	_ = jsonscan.Object(x.Frontmatter, func(key string, value []byte) error {
		if key == name {
			return decodeString(value, &word)
		}
		return nil
	}) // a name that is no text is no name
	return word
}

// MarshalJSON returns the entry as it came.
func (x *Skill) MarshalJSON() ([]byte, error) {
	if len(x.Raw) > 0 {
		return x.Raw, nil
	}
	type plain Skill
	var resources any = x.Resources
	if x.Dynamic {
		resources = "dynamic"
	}
	return marshal(struct {
		*plain
		Resources any `json:"resources"`
	}{(*plain)(x), resources})
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]: keys match exactly, Raw keeps the rest.
func (x *Skill) UnmarshalJSON(data []byte) error { return x.decode(bytes.Clone(data)) }

func (x *Skill) decode(data []byte) error {
	x.Raw = data
	return decodeObject(data, func(key string, value []byte) error {
		switch key {
		case "_meta":
			return decodeAny(value, &x.Meta)
		case "uri":
			return decodeString(value, &x.URI)
		case "frontmatter":
			x.Frontmatter = value
		case "resources":
			if jsonscan.Kind(value) == '"' {
				x.Dynamic = true
				return nil
			}
			return decodeList(value, &x.Resources)
		}
		return nil
	})
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]: keys match exactly.
func (x *SkillResource) UnmarshalJSON(data []byte) error { return x.decode(bytes.Clone(data)) }

func (x *SkillResource) decode(data []byte) error {
	return decodeObject(data, func(key string, value []byte) error {
		switch key {
		case "uri":
			return decodeString(value, &x.URI)
		case "digest":
			return decodeString(value, &x.Digest)
		case "size":
			return decodeInt(value, &x.Size)
		}
		return nil
	})
}

// ListSkillsParams are the params of skills/list.
type ListSkillsParams struct {
	Meta `json:"_meta,omitempty"`
	// Cursor is the NextCursor of the page before.
	Cursor string `json:"cursor,omitempty"`
}

// ListSkillsResult is one page of a server's skills.
type ListSkillsResult struct {
	Meta `json:"_meta,omitempty"`
	Cacheable
	NextCursor string   `json:"nextCursor,omitempty"`
	Skills     []*Skill `json:"skills"`
	// Raw holds the bytes as they came, unknown fields and all.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]: keys match exactly, Raw keeps the rest.
func (x *ListSkillsResult) UnmarshalJSON(data []byte) error {
	data = bytes.Clone(data)
	x.Raw = data
	return decodeObject(data, func(key string, value []byte) error {
		switch key {
		case "_meta":
			return decodeAny(value, &x.Meta)
		case "nextCursor":
			return decodeString(value, &x.NextCursor)
		case "skills":
			return decodeList(value, &x.Skills)
		default:
			return x.Cacheable.take(key, value)
		}
	})
}

// GetSkillParams name the skill by the URI of its SKILL.md.
type GetSkillParams struct {
	Meta `json:"_meta,omitempty"`
	URI  string `json:"uri"`
}

// GetSkillResult is one skill's entry.
type GetSkillResult struct {
	Meta `json:"_meta,omitempty"`
	Cacheable
	Skill *Skill `json:"skill"`
	// Raw holds the bytes as they came, unknown fields and all.
	Raw json.RawMessage `json:"-"`
}

// UnmarshalJSON implements [encoding/json.Unmarshaler]: keys match exactly, Raw keeps the rest.
func (x *GetSkillResult) UnmarshalJSON(data []byte) error {
	data = bytes.Clone(data)
	x.Raw = data
	return decodeObject(data, func(key string, value []byte) error {
		switch key {
		case "_meta":
			return decodeAny(value, &x.Meta)
		case "skill":
			return decodePointer(value, &x.Skill)
		default:
			return x.Cacheable.take(key, value)
		}
	})
}

// ReadSkillParams name a file of a skill: its SKILL.md, or one of its resources.
type ReadSkillParams struct {
	Meta `json:"_meta,omitempty"`
	URI  string `json:"uri"`
}

func (c *Cacheable) take(key string, value []byte) error {
	switch key {
	case "ttlMs":
		return decodeInt(value, &c.TTLMs)
	case "cacheScope":
		return decodeString(value, &c.CacheScope)
	}
	return nil
}
