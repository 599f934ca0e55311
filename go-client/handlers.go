package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// The questions of servers, and those of the sidecar itself, for the handlers of Options.

// ElicitRequest asks the person for input: a form, or a visit to a URL, which nobody has opened or fetched.
type ElicitRequest struct {
	// Server asks.
	Server *Server
	// InCall says that the protocol proves which call of this host the question belongs to; then the handler's
	// context holds the values of that call's context, and ends with it.
	InCall bool
	Params *mcp.ElicitParams
	// Raw holds the params as they came.
	Raw json.RawMessage
}

// SampleRequest asks the host's model.
type SampleRequest struct {
	// Server asks.
	Server *Server
	// InCall is as in [ElicitRequest].
	InCall bool
	Params *mcp.CreateMessageParams
	// Raw holds the params as they came.
	Raw json.RawMessage
}

// RootsRequest asks for the roots of one connection.
type RootsRequest struct {
	// Server asks.
	Server *Server
	// InCall is as in [ElicitRequest].
	InCall bool
}

// TokenRequest asks for a token of a connection whose Auth is [HostAuth].
type TokenRequest struct {
	// Server is the connection that needs it.
	Server *Server
	// Reason is "missing", "expiring" or "rejected": the server answered 401 to the last one.
	Reason string
}

// AssertionRequest asks for an assertion (RFC 7523) that the sidecar hands to a token endpoint.
type AssertionRequest struct {
	// Server is the connection that logs in.
	Server *Server
	// Audience is whom the assertion must name.
	Audience string
	// Resource is the server's own resource URI, where it has one.
	Resource string
}

// envelope is what the sidecar adds to every question; the rest is MCP's own.
type envelope struct {
	server *Server
	inCall bool
}

func (c *Client) envelope(raw json.RawMessage) (envelope, error) {
	at, ok := placeOf(raw)
	if !ok {
		return envelope{}, localError(CodeInvalidParams, "", "the question names no server", nil, map[string]any{"path": "/server"})
	}
	return envelope{c.Scope(at.scope).Server(at.name), hasKey(raw, "requestId")}, nil
}

// promises returns what initialize says of this host: what its handlers can answer, and what it says itself.
func (o *Options) promises() (*Capabilities, error) {
	var p Capabilities
	if o.Capabilities != nil {
		p = *o.Capabilities
	}
	if o.Elicit != nil && p.Elicitation == nil {
		p.Elicitation = &ElicitationCapabilities{Form: &struct{}{}}
	}
	if o.Sample != nil && p.Sampling == nil {
		p.Sampling = &SamplingCapabilities{}
	}
	if o.Roots != nil && p.Roots == nil {
		p.Roots = &RootsCapabilities{ListChanged: true} // Server.SetRoots tells
	}
	p.Tokens, p.Assertions, p.Credentials = promise(o.Tokens != nil), promise(o.Assertions != nil), promise(o.Vault != nil)
	for _, broken := range []struct {
		name string
		is   bool
	}{
		{"elicitation, but Options.Elicit", p.Elicitation != nil && o.Elicit == nil},
		{"sampling, but Options.Sample", p.Sampling != nil && o.Sample == nil},
		{"tokens, but Options.Tokens", o.Capabilities != nil && o.Capabilities.Tokens != nil && o.Tokens == nil},
		{"assertions, but Options.Assertions", o.Capabilities != nil && o.Capabilities.Assertions != nil && o.Assertions == nil},
		{"credentials, but Options.Vault", o.Capabilities != nil && o.Capabilities.Credentials != nil && o.Vault == nil},
	} {
		if broken.is {
			return nil, localError(CodeInvalidParams, "", "Options.Capabilities promises "+broken.name+" is nil", nil,
				map[string]any{"path": "/capabilities"})
		}
	}
	if p == (Capabilities{}) {
		return nil, nil
	}
	return &p, nil
}

func promise(can bool) *struct{} {
	if !can {
		return nil
	}
	return &struct{}{}
}

// handlers returns the table of what this host answers.
func (c *Client) handlers() map[string]reverseHandler {
	table := map[string]reverseHandler{}
	if c.opts.Elicit != nil {
		table[reverseElicitationCreate] = c.elicit
	}
	if c.opts.Sample != nil {
		table[reverseSamplingCreateMessage] = c.sample
	}
	if c.opts.Roots != nil {
		table[reverseRootsList] = c.roots
	}
	if c.opts.Tokens != nil {
		table[reverseTokensGet] = c.token
	}
	if c.opts.Assertions != nil {
		table[reverseAssertionsCreate] = c.assertion
	}
	if c.opts.Vault != nil {
		table[reverseCredentialsGet] = c.vaultGet
		table[reverseCredentialsPut] = c.vaultPut
		table[reverseCredentialsDelete] = c.vaultDelete
	}
	return table
}

// errNothing is the answer of a handler that gives neither a result nor an error.
var errNothing = errors.New("the handler returned nothing")

func (c *Client) elicit(ctx context.Context, raw json.RawMessage) (any, error) {
	asked, err := c.envelope(raw)
	if err != nil {
		return nil, err
	}
	request := &ElicitRequest{Server: asked.server, InCall: asked.inCall, Params: new(mcp.ElicitParams), Raw: raw}
	if err := request.Params.UnmarshalJSON(raw); err != nil {
		return nil, badQuestion(err)
	}
	return given(c.opts.Elicit(ctx, request))
}

func (c *Client) sample(ctx context.Context, raw json.RawMessage) (any, error) {
	asked, err := c.envelope(raw)
	if err != nil {
		return nil, err
	}
	request := &SampleRequest{Server: asked.server, InCall: asked.inCall, Params: new(mcp.CreateMessageParams), Raw: raw}
	if err := request.Params.UnmarshalJSON(raw); err != nil {
		return nil, badQuestion(err)
	}
	return given(c.opts.Sample(ctx, request))
}

func (c *Client) roots(ctx context.Context, raw json.RawMessage) (any, error) {
	asked, err := c.envelope(raw)
	if err != nil {
		return nil, err
	}
	roots, err := c.opts.Roots(ctx, &RootsRequest{Server: asked.server, InCall: asked.inCall})
	if err != nil {
		return nil, err
	}
	if roots == nil {
		roots = []*mcp.Root{}
	}
	return &mcp.ListRootsResult{Roots: roots}, nil
}

func (c *Client) token(ctx context.Context, raw json.RawMessage) (any, error) {
	asked, err := c.envelope(raw)
	if err != nil {
		return nil, err
	}
	var params tokensGetParams
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, badQuestion(err)
	}
	token, err := c.opts.Tokens(ctx, &TokenRequest{Server: asked.server, Reason: params.Reason})
	switch {
	case err != nil:
		return nil, err
	case token == nil || token.AccessToken == "":
		return nil, errNothing
	}
	return struct {
		HostToken
		ExpiresAt string `json:"expiresAt,omitempty"`
	}{*token, wireTime(token.ExpiresAt)}, nil
}

func (c *Client) assertion(ctx context.Context, raw json.RawMessage) (any, error) {
	asked, err := c.envelope(raw)
	if err != nil {
		return nil, err
	}
	var params assertionParams
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, badQuestion(err)
	}
	text, err := c.opts.Assertions(ctx, &AssertionRequest{
		Server: asked.server, Audience: params.Audience, Resource: params.Resource,
	})
	switch {
	case err != nil:
		return nil, err
	case text == "":
		return nil, errNothing
	}
	return map[string]string{"assertion": text}, nil
}

// given refuses a nil answer, which would cross as null.
func given[T any](answer *T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errNothing
	}
	return answer, nil
}

func badQuestion(err error) error {
	return localError(CodeInvalidParams, "", fmt.Sprintf("the question has another shape: %v", err), err, nil)
}

// wireTime spells a time as the wire does; the zero time is none.
func wireTime(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// panicked reports a handler or an observer that panicked; the process goes on without its answer.
func (c *Client) panicked(where string, value any) {
	c.logger().Error("a handler of the host panicked", slog.String("handler", where), slog.Any("panic", value),
		slog.String("stack", string(debug.Stack())))
}

// logger is where this client itself reports; a panic is never kept back.
func (c *Client) logger() *slog.Logger {
	if c.opts.Logger != nil {
		return c.opts.Logger
	}
	return slog.Default()
}

// emptyRaw reports whether there is no JSON, or a null.
func emptyRaw(raw json.RawMessage) bool { return len(raw) == 0 || jsonscan.Kind(raw) == 'n' }
