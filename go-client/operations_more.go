package sidecar

import (
	"context"
	"iter"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Subscribe asks to be told when a resource changes: [Options].OnResourceUpdated and [Server.Events] tell. It holds,
// through lost connections and restarts of the sidecar, until Unsubscribe or Disconnect.
func (s *Server) Subscribe(ctx context.Context, params *mcp.SubscribeParams) error {
	_, err := s.request(ctx, MethodResourcesSubscribe, orEmpty(params))
	return err
}

// Unsubscribe asks to be told no more.
func (s *Server) Unsubscribe(ctx context.Context, params *mcp.UnsubscribeParams) error {
	_, err := s.request(ctx, MethodResourcesUnsubscribe, orEmpty(params))
	return err
}

// SetRoots sets the roots of this connection and tells the server. They hold until they are set anew.
func (s *Server) SetRoots(ctx context.Context, roots []*mcp.Root) error {
	if roots == nil {
		roots = []*mcp.Root{}
	}
	_, err := s.request(ctx, MethodRootsSet, mcp.ListRootsResult{Roots: roots})
	return err
}

type taskParams struct {
	TaskID string `json:"taskId"`
}

// TaskInfo tells how a detached task stands: the ID is in the [mcp.Task] of its call's result.
func (s *Server) TaskInfo(ctx context.Context, taskID string) (*mcp.Task, error) {
	return operate[mcp.Task](ctx, s, MethodTasksGet, taskParams{taskID})
}

// TaskResult waits for a detached task and returns what its call would have: the result, or the server's error. A
// cancelled task is a Cancelled (1004). What the task asks in between goes to the handlers of Options.
func (s *Server) TaskResult(ctx context.Context, taskID string) (*mcp.CallToolResult, error) {
	return operate[mcp.CallToolResult](ctx, s, MethodTasksResult, taskParams{taskID})
}

// TaskCancel cancels a detached task.
func (s *Server) TaskCancel(ctx context.Context, taskID string) error {
	_, err := s.request(ctx, MethodTasksCancel, taskParams{taskID})
	return err
}

// ListSkills returns one page of the server's skills; [Server.Skills] follows the pages. Nothing of them is read.
func (s *Server) ListSkills(ctx context.Context, params *mcp.ListSkillsParams) (*mcp.ListSkillsResult, error) {
	return operate[mcp.ListSkillsResult](ctx, s, MethodSkillsList, orEmpty(params))
}

// GetSkill returns the entry of one skill.
func (s *Server) GetSkill(ctx context.Context, params *mcp.GetSkillParams) (*mcp.GetSkillResult, error) {
	return operate[mcp.GetSkillResult](ctx, s, MethodSkillsGet, orEmpty(params))
}

// ReadSkill reads a skill's SKILL.md or another of its files. Size, digest and front matter are compared with the
// skill's entry before anything is passed on; a difference is a BadPeerMessage (1502).
func (s *Server) ReadSkill(ctx context.Context, params *mcp.ReadSkillParams) (*mcp.ReadResourceResult, error) {
	return operate[mcp.ReadResourceResult](ctx, s, MethodSkillsRead, orEmpty(params))
}

// Skills iterates over all skills, page by page. After an error it stops.
func (s *Server) Skills(ctx context.Context, params *mcp.ListSkillsParams) iter.Seq2[*mcp.Skill, error] {
	first := *orEmpty(params)
	return pages(first.Cursor, func(cursor string) ([]*mcp.Skill, string, error) {
		p := first
		p.Cursor = cursor
		page, err := s.ListSkills(ctx, &p)
		if err != nil {
			return nil, "", err
		}
		return page.Skills, page.NextCursor, nil
	})
}

// Update changes the connection without reconnecting, from the next request on; each field that is set replaces its
// whole former value. It holds after a restart of the sidecar too.
func (s *Server) Update(ctx context.Context, update *Update) (*ServerInfo, error) {
	raw, err := s.request(ctx, MethodServersUpdate, orEmpty(update))
	if err != nil {
		return nil, err
	}
	return s.client.serverInfo(MethodServersUpdate, raw)
}

// Test tries a connection in the empty scope; see [ScopedClient.Test].
func (c *Client) Test(ctx context.Context, name string, config *ServerConfig) (*TestResult, error) {
	return c.Scope(Scope{}).Test(ctx, name, config)
}

// Test tries a connection and tells what it found; nothing stays behind. A server that cannot be reached is a result
// whose Error says why.
func (c *ScopedClient) Test(ctx context.Context, name string, config *ServerConfig) (*TestResult, error) {
	params, failure := c.connectParams(name, config)
	if failure != nil {
		return nil, failure
	}
	raw, err := asResult(c.client.do(ctx, request{method: MethodServersTest, params: params}))
	if err != nil {
		return nil, err
	}
	result := &TestResult{Raw: raw}
	err = decodeOwn(MethodServersTest, raw, result)
	return result, err
}

// ImportResult tells what came of a desktop client's configuration.
type ImportResult struct {
	// Servers are the addresses that there are now.
	Servers []*ServerInfo
	// Errors are all faults, each with the JSON pointer of its place in Data; a fault keeps only its own server out.
	Errors []*Error
}

// Import makes addresses in the empty scope; see [ScopedClient.Import].
func (c *Client) Import(ctx context.Context, config *ImportConfig) (*ImportResult, error) {
	return c.Scope(Scope{}).Import(ctx, config)
}

// Import makes addresses of the servers in a desktop client's configuration, {"mcpServers": {…}}.
func (c *ScopedClient) Import(ctx context.Context, config *ImportConfig) (*ImportResult, error) {
	params, failure := encodeParams(orEmpty(config))
	if failure == nil {
		params, failure = prepend(params, member{"scope", c.scope})
	}
	if failure != nil {
		return nil, failure
	}
	raw, err := asResult(c.client.do(ctx, request{method: MethodServersImport, params: params}))
	if err != nil {
		return nil, err
	}
	servers, err := c.client.serverInfos(MethodServersImport, raw)
	if err != nil {
		return nil, err
	}
	var faults struct {
		Errors []*Error `json:"errors"`
	}
	err = decodeOwn(MethodServersImport, raw, &faults)
	return &ImportResult{servers, faults.Errors}, err
}
