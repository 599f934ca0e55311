//go:build unix

package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// The parts that the test binary plays when it is started by a test: small sidecars with one bad habit each, built on
// the real peer, and a host.

func playPart(mode string) {
	name, arg, _ := strings.Cut(mode, ":")
	switch name {
	case "silent":
		fmt.Fprintln(os.Stderr, "I have nothing to say")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "dies":
		fmt.Fprintln(os.Stderr, "cannot find my shoes")
		os.Exit(3)
	case "garbage":
		fmt.Println("Welcome to the sidecar!")
		fmt.Print("\xff\xfe\n{\"jsonrpc\":\"1.0\"}\n[]\n\n")
		serve(nil)
	case "chatty":
		go chatter()
		serve(nil)
	case "stubborn":
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		serve(nil)
		select {} // its input has ended; it stays
	case "shapes":
		playShapes()
	case "flood":
		flooded := make(chan struct{})
		go func() {
			flood(1<<30, 10<<20)
			close(flooded)
		}()
		serve(map[string]reverseHandler{"test/flooded": func(context.Context, json.RawMessage) (any, error) {
			select {
			case <-flooded:
				return map[string]any{"done": true}, nil
			case <-time.After(10 * time.Millisecond):
				return map[string]any{"done": false}, nil
			}
		}})
	case "dies-later":
		time.AfterFunc(50*time.Millisecond, func() { os.Exit(5) })
		serve(nil)
	case "realhost":
		playRealHost()
	case "host":
		playHost(arg)
	case "version":
		serve(map[string]reverseHandler{MethodInitialize: func(context.Context, json.RawMessage) (any, error) {
			return nil, localError(CodeVersionMismatch, DeliveredNo, "version 1 only", nil,
				map[string]any{"want": 7, "have": 1})
		}})
	case "newer":
		serve(map[string]reverseHandler{MethodInitialize: func(context.Context, json.RawMessage) (any, error) {
			return map[string]any{"protocolVersion": 2}, nil
		}})
	case "good":
		serve(nil)
	default:
		fmt.Fprintln(os.Stderr, "no such part:", mode)
		os.Exit(2)
	}
}

// chatter writes 64 MB to stderr: long lines, and lines of a log.
func chatter() {
	long := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 64 {
		_, _ = os.Stderr.Write(long)
		fmt.Fprintf(os.Stderr, "\n{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"warning\",\"msg\":\"line %d\",\"n\":%d}\n", i, i)
	}
}

// flood writes lines to stderr, short ones and very long ones, until it has written so many bytes.
func flood(total, long int) {
	short := []byte(strings.Repeat("noise ", 20) + "\n")
	huge := append(bytes.Repeat([]byte("x"), long), '\n')
	many := bytes.Repeat(short, long/len(short))
	for written := 0; written < total; written += len(huge) + len(many) {
		_, _ = os.Stderr.Write(huge)
		_, _ = os.Stderr.Write(many)
	}
}

type nopWriteCloser struct{ *os.File }

// serve is a sidecar of few words: it answers initialize, connect, get and some methods that only tests use.
func serve(more map[string]reverseHandler) {
	var p *peer
	var generation atomic.Int64
	known := make(chan map[place]int, 1)
	known <- map[place]int{}
	info := func(raw json.RawMessage, connect bool) (any, error) {
		at, _ := placeOf(raw)
		table := <-known
		defer func() { known <- table }()
		if connect && table[at] == 0 && !strings.Contains(string(raw), `"lazy":true`) {
			table[at] = int(generation.Add(1))
		} else if _, ok := table[at]; connect && !ok {
			table[at] = 0
		}
		n, ok := table[at]
		if !ok {
			return nil, localError(CodeUnknownServer, DeliveredNo, "no such address", nil, nil)
		}
		state := "ready"
		if n == 0 {
			state = "idle"
		}
		return map[string]any{
			"server": at.name, "scope": at.scope, "state": state, "since": time.Now().UTC(), "generation": min(n, 1),
			"transport": "stdio", "auth": map[string]any{"type": "none", "state": "none"},
			"facts": map[string]any{"reachable": true, "authOk": true}, "attempts": 0, "pid": os.Getpid(),
		}, nil
	}
	handlers := map[string]reverseHandler{
		MethodInitialize: func(context.Context, json.RawMessage) (any, error) {
			return map[string]any{
				"protocolVersion": 1, "sidecar": map[string]any{"name": "part", "pid": os.Getpid()},
				"limits": map[string]any{"maxFrameBytes": defaultMaxFrame},
			}, nil
		},
		MethodServersConnect: func(_ context.Context, raw json.RawMessage) (any, error) { return info(raw, true) },
		MethodServersGet:     func(_ context.Context, raw json.RawMessage) (any, error) { return info(raw, false) },
		MethodToolsList: func(_ context.Context, raw json.RawMessage) (any, error) {
			if _, err := info(raw, false); err != nil {
				return nil, err
			}
			return map[string]any{"tools": []any{map[string]any{"name": fmt.Sprint(os.Getpid()), "inputSchema": map[string]any{}}}}, nil
		},
		MethodToolsCall: callTool(&generation),
		MethodShutdown:  func(context.Context, json.RawMessage) (any, error) { return map[string]any{}, nil },
		"test/wait": func(ctx context.Context, _ json.RawMessage) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"test/half": func(context.Context, json.RawMessage) (any, error) {
			fmt.Print(`{"jsonrpc":"2.0","id":`)
			os.Exit(4)
			return nil, nil
		},
		"test/ask": func(ctx context.Context, raw json.RawMessage) (any, error) { // a question of the sidecar
			var asked struct {
				Method string          `json:"method"`
				Params json.RawMessage `json:"params"`
				Cancel bool            `json:"cancel"`
			}
			if err := json.Unmarshal(raw, &asked); err != nil {
				return nil, err
			}
			if asked.Cancel {
				bounded, cancel := context.WithCancel(ctx)
				ctx = bounded
				time.AfterFunc(50*time.Millisecond, cancel)
			}
			answer, failure := p.call(ctx, asked.Method, asked.Params, nil)
			if failure != nil {
				return nil, failure
			}
			return answer, nil
		},
		"test/burn": func(context.Context, json.RawMessage) (any, error) { // uses the processor for a while
			for begin := time.Now(); time.Since(begin) < 700*time.Millisecond; {
				runtime.Gosched()
			}
			return map[string]any{}, nil
		},
		"test/askHere": func(ctx context.Context, raw json.RawMessage) (any, error) { // names this very call
			id := p.newestInbound()
			params := []byte(`{"server":"a","scope":{},"requestId":` + id + `}`)
			answer, failure := p.call(context.WithoutCancel(ctx), "roots/list", params, nil)
			if failure != nil {
				return nil, failure
			}
			return answer, nil
		},
		"test/tell": func(_ context.Context, raw json.RawMessage) (any, error) { // notifications of the sidecar
			var told struct {
				Count  int             `json:"count"`
				Method string          `json:"method"`
				Params json.RawMessage `json:"params"`
			}
			if err := json.Unmarshal(raw, &told); err != nil {
				return nil, err
			}
			for range max(1, told.Count) {
				p.send(notificationFrame(told.Method, told.Params))
			}
			return map[string]any{}, nil
		},
	}
	accept := func(context.Context, json.RawMessage) (any, error) { return map[string]any{}, nil }
	for _, method := range []string{
		MethodLoggingSetLevel, MethodRootsSet, MethodResourcesSubscribe, MethodResourcesUnsubscribe,
	} {
		handlers[method] = accept
	}
	handlers[MethodServersUpdate] = handlers[MethodServersGet]
	handlers[MethodServersImport] = func(_ context.Context, raw json.RawMessage) (any, error) {
		var servers []any
		err := jsonscan.Object(memberOf(memberOf(raw, "config"), "mcpServers"), func(name string, _ []byte) error {
			made, err := info(setMember(setMember(raw, "server", quote(name)), "lazy", []byte("true")), true)
			servers = append(servers, made)
			return err
		})
		return map[string]any{"servers": servers, "errors": []any{}}, err
	}
	for method, handler := range more {
		handlers[method] = handler
	}
	diary := make(chan []string, 1) // what was asked in this life, for the tests of the replay
	diary <- nil
	for method, handler := range handlers {
		handlers[method] = func(ctx context.Context, raw json.RawMessage) (any, error) {
			diary <- append(<-diary, method+" "+string(without(raw, "timeoutMs")))
			return handler(ctx, raw)
		}
	}
	handlers["test/diary"] = func(context.Context, json.RawMessage) (any, error) {
		lines := <-diary
		diary <- lines
		return map[string]any{"lines": lines}, nil
	}
	p = newPeer(os.Stdin, nopWriteCloser{os.Stdout}, peerConfig{handlers: handlers})
	p.run()
}

// newestInbound returns the id of the only request that is open.
func (p *peer) newestInbound() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, asked := range p.inbound {
		return string(asked.rawID)
	}
	return "null"
}

// callTool counts in the file named by the arguments, and dies where they say so.
func callTool(*atomic.Int64) reverseHandler {
	return func(_ context.Context, raw json.RawMessage) (any, error) {
		var params struct {
			Name      string `json:"name"`
			Arguments struct {
				Count string `json:"count"`
				Die   bool   `json:"die"`
			} `json:"arguments"`
		}
		if err := json.Unmarshal(raw, &params); err != nil {
			return nil, err
		}
		if params.Arguments.Count != "" {
			file, err := os.OpenFile(params.Arguments.Count, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, err
			}
			_, _ = file.WriteString("x")
			_ = file.Close()
		}
		if params.Arguments.Die {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return map[string]any{"content": []any{map[string]any{"type": "text", "text": params.Name}}}, nil
	}
}

// envHang is the HangTimeout of the host that the test binary plays.
const envHang = "SIDECAR_TEST_HANG"

// playHost starts a sidecar, says its pid, also at each line of its input, and waits to be killed or for the end.
func playHost(mode string) {
	limit, _ := time.ParseDuration(os.Getenv(envHang)) // none: the default
	c, err := Start(context.Background(), &Options{
		Command: []string{os.Args[0]}, HangTimeout: limit, Env: []string{envMode + "=" + mode, "GORACE=atexit_sleep_ms=0"},
	})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	defer c.Close()
	for in := bufio.NewReader(os.Stdin); ; {
		_ = c.Ping(context.Background()) // a sidecar that was just lost is waited for
		fmt.Println(c.Info().Sidecar.PID)
		if _, err := in.ReadString('\n'); err != nil {
			return
		}
	}
}

// playRealHost starts the real sidecar with one server, says both pids and waits to be killed.
func playRealHost() {
	ctx := context.Background()
	c, err := Start(ctx, nil)
	if err == nil {
		var s *Server
		if s, err = c.Connect(ctx, "clock", &ServerConfig{Transport: Stdio{Command: "mcp-server-time"}}); err == nil {
			var info *ServerInfo
			if info, err = s.Info(ctx); err == nil {
				fmt.Println(c.Info().Sidecar.PID, info.PID)
				_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
				return
			}
		}
	}
	fmt.Println("error:", err)
	os.Exit(1)
}
