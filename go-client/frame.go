package sidecar

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

const (
	defaultMaxFrame = 64 << 20
	headBytes       = 4096 // of a line that was cut or is broken, searched for its id
	maxIDChars      = 256
	maxIDInt        = 1 << 53
)

// frame is one line, its parts undecoded; a nil part was not there.
type frame struct {
	id, params, result, fault []byte
	method                    string
	hasMethod                 bool
}

// frameFault is a fault of the line itself (section 1 of proto/README.md).
type frameFault struct {
	code   int
	why    string
	rawID  []byte // as it is spelled; nil where it cannot be read
	limit  int    // 0 where size was not the matter
	answer bool   // the line was meant as an answer: a result or an error, and no method
}

func (f *frameFault) Error() string { return f.why }

func (f *frameFault) wire() *Error {
	data := map[string]any{}
	if f.rawID != nil {
		data["id"] = json.RawMessage(f.rawID)
	}
	if f.limit > 0 {
		data["limit"] = f.limit
	}
	return localError(f.code, "", f.why, nil, data)
}

// parseFrame checks one line, without its newline. Keys match exactly, of duplicate keys the last one counts.
func parseFrame(line []byte) (*frame, *frameFault) {
	var f frame
	var version, method []byte
	err := jsonscan.ValidObject(line, func(key string, value []byte) error {
		switch key {
		case "jsonrpc":
			version = value
		case "id":
			f.id = value
		case "method":
			method = value
		case "params":
			f.params = value
		case "result":
			f.result = value
		case "error":
			f.fault = value
		}
		return nil
	})
	if err != nil {
		return nil, badText(line, err)
	}
	isAnswer := method == nil && (f.result != nil || f.fault != nil)
	fault := func(why string) (*frame, *frameFault) {
		return nil, &frameFault{code: CodeInvalidRequest, why: "invalid request: " + why, rawID: readableID(f.id), answer: isAnswer}
	}
	if text, err := jsonscan.Unquote(version); version == nil || jsonscan.Kind(version) != '"' || err != nil || text != "2.0" {
		return fault(`"jsonrpc" must be "2.0"`)
	}
	if method != nil {
		if jsonscan.Kind(method) != '"' {
			return fault("the method is not a string")
		}
		if f.method, err = jsonscan.Unquote(method); err != nil {
			return fault("the method is not a string")
		}
		f.hasMethod = true
		if f.id != nil {
			if why := idFault(f.id); why != "" {
				return fault("the id is " + why)
			}
		}
		return &f, nil
	}
	switch {
	case f.result == nil && f.fault == nil || f.id == nil:
		return fault("neither a request nor an answer")
	case string(f.id) == "null":
		if f.fault == nil {
			return fault("an answer without id")
		}
	default:
		if why := idFault(f.id); why != "" {
			return fault("the id is " + why)
		}
	}
	return &f, nil
}

// badText tells JSON that is no object from text that is no JSON.
func badText(line []byte, err error) *frameFault {
	if jsonscan.Kind(line) == '{' || jsonscan.Validate(line) != nil {
		rawID, answer := scanHead(line[:min(len(line), headBytes)])
		return &frameFault{code: CodeParseError, why: "parse error: " + err.Error(), rawID: rawID, answer: answer}
	}
	why := "invalid request: not an object"
	if jsonscan.Kind(line) == '[' {
		why = "invalid request: a batch is not supported, send one object a line"
	}
	return &frameFault{code: CodeInvalidRequest, why: why}
}

func idFault(raw []byte) string {
	switch c := raw[0]; {
	case c == '"':
		text, err := jsonscan.Unquote(raw)
		if err != nil || utf8.RuneCountInString(text) > maxIDChars {
			return fmt.Sprintf("longer than %d characters", maxIDChars)
		}
		return ""
	case c == '-' || c >= '0' && c <= '9':
		if bytes.ContainsAny(raw, ".eE") {
			return "not spelled as an integer"
		}
		if n, err := strconv.ParseInt(string(raw), 10, 64); err != nil || n > maxIDInt || n < -maxIDInt {
			return "outside +-2^53"
		}
		return ""
	default:
		return "not a string or an integer"
	}
}

// readableID returns the id if it can stand in data.id: any text or number.
func readableID(raw []byte) []byte {
	if len(raw) > 0 && (raw[0] == '"' || raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
		return raw
	}
	return nil
}

// idKey returns the key of an id in a table: equal ids have equal keys, however the text is escaped.
func idKey(raw []byte) string {
	if len(raw) > 0 && raw[0] == '"' {
		if text, err := jsonscan.Unquote(raw); err == nil {
			return `"` + text
		}
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return string(raw)
}

// scanHead looks for a whole id, and for the members of an answer, at the top level of a line that was cut or is no JSON: strings and
// brackets are stepped over by their form alone, whatever the bytes are.
func scanHead(head []byte) (rawID []byte, answer bool) {
	var method, outcome bool
	depth := 0
	for at := 0; at < len(head); at++ {
		switch head[at] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := stringEnd(head, at)
			if end < 0 {
				return rawID, outcome && !method
			}
			key := string(head[at+1 : end-1])
			at = end - 1
			if depth != 1 {
				continue
			}
			value := bytes.TrimLeft(head[end:], " \t\r\n")
			if len(value) == 0 || value[0] != ':' {
				continue
			}
			value = bytes.TrimLeft(value[1:], " \t\r\n")
			switch key {
			case "method":
				method = true
			case "result", "error":
				outcome = true
			}
			if key == "id" && rawID == nil {
				rawID = wholeID(value)
			}
		}
	}
	return rawID, outcome && !method
}

func stringEnd(text []byte, start int) int {
	for at := start + 1; at < len(text); at++ {
		switch text[at] {
		case '\\':
			at++
		case '"':
			return at + 1
		}
	}
	return -1
}

// wholeID returns the id at the start of text if it is there to its end and acceptable.
func wholeID(text []byte) []byte {
	if len(text) == 0 {
		return nil
	}
	if text[0] == '"' {
		end := stringEnd(text, 0)
		if end < 0 || jsonscan.Validate(text[:end]) != nil || idFault(text[:end]) != "" {
			return nil
		}
		return bytes.Clone(text[:end])
	}
	end := bytes.IndexAny(text, " \t\r\n,}")
	if end <= 0 || jsonscan.Validate(text[:end]) != nil || readableID(text) == nil || idFault(text[:end]) != "" {
		return nil
	}
	return bytes.Clone(text[:end])
}

// lineReader splits a stream into lines of at most max bytes (the end of the line not counted).
type lineReader struct {
	in  *bufio.Reader
	max int
}

// next returns one line without its end. An over-long line is skipped to its newline and comes back as a fault with
// its id, if that can be read. At the end of the stream the last line needs no newline; then io.EOF.
func (r *lineReader) next() ([]byte, *frameFault, error) {
	var line []byte   // its end so far
	var full [][]byte // what stands before that: a long line is collected in blocks and copied once
	size := 0
	for {
		part, err := r.in.ReadSlice('\n')
		if size += len(part); size > r.max+2 {
			return r.skip(slices.Concat(append(full, line, part)...), err)
		}
		if line != nil && len(line)+len(part) > cap(line) {
			full = append(full, line)
			line = make([]byte, 0, 2*cap(line))
		}
		line = append(line, part...)
		switch {
		case err == nil || errors.Is(err, io.EOF) && size > 0:
			if len(full) > 0 {
				line = bytes.Join(append(full, line), nil)
			}
			return r.finish(line)
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, nil, err
		}
	}
}

func (r *lineReader) finish(line []byte) ([]byte, *frameFault, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > r.max {
		return nil, r.tooLong(line), nil
	}
	return line, nil, nil
}

func (r *lineReader) tooLong(head []byte) *frameFault {
	rawID, answer := scanHead(head[:min(len(head), headBytes)])
	return &frameFault{
		code: CodeInvalidRequest, why: fmt.Sprintf("invalid request: a line over maxFrameBytes (%d)", r.max),
		rawID: rawID, limit: r.max, answer: answer,
	}
}

func (r *lineReader) skip(head []byte, err error) ([]byte, *frameFault, error) {
	fault := r.tooLong(head)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.in.ReadSlice('\n')
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return nil, fault, nil
}
