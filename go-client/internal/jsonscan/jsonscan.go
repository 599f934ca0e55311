// Package jsonscan checks JSON text strictly and takes it apart without changing a byte.
//
// encoding/json accepts more than the wire allows (bad UTF-8 and lone surrogates become U+FFFD, keys match in any
// case, nesting goes to 10 000); the wire requires exact text, so frames are checked here and values are handed out
// as the bytes they were.
package jsonscan

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how many arrays and objects may be open at once in a frame.
const MaxDepth = 512

// ErrSyntax is wrapped by every error of this package.
var ErrSyntax = errors.New("not acceptable JSON")

func syntax(at int, what string) error { return fmt.Errorf("%w at byte %d: %s", ErrSyntax, at, what) }

// Validate reports whether data is exactly one JSON value in UTF-8, without NaN or Infinity, without lone
// surrogates, and with at most MaxDepth arrays and objects open at once.
func Validate(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	s := scanner{data: data}
	if err := s.value(); err != nil {
		return err
	}
	return s.end()
}

type scanner struct {
	data  []byte
	at    int
	depth int
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// value checks one value. The recursion is bounded by MaxDepth.
func (s *scanner) value() error {
	s.space()
	if s.at >= len(s.data) {
		return syntax(s.at, "the text ends where a value should be")
	}
	switch c := s.data[s.at]; {
	case c == '{':
		return s.container('}', true)
	case c == '[':
		return s.container(']', false)
	case c == '"':
		return s.str()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	default:
		return syntax(s.at, "no value begins so")
	}
}

func (s *scanner) container(end byte, object bool) error {
	if s.depth++; s.depth > MaxDepth {
		return syntax(s.at, fmt.Sprintf("nested deeper than %d", MaxDepth))
	}
	s.at++
	s.space()
	if s.at < len(s.data) && s.data[s.at] == end {
		s.at++
		s.depth--
		return nil
	}
	for {
		if object {
			if err := s.key(); err != nil {
				return err
			}
		}
		if err := s.value(); err != nil {
			return err
		}
		s.space()
		if s.at >= len(s.data) {
			return syntax(s.at, "the text ends inside an array or object")
		}
		switch s.data[s.at] {
		case ',':
			s.at++
		case end:
			s.at++
			s.depth--
			return nil
		default:
			return syntax(s.at, "a comma or the end of the array or object is missing")
		}
	}
}

func (s *scanner) key() error {
	s.space()
	if s.at >= len(s.data) || s.data[s.at] != '"' {
		return syntax(s.at, "a key must be a string")
	}
	if err := s.str(); err != nil {
		return err
	}
	s.space()
	if s.at >= len(s.data) || s.data[s.at] != ':' {
		return syntax(s.at, "a colon is missing")
	}
	s.at++
	return nil
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.data[s.at:], []byte(word)) {
		return syntax(s.at, "no value begins so")
	}
	s.at += len(word)
	return nil
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

func (s *scanner) number() error {
	start := s.at
	if s.data[s.at] == '-' {
		s.at++
	}
	if s.at < len(s.data) && s.data[s.at] == '0' {
		s.at++
	} else if !s.digits() {
		return syntax(start, "not a number")
	}
	if s.at < len(s.data) && s.data[s.at] == '.' {
		s.at++
		if !s.digits() {
			return syntax(start, "not a number")
		}
	}
	if s.at < len(s.data) && (s.data[s.at] == 'e' || s.data[s.at] == 'E') {
		s.at++
		if s.at < len(s.data) && (s.data[s.at] == '+' || s.data[s.at] == '-') {
			s.at++
		}
		if !s.digits() {
			return syntax(start, "not a number")
		}
	}
	return nil
}

// special marks the bytes inside a string that need a look.
var special = func() (table [256]bool) {
	for c := range 0x20 {
		table[c] = true
	}
	table['"'], table['\\'] = true, true
	return table
}()

// eight bytes at once: the lowest byte of a word in which a bit of high is set is one that needs a look.
const (
	low  = 0x0101010101010101
	high = 0x8080808080808080
)

// plain steps over the bytes inside a string that need no look.
func (s *scanner) plain() {
	data, at := s.data, s.at
	for at+8 <= len(data) {
		word := binary.LittleEndian.Uint64(data[at:])
		quote, slash := word^low*'"', word^low*'\\'
		if found := ((word-low*0x20)&^word | (quote-low)&^quote | (slash-low)&^slash) & high; found != 0 {
			s.at = at + bits.TrailingZeros64(found)/8
			return
		}
		at += 8
	}
	for at < len(data) && !special[data[at]] {
		at++
	}
	s.at = at
}

func (s *scanner) str() error {
	s.at++
	for {
		s.plain()
		if s.at >= len(s.data) {
			return syntax(s.at, "the text ends inside a string")
		}
		switch s.data[s.at] {
		case '"':
			s.at++
			return nil
		case '\\':
			if err := s.escape(); err != nil {
				return err
			}
		default:
			return syntax(s.at, "a control character inside a string")
		}
	}
}

func (s *scanner) escape() error {
	if s.at+1 >= len(s.data) {
		return syntax(s.at, "the text ends inside a string")
	}
	switch s.data[s.at+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.at += 2
		return nil
	case 'u':
	default:
		return syntax(s.at, "no such escape")
	}
	first, ok := s.hex4(s.at + 2)
	if !ok {
		return syntax(s.at, "not a \\u escape")
	}
	start := s.at
	s.at += 6
	switch {
	case first >= 0xDC00 && first <= 0xDFFF:
		return syntax(start, "a lone surrogate")
	case first >= 0xD800 && first <= 0xDBFF:
		if s.at+1 >= len(s.data) || s.data[s.at] != '\\' || s.data[s.at+1] != 'u' {
			return syntax(start, "a lone surrogate")
		}
		second, ok := s.hex4(s.at + 2)
		if !ok || second < 0xDC00 || second > 0xDFFF {
			return syntax(start, "a lone surrogate")
		}
		s.at += 6
	}
	return nil
}

func (s *scanner) hex4(at int) (int, bool) {
	if at+4 > len(s.data) {
		return 0, false
	}
	n := 0
	for _, c := range s.data[at : at+4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// Kind returns the first byte of the value in data (after white space), or 0 if there is none.
func Kind(data []byte) byte {
	data = bytes.TrimLeft(data, " \t\r\n")
	if len(data) == 0 {
		return 0
	}
	return data[0]
}

// Object calls visit for each member of the object in data, in order; duplicate keys are visited each, so that with
// assignments the last one counts. The values are parts of data. Values are skipped, not checked: give it text that
// Validate or encoding/json has accepted. On other text it returns an error or visits what it found, and never panics.
func Object(data []byte, visit func(key string, value []byte) error) error {
	s := scanner{data: data}
	s.space()
	if s.at >= len(data) || data[s.at] != '{' {
		return syntax(s.at, "not an object")
	}
	s.at++
	for {
		s.space()
		if s.at < len(data) && data[s.at] == '}' {
			return nil
		}
		start := s.at
		if s.at >= len(data) || data[s.at] != '"' || !s.skipString() {
			return syntax(s.at, "a key must be a string")
		}
		key, err := Unquote(data[start:s.at])
		if err != nil {
			return err
		}
		s.space()
		if s.at >= len(data) || data[s.at] != ':' {
			return syntax(s.at, "a colon is missing")
		}
		s.at++
		value, err := s.skip()
		if err != nil {
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
		s.space()
		if s.at < len(data) && data[s.at] == ',' {
			s.at++
		} else if s.at >= len(data) || data[s.at] != '}' {
			return syntax(s.at, "a comma or the end of the object is missing")
		}
	}
}

// ValidObject is Validate and Object in one pass: members are handed out as they are checked, so what was visited
// counts only where the error is nil. Values are parts of data.
func ValidObject(data []byte, visit func(key string, value []byte) error) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	s := scanner{data: data, depth: 1}
	s.space()
	if s.at >= len(data) || data[s.at] != '{' {
		return syntax(s.at, "not an object")
	}
	s.at++
	s.space()
	if s.at < len(data) && data[s.at] == '}' {
		s.at++
		return s.end()
	}
	for {
		s.space()
		start := s.at
		if err := s.key(); err != nil {
			return err
		}
		key, err := Unquote(bytes.TrimRight(data[start:s.at-1], " \t\r\n"))
		if err != nil {
			return err
		}
		s.space()
		start = s.at
		if err := s.value(); err != nil {
			return err
		}
		if err := visit(key, data[start:s.at:s.at]); err != nil {
			return err
		}
		s.space()
		if s.at >= len(data) {
			return syntax(s.at, "the text ends inside an array or object")
		}
		c := data[s.at]
		s.at++
		if c == '}' {
			return s.end()
		}
		if c != ',' {
			return syntax(s.at-1, "a comma or the end of the array or object is missing")
		}
	}
}

// end checks that nothing but white space is left.
func (s *scanner) end() error {
	s.space()
	if s.at != len(s.data) {
		return syntax(s.at, "text after the value")
	}
	return nil
}

// Array calls visit for each element of the array in data, under the same rules as Object.
func Array(data []byte, visit func(value []byte) error) error {
	s := scanner{data: data}
	s.space()
	if s.at >= len(data) || data[s.at] != '[' {
		return syntax(s.at, "not an array")
	}
	s.at++
	s.space()
	if s.at < len(data) && data[s.at] == ']' {
		return nil
	}
	for {
		value, err := s.skip()
		if err != nil {
			return err
		}
		if err := visit(value); err != nil {
			return err
		}
		s.space()
		if s.at >= len(data) {
			return syntax(s.at, "the text ends inside an array")
		}
		c := data[s.at]
		s.at++
		if c == ']' {
			return nil
		}
		if c != ',' {
			return syntax(s.at-1, "a comma or the end of the array is missing")
		}
	}
}

// Unquote returns the text of a JSON string.
func Unquote(data []byte) (string, error) {
	if len(data) >= 2 && data[0] == '"' && data[len(data)-1] == '"' {
		inner := data[1 : len(data)-1]
		if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			return string(inner), nil
		}
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return "", fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return text, nil
}

func (s *scanner) skipString() bool {
	s.at++
	for {
		s.plain()
		if s.at >= len(s.data) {
			s.at = len(s.data)
			return false
		}
		switch s.data[s.at] {
		case '"':
			s.at++
			return true
		case '\\':
			s.at += 2
		default:
			s.at++
		}
	}
}

// skip steps over one value and returns its bytes.
func (s *scanner) skip() ([]byte, error) {
	s.space()
	start, depth := s.at, 0
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case '"':
			if !s.skipString() {
				return nil, syntax(start, "the text ends inside a string")
			}
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			if depth == 0 {
				return nil, syntax(s.at, "a value is missing")
			}
			depth--
			s.at++
		case ' ', '\t', '\r', '\n', ',', ':':
			if depth == 0 {
				return nil, syntax(s.at, "a value is missing")
			}
			s.at++
			continue
		default:
			s.scalar()
		}
		if depth == 0 {
			return s.data[start:s.at:s.at], nil
		}
	}
	return nil, syntax(s.at, "the text ends inside a value")
}

func (s *scanner) scalar() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ',', ']', '}', ':', '"', '{', '[', ' ', '\t', '\r', '\n':
			return
		}
		s.at++
	}
}
