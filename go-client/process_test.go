//go:build unix

package sidecar

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func part(mode string) *Options {
	return &Options{
		Command: []string{os.Args[0]}, StopTimeout: time.Second,
		Env: []string{envMode + "=" + mode, "GORACE=atexit_sleep_ms=0"}, // the race detector's exit takes a second
	}
}

func startPart(t *testing.T, opts *Options) *Client {
	t.Helper()
	c, err := Start(within(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func wantCode(t *testing.T, err error, code int, delivered string) *Error {
	t.Helper()
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != code || failure.Delivered != delivered {
		t.Fatalf("want %d %q, have %#v", code, delivered, err)
	}
	return failure
}

// works makes one more call: whatever happened before, the client must still be of use.
func works(t *testing.T, c *Client) {
	t.Helper()
	if err := c.Ping(within(t)); err != nil {
		t.Fatalf("the next call: %v", err)
	}
}

var someServer = &ServerConfig{Transport: Stdio{Command: "x"}}

func TestGarbageOnStdoutCostsNothing(t *testing.T) {
	works(t, startPart(t, part("garbage")))
}

func TestAQuestionThatNobodyAnswersIsRefusedAtOnce(t *testing.T) {
	c := startPart(t, part("good"))
	_, err := c.Request(within(t), "test/ask", map[string]any{"method": "roots/list", "params": map[string]any{"server": "a"}})
	wantCode(t, err, CodeMethodNotFound, "")
	works(t, c)
}

func TestHalfALineFailsTheCallAndTheNextWorks(t *testing.T) {
	c := startPart(t, part("good"))
	_, err := c.Request(within(t), "test/half", nil)
	wantCode(t, err, CodeSidecarExited, DeliveredMaybe)
	works(t, c)
}

func TestAKilledSidecarFailsWhatIsOpenAndIsStartedAgain(t *testing.T) {
	var mu sync.Mutex
	var exits []Exit
	opts := part("good")
	opts.OnExit = func(e Exit) { mu.Lock(); exits = append(exits, e); mu.Unlock() }
	c := startPart(t, opts)
	const open = 20
	failed := make(chan time.Time, open)
	var wg sync.WaitGroup
	for range open {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := c.Request(within(t), "test/wait", nil)
			failed <- time.Now()
			wantCodeAsync(t, err, CodeSidecarExited, DeliveredMaybe)
		}()
	}
	for c.pendingCalls() < open {
		works(t, c)
	}
	pid := c.Info().Sidecar.PID
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for range open {
		if took := (<-failed).Sub(killed); took > 100*time.Millisecond {
			t.Errorf("a call failed only after %v", took)
		}
	}
	works(t, c)
	if took := time.Since(killed); took > 3*time.Second {
		t.Errorf("ready again only after %v", took)
	}
	if c.Info().Sidecar.PID == pid {
		t.Error("the same process")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(exits) != 1 || exits[0].Signal != "SIGKILL" || exits[0].PID != pid || !exits[0].Restarting {
		t.Errorf("%+v", exits)
	}
}

func wantCodeAsync(t *testing.T, err error, code int, delivered string) {
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != code || failure.Delivered != delivered {
		t.Errorf("want %d %q, have %v", code, delivered, err)
	}
}

func (c *Client) pendingCalls() int {
	c.mu.Lock()
	s := c.current
	c.mu.Unlock()
	if s == nil {
		return 0
	}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	return len(s.peer.pending)
}

func TestAToolCallThatMayHaveRunIsNotRepeatedUnlessItIsIdempotent(t *testing.T) {
	opts := part("good")
	opts.MaxCrashes = -1
	c := startPart(t, opts)
	server, err := c.Connect(within(t), "a", someServer)
	if err != nil {
		t.Fatal(err)
	}
	for _, plain := range []bool{true, false} {
		count := filepath.Join(t.TempDir(), "count")
		target, want := server, 1
		if !plain {
			target, want = server.With(Idempotent()), 2
		}
		_, err = target.Call(within(t), "die", map[string]any{"count": count, "die": true})
		wantCode(t, err, CodeSidecarExited, DeliveredMaybe)
		raw, readErr := os.ReadFile(count)
		if readErr != nil || len(raw) != want {
			t.Errorf("idempotent %v: ran %d times, want %d (%v)", !plain, len(raw), want, readErr)
		}
		if attempts := strings.Contains(string(err.(*Error).Data), `"attempts":2`); attempts == plain {
			t.Errorf("attempts: %s", err.(*Error).Data)
		}
	}
	works(t, c)
}

func TestWhatNeverLeftIsRepeatedWhateverItIs(t *testing.T) {
	c := startPart(t, part("good"))
	server, err := c.Connect(within(t), "a", someServer)
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Info().Sidecar.PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	count := filepath.Join(t.TempDir(), "count")
	plug := make(chan error, 1)
	go func() { // fills the pipe, so that the next frame stays here
		_, err := c.Request(within(t), MethodServersGet, map[string]any{"server": "x", "fill": strings.Repeat("x", 1<<20)})
		plug <- err
	}()
	for c.pendingCalls() < 1 || c.queuedFrames() > 0 {
		runtime.Gosched()
	}
	queued := make(chan error, 1)
	go func() {
		_, err := server.Call(within(t), "t", map[string]any{"count": count})
		queued <- err
	}()
	for c.pendingCalls() < 2 {
		runtime.Gosched()
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-queued; err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(count); err != nil || len(raw) != 1 {
		t.Errorf("ran %d times: %v", len(raw), err)
	}
	if err := <-plug; !errors.Is(err, ErrUnknownServer) { // a read, so it was repeated too
		t.Error(err)
	}
}

// queuedFrames counts what waits for the writer.
func (c *Client) queuedFrames() int {
	c.mu.Lock()
	s := c.current
	c.mu.Unlock()
	s.peer.writer.mu.Lock()
	defer s.peer.writer.mu.Unlock()
	return len(s.peer.writer.queue)
}

func TestAnAddressIsConnectedAgainAtItsNextUseAndGenerationsAddUp(t *testing.T) {
	c := startPart(t, part("good"))
	ctx := within(t)
	server, err := c.Scope(Scope{Tenant: "t"}).Connect(ctx, "a", someServer)
	if err != nil {
		t.Fatal(err)
	}
	before, err := server.Info(ctx)
	if err != nil || before.Generation != 1 {
		t.Fatalf("%+v %v", before, err)
	}
	_, err = c.Request(ctx, "test/half", nil)
	wantCode(t, err, CodeSidecarExited, DeliveredMaybe)
	tools, err := server.ListTools(ctx, nil)
	if err != nil || tools.Tools[0].Name == strconv.Itoa(before.PID) {
		t.Fatalf("%+v %v", tools, err)
	}
	after, err := server.Info(ctx)
	if err != nil || after.State != StateIdle || after.Generation != 1 {
		t.Fatalf("%+v %v", after, err)
	}
	if _, err = c.Scope(Scope{Tenant: "t"}).Connect(ctx, "a", someServer); err != nil {
		t.Fatal(err)
	}
	if after, err = server.Info(ctx); err != nil || after.Generation != 2 {
		t.Fatalf("%+v %v", after, err)
	}
	if _, err = c.Server("a").Info(ctx); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("a foreign scope sees it: %v", err)
	}
}

func TestTooManyCrashesEndTheClientAndANewStartWorks(t *testing.T) {
	opts := part("good")
	opts.MaxCrashes = 2
	c := startPart(t, opts)
	for range 2 {
		_, err := c.Request(within(t), "test/half", nil)
		wantCode(t, err, CodeSidecarExited, DeliveredMaybe)
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the client goes on")
	}
	if !errors.Is(c.Err(), ErrCrashLoop) {
		t.Error(c.Err())
	}
	if err := c.Ping(within(t)); !errors.Is(err, ErrCrashLoop) {
		t.Error(err)
	}
	works(t, startPart(t, part("good")))
}

func TestASidecarThatStopsReadingCostsCallsNoMoreThanTheirDeadline(t *testing.T) {
	opts := part("good")
	opts.StopTimeout = 100 * time.Millisecond
	c := startPart(t, opts)
	if err := syscall.Kill(c.Info().Sidecar.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	big := map[string]string{"x": strings.Repeat("x", 200_000)} // more than a pipe holds
	for i, delivered := range []string{DeliveredMaybe, DeliveredNo, DeliveredNo} {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		begin := time.Now()
		_, err := c.Request(ctx, MethodPing, map[string]any{"payload": big})
		cancel()
		wantCode(t, err, CodeDeadlineExceeded, delivered)
		if took := time.Since(begin); took > 750*time.Millisecond {
			t.Errorf("call %d took %v", i, took)
		}
	}
}

func TestCloseKillsASidecarThatWillNotGo(t *testing.T) {
	opts := part("stubborn")
	opts.StopTimeout = 100 * time.Millisecond
	c := startPart(t, opts)
	pid := c.Info().Sidecar.PID
	begin := time.Now()
	c.Close()
	c.Close()
	if alive(strconv.Itoa(pid)) || time.Since(begin) > 2*time.Second {
		t.Errorf("still there after %v", time.Since(begin))
	}
	if c.Err() != nil {
		t.Error(c.Err())
	}
	if err := c.Ping(within(t)); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
}

func TestDrainEndsTheClient(t *testing.T) {
	c := startPart(t, part("good"))
	if err := c.Drain(within(t)); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftWhenTheHostIsKilled(t *testing.T) {
	for _, mode := range []string{"good", "stubborn"} {
		host := exec.Command(os.Args[0])
		host.Env = append(os.Environ(), envMode+"=host:"+mode)
		stdin, err := host.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := host.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		pid := strings.TrimSpace(line)
		if err != nil || !alive(pid) {
			t.Fatalf("%q %v", line, err)
		}
		if err := host.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = host.Wait() // killed, as wanted
		_ = stdin.Close()
		deadline := time.Now().Add(3 * time.Second)
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the sidecar lives on", mode)
			}
			runtime.Gosched()
		}
	}
}
