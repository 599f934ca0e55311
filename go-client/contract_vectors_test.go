package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The vectors of proto/vectors, played against the real peer. Their format stands in proto/vectors/README.md.

const contractPatience = 20 * time.Second

type vectorFile struct {
	MaxFrameBytes int      `json:"maxFrameBytes"`
	Vectors       []vector `json:"vectors"`
}

type vector struct {
	Name   string          `json:"name"`
	Line   vectorLine      `json:"line"`
	End    *string         `json:"end"`
	Expect json.RawMessage `json:"expect"`
}

type vectorExpect struct {
	Request json.RawMessage `json:"request"`
	Payload *vectorLine     `json:"payload"`
	Refused json.RawMessage `json:"refused"`
	Code    *int            `json:"code"`
	Fault   *int            `json:"fault"`
	ID      json.RawMessage `json:"id"`
	MayID   json.RawMessage `json:"mayId"`
	AnyID   bool            `json:"anyId"`
	Limit   json.RawMessage `json:"limit"`
	Silence string          `json:"silence"`
	Settled string          `json:"settled"`
	Value   *string         `json:"value"`
}

// vectorLine is the bytes of a line that is given as a text or in parts.
type vectorLine []byte

type vectorPart struct {
	Base64 string `json:"base64"`
	Repeat string `json:"repeat"`
	Times  int    `json:"times"`
	Fill   string `json:"fill"`
	Total  int    `json:"total"`
	Until  int    `json:"until"`
}

func (l *vectorLine) UnmarshalJSON(raw []byte) error {
	switch raw[0] {
	case '"':
		var text string
		err := json.Unmarshal(raw, &text)
		*l = vectorLine(text)
		return err
	case '{':
		var wrapped struct {
			Parts vectorLine `json:"parts"`
		}
		err := json.Unmarshal(raw, &wrapped)
		*l = wrapped.Parts
		return err
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	built, err := buildLine(parts)
	*l = built
	return err
}

func buildLine(parts []json.RawMessage) ([]byte, error) {
	var ready, behind []byte
	var fill vectorPart
	for _, raw := range parts {
		target := &ready
		if fill.Total > 0 {
			target = &behind
		}
		if raw[0] == '"' {
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, err
			}
			*target = append(*target, text...)
			continue
		}
		var part vectorPart
		if err := json.Unmarshal(raw, &part); err != nil {
			return nil, err
		}
		switch {
		case part.Base64 != "":
			decoded, err := base64.StdEncoding.DecodeString(part.Base64)
			if err != nil {
				return nil, err
			}
			*target = append(*target, decoded...)
		case part.Repeat != "":
			*target = append(*target, strings.Repeat(part.Repeat, part.Times)...)
		case part.Until > 0:
			*target = append(*target, strings.Repeat(part.Fill, part.Until-len(*target))...)
		case part.Total > 0:
			fill = part
		default:
			return nil, fmt.Errorf("unknown part %s", raw)
		}
	}
	if fill.Total > 0 {
		ready = append(ready, strings.Repeat(fill.Fill, fill.Total-len(ready)-len(behind))...)
	}
	return append(ready, behind...), nil
}

func loadVectors(t *testing.T, name string) vectorFile {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "proto", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// wiredPeer is a real peer whose other end is in the hands of the test.
type wiredPeer struct {
	*peer
	in    *io.PipeWriter
	lines chan []byte // what the peer wrote; closed at the end
}

func newWiredPeer(t *testing.T, maxFrame int) *wiredPeer {
	t.Helper()
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	wired := &wiredPeer{
		peer:  newPeer(inRead, outWrite, peerConfig{maxFrame: maxFrame}),
		in:    inWrite,
		lines: make(chan []byte, 16),
	}
	go wired.run()
	go func() {
		defer close(wired.lines)
		reader := bufio.NewReader(outRead)
		for {
			line, err := reader.ReadBytes('\n')
			if err != nil {
				return
			}
			wired.lines <- line
		}
	}()
	t.Cleanup(func() {
		inWrite.Close()
		select {
		case <-wired.done:
		case <-time.After(contractPatience):
			t.Error("the peer did not end with its input")
		}
		for line := range wired.lines {
			t.Errorf("more was written: %.200s", line)
		}
	})
	return wired
}

func (w *wiredPeer) write(t *testing.T, data []byte) {
	t.Helper()
	if _, err := w.in.Write(data); err != nil {
		t.Fatal(err)
	}
}

type contractAnswer struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int                        `json:"code"`
		Message string                     `json:"message"`
		Data    map[string]json.RawMessage `json:"data"`
	} `json:"error"`
}

func (w *wiredPeer) next(t *testing.T) contractAnswer {
	t.Helper()
	select {
	case line, open := <-w.lines:
		if !open {
			t.Fatal("the peer ended")
		}
		var answer contractAnswer
		if err := json.Unmarshal(line, &answer); err != nil {
			t.Fatalf("%v in %.200s", err, line)
		}
		return answer
	case <-time.After(contractPatience):
		t.Fatal("no answer")
	}
	return contractAnswer{}
}

const (
	nextPing = `{"jsonrpc":"2.0","id":"next","method":"ping"}` + "\n"
	nextID   = `"next"`
)

func TestPeerAnswersEachVectorAsTheContractSaysAndTheNextLineWorks(t *testing.T) {
	for _, name := range []string{"accepted.json", "faults.json", "silent.json", "sizes.json"} {
		file := loadVectors(t, name)
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			wired := newWiredPeer(t, file.MaxFrameBytes)
			for _, v := range file.Vectors {
				t.Run(v.Name, func(t *testing.T) {
					end := "\n"
					if v.End != nil {
						end = *v.End
					}
					if end == "" {
						t.Log("the end of the sidecar's output is its end: nobody is left to answer")
						return
					}
					wired.write(t, []byte(string(v.Line)+end+nextPing))
					playVector(t, wired, v)
				})
			}
		})
	}
}

func playVector(t *testing.T, wired *wiredPeer, v vector) {
	t.Helper()
	var expect vectorExpect
	if err := json.Unmarshal(v.Expect, &expect); err != nil {
		t.Fatal(err)
	}
	if expect.Silence == "" {
		checkVector(t, expect, wired.next(t))
	}
	if pong := wired.next(t); string(pong.ID) != nextID {
		t.Fatalf("more was answered: %+v", pong)
	}
}

func checkVector(t *testing.T, expect vectorExpect, answer contractAnswer) {
	t.Helper()
	switch {
	case answer.JSONRPC != "2.0":
		t.Errorf("jsonrpc is %q", answer.JSONRPC)
	case expect.Request != nil:
		want := "{}"
		if expect.Payload != nil {
			want = `{"payload":` + string(*expect.Payload) + `}`
		}
		if !sameID(answer.ID, expect.Request) || string(answer.Result) != want {
			t.Errorf("answered %.300s under %s, want %.300s under %s", answer.Result, answer.ID, want, expect.Request)
		}
	case expect.Refused != nil:
		if !sameID(answer.ID, expect.Refused) || answer.Error == nil || answer.Error.Code != *expect.Code {
			t.Errorf("answered %+v under %s, want %d under %s", answer.Error, answer.ID, *expect.Code, expect.Refused)
		}
	default:
		checkFault(t, expect, answer)
	}
}

func checkFault(t *testing.T, expect vectorExpect, answer contractAnswer) {
	t.Helper()
	if string(answer.ID) != "null" || answer.Error == nil || answer.Error.Code != *expect.Fault || answer.Error.Message == "" {
		t.Fatalf("answered %+v under %s, want the fault %d", answer.Error, answer.ID, *expect.Fault)
	}
	data := answer.Error.Data
	if !bytes.Equal(data["limit"], expect.Limit) {
		t.Errorf("data.limit is %s, want %s", data["limit"], expect.Limit)
	}
	switch {
	case expect.AnyID:
	case expect.ID != nil && !sameID(data["id"], expect.ID),
		expect.ID == nil && data["id"] != nil && !sameID(data["id"], expect.MayID):
		t.Errorf("data.id is %.100s, want %s%s", data["id"], expect.ID, expect.MayID)
	}
}

// sameID compares ids as values: texts may be escaped in other ways, numbers may not be spelled in other ways. A wanted
// id may be given in parts.
func sameID(a, b json.RawMessage) bool {
	if len(b) > 0 && b[0] == '{' {
		var line vectorLine
		if json.Unmarshal(b, &line) != nil {
			return false
		}
		b = quote(string(line))
	}
	if len(a) == 0 || len(b) == 0 || a[0] != '"' || b[0] != '"' {
		return bytes.Equal(a, b)
	}
	var left, right string
	return json.Unmarshal(a, &left) == nil && json.Unmarshal(b, &right) == nil && left == right
}

func TestPeerSettlesItsRequestAsTheContractSays(t *testing.T) {
	for _, v := range loadVectors(t, "answers.json").Vectors {
		t.Run(v.Name, func(t *testing.T) {
			var expect vectorExpect
			if err := json.Unmarshal(v.Expect, &expect); err != nil {
				t.Fatal(err)
			}
			wired := newWiredPeer(t, 65536)
			ctx, cancel := context.WithTimeout(context.Background(), contractPatience)
			defer cancel()
			type outcome struct {
				result json.RawMessage
				err    *Error
			}
			settled := make(chan outcome, 1)
			go func() {
				result, err := wired.call(ctx, "servers/list", []byte("{}"), nil)
				settled <- outcome{result, err}
			}()
			id := wired.next(t).ID
			line := bytes.ReplaceAll(v.Line, []byte("{{id}}"), id)
			wired.write(t, []byte(string(line)+"\n"+nextPing))
			if expect.Fault != nil {
				checkFault(t, expect, wired.next(t))
			}
			if pong := wired.next(t); string(pong.ID) != nextID {
				t.Fatalf("more was answered: %+v", pong)
			}
			want := `{"late":1}`
			if expect.Settled == "no" {
				if len(settled) > 0 {
					t.Fatal("the request ended")
				}
				wired.write(t, []byte(`{"jsonrpc":"2.0","id":`+string(id)+`,"result":`+want+"}\n"))
			} else if expect.Value != nil {
				want = *expect.Value
			}
			got := <-settled
			switch {
			case expect.Settled == "error":
				if got.err == nil || expect.Code != nil && got.err.Code != *expect.Code {
					t.Errorf("ended with %s, %v", got.result, got.err)
				}
			case got.err != nil || string(got.result) != want:
				t.Errorf("ended with %s, %v, want %s", got.result, got.err, want)
			}
		})
	}
}
