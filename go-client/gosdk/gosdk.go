// Package gosdk lets code that was written for the official Go SDK use a server behind the sidecar.
//
// [Wrap] gives a [*sidecar.Server] the methods of the SDK's *mcp.ClientSession, with the SDK's own types; [Session] is
// the interface of both. [Handlers] does the same for the handlers of the SDK's *mcp.ClientOptions. Moving over is a
// change of the constructor; nothing else of a program changes.
//
// It is a module of its own, so that the client itself requires nothing.
package gosdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Session is what a program calls on an MCP server: the operations of the SDK's ClientSession.
type Session interface {
	Ping(ctx context.Context, params *sdk.PingParams) error
	ListTools(ctx context.Context, params *sdk.ListToolsParams) (*sdk.ListToolsResult, error)
	CallTool(ctx context.Context, params *sdk.CallToolParams) (*sdk.CallToolResult, error)
	ListResources(ctx context.Context, params *sdk.ListResourcesParams) (*sdk.ListResourcesResult, error)
	ListResourceTemplates(ctx context.Context, params *sdk.ListResourceTemplatesParams) (*sdk.ListResourceTemplatesResult, error)
	ReadResource(ctx context.Context, params *sdk.ReadResourceParams) (*sdk.ReadResourceResult, error)
	Subscribe(ctx context.Context, params *sdk.SubscribeParams) error
	Unsubscribe(ctx context.Context, params *sdk.UnsubscribeParams) error
	ListPrompts(ctx context.Context, params *sdk.ListPromptsParams) (*sdk.ListPromptsResult, error)
	GetPrompt(ctx context.Context, params *sdk.GetPromptParams) (*sdk.GetPromptResult, error)
	Complete(ctx context.Context, params *sdk.CompleteParams) (*sdk.CompleteResult, error)
	SetLoggingLevel(ctx context.Context, params *sdk.SetLoggingLevelParams) error
	Tools(ctx context.Context, params *sdk.ListToolsParams) iter.Seq2[*sdk.Tool, error]
	Resources(ctx context.Context, params *sdk.ListResourcesParams) iter.Seq2[*sdk.Resource, error]
	ResourceTemplates(ctx context.Context, params *sdk.ListResourceTemplatesParams) iter.Seq2[*sdk.ResourceTemplate, error]
	Prompts(ctx context.Context, params *sdk.ListPromptsParams) iter.Seq2[*sdk.Prompt, error]
}

var (
	_ Session = (*sdk.ClientSession)(nil)
	_ Session = (*Server)(nil)
)

// Server is a server behind the sidecar with the methods and types of the SDK.
type Server struct{ server *sidecar.Server }

// Wrap returns the server with the SDK's types.
func Wrap(server *sidecar.Server) *Server { return &Server{server} }

// Unwrap returns the server as the sidecar's own client has it.
func (s *Server) Unwrap() *sidecar.Server { return s.server }

// Ping asks the server whether it answers.
func (s *Server) Ping(ctx context.Context, _ *sdk.PingParams) error {
	return failed(s.server.Ping(ctx, nil))
}

// CallTool calls a tool.
func (s *Server) CallTool(ctx context.Context, params *sdk.CallToolParams) (*sdk.CallToolResult, error) {
	return through[sdk.CallToolResult](ctx, params, s.server.CallTool)
}

// ListTools returns one page of tools.
func (s *Server) ListTools(ctx context.Context, params *sdk.ListToolsParams) (*sdk.ListToolsResult, error) {
	return through[sdk.ListToolsResult](ctx, params, s.server.ListTools)
}

// ListResources returns one page of resources.
func (s *Server) ListResources(ctx context.Context, params *sdk.ListResourcesParams) (*sdk.ListResourcesResult, error) {
	return through[sdk.ListResourcesResult](ctx, params, s.server.ListResources)
}

// ListResourceTemplates returns one page of resource templates.
func (s *Server) ListResourceTemplates(
	ctx context.Context, params *sdk.ListResourceTemplatesParams,
) (*sdk.ListResourceTemplatesResult, error) {
	return through[sdk.ListResourceTemplatesResult](ctx, params, s.server.ListResourceTemplates)
}

// ReadResource reads a resource.
func (s *Server) ReadResource(ctx context.Context, params *sdk.ReadResourceParams) (*sdk.ReadResourceResult, error) {
	return through[sdk.ReadResourceResult](ctx, params, s.server.ReadResource)
}

// ListPrompts returns one page of prompts.
func (s *Server) ListPrompts(ctx context.Context, params *sdk.ListPromptsParams) (*sdk.ListPromptsResult, error) {
	return through[sdk.ListPromptsResult](ctx, params, s.server.ListPrompts)
}

// GetPrompt gets a prompt.
func (s *Server) GetPrompt(ctx context.Context, params *sdk.GetPromptParams) (*sdk.GetPromptResult, error) {
	return through[sdk.GetPromptResult](ctx, params, s.server.GetPrompt)
}

// Complete asks for completions.
func (s *Server) Complete(ctx context.Context, params *sdk.CompleteParams) (*sdk.CompleteResult, error) {
	return through[sdk.CompleteResult](ctx, params, s.server.Complete)
}

// Subscribe asks to be told when a resource changes.
func (s *Server) Subscribe(ctx context.Context, params *sdk.SubscribeParams) error {
	return told(ctx, params, s.server.Subscribe)
}

// Unsubscribe asks to be told no more.
func (s *Server) Unsubscribe(ctx context.Context, params *sdk.UnsubscribeParams) error {
	return told(ctx, params, s.server.Unsubscribe)
}

// SetLoggingLevel sets the level of the server's log messages.
func (s *Server) SetLoggingLevel(ctx context.Context, params *sdk.SetLoggingLevelParams) error {
	return told(ctx, params, s.server.SetLoggingLevel)
}

// Tools iterates over all tools.
func (s *Server) Tools(ctx context.Context, params *sdk.ListToolsParams) iter.Seq2[*sdk.Tool, error] {
	return each[sdk.Tool](ctx, params, s.server.Tools, func(tool *mcp.Tool) []byte { return tool.Raw })
}

// Resources iterates over all resources.
func (s *Server) Resources(ctx context.Context, params *sdk.ListResourcesParams) iter.Seq2[*sdk.Resource, error] {
	return each[sdk.Resource](ctx, params, s.server.Resources, func(resource *mcp.Resource) []byte { return resource.Raw })
}

// ResourceTemplates iterates over all resource templates.
func (s *Server) ResourceTemplates(
	ctx context.Context, params *sdk.ListResourceTemplatesParams,
) iter.Seq2[*sdk.ResourceTemplate, error] {
	return each[sdk.ResourceTemplate](ctx, params, s.server.ResourceTemplates,
		func(template *mcp.ResourceTemplate) []byte { return template.Raw })
}

// Prompts iterates over all prompts.
func (s *Server) Prompts(ctx context.Context, params *sdk.ListPromptsParams) iter.Seq2[*sdk.Prompt, error] {
	return each[sdk.Prompt](ctx, params, s.server.Prompts, func(prompt *mcp.Prompt) []byte { return prompt.Raw })
}

// through makes one call: the SDK's params become ours, and the bytes of the result become the SDK's.
func through[Out, In, P, R any](
	ctx context.Context, params *In, call func(context.Context, *P) (*R, error),
) (*Out, error) {
	ours, err := convert[P](params)
	if err != nil {
		return nil, err
	}
	result, err := call(ctx, ours)
	if err != nil {
		return nil, failed(err)
	}
	out := new(Out)
	return out, read(rawOf(result), out)
}

func told[In, P any](ctx context.Context, params *In, call func(context.Context, *P) error) error {
	ours, err := convert[P](params)
	if err != nil {
		return err
	}
	return failed(call(ctx, ours))
}

func each[Out, In, P, E any](
	ctx context.Context, params *In, list func(context.Context, *P) iter.Seq2[*E, error], raw func(*E) []byte,
) iter.Seq2[*Out, error] {
	return func(yield func(*Out, error) bool) {
		ours, err := convert[P](params)
		if err != nil {
			yield(nil, err)
			return
		}
		for element, err := range list(ctx, ours) {
			if err != nil {
				yield(nil, failed(err))
				return
			}
			out := new(Out)
			if err := read(raw(element), out); err != nil {
				yield(nil, err)
				return
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// convert makes one kind of value another of the same shape on the wire; nil stays nil.
func convert[To, From any](value *From) (*To, error) {
	if value == nil {
		return nil, nil
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	to := new(To)
	return to, read(raw, to)
}

func read(raw []byte, target any) error {
	if err := json.Unmarshal(raw, target); err != nil {
		return fmt.Errorf("gosdk: the SDK does not take what MCP allows: %w", err)
	}
	return nil
}

// rawOf returns the bytes of a result as they came.
func rawOf(result any) []byte {
	switch result := result.(type) {
	case *mcp.CallToolResult:
		return result.Raw
	case *mcp.ListToolsResult:
		return result.Raw
	case *mcp.ListResourcesResult:
		return result.Raw
	case *mcp.ListResourceTemplatesResult:
		return result.Raw
	case *mcp.ReadResourceResult:
		return result.Raw
	case *mcp.ListPromptsResult:
		return result.Raw
	case *mcp.GetPromptResult:
		return result.Raw
	case *mcp.CompleteResult:
		return result.Raw
	}
	return nil
}

// failed makes a server's own error also the SDK's: errors.As finds both a *jsonrpc.Error and a *sidecar.Error.
func failed(err error) error {
	var remote *sidecar.RemoteError
	if !errors.As(err, &remote) {
		return err
	}
	return &remoteError{err, &jsonrpc.Error{Code: int64(remote.Code), Message: remote.Message, Data: remote.Data}}
}

type remoteError struct {
	sidecar error
	remote  *jsonrpc.Error
}

// Error returns the words of the sidecar's client.
func (e *remoteError) Error() string { return e.sidecar.Error() }

// Unwrap returns both errors.
func (e *remoteError) Unwrap() []error { return []error{e.sidecar, e.remote} }
