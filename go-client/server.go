package sidecar

import (
	"context"
	"encoding/json"
	"maps"
	"strings"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Server is a handle for one connection: a name in a scope, and the options of its calls. It does no I/O and holds
// nothing open; copies made by [Server.With] may be used side by side from any goroutine.
type Server struct {
	client  *Client
	scope   Scope
	name    string
	options callOptions
}

// Name returns the name under which the server is connected.
func (s *Server) Name() string { return s.name }

// Scope returns the scope of the connection.
func (s *Server) Scope() Scope { return s.scope }

type callOptions struct {
	progress   func(*mcp.ProgressNotificationParams)
	idempotent bool
	detach     bool
	headers    map[string]string
}

// CallOption changes the calls of a [Server]; see [Server.With].
type CallOption func(*callOptions)

// Progress asks for the progress of tool calls. The function runs on the goroutine that made the call, in order,
// and never after the call has returned; while it runs, the call does not notice the end of its context.
func Progress(listener func(*mcp.ProgressNotificationParams)) CallOption {
	return func(o *callOptions) { o.progress = listener }
}

// Idempotent says that tool calls may be repeated after an uncertain delivery. A server's own hints do not count.
func Idempotent() CallOption { return func(o *callOptions) { o.idempotent = true } }

// Headers adds HTTP headers to the calls. They may not set Authorization, Host, Mcp-* or Content-*.
func Headers(headers map[string]string) CallOption {
	headers = maps.Clone(headers)
	return func(o *callOptions) { o.headers = headers }
}

// Detach makes a tool call return the background task's object at once, in the result's Raw.
func Detach() CallOption { return func(o *callOptions) { o.detach = true } }

// With returns a handle whose calls have these options too.
func (s *Server) With(opts ...CallOption) *Server {
	copied := *s
	for _, opt := range opts {
		opt(&copied.options)
	}
	return &copied
}

// params puts the address and the options before the params of an operation.
func (s *Server) params(method string, params any) ([]byte, *Error) {
	raw, failure := encodeParams(params)
	if failure != nil {
		return nil, failure
	}
	members := []member{{"server", s.name}, {"scope", s.scope}}
	if len(s.options.headers) > 0 && !strings.HasPrefix(method, "servers/") {
		members = append(members, member{"headers", s.options.headers})
	}
	if method == MethodToolsCall {
		if s.options.progress != nil {
			members = append(members, member{"progress", true})
		}
		if s.options.idempotent {
			members = append(members, member{"idempotent", true})
		}
		if s.options.detach {
			members = append(members, member{"detach", true})
		}
	}
	return prepend(raw, members...)
}

// request sends one operation to this server.
func (s *Server) request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	raw, failure := s.params(method, params)
	if failure != nil {
		return nil, failure
	}
	r := request{method: method, params: raw}
	if method == MethodToolsCall {
		r.progress = s.options.progress
	}
	return asResult(s.client.do(ctx, r))
}

// Info tells how the connection stands.
func (s *Server) Info(ctx context.Context) (*ServerInfo, error) {
	raw, err := s.request(ctx, MethodServersGet, nil)
	if err != nil {
		return nil, err
	}
	return s.client.serverInfo(MethodServersGet, raw)
}

// Disconnect closes the connection and forgets its address; calls in flight get a ConnectionLost (1106). With forget
// its stored credentials are revoked and deleted too.
func (s *Server) Disconnect(ctx context.Context, forget bool) error {
	_, err := s.request(ctx, MethodServersDisconnect, disconnectOptions{Forget: forget})
	return err
}

// disconnectOptions are the params beside the address.
type disconnectOptions struct {
	Forget bool `json:"forget,omitempty"`
}
