package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// tour connects every server at once, then shows each thing that a host does with a server.
func tour(ctx context.Context, client *sidecar.Client, servers *fleet, user *person, r *report) {
	connected := connectAll(ctx, client, servers, r)
	for _, server := range connected {
		listTools(ctx, server, r)
	}
	calls := []struct {
		server, tool string
		args         any
	}{
		{"time", "convert_time", map[string]any{"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}},
		{"everything", "echo", map[string]any{"message": "hello over stdio"}},
		{"everything-http", "get-sum", map[string]any{"a": 19, "b": 23}},
		{"everything-sse", "echo", map[string]any{"message": "hello over SSE"}},
		{"modern-http", "add", map[string]any{"a": 19, "b": 23}},
	}
	for _, call := range calls {
		server := client.Server(call.server)
		r.step(call.server, "call "+call.tool, func() (string, error) {
			result, err := server.Call(ctx, call.tool, call.args)
			return firstText(result), failed(result, err)
		})
	}
	readOne(ctx, client.Server("everything-http"), r)
	promptOne(ctx, client.Server("everything-sse"), r)
	longCall(ctx, client.Server("everything-http"), r)
	cancelOne(ctx, client.Server("everything"), r)
	askThePerson(ctx, client.Server("everything"), user, r)
	logIn(ctx, client, servers, r)
	r.step("modern-http", "a deadline of 300 ms holds", func() (string, error) {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := client.Server("modern-http").Call(short, "slow", map[string]any{"steps": 100, "delay": 0.1})
		if !errors.Is(err, context.DeadlineExceeded) {
			return "", fmt.Errorf("want a deadline, have %v", err)
		}
		return err.Error(), nil
	})
	r.step("", "ask for a server that nobody connected", func() (string, error) {
		_, err := client.Server("nobody").Info(ctx)
		if !errors.Is(err, sidecar.ErrUnknownServer) {
			return "", fmt.Errorf("want UnknownServer, have %v", err)
		}
		return err.Error(), nil
	})
	r.step("", "health", func() (string, error) {
		health, err := client.Health(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d servers ready, %d MB", health.Status, health.Servers["ready"], health.RSSBytes>>20), nil
	})
}

// connectAll connects the servers side by side: one slow child does not hold up the others.
func connectAll(ctx context.Context, client *sidecar.Client, servers *fleet, r *report) []*sidecar.Server {
	configs := servers.configs()
	rows := make([]row, len(configs))
	made := make([]*sidecar.Server, len(configs))
	var wg sync.WaitGroup
	for i, config := range configs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rows[i] = measure(config.name, "connect", func() (string, error) {
				server, err := client.Connect(ctx, config.name, &sidecar.ServerConfig{Transport: config.transport})
				if err != nil {
					return "", err
				}
				info, err := server.Info(ctx)
				if err != nil {
					return "", err
				}
				made[i] = server
				name := "unnamed"
				if info.ServerInfo != nil {
					name = info.ServerInfo.Name
				}
				return fmt.Sprintf("%s over %s, %s, %s era", name, info.Transport, info.ProtocolVersion, info.Era), nil
			})
		}()
	}
	wg.Wait()
	var connected []*sidecar.Server
	for i, done := range rows {
		r.add(done)
		if made[i] != nil {
			connected = append(connected, made[i])
		}
	}
	return connected
}

func listTools(ctx context.Context, server *sidecar.Server, r *report) {
	r.step(server.Name(), "list tools", func() (string, error) {
		var names []string
		for tool, err := range server.Tools(ctx, nil) {
			if err != nil {
				return "", err
			}
			names = append(names, tool.Name)
		}
		return fmt.Sprintf("%d: %s", len(names), strings.Join(names, ", ")), nil
	})
}

func readOne(ctx context.Context, server *sidecar.Server, r *report) {
	r.step(server.Name(), "read a resource", func() (string, error) {
		for resource, err := range server.Resources(ctx, nil) {
			if err != nil {
				return "", err
			}
			read, err := server.ReadResource(ctx, &mcp.ReadResourceParams{URI: resource.URI})
			if err != nil {
				return "", err
			}
			if len(read.Contents) == 0 {
				return "", errors.New("it has no contents")
			}
			return fmt.Sprintf("%s: %d bytes of text", resource.URI, len(read.Contents[0].Text)), nil
		}
		return "", errors.New("the server has no resources")
	})
}

func promptOne(ctx context.Context, server *sidecar.Server, r *report) {
	r.step(server.Name(), "get a prompt", func() (string, error) {
		prompt, err := server.GetPrompt(ctx, &mcp.GetPromptParams{
			Name: "args-prompt", Arguments: map[string]string{"city": "Rome"},
		})
		if err != nil {
			return "", err
		}
		for _, message := range prompt.Messages {
			if text, ok := message.Content.(*mcp.TextContent); ok {
				return text.Text, nil
			}
		}
		return "", errors.New("the prompt has no text")
	})
}

// longCall shows progress while it comes.
func longCall(ctx context.Context, server *sidecar.Server, r *report) {
	r.step(server.Name(), "a long call with progress", func() (string, error) {
		begin, steps := time.Now(), 0
		live := server.With(sidecar.Progress(func(p *mcp.ProgressNotificationParams) {
			steps++
			r.live("   %s: %s %.0f/%.0f after %s", server.Name(), bar(p.Progress, p.Total), p.Progress, p.Total, since(begin))
		}))
		result, err := live.Call(ctx, "trigger-long-running-operation", map[string]any{"duration": 2, "steps": 8})
		if err = failed(result, err); err != nil {
			return "", err
		}
		if steps != 8 {
			return "", fmt.Errorf("want 8 reports of progress, have %d", steps)
		}
		return firstText(result), nil
	})
}

// cancelOne cancels a call after its first progress and shows that the server is still of use.
func cancelOne(ctx context.Context, server *sidecar.Server, r *report) {
	r.step(server.Name(), "cancel a call", func() (string, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var cancelled time.Time
		live := server.With(sidecar.Progress(func(*mcp.ProgressNotificationParams) {
			if cancelled.IsZero() {
				cancelled = time.Now()
			}
			cancel()
		}))
		_, err := live.Call(ctx, "trigger-long-running-operation", map[string]any{"duration": 30, "steps": 100})
		if !errors.Is(err, context.Canceled) {
			return "", fmt.Errorf("want a cancel, have %v", err)
		}
		var failure *sidecar.Error
		errors.As(err, &failure)
		return fmt.Sprintf("returned %s after the cancel, delivered: %s", since(cancelled), failure.Delivered), nil
	})
	r.step(server.Name(), "and call it again", func() (string, error) {
		result, err := server.Call(ctx, "echo", map[string]any{"message": "still here"})
		return firstText(result), failed(result, err)
	})
}

// askThePerson calls a tool that asks whoever sits at the terminal.
func askThePerson(ctx context.Context, server *sidecar.Server, user *person, r *report) {
	r.step(server.Name(), "a tool asks the person", func() (string, error) {
		result, err := server.Call(ctx, "trigger-elicitation-request", nil)
		if err = failed(result, err); err != nil {
			return "", err
		}
		if user.asked == 0 {
			return "", errors.New("nobody was asked")
		}
		return firstText(result), nil
	})
}

// logIn connects a server that takes nobody without a login, uses it, and gives the login back.
func logIn(ctx context.Context, client *sidecar.Client, servers *fleet, r *report) {
	scoped := client.Scope(sidecar.Scope{Tenant: "demo", User: "ada"})
	server := scoped.Server("protected")
	r.step("protected", "connect, with a login", func() (string, error) {
		_, err := scoped.Connect(ctx, "protected", &sidecar.ServerConfig{
			Transport: sidecar.HTTP{URL: servers.url("protected", "/demo/mcp")},
			Auth:      sidecar.OAuth{Redirect: sidecar.HostRedirect{URI: "http://127.0.0.1:9/callback"}},
		})
		if err != nil {
			return "", err
		}
		logins, err := server.AuthStatus(ctx)
		if err != nil || len(logins) != 1 {
			return "", fmt.Errorf("want one login, have %v %w", logins, err)
		}
		return fmt.Sprintf("scopes %v until %s, kept in %s", logins[0].Scopes, logins[0].ExpiresAt.Format(time.TimeOnly),
			logins[0].StoredIn), nil
	})
	r.step("protected", "call echo", func() (string, error) {
		result, err := server.Call(ctx, "echo", map[string]any{"text": "hello with a token"})
		return firstText(result), failed(result, err)
	})
	r.step("protected", "another user has no login", func() (string, error) {
		_, err := client.Scope(sidecar.Scope{Tenant: "demo", User: "bob"}).Server("protected").Call(ctx, "echo", nil)
		if !errors.Is(err, sidecar.ErrUnknownServer) {
			return "", fmt.Errorf("want UnknownServer, have %v", err)
		}
		return err.Error(), nil
	})
	r.step("protected", "give the login back", func() (string, error) {
		revoked, err := server.RevokeAuth(ctx)
		return fmt.Sprintf("revoked at the authorization server: %v", revoked), err
	})
}

// failed makes a tool's own failure an error of the demo.
func failed(result *mcp.CallToolResult, err error) error {
	if err == nil && result.IsError {
		return fmt.Errorf("the tool failed: %s", firstText(result))
	}
	return err
}

func firstText(result *mcp.CallToolResult) string {
	if result == nil {
		return ""
	}
	for _, block := range result.Content {
		if text, ok := block.(*mcp.TextContent); ok {
			return text.Text
		}
	}
	return string(result.StructuredContent)
}

func bar(progress, total float64) string {
	const width = 20
	if total <= 0 {
		return ""
	}
	full := min(width, max(0, int(progress/total*width)))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
