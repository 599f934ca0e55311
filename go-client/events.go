package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Event is something that the sidecar tells: a [*ServerInfo] (a connection changed its state), [*AuthRequired],
// [*LogEvent], [*ListChanged], [*ResourceUpdated], [*TaskEvent], [*ElicitationComplete], [*ToolChanged],
// [*StoreDegraded] or [*Dropped]. More may come: a switch needs a default.
type Event interface {
	// about returns the address that the event is about, if any.
	about() (place, bool)
}

// AuthRequired tells that a person must log in.
type AuthRequired struct {
	Server        *Server
	Authorization Authorization
}

// LogEvent is a log message of a server.
type LogEvent struct {
	Server *Server
	Params *mcp.LoggingMessageParams
	// Raw holds the params as they came.
	Raw json.RawMessage
}

// ListChanged tells that a list of a server has changed, or may have: read it again.
type ListChanged struct {
	Server *Server
	// List is "tools", "prompts" or "resources" (the templates among them).
	List string
}

// ResourceUpdated tells that a resource that [Server.Subscribe] named has changed; it may be a part of it.
type ResourceUpdated struct {
	Server *Server
	Params *mcp.ResourceUpdatedNotificationParams
}

// TaskEvent tells the status of a background task.
type TaskEvent struct {
	Server *Server
	Task   *mcp.Task
}

// ElicitationComplete tells that the person has done what a URL elicitation asked for.
type ElicitationComplete struct {
	Server *Server
	Params *mcp.ElicitationCompleteParams
}

// ToolChanged tells that a pinned tool has another definition now, is new (OldHash nil) or gone (NewHash nil).
type ToolChanged struct {
	Server  *Server
	Tool    string
	OldHash *string
	NewHash *string
	// Diff shows what changed.
	Diff json.RawMessage
}

// Dropped tells that messages were left out because this host read too slowly.
type Dropped struct {
	// What is "logs" or "progress" where the sidecar dropped them, and "events" where this client did.
	What  string
	Count int
}

func (s *Server) place() place { return place{s.scope, s.name} }

func (e *ServerInfo) about() (place, bool)          { return place{e.Scope, e.Server}, true }
func (e *AuthRequired) about() (place, bool)        { return e.Server.place(), true }
func (e *LogEvent) about() (place, bool)            { return e.Server.place(), true }
func (e *ListChanged) about() (place, bool)         { return e.Server.place(), true }
func (e *ResourceUpdated) about() (place, bool)     { return e.Server.place(), true }
func (e *TaskEvent) about() (place, bool)           { return e.Server.place(), true }
func (e *ElicitationComplete) about() (place, bool) { return e.Server.place(), true }
func (e *ToolChanged) about() (place, bool)         { return e.Server.place(), true }
func (e *StoreDegraded) about() (place, bool)       { return place{}, false }
func (e *Dropped) about() (place, bool)             { return place{}, false }

// eventOf reads a notification; nil where it is none that this version knows.
func (c *Client) eventOf(n note) (Event, error) {
	at, named := placeOf(n.params)
	if !named && n.method != notificationStoreDegraded && n.method != notificationSidecarDropped {
		return nil, errors.New("it names no server")
	}
	server := c.Scope(at.scope).Server(at.name)
	switch n.method {
	case notificationServersChanged:
		info := &ServerInfo{Raw: n.params}
		err := json.Unmarshal(n.params, info)
		if err == nil {
			c.generation(n.session, info)
		}
		return info, err
	case notificationAuthRequired:
		var params authRequiredParams
		err := json.Unmarshal(n.params, &params)
		return &AuthRequired{server, params.Authorization}, err
	case notificationMessage:
		event := &LogEvent{Server: server, Params: new(mcp.LoggingMessageParams), Raw: n.params}
		return event, event.Params.UnmarshalJSON(n.params)
	case notificationToolsListChanged:
		return &ListChanged{server, "tools"}, nil
	case notificationPromptsListChanged:
		return &ListChanged{server, "prompts"}, nil
	case notificationResourcesListChanged:
		return &ListChanged{server, "resources"}, nil
	case notificationResourcesUpdated:
		event := &ResourceUpdated{server, new(mcp.ResourceUpdatedNotificationParams)}
		return event, event.Params.UnmarshalJSON(n.params)
	case notificationTasks:
		event := &TaskEvent{server, new(mcp.Task)}
		return event, event.Task.UnmarshalJSON(n.params)
	case notificationElicitationComplete:
		event := &ElicitationComplete{server, new(mcp.ElicitationCompleteParams)}
		return event, event.Params.UnmarshalJSON(n.params)
	case notificationCatalogToolChanged:
		var params toolChangedParams
		err := json.Unmarshal(n.params, &params)
		return &ToolChanged{server, params.Tool, params.OldHash, params.NewHash, params.Diff}, err
	case notificationStoreDegraded:
		event := new(StoreDegraded)
		return event, json.Unmarshal(n.params, event)
	case notificationSidecarDropped:
		var params droppedParams
		err := json.Unmarshal(n.params, &params)
		return &Dropped{params.What, params.Count}, err
	}
	return nil, nil
}

// handleNote takes one notification, in order, off the read loop.
func (c *Client) handleNote(n note, dropped int) {
	if dropped > 0 {
		c.tell(&Dropped{"events", dropped})
	}
	if n.hook != nil {
		n.hook()
		return
	}
	event, err := c.eventOf(n)
	switch {
	case err != nil:
		if c.opts.Logger != nil {
			c.opts.Logger.Warn("a notification of the sidecar has another shape", "method", n.method, "error", err)
		}
	case event != nil:
		c.tell(event)
	}
}

// tell hands an event to its observer and to the iterators.
func (c *Client) tell(event Event) {
	c.listeners.push(event)
	if dropped, is := event.(*Dropped); is && c.opts.Logger != nil {
		c.opts.Logger.Warn("messages were dropped: this host reads too slowly", "what", dropped.What, "count", dropped.Count)
	}
	defer func() {
		if value := recover(); value != nil {
			c.panicked("an observer", value)
		}
	}()
	switch event := event.(type) {
	case *ServerInfo:
		observe(c.opts.OnChanged, event)
	case *AuthRequired:
		observe(c.opts.OnAuthRequired, event)
	case *LogEvent:
		observe(c.opts.OnLog, event)
	case *ListChanged:
		observe(c.opts.OnListChanged, event)
	case *ResourceUpdated:
		observe(c.opts.OnResourceUpdated, event)
	case *TaskEvent:
		observe(c.opts.OnTask, event)
	case *ElicitationComplete:
		observe(c.opts.OnElicitationComplete, event)
	case *ToolChanged:
		observe(c.opts.OnToolChanged, event)
	case *StoreDegraded:
		observe(c.opts.OnStoreDegraded, event)
	case *Dropped:
		observe(c.opts.OnDropped, event)
	}
}

func observe[E any](observer func(E), event E) {
	if observer != nil {
		observer(event)
	}
}

// Events returns what the sidecar tells, in order, until the context or the client ends. Listening begins with this
// call, not with the first step of the loop, so nothing is missed between the two; what a slow loop leaves behind is
// bounded, and what was left out shows as a [*Dropped].
func (c *Client) Events(ctx context.Context) iter.Seq[Event] {
	return c.listeners.listen(ctx, func(Event) bool { return true })
}

// Events is [Client.Events] for the connections of this scope.
func (c *ScopedClient) Events(ctx context.Context) iter.Seq[Event] {
	return c.client.listeners.listen(ctx, func(event Event) bool {
		at, ok := event.about()
		return ok && at.scope == c.scope
	})
}

// Events is [Client.Events] for this server alone.
func (s *Server) Events(ctx context.Context) iter.Seq[Event] {
	want := s.place()
	return s.client.listeners.listen(ctx, func(event Event) bool {
		at, ok := event.about()
		return ok && at == want
	})
}
