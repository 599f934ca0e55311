//go:build unix

package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// ask lets the sidecar ask this host something, and returns the answer that it gets.
func ask(t *testing.T, c *Client, method, params string) (string, error) {
	t.Helper()
	raw, err := c.Request(within(t), "test/ask", map[string]any{"method": method, "params": json.RawMessage(params)})
	return string(raw), err
}

const aboutA = `{"server":"a","scope":{"tenant":"t"},"timeoutMs":5000`

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestEveryQuestionReachesItsHandlerAndItsAnswerTheSidecar(t *testing.T) {
	opts := part("good")
	at := func(s *Server) {
		if s.Name() != "a" || s.Scope() != (Scope{Tenant: "t"}) {
			t.Errorf("asked by %s %v", s.Name(), s.Scope())
		}
	}
	opts.Elicit = func(_ context.Context, r *ElicitRequest) (*mcp.ElicitResult, error) {
		at(r.Server)
		if r.Params.Message != "who?" || string(r.Params.RequestedSchema) != `{"x":1.0}` || r.InCall {
			t.Errorf("%+v", r.Params)
		}
		return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "<Ann>"}}, nil
	}
	opts.Sample = func(_ context.Context, r *SampleRequest) (*mcp.CreateMessageResult, error) {
		at(r.Server)
		blocks := mcp.Blocks(r.Params.Messages[0].Content)
		if len(blocks) != 2 || blocks[1].(*mcp.TextContent).Text != "b" || r.Params.MaxTokens != 9 {
			t.Errorf("%+v", r.Params)
		}
		return &mcp.CreateMessageResult{Role: mcp.RoleAssistant, Model: "m", Content: &mcp.TextContent{Text: "hi"}}, nil
	}
	opts.Roots = func(_ context.Context, r *RootsRequest) ([]*mcp.Root, error) {
		at(r.Server)
		return []*mcp.Root{{URI: "file:///r"}}, nil
	}
	opts.Tokens = func(_ context.Context, r *TokenRequest) (*HostToken, error) {
		at(r.Server)
		return &HostToken{AccessToken: r.Reason, ExpiresAt: time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.FixedZone("", 3600))}, nil
	}
	opts.Assertions = func(_ context.Context, r *AssertionRequest) (string, error) {
		at(r.Server)
		return r.Audience + " " + r.Resource, nil
	}
	c := startPart(t, opts)
	for _, q := range []struct{ method, more, want string }{
		{
			reverseElicitationCreate, `,"message":"who?","mode":"form","requestedSchema":{"x":1.0}}`,
			`{"action":"accept","content":{"name":"<Ann>"}}`,
		},
		{
			reverseSamplingCreateMessage,
			`,"maxTokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`,
			`{"role":"assistant","content":{"type":"text","text":"hi"},"model":"m"}`,
		},
		{reverseRootsList, `}`, `{"roots":[{"uri":"file:///r"}]}`},
		{reverseTokensGet, `,"reason":"missing"}`, `{"accessToken":"missing","expiresAt":"2026-01-02T02:04:05.600Z"}`},
		{reverseAssertionsCreate, `,"audience":"https://as","resource":"https://rs"}`, `{"assertion":"https://as https://rs"}`},
	} {
		if got, err := ask(t, c, q.method, aboutA+q.more); err != nil || got != q.want {
			t.Errorf("%s: %s %v", q.method, got, err)
		}
	}
	if _, err := ask(t, c, reverseElicitationCreate, `{}`); !errors.Is(err, ErrInvalidParams) {
		t.Errorf("a question without a server: %v", err)
	}
	works(t, c)
}

func TestAHandlerThatPanicsHangsFailsOrSaysNothingIsANoAndTheClientLives(t *testing.T) {
	hanging := make(chan struct{})
	defer close(hanging)
	opts := part("good")
	opts.Logger = quiet()
	opts.Elicit = func(_ context.Context, r *ElicitRequest) (*mcp.ElicitResult, error) {
		switch r.Params.Message {
		case "panic":
			panic("a secret")
		case "hang":
			<-hanging // it does not look at its context
		case "fail":
			return nil, errors.New("no time")
		case "code":
			return nil, &Error{Code: -1, Message: "mine"}
		}
		return nil, nil
	}
	c := startPart(t, opts)
	for _, q := range []struct {
		message, params string
		code            int
		want            string
	}{
		{"panic", `"timeoutMs":5000`, CodeInternal, "panicked"},
		{"hang", `"timeoutMs":100`, CodeDeadlineExceeded, ""},
		{"fail", `"timeoutMs":5000`, CodeInternal, "no time"},
		{"code", `"timeoutMs":5000`, -1, "mine"},
		{"nothing", `"timeoutMs":5000`, CodeInternal, "nothing"},
	} {
		begin := time.Now()
		_, err := ask(t, c, reverseElicitationCreate, `{"server":"a","scope":{},"message":"`+q.message+`",`+q.params+`}`)
		var failure *Error
		if !errors.As(err, &failure) || failure.Code != q.code || !strings.Contains(failure.Message, q.want) ||
			strings.Contains(failure.Message, "secret") {
			t.Errorf("%s: %v", q.message, err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s took %v", q.message, took)
		}
		works(t, c)
	}
}

func TestACancelledQuestionEndsItsHandlersContextAndIsAnsweredOnce(t *testing.T) {
	ended := make(chan error, 1)
	opts := part("good")
	opts.Roots = func(ctx context.Context, _ *RootsRequest) ([]*mcp.Root, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, nil
	}
	c := startPart(t, opts)
	_, err := c.Request(within(t), "test/ask", map[string]any{
		"method": reverseRootsList, "params": json.RawMessage(aboutA + "}"), "cancel": true,
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	works(t, c)
}

type callerKey struct{}

func TestAQuestionOfACallHasItsContextsValuesAndEndsWithIt(t *testing.T) {
	asked := make(chan context.Context, 1)
	opts := part("good")
	opts.Roots = func(ctx context.Context, r *RootsRequest) ([]*mcp.Root, error) {
		if !r.InCall {
			t.Error("it does not say so")
		}
		asked <- ctx
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c := startPart(t, opts)
	ctx, cancel := context.WithCancel(context.WithValue(within(t), callerKey{}, "mine"))
	done := make(chan error, 1)
	go func() {
		_, err := c.Request(ctx, "test/askHere", nil)
		done <- err
	}()
	handler := <-asked
	if handler.Value(callerKey{}) != "mine" {
		t.Error("the value is lost")
	}
	cancel()
	<-handler.Done()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	works(t, c)
}

func TestHandlersAndObserversMayUseTheClientAndEvenCloseIt(t *testing.T) {
	var c *Client
	ready := make(chan struct{})
	closed := make(chan struct{})
	opts := part("good")
	opts.StopTimeout = 100 * time.Millisecond
	opts.Roots = func(ctx context.Context, r *RootsRequest) ([]*mcp.Root, error) {
		_, err := r.Server.ListTools(ctx, nil)
		if !errors.Is(err, ErrUnknownServer) {
			t.Errorf("a call inside a handler: %v", err)
		}
		return nil, nil
	}
	opts.OnListChanged = func(e *ListChanged) {
		<-ready
		if err := e.Server.client.Ping(within(t)); err != nil {
			t.Errorf("a call inside an observer: %v", err)
		}
	}
	opts.OnToolChanged = func(*ToolChanged) {
		c.Close()
		close(closed)
	}
	c = startPart(t, opts)
	close(ready)
	if _, err := ask(t, c, reverseRootsList, aboutA+"}"); err != nil {
		t.Error(err)
	}
	told(t, c, notificationToolsListChanged, `{"server":"a","scope":{}}`, 1)
	works(t, c)
	told(t, c, notificationCatalogToolChanged, `{"server":"a","scope":{},"tool":"t","oldHash":null,"newHash":"h"}`, 1)
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close inside an observer never returns")
	}
	if err := c.Ping(within(t)); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
}

// told makes the sidecar tell something.
func told(t *testing.T, c *Client, method, params string, count int) {
	t.Helper()
	if _, err := c.Request(within(t), "test/tell", map[string]any{
		"method": method, "params": json.RawMessage(params), "count": count,
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryNotificationReachesItsObserverAndTheLoopsInOrder(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(format string, args ...any) {
		mu.Lock()
		seen = append(seen, fmt.Sprintf(format, args...))
		mu.Unlock()
	}
	opts := part("good")
	opts.OnAuthRequired = func(e *AuthRequired) { note("auth %s %s", e.Server.Name(), e.Authorization.URL) }
	opts.OnLog = func(e *LogEvent) { note("log %s %s", e.Params.Level, e.Params.Data) }
	opts.OnListChanged = func(e *ListChanged) { note("list %s", e.List) }
	opts.OnResourceUpdated = func(e *ResourceUpdated) { note("updated %s", e.Params.URI) }
	opts.OnTask = func(e *TaskEvent) { note("task %s %s", e.Task.TaskID, e.Task.Status) }
	opts.OnElicitationComplete = func(e *ElicitationComplete) { note("elicited %s", e.Params.ElicitationID) }
	opts.OnToolChanged = func(e *ToolChanged) { note("tool %s %v", e.Tool, e.OldHash == nil) }
	opts.OnStoreDegraded = func(e *StoreDegraded) { note("store %s %d", e.Backend, e.Error.Code) }
	opts.OnDropped = func(e *Dropped) { note("dropped %s %d", e.What, e.Count) }
	c := startPart(t, opts)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	all := c.Events(ctx)
	only := c.Scope(Scope{Tenant: "t"}).Server("a").Events(ctx)
	tell := []struct{ method, more, want string }{
		{
			notificationAuthRequired,
			`,"authorization":{"authorizationId":"1","url":"https://as","state":"s","expiresAt":"2030-01-01T00:00:00.000Z"}`,
			"auth a https://as",
		},
		{notificationMessage, `,"level":"warning","data":{"n":1.0}`, `log warning {"n":1.0}`},
		{notificationToolsListChanged, ``, "list tools"},
		{notificationPromptsListChanged, ``, "list prompts"},
		{notificationResourcesListChanged, ``, "list resources"},
		{notificationResourcesUpdated, `,"uri":"x://y"`, "updated x://y"},
		{notificationTasks, `,"taskId":"7","status":"working"`, "task 7 working"},
		{notificationElicitationComplete, `,"elicitationId":"e"`, "elicited e"},
		{notificationCatalogToolChanged, `,"tool":"t","oldHash":null,"newHash":"h","diff":{}`, "tool t true"},
		{notificationStoreDegraded, "", "store file 1404"},
		{notificationSidecarDropped, "", "dropped logs 3"},
	}
	var want []string
	for _, n := range tell {
		params := aboutA[:strings.LastIndex(aboutA, ",")] + n.more + "}"
		switch n.method {
		case notificationStoreDegraded:
			params = `{"backend":"file","error":{"code":1404,"message":"full"}}`
		case notificationSidecarDropped:
			params = `{"what":"logs","count":3}`
		}
		told(t, c, n.method, params, 1)
		want = append(want, n.want)
	}
	told(t, c, notificationMessage, `{"server":"a","scope":{"tenant":"t"},"level":7}`, 1) // of another shape: passed over
	count := 0
	for range all {
		if count++; count == len(tell) {
			break
		}
	}
	count = 0
	for event := range only {
		if at, ok := event.about(); !ok || at.name != "a" {
			t.Errorf("%+v", event)
		}
		if count++; count == len(tell)-2 {
			break
		}
	}
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(seen, "|") != strings.Join(want, "|") {
		t.Errorf("have %q\nwant %q", seen, want)
	}
}

func TestLoopsOverEventsEndWithTheirContextAndWithTheClient(t *testing.T) {
	c := startPart(t, part("good"))
	ctx, cancel := context.WithCancel(within(t))
	ended := make(chan int, 2)
	for _, events := range []struct{ ctx context.Context }{{ctx}, {within(t)}} {
		loop := c.Server("a").Events(events.ctx)
		go func() {
			count := 0
			for range loop {
				count++
			}
			ended <- count
		}()
	}
	cancel()
	<-ended
	c.Close()
	<-ended
	for range c.Events(within(t)) {
		t.Error("an event of a client that is closed")
	}
}

func TestASlowObserverLosesLogsButNoStateAndHoldsUpNobody(t *testing.T) {
	release := make(chan struct{})
	var logs, states, dropped int
	opts := part("good")
	opts.OnLog = func(*LogEvent) { <-release; logs++ }
	opts.OnListChanged = func(*ListChanged) { states++ }
	opts.OnDropped = func(d *Dropped) { dropped += d.Count }
	c := startPart(t, opts)
	const flood = 3 * maxQueuedNotes
	told(t, c, notificationMessage, `{"server":"a","scope":{},"level":"info","data":1}`, flood)
	told(t, c, notificationToolsListChanged, `{"server":"a","scope":{}}`, 50)
	works(t, c)
	close(release)
	c.Close()
	if logs+dropped != flood || dropped == 0 || states != 50 {
		t.Errorf("%d logs, %d dropped, %d list changes", logs, dropped, states)
	}
}

func TestOptionsThatContradictThemselvesAreRefusedBeforeAnythingStarts(t *testing.T) {
	for name, opts := range map[string]*Options{
		"sampling without a handler": {Capabilities: &Capabilities{Sampling: &SamplingCapabilities{}}},
		"tokens without a handler":   {Capabilities: &Capabilities{Tokens: &struct{}{}}},
		"two vaults":                 {Vault: memoryVault{}, VaultConfig: &VaultConfig{Type: "file"}},
	} {
		if _, err := Start(within(t), opts); !errors.Is(err, ErrInvalidParams) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPromisesAreWhatTheHandlersCanAndWhatTheOptionsSay(t *testing.T) {
	opts := &Options{}
	if p, err := opts.promises(); p != nil || err != nil {
		t.Errorf("%+v %v", p, err)
	}
	opts = &Options{
		Elicit: func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error) { return nil, nil },
		Sample: func(context.Context, *SampleRequest) (*mcp.CreateMessageResult, error) { return nil, nil },
		Roots:  func(context.Context, *RootsRequest) ([]*mcp.Root, error) { return nil, nil },
		Vault:  memoryVault{},
		Capabilities: &Capabilities{
			Elicitation: &ElicitationCapabilities{Form: &struct{}{}, URL: &struct{}{}},
			Sampling:    &SamplingCapabilities{Tools: &struct{}{}},
		},
	}
	p, err := opts.promises()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{"listChanged":true},"credentials":{}}`
	if raw, err := marshal(p); err != nil || string(raw) != want {
		t.Errorf("%s %v", raw, err)
	}
}
