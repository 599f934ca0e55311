package sidecar

import (
	"context"
	"fmt"
	"iter"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// The operations have the signatures of the official Go SDK's ClientSession. Params may be nil where they have no
// required fields.

// result is a payload that decodes from the bytes as they came.
type result[T any] interface {
	*T
	UnmarshalJSON(data []byte) error
}

// operate sends one operation and reads its result. A result that does not have MCP's shape is a BadPeerMessage
// (1502): the server has run the call.
func operate[T any, R result[T]](ctx context.Context, s *Server, method string, params any) (*T, error) {
	raw, err := s.request(ctx, method, params)
	if err != nil {
		return nil, err
	}
	decoded := new(T)
	if err := R(decoded).UnmarshalJSON(raw); err != nil {
		failure := localError(CodeBadPeerMessage, DeliveredYes, fmt.Sprintf("the result of %s: %v", method, err), err,
			map[string]any{"reason": "the result does not have the shape that MCP gives it"})
		failure.Server, failure.Scope = s.name, s.scope
		return nil, failure
	}
	return decoded, nil
}

// orEmpty makes a nil pointer an empty struct, so that it encodes as an object and gets the options.
func orEmpty[T any](params *T) *T {
	if params == nil {
		return new(T)
	}
	return params
}

// CallTool calls a tool. A tool's own failure is a result with IsError, not an error.
func (s *Server) CallTool(ctx context.Context, params *mcp.CallToolParams) (*mcp.CallToolResult, error) {
	return operate[mcp.CallToolResult](ctx, s, MethodToolsCall, orEmpty(params))
}

// Call is the short form of [Server.CallTool]. args is anything that encodes to a JSON object; a json.RawMessage
// passes as it is, nil is none.
func (s *Server) Call(ctx context.Context, name string, args any) (*mcp.CallToolResult, error) {
	return s.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args})
}

// ListTools returns one page of the server's tools; [Server.Tools] follows the pages.
func (s *Server) ListTools(ctx context.Context, params *mcp.ListToolsParams) (*mcp.ListToolsResult, error) {
	return operate[mcp.ListToolsResult](ctx, s, MethodToolsList, orEmpty(params))
}

// ListResources returns one page of the server's resources; [Server.Resources] follows the pages.
func (s *Server) ListResources(ctx context.Context, params *mcp.ListResourcesParams) (*mcp.ListResourcesResult, error) {
	return operate[mcp.ListResourcesResult](ctx, s, MethodResourcesList, orEmpty(params))
}

// ListResourceTemplates returns one page of the server's resource templates; [Server.ResourceTemplates] follows the
// pages.
func (s *Server) ListResourceTemplates(
	ctx context.Context, params *mcp.ListResourceTemplatesParams,
) (*mcp.ListResourceTemplatesResult, error) {
	return operate[mcp.ListResourceTemplatesResult](ctx, s, MethodResourcesTemplatesList, orEmpty(params))
}

// ReadResource reads a resource.
func (s *Server) ReadResource(ctx context.Context, params *mcp.ReadResourceParams) (*mcp.ReadResourceResult, error) {
	return operate[mcp.ReadResourceResult](ctx, s, MethodResourcesRead, orEmpty(params))
}

// ListPrompts returns one page of the server's prompts; [Server.Prompts] follows the pages.
func (s *Server) ListPrompts(ctx context.Context, params *mcp.ListPromptsParams) (*mcp.ListPromptsResult, error) {
	return operate[mcp.ListPromptsResult](ctx, s, MethodPromptsList, orEmpty(params))
}

// GetPrompt gets a prompt with its arguments filled in.
func (s *Server) GetPrompt(ctx context.Context, params *mcp.GetPromptParams) (*mcp.GetPromptResult, error) {
	return operate[mcp.GetPromptResult](ctx, s, MethodPromptsGet, orEmpty(params))
}

// Complete asks for completions of an argument.
func (s *Server) Complete(ctx context.Context, params *mcp.CompleteParams) (*mcp.CompleteResult, error) {
	return operate[mcp.CompleteResult](ctx, s, MethodCompletionComplete, orEmpty(params))
}

// SetLoggingLevel sets the level of the server's log messages.
func (s *Server) SetLoggingLevel(ctx context.Context, params *mcp.SetLoggingLevelParams) error {
	_, err := s.request(ctx, MethodLoggingSetLevel, orEmpty(params))
	return err
}

// Ping asks the server whether it answers, by whatever its era has for it. The params carry nothing and may be nil.
func (s *Server) Ping(ctx context.Context, _ *mcp.PingParams) error {
	_, err := s.request(ctx, MethodServersPing, nil)
	return err
}

// Tools iterates over all tools, page by page. After an error it stops.
func (s *Server) Tools(ctx context.Context, params *mcp.ListToolsParams) iter.Seq2[*mcp.Tool, error] {
	first := *orEmpty(params)
	return pages(first.Cursor, func(cursor string) ([]*mcp.Tool, string, error) {
		p := first
		p.Cursor = cursor
		page, err := s.ListTools(ctx, &p)
		if err != nil {
			return nil, "", err
		}
		return page.Tools, page.NextCursor, nil
	})
}

// Resources iterates over all resources, page by page. After an error it stops.
func (s *Server) Resources(ctx context.Context, params *mcp.ListResourcesParams) iter.Seq2[*mcp.Resource, error] {
	first := *orEmpty(params)
	return pages(first.Cursor, func(cursor string) ([]*mcp.Resource, string, error) {
		p := first
		p.Cursor = cursor
		page, err := s.ListResources(ctx, &p)
		if err != nil {
			return nil, "", err
		}
		return page.Resources, page.NextCursor, nil
	})
}

// ResourceTemplates iterates over all resource templates, page by page. After an error it stops.
func (s *Server) ResourceTemplates(
	ctx context.Context, params *mcp.ListResourceTemplatesParams,
) iter.Seq2[*mcp.ResourceTemplate, error] {
	first := *orEmpty(params)
	return pages(first.Cursor, func(cursor string) ([]*mcp.ResourceTemplate, string, error) {
		p := first
		p.Cursor = cursor
		page, err := s.ListResourceTemplates(ctx, &p)
		if err != nil {
			return nil, "", err
		}
		return page.ResourceTemplates, page.NextCursor, nil
	})
}

// Prompts iterates over all prompts, page by page. After an error it stops.
func (s *Server) Prompts(ctx context.Context, params *mcp.ListPromptsParams) iter.Seq2[*mcp.Prompt, error] {
	first := *orEmpty(params)
	return pages(first.Cursor, func(cursor string) ([]*mcp.Prompt, string, error) {
		p := first
		p.Cursor = cursor
		page, err := s.ListPrompts(ctx, &p)
		if err != nil {
			return nil, "", err
		}
		return page.Prompts, page.NextCursor, nil
	})
}

// maxPages bounds what a server that always offers another page can cost; the sidecar has the same limit.
const maxPages = 1000

func pages[T any](first string, page func(cursor string) ([]*T, string, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		cursor := first
		for range maxPages {
			elements, next, err := page(cursor)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, element := range elements {
				if !yield(element, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
		yield(nil, localError(CodeBadPeerMessage, DeliveredYes, fmt.Sprintf("the list has more than %d pages", maxPages), nil,
			map[string]any{"reason": "too many pages"}))
	}
}
