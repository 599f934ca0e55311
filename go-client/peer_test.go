package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// reply answers a request that the peer sent.
func (w *wiredPeer) reply(t *testing.T, request contractAnswer, result string) {
	t.Helper()
	w.write(t, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", request.ID, result))
}

type reported struct {
	result json.RawMessage
	err    *Error
}

// begin sends a call and returns its frame as the other side read it.
func (w *wiredPeer) begin(
	ctx context.Context, t *testing.T, method string, listener func(*mcp.ProgressNotificationParams),
) (contractAnswer, <-chan reported) {
	t.Helper()
	done := make(chan reported, 1)
	go func() {
		result, err := w.call(ctx, method, []byte(`{}`), listener)
		done <- reported{result, err}
	}()
	return w.next(t), done
}

func TestAnswersMayComeInAnyOrder(t *testing.T) {
	w := newWiredPeer(t, 0)
	first, one := w.begin(within(t), t, "a", nil)
	second, two := w.begin(within(t), t, "b", nil)
	w.reply(t, second, `"two"`)
	if r := <-two; string(r.result) != `"two"` {
		t.Errorf("%+v", r)
	}
	w.reply(t, first, `"one"`)
	if r := <-one; string(r.result) != `"one"` {
		t.Errorf("%+v", r)
	}
}

func TestProgressComesInOrderBeforeTheCallReturnsAndNeverAfter(t *testing.T) {
	w := newWiredPeer(t, 0)
	var seen []float64
	request, done := w.begin(within(t), t, "a", func(p *mcp.ProgressNotificationParams) {
		seen = append(seen, p.Progress)
		if p.Total != 4 || p.Message != "m" {
			t.Errorf("%+v", p)
		}
	})
	for i := range 3 {
		w.write(t, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":`+
			`{"server":"s","scope":{},"requestId":%s,"progress":%d,"total":4,"message":"m"}}`+"\n", request.ID, i+1))
	}
	w.reply(t, request, `{}`)
	<-done // the listener ran on the calling goroutine, so seen is safe to read
	w.write(t, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":`+
		`{"server":"s","scope":{},"requestId":%s,"progress":9}}`+"\n"+nextPing, request.ID))
	w.next(t)
	if fmt.Sprint(seen) != "[1 2 3]" {
		t.Errorf("%v", seen)
	}
}

func TestACancelReturnsAtOnceTellsTheSidecarAndDropsItsAnswer(t *testing.T) {
	w := newWiredPeer(t, 0)
	ctx, cancel := context.WithCancel(within(t))
	request, done := w.begin(ctx, t, "a", nil)
	cancel()
	r := <-done
	if r.err == nil || r.err.Code != CodeCancelled || r.err.Delivered != DeliveredMaybe || !errors.Is(r.err, context.Canceled) {
		t.Errorf("%+v", r.err)
	}
	if note := w.next(t); note.Method != notificationCancelled {
		t.Errorf("%+v", note)
	}
	w.reply(t, request, `{}`)
	w.write(t, []byte(nextPing))
	w.next(t)
}

func TestADeadlineThatTheSidecarMissesIsThisClientsOwn(t *testing.T) {
	w := newWiredPeer(t, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancel()
	_, done := w.begin(ctx, t, "a", nil)
	r := <-done
	if r.err == nil || r.err.Code != CodeDeadlineExceeded || r.err.Delivered != DeliveredMaybe ||
		!errors.Is(r.err, context.DeadlineExceeded) || errors.Is(r.err, context.Canceled) {
		t.Errorf("%+v", r.err)
	}
	w.next(t) // the cancel
}

func TestTimeoutMsLeavesRoomForTheSidecarsOwnAnswer(t *testing.T) {
	for remaining, want := range map[time.Duration]int64{
		time.Second: 980, 100 * time.Millisecond: 90, 2 * time.Millisecond: 1, time.Minute: 59980,
	} {
		if have := timeoutMs(remaining); have != want {
			t.Errorf("%v: want %d, have %d", remaining, want, have)
		}
	}
}

func TestNothingIsSentWhenTheTimeIsUpAlready(t *testing.T) {
	w := newWiredPeer(t, 0)
	gone, cancel := context.WithDeadline(context.Background(), time.Now())
	defer cancel()
	_, err := w.call(gone, "a", []byte("{}"), nil)
	if err.Code != CodeDeadlineExceeded || err.Delivered != DeliveredNo || !strings.Contains(string(err.Data), `"queue"`) {
		t.Errorf("%+v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err = w.call(cancelled, "a", []byte("{}"), nil); err.Code != CodeCancelled || err.Delivered != DeliveredNo {
		t.Errorf("%+v", err)
	}
	w.write(t, []byte(nextPing))
	w.next(t) // and not a frame of theirs
}

func TestARequestOverTheFrameLimitIsRefusedHere(t *testing.T) {
	w := newWiredPeer(t, 1000)
	_, err := w.call(within(t), "a", []byte(`{"x":"`+strings.Repeat("x", 1000)+`"}`), nil)
	if err == nil || err.Code != CodeInvalidRequest || !strings.Contains(string(err.Data), `"limit":1000`) {
		t.Errorf("%+v", err)
	}
	request, done := w.begin(within(t), t, "a", nil)
	w.reply(t, request, `{}`)
	<-done
}

func TestAnAnswerOverTheFrameLimitFailsItsCall(t *testing.T) {
	w := newWiredPeer(t, 1000)
	request, done := w.begin(within(t), t, "a", nil)
	w.reply(t, request, `"`+strings.Repeat("x", 5000)+`"`)
	if r := <-done; r.err == nil || r.err.Code != CodeInvalidRequest {
		t.Errorf("%+v", r)
	}
	if complaint := w.next(t); complaint.Error == nil || complaint.Error.Code != CodeInvalidRequest || complaint.Error.Data["id"] != nil {
		t.Errorf("%+v", complaint)
	}
	w.write(t, []byte(nextPing))
	w.next(t)
}

func TestAReverseRequestIsAnsweredOnceAndCanBeCancelled(t *testing.T) {
	w := newWiredPeer(t, 0)
	entered := make(chan struct{})
	w.handlers = map[string]reverseHandler{
		"wait": func(ctx context.Context, _ json.RawMessage) (any, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"echo": func(_ context.Context, params json.RawMessage) (any, error) { return params, nil },
	}
	w.write(t, []byte(`{"jsonrpc":"2.0","id":"w","method":"wait"}`+"\n"))
	<-entered
	w.write(t, []byte(`{"jsonrpc":"2.0","id":"w","method":"echo"}`+"\n"))
	if a := w.next(t); string(a.ID) != "null" || a.Error.Code != CodeInvalidRequest || string(a.Error.Data["id"]) != `"w"` {
		t.Errorf("a duplicate id: %+v", a)
	}
	w.write(t, []byte(`{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":1.0}}`+"\n"))
	if a := w.next(t); string(a.Result) != `{"a":1.0}` {
		t.Errorf("%+v", a)
	}
	w.write(t, []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"w"}}`+"\n"))
	if a := w.next(t); string(a.ID) != `"w"` || a.Error == nil || a.Error.Code != CodeCancelled {
		t.Errorf("%+v", a)
	}
	w.write(t, []byte(`{"jsonrpc":"2.0","id":2,"method":"nobody"}`+"\n"))
	if a := w.next(t); a.Error == nil || a.Error.Code != CodeMethodNotFound {
		t.Errorf("%+v", a)
	}
}

func TestErrorsAreComparedByCodeAndKeepTheServersOwn(t *testing.T) {
	raw := `{"code":1501,"message":"boom","data":{"kind":"RemoteError","delivered":"yes","retry":"never","server":"s",` +
		`"scope":{"tenant":"t"},"corr":"c","retryAfterMs":1500,"remote":{"code":-5,"message":"no","data":{"n":18446744073709551616}}}}`
	failure, err := errorFromWire([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := fmt.Errorf("calling: %w", failure)
	if !errors.Is(wrapped, ErrRemoteError) || errors.Is(wrapped, ErrDraining) || errors.Is(wrapped, context.Canceled) {
		t.Error("errors.Is")
	}
	var remote *RemoteError
	if !errors.As(wrapped, &remote) || remote.Code != -5 || string(remote.Data) != `{"n":18446744073709551616}` {
		t.Errorf("%+v", remote)
	}
	want := Error{Code: 1501, Kind: "RemoteError", Delivered: "yes", Retry: "never", Server: "s", Corr: "c"}
	if failure.Kind != want.Kind || failure.Delivered != want.Delivered || failure.Scope != (Scope{Tenant: "t"}) ||
		failure.RetryAfter != 1500*time.Millisecond || failure.Corr != "c" {
		t.Errorf("%+v", failure)
	}
}

func TestArgumentsLeaveAsTheyAre(t *testing.T) {
	s := &Server{name: "s", scope: Scope{User: "u"}}
	for _, arguments := range []any{
		json.RawMessage(`{"b":1.0,"a":null,"n":18446744073709551616,"h":"<&>"}`),
		map[string]any{"h": "<&>"},
	} {
		raw, failure := s.With(Idempotent(), Headers(map[string]string{"X": "y"})).params(MethodToolsCall,
			&mcp.CallToolParams{Name: "t", Arguments: arguments, Meta: mcp.Meta{"k": nil}})
		if failure != nil {
			t.Fatal(failure)
		}
		inner, _ := marshal(arguments)
		want := `{"server":"s","scope":{"user":"u"},"headers":{"X":"y"},"idempotent":true,"_meta":{"k":null},"name":"t","arguments":` +
			string(inner) + `}`
		if string(raw) != want {
			t.Errorf("want %s\nhave %s", want, raw)
		}
	}
	for _, bad := range []string{`{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":NaN}`, `[1]x`} {
		_, failure := s.params(MethodToolsCall, &mcp.CallToolParams{Name: "t", Arguments: json.RawMessage(bad)})
		if failure == nil || failure.Code != CodeInvalidParams {
			t.Errorf("%s is sent", bad)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`, `{"jsonrpc":"2.0","id":"a","result":{}}`, `[]`, "\xff", `{"id":1e5}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"data":{"id":3}}}`, `{"a":"\ud83d\ude00","id":"x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got, fault := parseFrame(line)
		if (got == nil) == (fault == nil) {
			t.Fatal("neither or both")
		}
		if fault != nil {
			if _, err := marshal(fault.wire()); err != nil {
				t.Fatalf("the fault cannot be sent: %v", err)
			}
			return
		}
		if !json.Valid(line) {
			t.Fatalf("accepted what encoding/json refuses: %q", line)
		}
	})
}
