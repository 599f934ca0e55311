//go:build unix

package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Servers that talk back, through the real sidecar, in both eras.

func talker(t *testing.T, c *Client, modern bool) *Server {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{filepath.Join(root, "tests/servers/talker.py")}
	if modern {
		args = append(args, "--modern")
	}
	s, err := c.Connect(within(t), "talker", &ServerConfig{
		Transport: Stdio{Command: filepath.Join(root, ".venv/bin/python"), Args: args},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eras(t *testing.T, test func(t *testing.T, modern bool)) {
	t.Helper()
	for name, modern := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) { test(t, modern) })
	}
}

// asked calls the tool that asks, in the way of its era, and returns what the server was answered.
func asked(ctx context.Context, t *testing.T, s *Server, modern bool, method, params string) (string, error) {
	t.Helper()
	question := json.RawMessage(`{"method":"` + method + `","params":` + params + `}`)
	name, arguments := "ask", any(question)
	if modern {
		name, arguments = "round", map[string]any{"rounds": []any{map[string]any{"one": question}}}
	}
	result, err := s.Call(ctx, name, arguments)
	if err != nil {
		return "", err
	}
	return string(result.StructuredContent), nil
}

const form = `{"mode":"form","message":"who?","requestedSchema":{"type":"object","properties":` +
	`{"name":{"type":"string"},"size":{"type":"integer","default":7}},"required":["name"]}}`

func TestRealQuestionsAreAnsweredByTheHandlersInBothEras(t *testing.T) {
	t.Parallel()
	eras(t, func(t *testing.T, modern bool) {
		c := realClient(t, &Options{
			Elicit: func(ctx context.Context, r *ElicitRequest) (*mcp.ElicitResult, error) {
				if r.Server.Name() != "talker" || r.InCall != modern || modern && ctx.Value(callerKey{}) != "mine" {
					t.Errorf("%s, in a call: %v, of %v", r.Server.Name(), r.InCall, ctx.Value(callerKey{}))
				}
				if _, err := r.Server.ListTools(ctx, nil); err != nil {
					t.Errorf("a call inside a handler: %v", err)
				}
				return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"name": "Ada"}}, nil
			},
			Sample: func(_ context.Context, r *SampleRequest) (*mcp.CreateMessageResult, error) {
				text := r.Params.Messages[0].Content.(*mcp.TextContent).Text
				return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: "<" + text + ">"}}, nil
			},
			Roots: func(context.Context, *RootsRequest) ([]*mcp.Root, error) {
				return []*mcp.Root{{URI: "file:///from/the/host"}}, nil
			},
		})
		s := talker(t, c, modern)
		ctx := context.WithValue(within(t), callerKey{}, "mine")
		for _, q := range []struct{ method, params, want string }{
			{reverseElicitationCreate, form, `"name":"Ada","size":7`},
			{
				reverseSamplingCreateMessage,
				`{"maxTokens":5,"messages":[{"role":"user","content":{"type":"text","text":"hi"}}]}`, `<hi>`,
			},
			{reverseRootsList, `{}`, `file:///from/the/host`},
		} {
			answer, err := asked(ctx, t, s, modern, q.method, q.params)
			if plain := strings.ReplaceAll(answer, " ", ""); err != nil || !strings.Contains(plain, q.want) {
				t.Errorf("%s: %s %v", q.method, answer, err)
			}
		}
	})
}

func TestRealQuestionThatNobodyAnswersInTimeIsANo(t *testing.T) {
	t.Parallel()
	eras(t, func(t *testing.T, modern bool) {
		for name, handler := range map[string]func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error){
			"it fails":  func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error) { return nil, errors.New("no") },
			"it panics": func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error) { panic("no") },
			"wrong form": func(context.Context, *ElicitRequest) (*mcp.ElicitResult, error) {
				return &mcp.ElicitResult{Action: "accept"}, nil
			},
		} {
			c := realClient(t, &Options{Elicit: handler, Logger: quiet()})
			s := talker(t, c, modern)
			answer, err := asked(within(t), t, s, modern, reverseElicitationCreate, form)
			if err != nil || !strings.Contains(strings.ReplaceAll(answer, " ", ""), `"action":"cancel"`) {
				t.Errorf("%s: %s %v", name, answer, err)
			}
			if _, err := s.Call(within(t), "echo", nil); err != nil {
				t.Errorf("%s: the next call: %v", name, err)
			}
		}
	})
}

func TestRealHandlerThatHangsEndsWithItsCall(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c := realClient(t, &Options{Elicit: func(ctx context.Context, _ *ElicitRequest) (*mcp.ElicitResult, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}})
	s := talker(t, c, true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := asked(ctx, t, s, true, reverseElicitationCreate, form)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the handler waits for ever")
	}
	if _, err := s.Call(within(t), "echo", nil); err != nil {
		t.Error(err)
	}
}

func TestRealEventsComeInBothEras(t *testing.T) {
	t.Parallel()
	eras(t, func(t *testing.T, modern bool) {
		c := realClient(t, nil)
		s := talker(t, c, modern)
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		if err := s.Subscribe(ctx, &mcp.SubscribeParams{URI: "test://a"}); err != nil {
			t.Fatal(err)
		}
		events := s.Events(ctx)
		_, err := s.Call(ctx, "emit", json.RawMessage(`{"notices":[`+
			`{"method":"notifications/resources/updated","params":{"uri":"test://a"}},`+
			`{"method":"notifications/tools/list_changed","params":{}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		updated, listed := false, false // this server tells on every stream it has, so some come twice
		for event := range events {
			switch event := event.(type) {
			case *ResourceUpdated:
				updated = updated || event.Params.URI == "test://a"
			case *ListChanged:
				listed = listed || event.List == "tools"
			}
			if updated && listed {
				break
			}
		}
		if !updated || !listed {
			t.Errorf("updated %v, listed %v", updated, listed)
		}
		logs := s.Events(ctx)
		if _, err := s.Call(ctx, "notify", json.RawMessage(
			`{"notices":[{"method":"notifications/message","params":{"level":"error","data":{"n":1.0}}}]}`)); err != nil {
			t.Fatal(err)
		}
		for event := range logs {
			if event, ok := event.(*LogEvent); ok {
				if event.Params.Level != "error" || string(event.Params.Data) != `{"n": 1.0}` { // as the server wrote it
					t.Errorf("%+v", event.Params)
				}
				break
			}
		}
		if err := s.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: "test://a"}); err != nil {
			t.Error(err)
		}
	})
}

func TestRealPinnedToolThatChangesIsTold(t *testing.T) {
	t.Parallel()
	changes := make(chan *ToolChanged, 8)
	c := realClient(t, &Options{OnToolChanged: func(e *ToolChanged) { changes <- e }})
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Connect(within(t), "pinned", &ServerConfig{
		Transport: Stdio{
			Command: filepath.Join(root, ".venv/bin/python"), Args: []string{filepath.Join(root, "tests/servers/talker.py")},
		},
		Tools: &ToolPolicy{Pin: "report"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ListTools(within(t), nil); err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(within(t))
	if err != nil || len(info.Pins["echo"]) != 64 {
		t.Fatalf("%+v %v", info, err)
	}
	if _, err := s.Call(within(t), "set", json.RawMessage(`{"tools":["echo","new"]}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ListTools(within(t), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-changes:
		if e.Tool != "new" || e.OldHash != nil || e.NewHash == nil || e.Server.Name() != "pinned" {
			t.Errorf("%+v", e)
		}
	case <-time.After(patience):
		t.Error("nobody is told")
	}
}

func TestRealSubscriptionsAndRootsAreBackAfterAKillWithoutACall(t *testing.T) {
	t.Parallel()
	c := realClient(t, &Options{Capabilities: &Capabilities{Roots: &RootsCapabilities{ListChanged: true}}})
	s := talker(t, c, false)
	if err := s.Subscribe(within(t), &mcp.SubscribeParams{URI: "test://a"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetRoots(within(t), []*mcp.Root{{URI: "file:///set"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	events := s.Events(ctx)
	kill(t, c)
	for event := range events { // nobody calls anything
		if info, ok := event.(*ServerInfo); ok && info.State == StateReady {
			if info.Generation != 2 {
				t.Errorf("generation %d", info.Generation)
			}
			break
		}
	}
	result, err := s.Call(within(t), "heard", nil)
	var heard struct{ Subscribed []string }
	if err != nil || result.Decode(&heard) != nil || strings.Join(heard.Subscribed, " ") != "test://a" {
		t.Errorf("%s %v", result.StructuredContent, err)
	}
	if answer, err := asked(within(t), t, s, false, reverseRootsList, `{}`); err != nil || !strings.Contains(answer, "file:///set") {
		t.Errorf("%s %v", answer, err)
	}
}

func TestRealTasksAreDetachedWatchedFetchedAndCancelled(t *testing.T) {
	t.Parallel()
	eras(t, func(t *testing.T, modern bool) {
		c := realClient(t, nil)
		s := talker(t, c, modern)
		ctx := within(t)
		if !modern { // where the protocol has it, the host itself asks for a task
			whole, err := s.CallTool(ctx, &mcp.CallToolParams{Name: "background", Task: &mcp.TaskMetadata{TTL: 60_000}})
			if err != nil || whole.Task() != nil {
				t.Errorf("driven to its end: %+v %v", whole, err)
			}
		}
		result, err := s.With(Detach()).Call(ctx, "background", map[string]any{"polls": 2})
		if err != nil {
			t.Fatal(err)
		}
		task := result.Task()
		if task == nil || task.Status != "working" {
			t.Fatalf("%s", result.Raw)
		}
		info, err := s.TaskInfo(ctx, task.TaskID)
		if err != nil || info.TaskID != task.TaskID {
			t.Errorf("%+v %v", info, err)
		}
		done := make(chan error, 1)
		go func() {
			result, err := s.TaskResult(ctx, task.TaskID)
			if err == nil && !strings.Contains(string(result.StructuredContent), `"got"`) {
				err = errors.New(string(result.Raw))
			}
			done <- err
		}()
		for ended := false; !ended; { // polls move the task of this server on
			if info, err = s.TaskInfo(ctx, task.TaskID); err != nil {
				t.Fatal(err)
			}
			ended = info.Status == "completed"
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		result, err = s.With(Detach()).Call(ctx, "background", map[string]any{"end": "never"})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.TaskCancel(ctx, result.Task().TaskID); err != nil {
			t.Error(err)
		}
		if _, err := s.TaskResult(ctx, result.Task().TaskID); !errors.Is(err, ErrCancelled) {
			t.Errorf("the result of a cancelled task: %v", err)
		}
		if _, err := s.TaskInfo(ctx, "nobody's"); !errors.Is(err, ErrRemoteError) {
			t.Errorf("an unknown task: %v", err)
		}
	})
}

func TestRealSkillsAreListedAndReadOnlyIfTheyAreWhatTheySay(t *testing.T) {
	t.Parallel()
	c := realClient(t, nil)
	s := talker(t, c, true)
	ctx := within(t)
	var skill *mcp.Skill
	for one, err := range s.Skills(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		skill = one
	}
	if skill == nil || skill.Name() != "pdf" || skill.Description() != "Fill forms" || len(skill.Resources) != 2 || skill.Dynamic {
		t.Fatalf("%+v", skill)
	}
	entry, err := s.GetSkill(ctx, &mcp.GetSkillParams{URI: skill.URI})
	if err != nil || entry.Skill.URI != skill.URI || entry.TTLMs != 60_000 {
		t.Errorf("%+v %v", entry, err)
	}
	read, err := s.ReadSkill(ctx, &mcp.ReadSkillParams{URI: skill.URI})
	if err != nil || !strings.HasSuffix(read.Contents[0].Text, "Do it.\n") {
		t.Errorf("%+v %v", read, err)
	}
	if _, err := s.Call(ctx, "set", json.RawMessage(`{"files":{"skill://pdf/SKILL.md":"changed","skill://pdf/forms/FORMS.md":"A form.\n"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadSkill(ctx, &mcp.ReadSkillParams{URI: skill.URI}); !errors.Is(err, ErrBadPeerMessage) {
		t.Errorf("a changed file: %v", err)
	}
}

func TestRealUpdatesTestsAndImports(t *testing.T) {
	t.Parallel()
	c := realClient(t, nil)
	ctx := within(t)
	s := rawServer(t, c, "--pages", "3")
	info, err := s.Update(ctx, &Update{Tools: &ToolPolicy{Deny: []string{"t1"}}})
	if err != nil || info.State != StateReady {
		t.Fatalf("%+v %v", info, err)
	}
	kill(t, c) // the update outlives it
	var names []string
	for tool, err := range s.Tools(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	if strings.Join(names, " ") != "t0 t2" {
		t.Errorf("%q", names)
	}
	if _, err := s.Call(ctx, "t1", nil); !errors.Is(err, ErrToolDenied) {
		t.Error(err)
	}
	found, err := c.Test(ctx, "raw2", rawConfig(t))
	if err != nil || !found.OK || found.ServerInfo.Name == "" || found.Timings.ConnectMs+found.Timings.InitMs == 0 {
		t.Errorf("%+v %v", found, err)
	}
	found, err = c.Test(ctx, "raw2", &ServerConfig{Transport: Stdio{Command: "/no/such/program"}})
	if err != nil || found.OK || !errors.Is(found.Error, ErrSpawnFailed) {
		t.Errorf("%+v %v", found, err)
	}
	if _, err := c.Server("raw2").Info(ctx); !errors.Is(err, ErrUnknownServer) {
		t.Errorf("a test leaves something behind: %v", err)
	}
	stdio, _ := rawConfig(t).Transport.(Stdio)
	config, err := json.Marshal(map[string]any{"mcpServers": map[string]any{
		"good": map[string]any{"command": stdio.Command, "args": append(stdio.Args, "${OPTION}")},
		"bad":  map[string]any{"command": "x", "args": []string{"${UNSET}"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Import(ctx, &ImportConfig{Config: config, Env: map[string]string{"OPTION": "--pages=2"}})
	if err != nil || len(made.Servers) != 1 || made.Servers[0].State != StateIdle || len(made.Errors) != 1 {
		t.Fatalf("%+v %v", made, err)
	}
	kill(t, c)
	if list, err := c.Server("good").ListTools(ctx, nil); err != nil || list.NextCursor == "" {
		t.Errorf("%+v %v", list, err)
	}
}
