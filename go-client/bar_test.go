//go:build unix

package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The lines of the bar that speak of this client, with their numbers, against the real sidecar where it has a part.

// long leaves a test out of the short run, which is for the oldest Go.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("long")
	}
}

// shapes are servers that are hard to end.
var shapes = [][]string{
	nil,
	{"--ignore-eof"},
	{"--ignore-eof", "--ignore-term"},
	{"--grandchild", "plain", "--grandchild", "stubborn"},
	{"--ignore-eof", "--ignore-term", "--grandchild", "plain", "--grandchild", "stubborn"},
}

// playShapes is a host with one server of each shape. It says that they are there, closes when it is told to, and
// else waits to be killed.
func playShapes() {
	python, script := os.Getenv("SIDECAR_TEST_PYTHON"), os.Getenv("SIDECAR_TEST_SCRIPT")
	ctx := context.Background()
	c, err := Start(ctx, nil)
	for i := 0; err == nil && i < len(shapes); i++ {
		_, err = c.Connect(ctx, fmt.Sprint("s", i), &ServerConfig{
			Transport: Stdio{Command: python, Args: append([]string{script}, shapes[i]...)},
		})
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("ready", c.Info().Sidecar.PID)
	in := bufio.NewReader(os.Stdin)
	if line, _ := in.ReadString('\n'); line == "close\n" {
		c.Close()
		fmt.Println("closed")
	}
	_, _ = in.ReadString('\n')
}

func TestHostKilled(t *testing.T) { // 45
	long(t)
	t.Parallel()
	command := realCommand()
	need(t, "the sidecar", command != nil)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(host *os.Process, sidecar int, say func(string)) error{
		"close":             func(_ *os.Process, _ int, say func(string)) error { say("close"); return nil },
		"the sidecar":       func(_ *os.Process, sidecar int, _ func(string)) error { return syscall.Kill(sidecar, syscall.SIGKILL) },
		"the sidecar group": func(_ *os.Process, sidecar int, _ func(string)) error { return syscall.Kill(-sidecar, syscall.SIGKILL) },
		"the host":          func(host *os.Process, _ int, _ func(string)) error { return host.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := exec.Command(os.Args[0])
			host.Env = append(os.Environ(), envMode+"=shapes", envCommand+"='"+strings.Join(command, "' '")+"'",
				"SIDECAR_TEST_PYTHON="+filepath.Join(root, ".venv/bin/python"),
				"SIDECAR_TEST_SCRIPT="+filepath.Join(root, "tests/servers/raw_stdio.py"), "GORACE=atexit_sleep_ms=0")
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
			t.Cleanup(func() {
				_ = host.Process.Kill() // it may be gone
				_ = host.Wait()
			})
			lines := bufio.NewReader(stdout)
			line, err := lines.ReadString('\n')
			var sidecar int
			if _, scanErr := fmt.Sscanf(line, "ready %d", &sidecar); scanErr != nil {
				t.Fatalf("%q %v", line, err)
			}
			tree := append(descendants(sidecar), sidecar)
			if len(tree) < 1+1+len(shapes)+4 { // the sidecar, its guard, the servers, four grandchildren
				t.Fatalf("only %v", tree)
			}
			begin := time.Now()
			err = end(host.Process, sidecar, func(word string) {
				fmt.Fprintln(stdin, word)
				if line, err := lines.ReadString('\n'); line != "closed\n" {
					t.Errorf("%q %v", line, err)
				}
				begin = time.Now() // Close has its own bounds
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range tree {
				for alive(strconv.Itoa(pid)) {
					if time.Since(begin) > 3*time.Second {
						t.Fatalf("%d of %v lives on: %s", pid, tree, commandOf(pid))
					}
					runtime.Gosched()
				}
			}
		})
	}
}

// descendants returns the processes below one.
func descendants(pid int) []int {
	parents := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		raw, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		child, errChild := strconv.Atoi(entry.Name())
		parent, errParent := strconv.Atoi(fields[1])
		if errChild == nil && errParent == nil {
			parents[parent] = append(parents[parent], child)
		}
	}
	var below []int
	for open := []int{pid}; len(open) > 0; open = open[1:] {
		below = append(below, parents[open[0]]...)
		open = append(open, parents[open[0]]...)
	}
	return below
}

func commandOf(pid int) string {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return strings.ReplaceAll(string(raw), "\x00", " ")
}

// envKills is how often TestSidecarKilled kills the real sidecar; the bar says 50, which is for `make soak`.
const envKills = "SIDECAR_TEST_KILLS"

func TestSidecarKilled(t *testing.T) { // 46
	long(t)
	kills := 4
	if n, err := strconv.Atoi(os.Getenv(envKills)); err == nil {
		kills = n
	}
	var mu sync.Mutex
	var exits []Exit
	c := realClient(t, &Options{MaxCrashes: -1, OnExit: func(e Exit) { mu.Lock(); exits = append(exits, e); mu.Unlock() }})
	journal := filepath.Join(t.TempDir(), "journal")
	server, err := c.Connect(within(t), "raw", rawConfig(t, "--journal", journal))
	if err != nil {
		t.Fatal(err)
	}
	const workers = 20
	var stop atomic.Bool
	var killed atomic.Int64 // when, in ns; 0: not now
	var late, lost, calls, lists atomic.Int64
	var wg sync.WaitGroup
	outcomes := sync.Map{} // name of the call -> error
	for worker := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				name := fmt.Sprintf("n%d-%d", worker, i)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				_, err := server.Call(ctx, name, nil)
				if errors.Is(err, ErrSidecarExited) {
					lost.Add(1)
					if at := killed.Load(); at == 0 || time.Since(time.Unix(0, at)) > 100*time.Millisecond {
						late.Add(1)
					}
				} else if !errors.Is(err, ErrRemoteError) { // the server knows no such tool; it has noted the call
					t.Errorf("%s: %v", name, err)
				}
				outcomes.Store(name, err)
				calls.Add(1)
				if _, err := server.ListTools(ctx, nil); err != nil {
					t.Errorf("a list: %v", err)
				}
				lists.Add(1)
				cancel()
			}
		}()
	}
	var worst time.Duration
	for range kills {
		busy := calls.Load() + 2*workers
		for deadline := time.Now().Add(patience); calls.Load() < busy; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatal("no call ends any more")
			}
		}
		pid := c.Info().Sidecar.PID
		killed.Store(time.Now().UnixNano())
		begin := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.waitFor(func() bool { return c.info.Sidecar.PID != pid })
		works(t, c)
		worst = max(worst, time.Since(begin))
	}
	stop.Store(true)
	wg.Wait()
	if worst > 3*time.Second {
		t.Errorf("ready again only after %v", worst)
	}
	if late.Load() > 0 {
		t.Errorf("%d calls failed later than 100 ms after the kill", late.Load())
	}
	raw, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, line := range strings.Split(string(raw), "\n") {
		if name, ok := strings.CutPrefix(line, "call "); ok {
			ran[name]++
		}
	}
	outcomes.Range(func(key, value any) bool {
		name, _ := key.(string)
		err, _ := value.(error)
		var failure *Error
		errors.As(err, &failure)
		if times := ran[name]; times > 1 || times == 1 && failure.Delivered == DeliveredNo ||
			times == 0 && failure.Code == CodeRemoteError {
			t.Errorf("%s ran %d times: %v, delivered %s", name, times, err, failure.Delivered)
		}
		return true
	})
	t.Logf("%d kills, %d calls, %d lost, %d lists, ready again within %v", kills, calls.Load(), lost.Load(), lists.Load(), worst)
}

func TestCrashLoop(t *testing.T) { // 47
	before := processorTime(t)
	begin := time.Now()
	opts := part("dies-later")
	var exits atomic.Int64
	opts.OnExit = func(Exit) { exits.Add(1) }
	c, err := Start(within(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("the client goes on")
	}
	if !errors.Is(c.Err(), ErrCrashLoop) || exits.Load() != defaultMaxCrashes {
		t.Errorf("%v after %d exits", c.Err(), exits.Load())
	}
	if used, took := processorTime(t)-before, time.Since(begin); used > took/2+time.Second {
		t.Errorf("used %v of processor time in %v: a hot loop", used, took)
	}
	if err := c.Ping(within(t)); !errors.Is(err, ErrCrashLoop) {
		t.Error(err)
	}
	works(t, startPart(t, part("good")))
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(used.Utime.Nano() + used.Stime.Nano())
	}
	return total
}

func TestHungSidecar(t *testing.T) { // 48
	long(t)
	t.Parallel()
	exits := make(chan Exit, 8)
	c := realClient(t, &Options{OnExit: func(e Exit) { exits <- e }})
	if err := syscall.Kill(c.Info().Sidecar.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	works(t, c)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %v", took)
	} else {
		t.Logf("took %v", took)
	}
	if e := <-exits; !e.Hung {
		t.Errorf("%+v", e)
	}
}

func TestDrain(t *testing.T) { // 49
	long(t)
	t.Parallel()
	for name, end := range map[string]func(c *Client, s *session) error{
		"SIGTERM": func(_ *Client, s *session) error { return syscall.Kill(s.process.pid, syscall.SIGTERM) },
		"the end of its input": func(_ *Client, s *session) error {
			s.peer.writer.closeWhenEmpty()
			return nil
		},
		"Drain": func(c *Client, _ *session) error {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			return c.Drain(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deleted := make(chan struct{}, 1)
			server := httptest.NewServer(legacyServer(deleted))
			defer server.Close()
			exits := make(chan Exit, 4)
			c := realClient(t, &Options{OnExit: func(e Exit) { exits <- e }})
			remote, err := c.Connect(within(t), "http", &ServerConfig{Transport: HTTP{URL: server.URL}, Protocol: "legacy"})
			if err != nil {
				t.Fatal(err)
			}
			c.mu.Lock()
			s := c.current
			c.mu.Unlock()
			const calls = 50
			cut := 60_000 // some end by themselves while it drains, some must be cut
			if name == "the end of its input" {
				cut = 1000
			}
			done := make(chan error, calls)
			for i := range calls {
				go func() {
					_, err := remote.Call(within(t), "wait", map[string]any{"ms": map[bool]int{true: 500, false: cut}[i%2 == 0]})
					done <- err
				}()
			}
			for c.pendingCalls() < calls {
				runtime.Gosched()
			}
			works(t, c) // what was sent before the ping was read
			begin := time.Now()
			ended := make(chan error, 1)
			go func() { ended <- end(c, s) }()
			finished := 0
			for range calls {
				err := <-done
				if err == nil {
					finished++
				} else if !errors.Is(err, ErrDraining) && !errors.Is(err, ErrDeadlineExceeded) {
					t.Errorf("a call ended with %v", err)
				}
			}
			<-s.ended
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 10500*time.Millisecond || finished < calls/2 {
				t.Errorf("took %v, %d finished", took, finished)
			}
			if e := <-exits; e.ExitCode != 0 {
				t.Errorf("%+v", e)
			}
			select {
			case <-deleted:
			case <-time.After(time.Second):
				t.Error("the server saw no DELETE")
			}
		})
	}
}

// legacyServer is a small Streamable HTTP server with sessions, whose one tool waits.
func legacyServer(deleted chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			deleted <- struct{}{}
			return
		}
		var request struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params struct {
				Arguments struct {
					MS int `json:"ms"`
				} `json:"arguments"`
			} `json:"params"`
		}
		if r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&request) != nil {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		result := `{}`
		switch request.Method {
		case "initialize":
			w.Header().Set("Mcp-Session-Id", "s1")
			result = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"waits","version":"1"}}`
		case "tools/list":
			result = `{"tools":[{"name":"wait","inputSchema":{"type":"object"}}]}`
		case "tools/call":
			timer := time.NewTimer(time.Duration(request.Params.Arguments.MS) * time.Millisecond)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-r.Context().Done():
				return
			}
			result = `{"content":[]}`
		}
		if request.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, request.ID, result)
	}
}

func TestStderr(t *testing.T) { // 50
	long(t)
	opts := part("flood")
	opts.Stderr = writerFunc(func([]byte) {}) // copied, so that a queue could grow
	c := startPart(t, opts)
	works(t, c)
	before := residentKB(t)
	peak := before
	for {
		raw, err := c.Request(within(t), "test/flooded", nil)
		if err != nil {
			t.Fatal(err)
		}
		peak = max(peak, residentKB(t))
		if string(raw) == `{"done":true}` {
			break
		}
	}
	if rise := peak - before; rise > 16<<10 {
		t.Errorf("the host grew by %d kB", rise)
	}
	works(t, c)
}

func residentKB(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this system does not tell the memory in use")
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 10
}

func TestGoroutines(t *testing.T) { // 51; FuzzFrame is in contract_vectors_test.go
	long(t)
	sidecar := filepath.Join(t.TempDir(), "sidecar.sh")
	text := "#!/bin/sh\nread -r line\n" +
		`echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"sidecar":{"name":"sh","version":"1"}}}'` +
		"\nwhile read -r line; do :; done\n"
	if err := os.WriteFile(sidecar, []byte(text), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	const starts, side = 1000, 8
	turns := make(chan struct{}, starts)
	for range starts {
		turns <- struct{}{}
	}
	close(turns)
	var wg sync.WaitGroup
	for range side {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range turns {
				c, err := Start(context.Background(), &Options{Command: []string{sidecar}})
				if err != nil {
					t.Error(err)
					return
				}
				c.Close()
			}
		}()
	}
	wg.Wait()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > goroutines && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d open files, %d before", now, files)
	}
}
