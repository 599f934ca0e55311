package sidecar

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// marshal encodes without escaping HTML. A json.RawMessage keeps its values; blanks between tokens may go.
func marshal(v any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// encodeParams returns the JSON object of params; nil is {}.
func encodeParams(params any) ([]byte, *Error) {
	if params == nil {
		return []byte("{}"), nil
	}
	raw, err := marshal(params)
	if err != nil {
		return nil, localError(CodeInvalidParams, "", fmt.Sprintf("the params cannot be encoded: %v", err), err, nil)
	}
	if string(raw) == "null" {
		return []byte("{}"), nil
	}
	if jsonscan.Kind(raw) != '{' {
		return nil, localError(CodeInvalidParams, "", "the params must be an object", nil, map[string]any{"path": ""})
	}
	if err := jsonscan.Validate(raw); err != nil {
		return nil, localError(CodeInvalidParams, "", fmt.Sprintf("the params are %v", err), err, nil)
	}
	return raw, nil
}

// member is one key of our own that goes before the caller's.
type member struct {
	key   string
	value any
}

// prepend returns the object with the members put before its own; of duplicate keys the last one counts, so what the
// object says itself wins.
func prepend(object []byte, members ...member) ([]byte, *Error) {
	var buffer bytes.Buffer
	buffer.Grow(len(object) + 96)
	buffer.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			buffer.WriteByte(',')
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, localError(CodeInvalidParams, "", fmt.Sprintf("%s cannot be encoded: %v", m.key, err), err, nil)
		}
		fmt.Fprintf(&buffer, "%q:", m.key)
		buffer.Write(value)
	}
	rest := bytes.TrimLeft(object[1:], " \t\r\n")
	if len(members) > 0 && rest[0] != '}' {
		buffer.WriteByte(',')
	}
	buffer.Write(rest)
	return buffer.Bytes(), nil
}

func quote(text string) []byte {
	raw, err := marshal(text)
	if err != nil {
		return []byte(`""`) // unreachable: every text can be encoded
	}
	return raw
}

// requestFrame builds one line, its newline included.
func requestFrame(id int64, method string, params []byte) []byte {
	line := make([]byte, 0, len(params)+len(method)+64)
	line = fmt.Appendf(line, `{"jsonrpc":"2.0","id":%d,"method":%s,"params":`, id, quote(method))
	line = append(line, params...)
	return append(line, '}', '\n')
}

func notificationFrame(method string, params []byte) []byte {
	line := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%s,"params":`, quote(method))
	line = append(line, params...)
	return append(line, '}', '\n')
}

func answerFrame(rawID, result []byte) []byte {
	line := append([]byte(`{"jsonrpc":"2.0","id":`), rawID...)
	line = append(line, `,"result":`...)
	line = append(line, result...)
	return append(line, '}', '\n')
}

func errorFrame(rawID []byte, failure *Error) []byte {
	body, err := marshal(failure)
	if err != nil {
		body = fmt.Appendf(nil, `{"code":%d,"message":"internal error"}`, CodeInternal)
	}
	line := append([]byte(`{"jsonrpc":"2.0","id":`), rawID...)
	line = append(line, `,"error":`...)
	line = append(line, body...)
	return append(line, '}', '\n')
}
