//go:build unix

package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// rawConfig is the hand-written server of the tests over stdio: fast, byte-exact, and broken on demand.
func rawConfig(t *testing.T, args ...string) *ServerConfig {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return &ServerConfig{Transport: Stdio{
		Command: filepath.Join(root, ".venv/bin/python"),
		Args:    append([]string{filepath.Join(root, "tests/servers/raw_stdio.py")}, args...),
	}}
}

func rawServer(t *testing.T, c *Client, args ...string) *Server {
	t.Helper()
	s, err := c.Connect(within(t), "raw", rawConfig(t, args...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRealResultsKeepUnknownTypesAndTheServersOwnErrors(t *testing.T) {
	s := rawServer(t, realClient(t, nil))
	result, err := s.Call(within(t), "faithful", nil)
	if err != nil {
		t.Fatal(err)
	}
	unknown, ok := result.Content[0].(*mcp.UnknownContent)
	if !ok || unknown.Type != "hologram" || !strings.Contains(string(unknown.Raw), `"frames":[1,2,3]`) {
		t.Errorf("%#v", result.Content[0])
	}
	for _, part := range []string{`"long":123456789012345678901234567890`, `"dup":1,"dup":2`, `"zero":-0`, `[ 1 , 2.50 , [] ]`} {
		if !strings.Contains(string(result.Raw), part) || !strings.Contains(string(result.StructuredContent), part) {
			t.Errorf("%s is lost: %s", part, result.Raw)
		}
	}
	_, err = s.Call(within(t), "error", nil)
	wantCode(t, err, CodeRemoteError, DeliveredYes)
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Code != -32042 || remote.Message != "no é" ||
		string(remote.Data) != `{"big":18446744073709551616,"one":1.0,"null":null}` {
		t.Errorf("%+v", remote)
	}
	if result, err = s.Call(within(t), "tool_error", nil); err != nil || !result.IsError {
		t.Errorf("%+v %v", result, err)
	}
}

func TestRealPagesAreFollowed(t *testing.T) {
	s := rawServer(t, realClient(t, nil), "--pages", "3")
	var names []string
	for range 2 { // an iterator begins anew each time
		for tool, err := range s.Tools(within(t), nil) {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, tool.Name)
		}
	}
	if strings.Join(names, " ") != "t0 t1 t2 t0 t1 t2" {
		t.Errorf("%v", names)
	}
	for range s.Prompts(within(t), nil) {
		break // an early end must leave nothing behind
	}
}

func TestRealBigStructuredResultArrivesWhole(t *testing.T) {
	const size = 10_000_000
	s := rawServer(t, realClient(t, nil), "--prepare", fmt.Sprint(size))
	for range 3 {
		begin := time.Now()
		result, err := s.Call(within(t), "big", map[string]int{"size": size})
		took := time.Since(begin)
		if err != nil || len(result.StructuredContent) < size {
			t.Fatalf("%d %v", len(result.StructuredContent), err)
		}
		t.Logf("10 MB in %v", took)
	}
}

func TestRealServerThatDiesFailsItsCallsAtOnceAndComesBack(t *testing.T) {
	s := rawServer(t, realClient(t, nil))
	var wg sync.WaitGroup
	begin := time.Now()
	for range 5 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := s.Call(within(t), "silent", nil)
			wantCodeAsync(t, err, CodeServerExited, DeliveredMaybe)
		}()
	}
	for s.client.pendingCalls() < 5 {
		if err := s.Ping(within(t), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Call(within(t), "kill", nil)
	failure := wantCode(t, err, CodeServerExited, DeliveredMaybe)
	if !strings.Contains(string(failure.Data), `"SIGKILL"`) || failure.Server != "raw" {
		t.Errorf("%+v", failure)
	}
	wg.Wait()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if _, err := s.Call(within(t), "echo", nil); err != nil {
		t.Error(err)
	}
	if info, err := s.Info(within(t)); err != nil || info.Generation != 2 {
		t.Errorf("%+v %v", info, err)
	}
}

func TestRealProgressFloodIsDeliveredInOrderAndEndsWithTheCall(t *testing.T) {
	s := rawServer(t, realClient(t, nil))
	last, count, over := 0.0, 0, false
	flood := s.With(Progress(func(p *mcp.ProgressNotificationParams) {
		if over || p.Progress <= last {
			t.Errorf("%v after %v, over %v", p.Progress, last, over)
		}
		last = p.Progress
		count++
	}))
	if _, err := flood.Call(within(t), "flood", map[string]int{"count": 2000}); err != nil {
		t.Fatal(err)
	}
	over = true
	if count == 0 {
		t.Error("no progress came")
	}
	t.Logf("%d of 2000", count)
}

func TestRealFaultyConfigsAreRefusedWithTheirOwnCodes(t *testing.T) {
	c := realClient(t, nil)
	for name, bad := range map[string]struct {
		config *ServerConfig
		code   int
	}{
		"ws":       {&ServerConfig{Transport: HTTP{URL: "ws://127.0.0.1:1/"}}, CodeInvalidParams},
		"userinfo": {&ServerConfig{Transport: HTTP{URL: "http://u:p@127.0.0.1:1/"}}, CodeInvalidParams},
		"refused":  {&ServerConfig{Transport: HTTP{URL: "http://127.0.0.1:1/"}}, CodeConnectFailed},
		"dns":      {&ServerConfig{Transport: SSE{URL: "http://nosuch.invalid/"}}, CodeConnectFailed},
		"missing":  {&ServerConfig{Transport: Stdio{Command: "/no/such/program"}}, CodeSpawnFailed},
		"false":    {&ServerConfig{Transport: Stdio{Command: "/bin/false"}}, CodeServerExited},
		"protocol": {&ServerConfig{Transport: Stdio{Command: "/bin/cat"}, Protocol: "1999"}, CodeInvalidParams},
		"none":     {&ServerConfig{}, CodeInvalidParams},
	} {
		_, err := c.Connect(within(t), name, bad.config)
		var failure *Error
		if !errors.As(err, &failure) || failure.Code != bad.code {
			t.Errorf("%s: want %d, have %v", name, bad.code, err)
		}
	}
	if _, err := c.Connect(within(t), "no name", rawConfig(t)); !errors.Is(err, ErrInvalidParams) {
		t.Errorf("a bad name: %v", err)
	}
	for name, known := range map[string]bool{"ws": false, "refused": true} {
		_, err := c.Server(name).Info(within(t))
		if errors.Is(err, ErrUnknownServer) == known {
			t.Errorf("%s: %v", name, err)
		}
	}
	rawServer(t, c)
}

func TestRealSameConfigJoinsAnotherIsRefusedUnlessItReplaces(t *testing.T) {
	c := realClient(t, nil)
	s := rawServer(t, c)
	rawServer(t, c)
	if info, err := s.Info(within(t)); err != nil || info.Generation != 1 {
		t.Errorf("%+v %v", info, err)
	}
	other := rawConfig(t, "--pages", "2")
	if _, err := c.Connect(within(t), "raw", other); !errors.Is(err, ErrServerExists) {
		t.Error(err)
	}
	other.Replace = true
	if _, err := c.Connect(within(t), "raw", other); err != nil {
		t.Fatal(err)
	}
	names := 0
	for _, err := range s.Tools(within(t), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names++
	}
	if names != 2 {
		t.Errorf("%d tools", names)
	}
}

func TestRealLazyAndUnwaitedConnectsReturnAtOnceAndWorkAtFirstUse(t *testing.T) {
	c := realClient(t, nil)
	lazy := rawConfig(t)
	lazy.Lazy = true
	s, err := c.Connect(within(t), "lazy", lazy)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(within(t)); err != nil || info.State != StateIdle || info.Generation != 0 {
		t.Errorf("%+v %v", info, err)
	}
	if _, err := s.Call(within(t), "echo", nil); err != nil {
		t.Error(err)
	}
	unwaited := rawConfig(t)
	unwaited.Wait = WaitNo
	if s, err = c.Connect(within(t), "unwaited", unwaited); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(within(t), "echo", nil); err != nil {
		t.Error(err)
	}
}

func TestRealDrainLetsCallsFinish(t *testing.T) {
	c := realClient(t, nil)
	s := rawServer(t, c)
	done := make(chan error, 1)
	slow := s.With(Progress(func(p *mcp.ProgressNotificationParams) {
		if p.Progress == 1 {
			go c.Drain(context.Background()) //nolint:errcheck // Done is what is looked at
		}
	}))
	go func() {
		_, err := slow.Call(within(t), "slow", map[string]any{"steps": 5, "delay": 0.1})
		done <- err
	}()
	if err := <-done; err != nil {
		t.Errorf("the call was cut: %v", err)
	}
	<-c.Done()
	if c.Err() != nil {
		t.Error(c.Err())
	}
	if _, err := s.Call(within(t), "echo", nil); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
}

func TestRealHeadersAndCredentialsReachAnHTTPServer(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	c := realClient(t, nil)
	server := exec.Command(filepath.Join(root, ".venv/bin/python"), "-m", "tests.servers.modern_http")
	server.Dir = root
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // it has no reason to end by itself
		_ = server.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url := "http://127.0.0.1:" + strings.TrimSpace(port) + "/mcp"
	headers := func(s *Server) map[string]string {
		t.Helper()
		var seen map[string]string
		result, err := s.Call(within(t), "headers", nil)
		if err == nil {
			err = result.Decode(&seen)
		}
		if err != nil {
			t.Fatal(err)
		}
		return seen
	}
	bearer, err := c.Connect(within(t), "bearer", &ServerConfig{
		Transport: HTTP{URL: url, Headers: map[string]string{"X-All": "1"}}, Auth: Bearer{Token: "secret-token"},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := headers(bearer.With(Headers(map[string]string{"X-One": "2"})))
	if seen["authorization"] != "Bearer secret-token" || seen["x-all"] != "1" || seen["x-one"] != "2" {
		t.Errorf("%v", seen)
	}
	if seen = headers(bearer); seen["x-one"] != "" {
		t.Errorf("the header of one call stays: %v", seen)
	}
	_, err = bearer.With(Headers(map[string]string{"Authorization": "x"})).Call(within(t), "headers", nil)
	if !errors.Is(err, ErrInvalidParams) {
		t.Error(err)
	}
	fixed, err := c.Connect(within(t), "fixed", &ServerConfig{
		Transport: &HTTP{URL: url}, Auth: HeaderAuth{Headers: map[string]string{"Authorization": "Basic eA=="}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen = headers(fixed); seen["authorization"] != "Basic eA==" {
		t.Errorf("%v", seen)
	}
	no := false
	strict := realClient(t, &Options{Egress: &Egress{TrustConnectOrigin: &no, AllowCommands: []string{}}})
	for name, config := range map[string]*ServerConfig{"url": {Transport: HTTP{URL: url}}, "command": rawConfig(t)} {
		if _, err := strict.Connect(within(t), name, config); !errors.Is(err, ErrAuthPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRealDefaultTimeoutOfTheOptionsHolds(t *testing.T) {
	c := realClient(t, &Options{Timeout: 2 * time.Second})
	s := rawServer(t, c)
	begin := time.Now()
	_, err := s.Call(context.Background(), "silent", nil)
	wantCode(t, err, CodeDeadlineExceeded, DeliveredMaybe)
	if took := time.Since(begin); took > 2250*time.Millisecond || took < 1900*time.Millisecond {
		t.Errorf("took %v", took)
	}
	if raw, err := c.Request(within(t), MethodPing, json.RawMessage(`{"payload":[1.0]}`)); err != nil || string(raw) != `{"payload":[1.0]}` {
		t.Errorf("%s %v", raw, err)
	}
}
