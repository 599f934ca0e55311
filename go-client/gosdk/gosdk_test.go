package gosdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// envServer makes the test binary an MCP server on stdio, written with the official SDK.
const envServer = "GOSDK_TEST_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(envServer) != "" {
		if err := serve(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type sum struct {
	A int `json:"a"`
	B int `json:"b"`
}

func serve(ctx context.Context) error {
	server := sdk.NewServer(&sdk.Implementation{Name: "official", Version: "1"}, &sdk.ServerOptions{
		PageSize: 2,
		CompletionHandler: func(context.Context, *sdk.CompleteRequest) (*sdk.CompleteResult, error) {
			return &sdk.CompleteResult{Completion: sdk.CompletionResultDetails{Values: []string{"one", "two"}, Total: 2}}, nil
		},
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	sdk.AddTool(server, &sdk.Tool{Name: "add", Description: "Add <two> & more"},
		func(_ context.Context, _ *sdk.CallToolRequest, in sum) (*sdk.CallToolResult, map[string]int, error) {
			return nil, map[string]int{"sum": in.A + in.B}, nil
		})
	sdk.AddTool(server, &sdk.Tool{Name: "fail"},
		func(context.Context, *sdk.CallToolRequest, struct{}) (*sdk.CallToolResult, any, error) {
			return nil, nil, errors.New("it failed")
		})
	sdk.AddTool(server, &sdk.Tool{Name: "ask"},
		func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
			answer, err := r.Session.Elicit(ctx, &sdk.ElicitParams{
				Mode: "form", Message: "who?", RequestedSchema: json.RawMessage(`{"type":"object","properties":{"name":{"type":"string"}}}`),
			})
			if err != nil {
				return nil, nil, err
			}
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: fmt.Sprint(answer.Action, answer.Content)}}}, nil, nil
		})
	sdk.AddTool(server, &sdk.Tool{Name: "sample"},
		func(ctx context.Context, r *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, any, error) {
			answer, err := r.Session.CreateMessage(ctx, &sdk.CreateMessageParams{
				MaxTokens: 5, Messages: []*sdk.SamplingMessage{{Role: "user", Content: &sdk.TextContent{Text: "hi"}}},
			})
			if err != nil {
				return nil, nil, err
			}
			return &sdk.CallToolResult{Content: []sdk.Content{answer.Content}}, nil, nil
		})
	server.AddResource(&sdk.Resource{Name: "r", URI: "x://r", Size: 1}, func(
		_ context.Context, r *sdk.ReadResourceRequest,
	) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: r.Params.URI, Blob: []byte{0, 1}}}}, nil
	})
	server.AddResourceTemplate(&sdk.ResourceTemplate{Name: "t", URITemplate: "x://{y}"}, func(
		_ context.Context, r *sdk.ReadResourceRequest,
	) (*sdk.ReadResourceResult, error) {
		return nil, sdk.ResourceNotFoundError(r.Params.URI)
	})
	server.AddPrompt(&sdk.Prompt{Name: "p", Arguments: []*sdk.PromptArgument{{Name: "a", Required: true}}}, func(
		_ context.Context, r *sdk.GetPromptRequest,
	) (*sdk.GetPromptResult, error) {
		return &sdk.GetPromptResult{Messages: []*sdk.PromptMessage{
			{Role: "user", Content: &sdk.TextContent{Text: r.Params.Arguments["a"]}},
		}}, nil
	})
	return server.Run(ctx, &sdk.StdioTransport{})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// both returns the same server through the SDK alone and through the sidecar.
func both(t *testing.T, client *sdk.ClientOptions, protocol string) (direct, wrapped Session) {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), envServer+"=1")
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, client).
		Connect(within(t), &sdk.CommandTransport{Command: command}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })

	options := &sidecar.Options{}
	if os.Getenv("MCP_SIDECAR_COMMAND") == "" {
		own, err := filepath.Abs("../../.venv/bin/mcp-sidecar")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(own); err != nil {
			t.Skip("the sidecar is missing: run make setup")
		}
		options.Command = []string{own}
	}
	Handlers(options, client)
	started, err := sidecar.Start(within(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { started.Close() })
	server, err := started.Connect(within(t), "official", &sidecar.ServerConfig{
		Transport: sidecar.Stdio{Command: os.Args[0], Env: map[string]string{envServer: "1"}},
		Protocol:  protocol,
	})
	if err != nil {
		t.Fatal(err)
	}
	return session, Wrap(server)
}

func TestEveryOperationGivesWhatTheSDKAloneGives(t *testing.T) {
	direct, wrapped := both(t, &sdk.ClientOptions{}, "auto")
	ctx := within(t)
	for name, operation := range map[string]func(Session) (any, error){
		"ping":  func(s Session) (any, error) { return nil, s.Ping(ctx, nil) },
		"tools": func(s Session) (any, error) { return s.ListTools(ctx, &sdk.ListToolsParams{}) },
		"page 2": func(s Session) (any, error) {
			first, err := s.ListTools(ctx, nil)
			if err != nil {
				return nil, err
			}
			return s.ListTools(ctx, &sdk.ListToolsParams{Cursor: first.NextCursor})
		},
		"add": func(s Session) (any, error) {
			return s.CallTool(ctx, &sdk.CallToolParams{Name: "add", Arguments: sum{1, 2}})
		},
		"fail": func(s Session) (any, error) {
			return s.CallTool(ctx, &sdk.CallToolParams{Name: "fail", Arguments: struct{}{}})
		},
		"unknown":   func(s Session) (any, error) { return s.CallTool(ctx, &sdk.CallToolParams{Name: "no"}) },
		"resources": func(s Session) (any, error) { return s.ListResources(ctx, nil) },
		"templates": func(s Session) (any, error) { return s.ListResourceTemplates(ctx, nil) },
		"read":      func(s Session) (any, error) { return s.ReadResource(ctx, &sdk.ReadResourceParams{URI: "x://r"}) },
		"not there": func(s Session) (any, error) { return s.ReadResource(ctx, &sdk.ReadResourceParams{URI: "x://no"}) },
		"prompts":   func(s Session) (any, error) { return s.ListPrompts(ctx, nil) },
		"prompt": func(s Session) (any, error) {
			return s.GetPrompt(ctx, &sdk.GetPromptParams{Name: "p", Arguments: map[string]string{"a": "<b>"}})
		},
		"complete": func(s Session) (any, error) {
			return s.Complete(ctx, &sdk.CompleteParams{
				Ref: &sdk.CompleteReference{Type: "ref/prompt", Name: "p"}, Argument: sdk.CompleteParamsArgument{Name: "a", Value: ""},
			})
		},
		"level": func(s Session) (any, error) {
			return nil, s.SetLoggingLevel(ctx, &sdk.SetLoggingLevelParams{Level: "info"})
		},
		"all": func(s Session) (any, error) {
			var all []any
			for tool, err := range s.Tools(ctx, nil) {
				if err != nil {
					return nil, err
				}
				all = append(all, tool)
			}
			for resource, err := range s.Resources(ctx, nil) {
				if err != nil {
					return nil, err
				}
				all = append(all, resource)
			}
			for template, err := range s.ResourceTemplates(ctx, nil) {
				if err != nil {
					return nil, err
				}
				all = append(all, template)
			}
			for prompt, err := range s.Prompts(ctx, nil) {
				if err != nil {
					return nil, err
				}
				all = append(all, prompt)
			}
			return all, nil
		},
	} {
		want, wantErr := operation(direct)
		have, haveErr := operation(wrapped)
		wantText, haveText := text(t, want), text(t, have)
		var wantRemote, haveRemote *jsonrpc.Error
		if errors.As(wantErr, &wantRemote) != errors.As(haveErr, &haveRemote) ||
			wantRemote != nil && (wantRemote.Code != haveRemote.Code || wantRemote.Message != haveRemote.Message) {
			t.Errorf("%s: have %v, want %v", name, haveErr, wantErr)
		}
		if (wantErr == nil) != (haveErr == nil) || wantErr == nil && wantText != haveText {
			t.Errorf("%s:\nhave %s %v\nwant %s %v", name, haveText, haveErr, wantText, wantErr)
		}
	}
}

func TestHandlersOfTheSDKAnswerTheQuestionsOfAServer(t *testing.T) {
	_, wrapped := both(t, &sdk.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			if r.Params.Message != "who?" {
				t.Errorf("%+v", r.Params)
			}
			return &sdk.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
		},
		CreateMessageWithToolsHandler: func(
			_ context.Context, r *sdk.CreateMessageWithToolsRequest,
		) (*sdk.CreateMessageWithToolsResult, error) {
			said := r.Params.Messages[0].Content[0].(*sdk.TextContent).Text
			return &sdk.CreateMessageWithToolsResult{Role: "assistant", Model: "m", Content: []sdk.Content{&sdk.TextContent{Text: said + "!"}}}, nil
		},
	}, "push")
	for tool, want := range map[string]string{"ask": "Ada", "sample": "hi!"} {
		result, err := wrapped.CallTool(within(t), &sdk.CallToolParams{Name: tool, Arguments: struct{}{}})
		if err != nil || !strings.Contains(text(t, result), want) {
			t.Errorf("%s: %s %v", tool, text(t, result), err)
		}
	}
}

func text(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestSignaturesAreTheSDKs compares our own types with the SDK's: the same methods, whose params and results have the
// same names.
func TestSignaturesAreTheSDKs(t *testing.T) {
	ours := reflect.TypeFor[*sidecar.Server]()
	session := reflect.TypeFor[Session]()
	for i := range session.NumMethod() {
		want := session.Method(i)
		have, ok := ours.MethodByName(want.Name)
		if !ok {
			t.Errorf("Server has no %s", want.Name)
			continue
		}
		haveText := strings.Replace(have.Type.String(), "(*sidecar.Server, ", "(", 1)
		haveText = strings.ReplaceAll(haveText, "github.com/mcp-sidecar/mcp-sidecar/go-client/mcp", "mcp")
		wantText := strings.ReplaceAll(want.Type.String(), "github.com/modelcontextprotocol/go-sdk/mcp", "mcp")
		if haveText != wantText {
			t.Errorf("%s: have %s, want %s", want.Name, haveText, wantText)
		}
	}
}
