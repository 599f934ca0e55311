package sidecar

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The sidecar's half of a transcript: the test binary starts itself, and with these variables set it is a sidecar that
// reads and writes what the file says. After each step it tells the test, so that the host's half keeps in step.
const (
	envTranscript = "SIDECAR_TEST_TRANSCRIPT" // path of the file
	envEvents     = "SIDECAR_TEST_EVENTS"     // path of the test's socket
)

func init() {
	if path := os.Getenv(envTranscript); path != "" {
		os.Exit(playSidecar(path, os.Getenv(envEvents)))
	}
}

func playSidecar(path, socket string) int {
	events, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	file, err := readTranscript(path)
	player := &sidecarPlayer{
		in: bufio.NewReader(os.Stdin), events: events, match: newMatcher(), ids: map[string]any{},
	}
	if err == nil {
		err = player.play(file.steps)
	}
	if err != nil {
		fmt.Fprintf(events, "fail %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return 3
	}
	return player.code
}

type sidecarPlayer struct {
	in          *bufio.Reader
	events      io.Writer
	match       *matcher
	ids         map[string]any // of the file -> of the host
	initialized bool
	code        int
}

func (p *sidecarPlayer) play(steps []transcriptStep) error {
	for _, step := range steps {
		var err error
		switch step.kind {
		case "send":
			err = p.receive(step)
		case "receive":
			for _, text := range step.texts {
				err = errors.Join(err, p.send(text))
			}
		case "eof":
			err = p.end()
		case "exit":
			p.code, err = strconv.Atoi(step.texts[0])
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", step.number, err)
		}
		fmt.Fprintln(p.events, "done")
	}
	return nil
}

// next reads a line of the host. The client's own initialize is answered here where the file has none.
func (p *sidecarPlayer) next(expected string) (map[string]any, string, error) {
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		var message map[string]any
		if err := exactly(line, &message); err != nil {
			return nil, line, err
		}
		if message["method"] != MethodInitialize || p.initialized || expected == MethodInitialize {
			p.initialized = p.initialized || message["method"] == MethodInitialize
			return message, line, nil
		}
		p.initialized = true
		if err := p.write(map[string]any{"jsonrpc": "2.0", "id": message["id"], "result": map[string]any{
			"protocolVersion": 1, "sidecar": map[string]any{"name": "mcp-sidecar", "version": "0"},
		}}); err != nil {
			return nil, line, err
		}
	}
}

// receive takes one line of the host and compares it with the file.
func (p *sidecarPlayer) receive(step transcriptStep) error {
	var pattern map[string]any
	if err := exactly(step.texts[0], &pattern); err != nil {
		return err
	}
	method, _ := pattern["method"].(string)
	message, line, err := p.next(method)
	if err != nil {
		return fmt.Errorf("instead of %s: %w", step.texts[0], err)
	}
	if method == "" {
		return p.match.match(pattern, message, "")
	}
	want, got := paramsOf(pattern), paramsOf(message)
	if id, there := pattern["id"]; there {
		p.ids[fmt.Sprint(id)] = message["id"]
		delete(pattern, "id")
		delete(message, "id")
	}
	switch method {
	case MethodInitialize: // the client tells about itself what its options say
		want = map[string]any{more: nil, "protocolVersion": want["protocolVersion"]}
	case notificationCancelled:
		want = map[string]any{more: nil, "requestId": p.ids[fmt.Sprint(want["requestId"])]}
	case MethodShutdown:
		want[more] = nil
	}
	if err := matchTimeout(want, got); err != nil {
		return err
	}
	if want["transport"] == "{{server:scripted}}" {
		want["transport"] = "$any"
	}
	pattern["params"], message["params"] = want, got
	if err := p.match.match(pattern, message, ""); err != nil {
		return fmt.Errorf("%w in %s", err, line)
	}
	return nil
}

// paramsOf returns the params in one form: absent is {}, and so is the scope.
func paramsOf(message map[string]any) map[string]any {
	params, _ := message["params"].(map[string]any)
	if params == nil {
		params = map[string]any{}
	}
	if scope, ok := params["scope"].(map[string]any); ok && len(scope) == 0 {
		delete(params, "scope")
	}
	return params
}

// matchTimeout compares and removes the deadline: the client keeps a part of it for itself.
func matchTimeout(want, got map[string]any) error {
	wanted, ok := want["timeoutMs"].(json.Number)
	if !ok || wanted == "0" {
		return nil
	}
	most, err := wanted.Int64()
	if err != nil {
		return err
	}
	number, _ := got["timeoutMs"].(json.Number)
	have, err := number.Int64()
	if err != nil || have <= 0 || have > most {
		return fmt.Errorf("%w: timeoutMs is %v, at most %d wanted", errMismatch, got["timeoutMs"], most)
	}
	delete(want, "timeoutMs")
	delete(got, "timeoutMs")
	return nil
}

// send writes a line of the sidecar, its variables filled in and its ids translated.
func (p *sidecarPlayer) send(text string) error {
	var pattern map[string]any
	if err := exactly(text, &pattern); err != nil {
		return err
	}
	message, _ := instance(pattern).(map[string]any)
	if message["method"] == notificationProgress {
		params, _ := message["params"].(map[string]any)
		params["requestId"] = p.hostID(params["requestId"])
	} else if id, there := message["id"]; there && message["method"] == nil && id != nil {
		message["id"] = p.hostID(id)
	}
	return p.write(message)
}

// hostID translates an id; what the client never sent keeps a name that it never uses.
func (p *sidecarPlayer) hostID(id any) any {
	if known, ok := p.ids[fmt.Sprint(id)]; ok {
		return known
	}
	return fmt.Sprint("never sent: ", id)
}

func (p *sidecarPlayer) write(message map[string]any) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(raw, '\n'))
	return err
}

// end waits for the end of the host's output. A polite host may send shutdown before it.
func (p *sidecarPlayer) end() error {
	for {
		message, line, err := p.next("")
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !slices.Contains([]any{MethodShutdown}, message["method"]) {
			return fmt.Errorf("%w: after the end came %s", errMismatch, line)
		}
		if err := p.write(map[string]any{"jsonrpc": "2.0", "id": message["id"], "result": map[string]any{}}); err != nil {
			return err
		}
	}
}
