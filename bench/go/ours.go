package main

import (
	"context"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// ours calls through the sidecar, with the Go client of this repository. MCP_SIDECAR_COMMAND says how to start it.
type ours struct {
	client *sidecar.Client
}

// frameLimit lets results of 80 MB through.
const frameLimit = 256 << 20

func newOurs() (*ours, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := sidecar.Start(ctx, &sidecar.Options{
		Host:   sidecar.HostInfo{Name: "bench", Version: "1"},
		Limits: &sidecar.ProcessLimits{MaxFrameBytes: frameLimit},
	})
	if err != nil {
		return nil, err
	}
	return &ours{client}, nil
}

func (o *ours) pids() map[string]int {
	return map[string]int{"client": here(), "sidecar": o.client.Info().Sidecar.PID}
}

func (o *ours) connect(ctx context.Context, name string, to transport, era string) (session, error) {
	config := &sidecar.ServerConfig{Protocol: "auto", Limits: &sidecar.ServerLimits{MaxResultBytes: frameLimit}}
	if era == "legacy" {
		config.Protocol = "legacy"
	}
	if to.URL != "" {
		http := sidecar.HTTP{URL: to.URL}
		if to.CA != "" {
			http.TLS = &sidecar.TLSConfig{CAFile: to.CA}
		}
		config.Transport = http
	} else {
		config.Transport = sidecar.Stdio{Command: to.Command[0], Args: to.Command[1:]}
	}
	server, err := o.client.Connect(ctx, name, config)
	if err != nil {
		return nil, err
	}
	return &ourSession{server}, nil
}

func (o *ours) ping(ctx context.Context, payload string) error {
	params := map[string]string{"payload": payload}
	if payload == "" {
		params = nil
	}
	_, err := o.client.Request(ctx, sidecar.MethodPing, params)
	return err
}

func (o *ours) close() error { return o.client.Close() }

type ourSession struct {
	server *sidecar.Server
}

func (s *ourSession) call(ctx context.Context, tool string, arguments map[string]any, decode bool) error {
	if arguments == nil {
		arguments = map[string]any{"message": "hello"}
	}
	result, err := s.server.Call(ctx, tool, arguments)
	if err != nil || !decode {
		return err
	}
	var content any
	return result.Decode(&content)
}

func (s *ourSession) close(ctx context.Context) error { return s.server.Disconnect(ctx, false) }
