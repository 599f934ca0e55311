package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// sdk calls directly, with the official Go SDK. Its HTTP client is shared by all sessions, as a host would have it.
type sdk struct {
	mu      sync.Mutex
	clients map[string]*http.Client // by certificate file
}

func (d *sdk) pids() map[string]int { return map[string]int{"client": here()} }

func (d *sdk) httpClient(ca string) (*http.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.clients[ca]; known != nil {
		return known, nil
	}
	shared := http.DefaultTransport.(*http.Transport).Clone()
	shared.MaxIdleConnsPerHost = 1024 // or calls side by side would connect anew each time
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		shared.TLSClientConfig = &tls.Config{RootCAs: pool}
		shared.ForceAttemptHTTP2 = false
	}
	if d.clients == nil {
		d.clients = map[string]*http.Client{}
	}
	d.clients[ca] = &http.Client{Transport: shared}
	return d.clients[ca], nil
}

func (d *sdk) connect(ctx context.Context, _ string, to transport, era string) (session, error) {
	var way mcp.Transport = nil
	if to.URL != "" {
		client, err := d.httpClient(to.CA)
		if err != nil {
			return nil, err
		}
		way = &mcp.StreamableClientTransport{Endpoint: to.URL, HTTPClient: client}
	} else {
		way = &mcp.CommandTransport{Command: exec.Command(to.Command[0], to.Command[1:]...)}
	}
	options := &mcp.ClientSessionOptions{}
	if era == "legacy" {
		options.ProtocolVersion = "2025-11-25"
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "bench", Version: "1"}, nil)
	made, err := client.Connect(ctx, way, options)
	if err != nil {
		return nil, err
	}
	return &sdkSession{made}, nil
}

func (d *sdk) ping(context.Context, string) error {
	return errors.New("calls directly: there is no hop")
}

func (d *sdk) close() error { return nil }

type sdkSession struct {
	session *mcp.ClientSession
}

func (s *sdkSession) call(ctx context.Context, tool string, arguments map[string]any, _ bool) error {
	if arguments == nil {
		arguments = map[string]any{"message": "hello"}
	}
	_, err := s.session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	return err
}

func (s *sdkSession) close(context.Context) error { return s.session.Close() }
