package sidecar

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The transcripts of proto/transcripts, parsed and matched. Their format stands in proto/transcripts/README.md.

type transcript struct {
	steps   []transcriptStep
	ignored []string
	only    string
}

// transcriptStep is one line, or a group of lines that may come in any order.
type transcriptStep struct {
	kind      string // send, raw, receive, eof or exit
	number    int
	texts     []string
	unordered bool
}

func loadTranscript(t *testing.T, name string) transcript {
	t.Helper()
	parsed, err := readTranscript(filepath.Join("..", "proto", "transcripts", name))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func readTranscript(path string) (transcript, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return transcript{}, err
	}
	var parsed transcript
	lines := strings.Split(string(raw), "\n")
	for i := 0; i < len(lines); i++ {
		line, number := lines[i], i+1
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		for i+1 < len(lines) && lines[i+1] != "" && (lines[i+1][0] == ' ' || lines[i+1][0] == '\t') {
			i++
			line += strings.TrimSpace(lines[i])
		}
		word, rest, _ := strings.Cut(line, " ")
		step := transcriptStep{number: number, texts: []string{rest}}
		switch word {
		case "!ignore":
			parsed.ignored = append(parsed.ignored, rest)
			continue
		case "!only":
			parsed.only, _, _ = strings.Cut(rest, ":")
			continue
		case "->":
			step.kind = "send"
		case "=>":
			step.kind = "raw"
		case "<-":
			step.kind = "receive"
		case "<|":
			step.kind, step.unordered = "receive", true
			if last := len(parsed.steps) - 1; last >= 0 && parsed.steps[last].unordered {
				parsed.steps[last].texts = append(parsed.steps[last].texts, rest)
				continue
			}
		case "eof", "exit":
			step.kind = word
		default:
			return transcript{}, fmt.Errorf("%s line %d: %q is no line of a transcript", path, number, line)
		}
		parsed.steps = append(parsed.steps, step)
	}
	return parsed, nil
}

// exactly parses JSON with numbers as they are spelled.
func exactly(text string, into any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}

func decodeExactly(t *testing.T, text string, into any) {
	t.Helper()
	if err := exactly(text, into); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
}

var errMismatch = errors.New("not as the transcript says")

const more = "..."

var (
	timePattern    = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	integerPattern = regexp.MustCompile(`^-?\d+$`)
)

// matcher compares values with patterns and remembers the texts that a transcript has named.
type matcher struct{ named map[string]string }

func newMatcher() *matcher { return &matcher{named: map[string]string{}} }

func (m *matcher) match(pattern, value any, path string) error {
	switch pattern := pattern.(type) {
	case string:
		if strings.HasPrefix(pattern, "$") && !strings.HasPrefix(pattern, "${") { // ${VAR} is a value of import
			return m.variable(pattern, value, path)
		}
	case map[string]any:
		object, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%w: %s: %v is no object", errMismatch, path, value)
		}
		return m.object(pattern, object, path)
	case []any:
		list, ok := value.([]any)
		if !ok || len(list) != len(pattern) {
			return fmt.Errorf("%w: %s: %v is not %v", errMismatch, path, value, pattern)
		}
		for i := range pattern {
			if err := m.match(pattern[i], list[i], fmt.Sprintf("%s/%d", path, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if !reflect.DeepEqual(pattern, value) {
		return fmt.Errorf("%w: %s: %v is not %v", errMismatch, path, value, pattern)
	}
	return nil
}

func (m *matcher) object(pattern, object map[string]any, path string) error {
	for key, part := range pattern {
		if key == more {
			continue
		}
		value, there := object[key]
		if !there {
			return fmt.Errorf("%w: %s/%s is missing", errMismatch, path, key)
		}
		if err := m.match(part, value, path+"/"+key); err != nil {
			return err
		}
	}
	if _, open := pattern[more]; open {
		return nil
	}
	for key := range object {
		if _, there := pattern[key]; !there {
			return fmt.Errorf("%w: %s/%s must not be there", errMismatch, path, key)
		}
	}
	return nil
}

func (m *matcher) variable(pattern string, value any, path string) error {
	kind, name, _ := strings.Cut(pattern, ":")
	text, _ := value.(string)
	number, _ := value.(json.Number)
	good := false
	switch kind {
	case "$any":
		good = true
	case "$int":
		good = integerPattern.MatchString(string(number))
	case "$time":
		good = timePattern.MatchString(text)
	case "$text":
		good = text != ""
	}
	if good && name != "" {
		if known, there := m.named[name]; there {
			good = known == text
		} else {
			m.named[name] = text
		}
	}
	if !good {
		return fmt.Errorf("%w: %s: %v is not %s", errMismatch, path, value, pattern)
	}
	return nil
}

// instance returns what the player of the sidecar's half sends for a pattern.
func instance(pattern any) any {
	switch pattern := pattern.(type) {
	case string:
		switch kind, name, _ := strings.Cut(pattern, ":"); kind {
		case "$any":
			return nil
		case "$int":
			return json.Number("1")
		case "$time":
			return "2026-01-01T00:00:00.000Z"
		case "$text":
			if name != "" {
				return name
			}
			return "text"
		}
	case map[string]any:
		made := map[string]any{}
		for key, part := range pattern {
			if key != more {
				made[key] = instance(part)
			}
		}
		return made
	case []any:
		made := make([]any, len(pattern))
		for i, part := range pattern {
			made[i] = instance(part)
		}
		return made
	}
	return pattern
}

func TestEveryTranscriptCanBeRead(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "proto", "transcripts", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range paths {
		parsed, err := readTranscript(path)
		if err != nil {
			t.Error(err)
		}
		for _, step := range parsed.steps {
			if slices.Contains([]string{"send", "receive"}, step.kind) {
				for _, text := range step.texts {
					var message map[string]any
					if err := exactly(text, &message); err != nil {
						t.Errorf("%s line %s: %v", path, strconv.Itoa(step.number), err)
					}
				}
			}
		}
	}
}
