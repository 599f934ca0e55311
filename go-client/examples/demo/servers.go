package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// httpServer is a server that runs beside the demo, as one in a cluster would.
type httpServer struct {
	name string
	port int
	cmd  *exec.Cmd
	done chan struct{}
}

// fleet holds the configuration of every server of the demo, and the processes of those that speak HTTP.
type fleet struct {
	root    string
	running []*httpServer
}

// startHTTPServers runs the three servers that listen on a port, and waits until they do.
func startHTTPServers(ctx context.Context, root string) (*fleet, error) {
	f := &fleet{root: root}
	for _, server := range []struct {
		name    string
		command []string
	}{
		{"everything-http", []string{"node", f.everything(), "streamableHttp"}},
		{"everything-sse", []string{"node", f.everything(), "sse"}},
		{"modern-http", []string{f.venv("python"), "-m", "tests.servers.modern_http"}},
	} {
		port, err := freePort()
		if err != nil {
			return f, err
		}
		command := server.command
		if server.name == "modern-http" {
			command = append(command, "--port", strconv.Itoa(port))
		}
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port))
		if err := cmd.Start(); err != nil {
			return f, fmt.Errorf("%s: %w (run make setup)", server.name, err)
		}
		started := &httpServer{name: server.name, port: port, cmd: cmd, done: make(chan struct{})}
		go func() {
			_ = cmd.Wait() // the demo ends it, or listens in vain
			close(started.done)
		}()
		f.running = append(f.running, started)
	}
	if err := f.startProtected(); err != nil {
		return f, err
	}
	for _, server := range f.running {
		if err := server.listens(ctx); err != nil {
			return f, err
		}
	}
	return f, nil
}

// startProtected runs the server that wants a login, with its authorization server; it chooses its port itself.
func (f *fleet) startProtected() error {
	cmd := exec.Command(f.venv("python"), "-m", "tests.servers.oauth_world")
	cmd.Dir = f.root
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("protected: %w (run make setup)", err)
	}
	started := &httpServer{name: "protected", cmd: cmd, done: make(chan struct{})}
	_, err = fmt.Fscan(stdout, &started.port)
	go func() {
		_ = cmd.Wait() // as above
		close(started.done)
	}()
	f.running = append(f.running, started)
	if err != nil {
		return fmt.Errorf("protected says no port: %w", err)
	}
	return nil
}

// freePort finds a port that is free now, below those that the system gives to connections: nobody gets it by chance
// before the server binds it.
func freePort() (int, error) {
	const first, count, tries = 20_000, 10_000, 50
	for range tries {
		port := first + rand.IntN(count) //nolint:gosec // no secret
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port from %d on", first)
}

// listens waits until the server takes connections.
func (s *httpServer) listens(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ticker.C:
		case <-s.done:
			return fmt.Errorf("%s ended before it listened", s.name)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen: %w", s.name, ctx.Err())
		}
	}
}

// stop ends the servers; it runs on every way out.
func (f *fleet) stop() {
	for _, server := range f.running {
		_ = server.cmd.Process.Signal(os.Interrupt) // it may have ended already
	}
	for _, server := range f.running {
		timer := time.NewTimer(2 * time.Second)
		select {
		case <-server.done:
		case <-timer.C:
			_ = server.cmd.Process.Kill() // as above
			<-server.done
		}
		timer.Stop()
	}
}

func (f *fleet) venv(program string) string { return filepath.Join(f.root, ".venv", "bin", program) }

func (f *fleet) everything() string {
	return filepath.Join(f.root, "node_modules", "@modelcontextprotocol", "server-everything", "dist", "index.js")
}

func (f *fleet) url(name, path string) string {
	for _, server := range f.running {
		if server.name == name {
			return fmt.Sprintf("http://127.0.0.1:%d%s", server.port, path)
		}
	}
	return ""
}

// configs returns the five servers: two over stdio, three that already run. That they are on this machine is no
// matter: the host named their URLs itself.
func (f *fleet) configs() []namedConfig {
	return []namedConfig{
		{"time", sidecar.Stdio{Command: f.venv("mcp-server-time")}},
		{"everything", sidecar.Stdio{Command: "node", Args: []string{f.everything(), "stdio"}}},
		{"everything-http", sidecar.HTTP{URL: f.url("everything-http", "/mcp")}},
		{"everything-sse", sidecar.SSE{URL: f.url("everything-sse", "/sse")}},
		{"modern-http", sidecar.HTTP{URL: f.url("modern-http", "/mcp")}},
	}
}

type namedConfig struct {
	name      string
	transport sidecar.Transport
}
