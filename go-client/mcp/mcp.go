// Package mcp holds the payload types of the Model Context Protocol, under the names and fields of the official Go
// SDK (github.com/modelcontextprotocol/go-sdk/mcp), so that moving between the two is a change of import.
//
// They are generated from the models that the sidecar itself uses. What differs, and why:
//
//   - Every result, tool, resource, template and prompt has Raw, the bytes as they came: fields this version does
//     not know are there. Unknown fields never make decoding fail, and keys match exactly, not in any case.
//   - JSON of any shape (StructuredContent, InputSchema, OutputSchema, RequestedSchema, Input, Data) is
//     json.RawMessage: nothing is lost (integers past 2^53, the spelling of numbers), and nothing is decoded that
//     nobody reads. [CallToolResult.Decode] reads structured content.
//   - A content block of a type that is not known, or that is malformed, is an [UnknownContent] with its bytes; it
//     never costs the other blocks.
//   - Input rounds (inputRequests, requestState) are answered by the sidecar and have no fields here.
package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// Meta is additional metadata for requests, responses and other types, the "_meta" of MCP. Numbers decode to
// float64; the exact text is in the Raw of the result.
type Meta map[string]any

// GetMeta returns the metadata.
func (m Meta) GetMeta() map[string]any { return m }

// SetMeta replaces the metadata.
func (m *Meta) SetMeta(x map[string]any) { *m = x }

// Cacheable holds a server's cache hints (2026-07-28). The sidecar passes them on and never answers from memory.
type Cacheable struct {
	// TTLMs is how long the result stays fresh, in milliseconds; 0 means at once stale.
	TTLMs int `json:"ttlMs"`
	// CacheScope is "public" or "private": who may be given the cached result.
	CacheScope string `json:"cacheScope"`
}

// GetTTLMs returns the time to live in milliseconds.
func (c Cacheable) GetTTLMs() int { return c.TTLMs }

// GetCacheScope returns "public", "private", or "" where the server said nothing.
func (c Cacheable) GetCacheScope() string { return c.CacheScope }

// Content is one block of a result or prompt: a [*TextContent], [*ImageContent], [*AudioContent], [*ResourceLink],
// [*EmbeddedResource], [*ToolUseContent], [*ToolResultContent] or [*UnknownContent].
type Content interface {
	MarshalJSON() ([]byte, error)
	isContent()
}

// UnknownContent is a block of a type that this version does not know, or that does not have the shape of its type.
type UnknownContent struct {
	// Type is the block's tag; "" where it has none.
	Type string
	// Raw holds the whole block as it came.
	Raw json.RawMessage
}

func (*UnknownContent) isContent() {}

// MarshalJSON returns the block as it came.
func (x *UnknownContent) MarshalJSON() ([]byte, error) {
	if len(x.Raw) == 0 {
		return nil, errors.New("mcp: UnknownContent without Raw")
	}
	return x.Raw, nil
}

// Contents are several blocks where MCP also allows a single one: the Content of a [SamplingMessage] or of a
// [CreateMessageResult]. It is a Content itself; [Blocks] looks at both alike.
type Contents []Content

func (Contents) isContent() {}

// MarshalJSON writes a list; no blocks are an empty one.
func (x Contents) MarshalJSON() ([]byte, error) {
	if x == nil {
		return []byte("[]"), nil
	}
	return marshal([]Content(x))
}

// Blocks returns the blocks of a content that is one block or several; none for nil.
func Blocks(content Content) []Content {
	switch content := content.(type) {
	case nil:
		return nil
	case Contents:
		return content
	default:
		return []Content{content}
	}
}

// Task returns the task object of a detached call's result, and nil where the tool answered at once.
func (x *CallToolResult) Task() *Task {
	if len(x.Raw) == 0 {
		return nil
	}
	task := new(Task)
	if task.decode(x.Raw) != nil || task.TaskID == "" {
		return nil
	}
	return task
}

// Decode reads StructuredContent into v, a pointer, as [json.Unmarshal] does. Without structured content it returns
// an error that is [ErrNoStructuredContent].
func (x *CallToolResult) Decode(v any) error {
	if len(x.StructuredContent) == 0 {
		return ErrNoStructuredContent
	}
	if err := json.Unmarshal(x.StructuredContent, v); err != nil {
		return fmt.Errorf("mcp: structured content: %w", err)
	}
	return nil
}

// ErrNoStructuredContent is returned by [CallToolResult.Decode] for a result that has none.
var ErrNoStructuredContent = errors.New("mcp: the result has no structured content")

// marshal encodes without escaping HTML, so that text stays as it is.
func marshal(v any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

type decodableContent interface {
	Content
	decode(data []byte) error
}

func isNull(value []byte) bool { return jsonscan.Kind(value) == 'n' }

func ignore(string, []byte) error { return nil }

// decodeObject names the field in the error; null leaves everything as it is, as encoding/json does.
func decodeObject(data []byte, visit func(key string, value []byte) error) error {
	if isNull(data) {
		return nil
	}
	return jsonscan.Object(data, func(key string, value []byte) error {
		if err := visit(key, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
}

func decodeAny[T any](value []byte, target *T) error { return json.Unmarshal(value, target) }

func decodeString[T ~string](value []byte, target *T) error {
	if isNull(value) {
		return nil
	}
	if jsonscan.Kind(value) != '"' {
		return fmt.Errorf("want a string, have %.20s", value)
	}
	text, err := jsonscan.Unquote(value)
	*target = T(text)
	return err
}

// decodeInt takes 12, 12.0 and 1.2e1 alike: some servers print every number as a float.
func decodeInt[T ~int | ~int64](value []byte, target *T) error {
	if isNull(value) {
		return nil
	}
	if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		*target = T(n)
		return nil
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return fmt.Errorf("want an integer, have %.20s", value)
	}
	*target = T(f)
	return nil
}

func decodeIntPointer(value []byte, target **int64) error {
	if isNull(value) {
		*target = nil
		return nil
	}
	*target = new(int64)
	return decodeInt(value, *target)
}

type decodable[T any] interface {
	*T
	decode(data []byte) error
}

func decodePointer[T any, P decodable[T]](value []byte, target *P) error {
	if isNull(value) {
		*target = nil
		return nil
	}
	fresh := P(new(T))
	if err := fresh.decode(value); err != nil {
		return err
	}
	*target = fresh
	return nil
}

func decodeList[T any, P decodable[T]](value []byte, target *[]P) error {
	if isNull(value) {
		*target = nil
		return nil
	}
	list := []P{}
	err := jsonscan.Array(value, func(element []byte) error {
		if isNull(element) {
			return fmt.Errorf("[%d]: null", len(list))
		}
		fresh := P(new(T))
		if err := fresh.decode(element); err != nil {
			return fmt.Errorf("[%d]: %w", len(list), err)
		}
		list = append(list, fresh)
		return nil
	})
	*target = list
	return err
}

func decodeValues[T any, P decodable[T]](value []byte, target *[]T) error {
	var pointers []P
	if err := decodeList(value, &pointers); err != nil {
		return err
	}
	*target = nil
	for _, pointer := range pointers {
		*target = append(*target, *pointer)
	}
	return nil
}

// decodeContent never fails on a block, whatever it is: what cannot be read is kept as it came.
func decodeContent(value []byte, target *Content) error {
	if isNull(value) {
		*target = nil
		return nil
	}
	tag := ""
	if jsonscan.Kind(value) == '{' {
		err := jsonscan.Object(value, func(key string, member []byte) error {
			if key == "type" && jsonscan.Kind(member) == '"' {
				var err error
				tag, err = jsonscan.Unquote(member)
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if block := newContent(tag); block != nil && block.decode(value) == nil {
		*target = block
		return nil
	}
	*target = &UnknownContent{Type: tag, Raw: value}
	return nil
}

func decodeOneOrMany(value []byte, target *Content) error {
	if jsonscan.Kind(value) != '[' {
		return decodeContent(value, target)
	}
	var list []Content
	err := decodeContents(value, &list)
	*target = Contents(list)
	return err
}

func decodeContents(value []byte, target *[]Content) error {
	if isNull(value) {
		*target = nil
		return nil
	}
	list := []Content{}
	err := jsonscan.Array(value, func(element []byte) error {
		if isNull(element) {
			list = append(list, &UnknownContent{Raw: element})
			return nil
		}
		var block Content
		if err := decodeContent(element, &block); err != nil {
			return err
		}
		list = append(list, block)
		return nil
	})
	*target = list
	return err
}
