package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// The host's half of the transcripts is the real client; a process that plays the sidecar's half checks what it writes.

func TestClientKeepsToEachTranscript(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "proto", "transcripts", "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range paths {
		file := loadTranscript(t, filepath.Base(path))
		if file.only != "" && file.only != "go" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { hostKeepsTo(t, path, file) })
	}
}

// hostPlayer makes the client do what the host's lines of a file say, and compares what its callers get.
type hostPlayer struct {
	t      *testing.T
	client *Client
	done   chan error // one per step of the other half; an error is its last word
	calls  map[string]*hostCall

	mu      sync.Mutex
	changed []State
	exits   []Exit
}

type hostCall struct {
	cancel    context.CancelFunc
	cancelled bool
	ended     chan struct{}
	result    json.RawMessage
	err       error
	progress  []mcp.ProgressNotificationParams
}

func hostKeepsTo(t *testing.T, path string, file transcript) {
	t.Helper()
	player := &hostPlayer{t: t, done: make(chan error, 256), calls: map[string]*hostCall{}}
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go player.listen(listener)
	opts := &Options{
		Command:     []string{os.Args[0]},
		HangTimeout: -1, // no ping of the watch between the lines of the file
		Env:         []string{envTranscript + "=" + path, envEvents + "=" + socket, "GORACE=atexit_sleep_ms=0"},
		OnChanged: func(info *ServerInfo) {
			player.mu.Lock()
			player.changed = append(player.changed, info.State)
			player.mu.Unlock()
		},
		OnExit: func(exit Exit) { player.mu.Lock(); player.exits = append(player.exits, exit); player.mu.Unlock() },
	}
	answerQuestions(t, opts, file)
	client, err := Start(within(t), opts)
	if err != nil {
		t.Fatalf("%v; the sidecar's half said: %v", err, player.lastWord())
	}
	defer client.Close()
	player.client = client
	player.play(file)
}

// answerQuestions gives the options the handlers that answer the sidecar's questions as the file says, in its order.
func answerQuestions(t *testing.T, opts *Options, file transcript) {
	t.Helper()
	handled := map[string]bool{reverseElicitationCreate: true, reverseSamplingCreateMessage: true, reverseRootsList: true}
	if file.only == "go" {
		return // it is about a host without handlers
	}
	asked := map[string]string{}                // id -> method
	answers := map[string]chan map[string]any{} // method -> the host's lines
	for _, step := range file.steps {
		if step.kind != "send" && step.kind != "receive" {
			continue
		}
		for _, text := range step.texts {
			var message map[string]any
			decodeExactly(t, text, &message)
			id, method := fmt.Sprint(message["id"]), fmt.Sprint(message["method"])
			switch {
			case step.kind == "receive" && message["method"] != nil && message["id"] != nil:
				asked[id] = method
			case step.kind == "send" && message["method"] == nil && handled[asked[id]]:
				if answers[asked[id]] == nil {
					answers[asked[id]] = make(chan map[string]any, len(file.steps))
				}
				answers[asked[id]] <- message
			}
		}
	}
	if said := answers[reverseElicitationCreate]; said != nil {
		opts.Elicit = func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error) {
			return spoken[mcp.ElicitResult](<-said)
		}
	}
	if said := answers[reverseSamplingCreateMessage]; said != nil {
		opts.Sample = func(context.Context, *SampleRequest) (*mcp.CreateMessageResult, error) {
			return spoken[mcp.CreateMessageResult](<-said)
		}
	}
	if said := answers[reverseRootsList]; said != nil {
		opts.Roots = func(context.Context, *RootsRequest) ([]*mcp.Root, error) {
			list, err := spoken[mcp.ListRootsResult](<-said)
			if err != nil {
				return nil, err
			}
			return list.Roots, nil
		}
	}
}

// spoken makes a line of the host what a handler returns.
func spoken[T any, R result[T]](message map[string]any) (*T, error) {
	part, failed := message["error"]
	if !failed {
		part = message["result"]
	}
	raw, err := json.Marshal(part)
	if err != nil {
		return nil, err
	}
	if failed {
		failure, err := errorFromWire(raw)
		if err != nil {
			return nil, err
		}
		return nil, failure
	}
	value := new(T)
	return value, R(value).UnmarshalJSON(raw)
}

func (p *hostPlayer) listen(listener net.Listener) {
	conn, err := listener.Accept()
	if err != nil {
		p.done <- err
		return
	}
	defer conn.Close()
	events := bufio.NewScanner(conn)
	for events.Scan() {
		if why, failed := strings.CutPrefix(events.Text(), "fail "); failed {
			p.done <- fmt.Errorf("%w: %s", errMismatch, why)
			return
		}
		p.done <- nil
	}
}

func (p *hostPlayer) lastWord() error {
	for {
		select {
		case err := <-p.done:
			if err != nil {
				return err
			}
		case <-time.After(time.Second):
			return nil
		}
	}
}

// inStep waits until the other half has finished so many more steps.
func (p *hostPlayer) inStep(steps int) {
	p.t.Helper()
	for range steps {
		select {
		case err := <-p.done:
			if err != nil {
				p.t.Fatal(err)
			}
		case <-time.After(patience):
			p.t.Fatal("the sidecar's half does not go on")
		}
	}
}

func (p *hostPlayer) play(file transcript) {
	p.t.Helper()
	behind := 0 // steps that the other half must finish before the next line is sent
	initialized := false
	var states []State
	for _, step := range file.steps {
		switch step.kind {
		case "send":
			p.inStep(behind)
			behind = 0
			var message map[string]any
			decodeExactly(p.t, step.texts[0], &message)
			if message["method"] == MethodInitialize && !initialized {
				initialized = true // Start has sent it
			} else {
				p.send(message)
			}
		case "receive":
			for _, text := range step.texts {
				var message map[string]any
				decodeExactly(p.t, text, &message)
				states = append(states, statesOf(message)...)
				p.receive(step, message)
			}
		case "eof":
			p.inStep(behind)
			behind = 0
			p.client.Close()
		case "exit":
			p.client.Close()
		}
		behind++
	}
	p.inStep(behind)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(p.changed, states) {
		p.t.Errorf("OnChanged was told %v, want %v", p.changed, states)
	}
	if len(p.exits) > 0 && p.exits[0].ExitCode != 0 || p.client.Err() != nil {
		p.t.Errorf("the client ended with %v, its sidecar with %v", p.client.Err(), p.exits)
	}
}

func statesOf(message map[string]any) []State {
	if message["method"] != "servers/changed" {
		return nil
	}
	params, _ := message["params"].(map[string]any)
	return []State{State(fmt.Sprint(params["state"]))}
}

func (p *hostPlayer) send(message map[string]any) {
	p.t.Helper()
	method, _ := message["method"].(string)
	params, _ := message["params"].(map[string]any)
	switch {
	case method == "": // an answer: the client gives it by itself
	case method == notificationCancelled:
		call := p.calls[fmt.Sprint(params["requestId"])]
		call.cancelled = true
		call.cancel()
	case message["id"] == nil:
		p.t.Fatalf("the client cannot be made to send %v", message)
	default:
		p.calls[fmt.Sprint(message["id"])] = p.start(method, params)
	}
}

// start makes the client send one request. A deadline of the file is a deadline of the context.
func (p *hostPlayer) start(method string, params map[string]any) *hostCall {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if ms, ok := params["timeoutMs"].(json.Number); ok && ms != "0" {
		whole, err := ms.Int64()
		if err != nil {
			p.t.Fatal(err)
		}
		cancel()
		ctx, cancel = context.WithTimeout(context.Background(), time.Duration(whole)*time.Millisecond)
		delete(params, "timeoutMs")
	} else if !ok {
		cancel()
		ctx, cancel = context.WithCancel(context.Background()) // so that no timeoutMs is sent
	}
	p.t.Cleanup(cancel)
	if params["transport"] == "{{server:scripted}}" {
		params["transport"] = Stdio{Command: "any"}
	}
	call := &hostCall{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(call.ended)
		if params["progress"] != true {
			call.result, call.err = p.client.Request(ctx, method, params)
			return
		}
		call.result, call.err = p.callWithProgress(ctx, call, params)
	}()
	return call
}

func (p *hostPlayer) callWithProgress(ctx context.Context, call *hostCall, params map[string]any) (json.RawMessage, error) {
	scope := Scope{}
	if given, ok := params["scope"].(map[string]any); ok {
		tenant, _ := given["tenant"].(string)
		scope.Tenant = tenant
	}
	server := p.client.Scope(scope).Server(fmt.Sprint(params["server"])).With(
		Progress(func(note *mcp.ProgressNotificationParams) { call.progress = append(call.progress, *note) }))
	result, err := server.CallTool(ctx, &mcp.CallToolParams{Name: fmt.Sprint(params["name"]), Arguments: params["arguments"]})
	if err != nil {
		return nil, err
	}
	return result.Raw, nil
}

// receive compares what a caller of the client gets with the sidecar's line.
func (p *hostPlayer) receive(step transcriptStep, message map[string]any) {
	p.t.Helper()
	if message["method"] != nil || message["id"] == nil {
		return
	}
	call := p.calls[fmt.Sprint(message["id"])]
	if call == nil {
		return // the answer to a line that the client never sent
	}
	select {
	case <-call.ended:
	case <-time.After(patience):
		p.t.Fatalf("line %d: the caller waits for ever; the sidecar's half said: %v", step.number, p.lastWord())
	}
	if want, isError := message["error"]; isError {
		p.checkError(step, call, instance(want).(map[string]any))
		return
	}
	if call.err != nil {
		p.t.Fatalf("line %d: the caller got %v; the sidecar's half said: %v", step.number, call.err, p.lastWord())
	}
	var got any
	decodeExactly(p.t, string(call.result), &got)
	if want := instance(message["result"]); !reflect.DeepEqual(got, want) {
		p.t.Errorf("line %d: the caller got %v, want %v", step.number, got, want)
	}
}

func (p *hostPlayer) checkError(step transcriptStep, call *hostCall, want map[string]any) {
	p.t.Helper()
	var failure *Error
	if !errors.As(call.err, &failure) || fmt.Sprint(want["code"]) != fmt.Sprint(failure.Code) {
		p.t.Fatalf("line %d: the caller got %v, %v, want %v", step.number, call.result, call.err, want)
	}
	data, _ := want["data"].(map[string]any)
	for key, got := range map[string]string{
		"kind": failure.Kind, "delivered": failure.Delivered, "retry": failure.Retry,
	} {
		if wanted, there := data[key]; there && wanted != got {
			p.t.Errorf("line %d: the caller got the %s %q, want %q", step.number, key, got, wanted)
		}
	}
	if call.cancelled { // answered by the client itself, at once; the sidecar's answer is dropped
		if !errors.Is(call.err, context.Canceled) {
			p.t.Errorf("line %d: %v is not context.Canceled", step.number, call.err)
		}
		return
	}
	if failure.Message != want["message"] {
		p.t.Errorf("line %d: the caller got the message %q, want %q", step.number, failure.Message, want["message"])
	}
	var got map[string]any
	if failure.Data != nil {
		decodeExactly(p.t, string(failure.Data), &got)
	}
	if !reflect.DeepEqual(got, data) {
		p.t.Errorf("line %d: the data is %v, want %v", step.number, got, data)
	}
	if wanted, there := data["remote"].(map[string]any); there {
		var remote *RemoteError
		if !errors.As(call.err, &remote) || fmt.Sprint(remote.Code) != fmt.Sprint(wanted["code"]) {
			p.t.Errorf("line %d: the server's own error is %v, want %v", step.number, remote, wanted)
		}
	}
}
