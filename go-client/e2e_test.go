//go:build unix

package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Tests against the real sidecar and real servers.

const (
	venvBin    = "../.venv/bin"
	everything = "../node_modules/@modelcontextprotocol/server-everything/dist/index.js"
)

// realCommand returns the command of the real sidecar: SIDECAR_COMMAND, MCP_SIDECAR_COMMAND, or the checkout's own.
func realCommand() []string {
	for _, name := range []string{"SIDECAR_COMMAND", envCommand} {
		if words, err := shellWords(os.Getenv(name)); err == nil {
			return words
		}
	}
	own, err := filepath.Abs(filepath.Join(venvBin, programName))
	if err == nil {
		if _, err = os.Stat(own); err == nil {
			return []string{own}
		}
	}
	return nil
}

// need skips a test by name where something is not installed, and fails where nothing may be missing.
func need(t *testing.T, what string, there bool) {
	t.Helper()
	if there {
		return
	}
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatalf("%s is missing: run make setup", what)
	}
	t.Skipf("%s is missing: run make setup", what)
}

func realClient(t *testing.T, opts *Options) *Client {
	t.Helper()
	long(t)
	command := realCommand()
	need(t, "the sidecar", command != nil)
	if opts == nil {
		opts = &Options{}
	}
	opts.Command = command
	opts.Stderr = testLog{t}
	c, err := Start(within(t), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type testLog struct{ t *testing.T }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("sidecar: %.500s", line)
	return len(line), nil
}

// bench connects the FastMCP server of the tests over stdio.
func bench(t *testing.T, c *ScopedClient) *Server {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Connect(within(t), "bench", &ServerConfig{Transport: Stdio{
		Command: filepath.Join(root, ".venv/bin/python"), Args: []string{"-m", "tests.servers.stdio_server"}, Cwd: root,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRealCallsOfEveryKind(t *testing.T) {
	c := realClient(t, nil)
	ctx := within(t)
	path, err := filepath.Abs(everything)
	if err == nil {
		_, err = os.Stat(path)
	}
	need(t, "server-everything", err == nil)
	s, err := c.Connect(ctx, "everything", &ServerConfig{Transport: Stdio{Command: "node", Args: []string{path, "stdio"}}})
	if err != nil {
		t.Fatal(err)
	}
	result, err := s.Call(ctx, "echo", map[string]string{"message": "<hi> & bye"})
	if err != nil || result.Content[0].(*mcp.TextContent).Text != "Echo: <hi> & bye" {
		t.Errorf("%+v %v", result, err)
	}
	result, err = s.Call(ctx, "get-structured-content", json.RawMessage(`{"location":"Chicago"}`))
	var weather struct{ Temperature float64 }
	if err != nil || result.Decode(&weather) != nil || weather.Temperature == 0 {
		t.Errorf("%s %v", result.Raw, err)
	}
	names := map[string]bool{}
	for tool, err := range s.Tools(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		names[tool.Name] = true
	}
	if !names["get-sum"] {
		t.Errorf("%v", names)
	}
	for resource, err := range s.Resources(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		read, err := s.ReadResource(ctx, &mcp.ReadResourceParams{URI: resource.URI})
		if err != nil || len(read.Contents) == 0 {
			t.Errorf("%s: %+v %v", resource.URI, read, err)
		}
		break
	}
	for template, err := range s.ResourceTemplates(ctx, nil) {
		if err != nil || template.URITemplate == "" {
			t.Errorf("%+v %v", template, err)
		}
	}
	for prompt, err := range s.Prompts(ctx, nil) {
		if err != nil || prompt.Name == "" {
			t.Errorf("%+v %v", prompt, err)
		}
	}
	prompt, err := s.GetPrompt(ctx, &mcp.GetPromptParams{Name: "args-prompt", Arguments: map[string]string{"city": "Rome"}})
	if err != nil || !strings.Contains(prompt.Messages[0].Content.(*mcp.TextContent).Text, "Rome") {
		t.Errorf("%+v %v", prompt, err)
	}
	completed, err := s.Complete(ctx, &mcp.CompleteParams{
		Ref:      &mcp.CompleteReference{Type: "ref/prompt", Name: "completable-prompt"},
		Argument: mcp.CompleteParamsArgument{Name: "department", Value: "E"},
	})
	if err != nil || len(completed.Completion.Values) == 0 {
		t.Errorf("%+v %v", completed, err)
	}
	if err := s.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: mcp.LoggingLevelWarning}); err != nil {
		t.Error(err)
	}
	if err := s.Ping(ctx, nil); err != nil {
		t.Error(err)
	}
	info, err := s.Info(ctx)
	if err != nil || info.State != StateReady || info.Generation != 1 || info.ServerInfo == nil || info.Capabilities.Tools == nil {
		t.Errorf("%+v %v", info, err)
	}
	if health, err := c.Health(ctx); err != nil || health.Servers["ready"] != 1 {
		t.Errorf("%+v %v", health, err)
	}
	if result, err = s.Call(ctx, "no-such-tool", nil); err == nil && !result.IsError {
		t.Errorf("a tool that does not exist answers: %s", result.Raw)
	}
	if err := s.Disconnect(ctx, false); err != nil {
		t.Error(err)
	}
	if _, err := s.Info(ctx); !errors.Is(err, ErrUnknownServer) {
		t.Error(err)
	}
}

func TestRealProgressComesInOrderAndBeforeTheResult(t *testing.T) {
	s := bench(t, realClient(t, nil).Scope(Scope{}))
	var seen []string
	withProgress := s.With(Progress(func(p *mcp.ProgressNotificationParams) {
		seen = append(seen, fmt.Sprint(p.Progress, "/", p.Total, " ", p.Message))
	}))
	if _, err := withProgress.Call(within(t), "slow", map[string]any{"steps": 5, "delay": 0.01}); err != nil {
		t.Fatal(err)
	}
	if want := "1/5 step 1|2/5 step 2|3/5 step 3|4/5 step 4|5/5 step 5"; strings.Join(seen, "|") != want {
		t.Errorf("%q", seen)
	}
}

func TestRealCancelReachesTheServer(t *testing.T) {
	s := bench(t, realClient(t, nil).Scope(Scope{}))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	withProgress := s.With(Progress(func(*mcp.ProgressNotificationParams) { cancel() }))
	begin := time.Now()
	_, err := withProgress.Call(ctx, "slow", map[string]any{"steps": 100, "delay": 0.1, "name": "mine"})
	wantCode(t, err, CodeCancelled, DeliveredMaybe)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	for happened := ""; !strings.Contains(happened, "cancelled mine"); {
		result, err := s.Call(within(t), "happened", nil)
		if err != nil {
			t.Fatal(err)
		}
		happened = string(result.Raw)
	}
}

func TestRealDeadlinesAreAnsweredByTheSidecarAndHold(t *testing.T) {
	s := bench(t, realClient(t, nil).Scope(Scope{}))
	ctx, cancel := context.WithTimeout(context.Background(), 400*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := s.Call(ctx, "slow", map[string]any{"steps": 100, "delay": 0.1})
	failure := wantCode(t, err, CodeDeadlineExceeded, DeliveredMaybe)
	if !errors.Is(err, context.DeadlineExceeded) || failure.Corr == "" || !strings.Contains(string(failure.Data), `"wait"`) {
		t.Errorf("not the sidecar's own answer: %s", failure.Data)
	}
	if took := time.Since(begin); took > 650*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if err := s.Ping(within(t), nil); err != nil {
		t.Error(err)
	}
}

func TestRealFastCallsOvertakeSlowOnes(t *testing.T) {
	s := bench(t, realClient(t, nil).Scope(Scope{}))
	var order []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, steps := range []int{6, 3, 1} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := s.Call(within(t), "slow", map[string]any{"steps": steps, "delay": 0.2})
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprint(steps))
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	if strings.Join(order, "") != "136" {
		t.Errorf("%v", order)
	}
}

func TestRealScopesDoNotSeeEachOther(t *testing.T) {
	c := realClient(t, nil)
	a := bench(t, c.Scope(Scope{Tenant: "a"}))
	b := bench(t, c.Scope(Scope{Tenant: "b", User: "u"}))
	for range 3 {
		if _, err := a.Call(within(t), "counter", nil); err != nil {
			t.Fatal(err)
		}
	}
	result, err := b.Call(within(t), "counter", nil)
	if err != nil || result.Content[0].(*mcp.TextContent).Text != "1" {
		t.Errorf("%s %v", result.Raw, err)
	}
	if _, err := c.Server("bench").Call(within(t), "counter", nil); !errors.Is(err, ErrUnknownServer) {
		t.Error(err)
	}
	infos, err := c.AllServers(within(t))
	if err != nil || len(infos) != 2 {
		t.Errorf("%v %v", infos, err)
	}
	if infos, err = c.Scope(Scope{Tenant: "a"}).Servers(within(t)); err != nil || len(infos) != 1 {
		t.Errorf("%v %v", infos, err)
	}
}

func TestRealValuesSurviveTheWayThereAndBack(t *testing.T) {
	s := bench(t, realClient(t, nil).Scope(Scope{}))
	value := `{"z":1.0,"a":null,"n":18446744073709551616,"e":1e2,"s":"<&>\u2028é"}`
	result, err := s.Call(within(t), "echo", json.RawMessage(`{"value":`+value+`}`))
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		Value map[string]json.RawMessage `json:"value"`
	}
	if err := result.Decode(&back); err != nil || string(back.Value["n"]) != "18446744073709551616" ||
		string(back.Value["z"]) != "1.0" || string(back.Value["a"]) != "null" {
		t.Errorf("%s %v", result.StructuredContent, err)
	}
}

func TestRealSidecarThatIsKilledComesBackWithItsConnections(t *testing.T) {
	c := realClient(t, nil)
	s := bench(t, c.Scope(Scope{Tenant: "a"}))
	before, err := s.Info(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.Info().Sidecar.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for _, err := range s.Tools(within(t), nil) {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("back after %v", time.Since(begin))
	after, err := s.Info(within(t))
	if err != nil || after.State != StateReady || after.Generation != before.Generation+1 || after.PID == before.PID {
		t.Errorf("%+v %v", after, err)
	}
	for alive(strconv.Itoa(before.PID)) {
		if time.Since(begin) > 3*time.Second {
			t.Fatal("the old child lives on")
		}
	}
}

func TestRealNothingIsLeftWhenTheHostIsKilled(t *testing.T) {
	command := realCommand()
	need(t, "the sidecar", command != nil)
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), envMode+"=realhost", envCommand+"='"+strings.Join(command, "' '")+"'")
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	pids := strings.Fields(line)
	if err != nil || len(pids) != 2 {
		t.Fatalf("%q %v", line, err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait() // killed, as wanted
	begin := time.Now()
	for alive(pids[0]) || alive(pids[1]) {
		if time.Since(begin) > 3*time.Second {
			t.Fatalf("sidecar %v, child %v live on", alive(pids[0]), alive(pids[1]))
		}
		runtime.Gosched()
	}
}

func TestRealStateChangesAreTold(t *testing.T) {
	states := make(chan State, 32)
	c := realClient(t, &Options{OnChanged: func(info *ServerInfo) { states <- info.State }})
	s := bench(t, c.Scope(Scope{}))
	if err := s.Disconnect(within(t), false); err != nil {
		t.Fatal(err)
	}
	var seen []State
	for len(seen) == 0 || seen[len(seen)-1] != StateClosed {
		select {
		case state := <-states:
			seen = append(seen, state)
		case <-time.After(patience):
			t.Fatalf("only %v", seen)
		}
	}
	if text := fmt.Sprint(seen); !strings.Contains(text, "ready") {
		t.Error(text)
	}
}
