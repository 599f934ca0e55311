package sidecar

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// request is one call of a caller, whatever number of tries it takes.
type request struct {
	method   string
	params   []byte // a JSON object
	progress func(*mcp.ProgressNotificationParams)
	patient  bool // it waits for a person: Options.Timeout does not bound it
}

const (
	maxTries  = 3
	retrySpan = time.Second // for calls that never left
)

// repeatable are the methods that only read: after an uncertain delivery they may run once more.
var repeatable = map[string]bool{
	MethodPing: true, MethodSidecarHealth: true, MethodServersList: true, MethodServersGet: true, MethodServersPing: true,
	MethodToolsList: true, MethodResourcesList: true, MethodResourcesTemplatesList: true, MethodResourcesRead: true,
	MethodPromptsList: true, MethodPromptsGet: true, MethodCompletionComplete: true,
	MethodSkillsList: true, MethodSkillsGet: true, MethodSkillsRead: true, MethodTasksGet: true, MethodAuthStatus: true,
}

func (r *request) mayRepeat() bool {
	if r.method != MethodToolsCall {
		return repeatable[r.method]
	}
	idempotent := false
	_ = jsonscan.Object(r.params, func(key string, value []byte) error {
		if key == "idempotent" {
			idempotent = string(value) == "true"
		}
		return nil
	}) // the params were checked when they were encoded
	return idempotent
}

// do sends a request over the live sidecar, inside the caller's deadline. It is the one place that repeats, by the
// rule of section 6 for 1009: what never left, at most three tries within a second; what may have arrived, once, and
// only reads and idempotent calls. Nothing else is repeated here.
func (c *Client) do(ctx context.Context, r request) (json.RawMessage, *Error) {
	if _, ok := ctx.Deadline(); !ok && c.opts.Timeout > 0 && !r.patient {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	var lost *Error // the loss that is being repeated
	var since time.Time
	uncertain := false // the one repetition after "maybe" is used up
	for tries := 1; ; tries++ {
		s, failure := c.next(ctx, lost, since)
		if failure != nil {
			return nil, failure.withAttempts(tries - 1)
		}
		result, failure := c.once(ctx, s, r)
		if failure == nil || failure.Code != CodeSidecarExited {
			return result, withTries(failure, tries)
		}
		c.abandon(s)
		if lost == nil {
			since = time.Now()
		}
		switch {
		case failure.Delivered == DeliveredNo && tries < maxTries && time.Since(since) < retrySpan:
		case failure.Delivered == DeliveredMaybe && r.mayRepeat() && !uncertain:
			uncertain = true
		default:
			return nil, failure.withAttempts(tries)
		}
		lost = failure
	}
}

func withTries(failure *Error, tries int) *Error {
	if failure == nil {
		return nil
	}
	return failure.withAttempts(tries)
}

// next returns the sidecar for the next try. A repetition of what never left waits for it no longer than the second
// it has; if there is none by then, the loss is the answer.
func (c *Client) next(ctx context.Context, lost *Error, since time.Time) (*session, *Error) {
	if lost == nil {
		return c.session(ctx)
	}
	wait := ctx
	if lost.Delivered == DeliveredNo {
		bounded, cancel := context.WithDeadline(ctx, since.Add(retrySpan))
		defer cancel()
		wait = bounded
	}
	s, failure := c.session(wait)
	if failure != nil && ctx.Err() == nil && failure.Code == CodeDeadlineExceeded {
		return nil, lost
	}
	if failure != nil && lost.Delivered == DeliveredMaybe && failure.Delivered == DeliveredNo {
		// Never say "no" of a call that may have arrived.
		changed := *failure
		changed.Delivered = DeliveredMaybe
		changed.Data = withDelivered(failure.Data)
		return nil, &changed
	}
	return s, failure
}

func withDelivered(data json.RawMessage) json.RawMessage {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(data, &fields) != nil {
		return data
	}
	fields["delivered"] = json.RawMessage(`"maybe"`)
	raw, err := marshal(fields)
	if err != nil {
		return data
	}
	return raw
}

// abandon stops handing out a session whose pipe has ended, before its process has been waited for.
func (c *Client) abandon(s *session) {
	c.mu.Lock()
	if c.current == s {
		c.current = nil
	}
	c.mu.Unlock()
}

// once is one try: the address is restored if need be, then the call is sent.
func (c *Client) once(ctx context.Context, s *session, r request) (json.RawMessage, *Error) {
	switch r.method {
	case MethodServersConnect, MethodServersTest: // bring their own configuration
	case MethodServersList:
		if failure := c.restoreAll(ctx, s, func(place) bool { return true }); failure != nil {
			return nil, unsent(failure)
		}
	default:
		at, named := placeOf(r.params)
		var failure *Error
		switch {
		case named:
			failure = c.restore(ctx, s, at, isOperation(r.method))
		case r.method == MethodAuthComplete || r.method == MethodAuthStatus: // speak of a tenant's addresses unnamed
			failure = c.restoreAll(ctx, s, func(other place) bool { return other.scope.Tenant == at.scope.Tenant })
		}
		if failure != nil {
			return nil, unsent(failure)
		}
	}
	result, failure := s.call(ctx, r.method, r.params, r.progress)
	switch {
	case r.method == MethodServersConnect:
		c.remember(s.number, r.params, failure)
	case failure == nil:
		c.noteDone(s.number, r, result)
	}
	return result, failure
}

// unsent corrects the failure of a replay: the caller's own call has not left.
func unsent(failure *Error) *Error {
	if failure.Delivered != DeliveredMaybe {
		return failure
	}
	changed := *failure
	changed.Delivered = DeliveredNo
	changed.Data = nil
	return &changed
}
