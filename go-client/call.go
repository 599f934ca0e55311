package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// call is one request of ours from its frame to its outcome.
type call struct {
	ctx     context.Context
	frame   *outFrame
	outcome chan outcome // one slot; filled once, by whoever removed the call from the table

	mu       sync.Mutex
	notes    []*mcp.ProgressNotificationParams
	dropped  int
	woken    chan struct{} // one slot; nil where nobody wants progress
	listener func(*mcp.ProgressNotificationParams)
}

type outcome struct {
	result json.RawMessage
	err    *Error
}

// maxNotes bounds what a slow listener can pile up: the oldest are dropped, as the wire allows for progress.
const maxNotes = 4096

func (c *call) settle(result []byte, err *Error) { c.outcome <- outcome{result, err} }

func (c *call) progress(note *mcp.ProgressNotificationParams) {
	if c.listener == nil {
		return
	}
	c.mu.Lock()
	if len(c.notes) >= maxNotes {
		c.notes = c.notes[1:]
		c.dropped++
	}
	c.notes = append(c.notes, note)
	c.mu.Unlock()
	select {
	case c.woken <- struct{}{}:
	default:
	}
}

// deliver runs the listener on the calling goroutine, so that nothing can come after the call has returned. It stops
// when the context ends.
func (c *call) deliver(ctx context.Context) {
	c.mu.Lock()
	notes := c.notes
	c.notes = nil
	c.mu.Unlock()
	for _, note := range notes {
		if ctx.Err() != nil {
			return
		}
		c.listener(note)
	}
}

// minRemaining is the time below which sending is pointless.
const minRemaining = time.Millisecond

// timeoutMs returns what is told to the sidecar, so that its own answer (with phase and delivered) arrives before the
// context ends: the remaining time less min(20 ms, 10 %).
func timeoutMs(remaining time.Duration) int64 {
	return max(1, (remaining - min(20*time.Millisecond, remaining/10)).Milliseconds())
}

// call sends one request and waits for its one outcome. params must be a JSON object. The context's deadline goes
// with it, unless the params name a timeoutMs themselves.
func (p *peer) call(
	ctx context.Context, method string, params []byte, listener func(*mcp.ProgressNotificationParams),
) (json.RawMessage, *Error) {
	if ctx.Err() != nil {
		return nil, errContext(ctx, DeliveredNo, "queue")
	}
	if deadline, ok := ctx.Deadline(); ok {
		remaining := time.Until(deadline)
		if remaining < minRemaining {
			return nil, localError(CodeDeadlineExceeded, DeliveredNo, "less than 1 ms was left, nothing was sent",
				context.DeadlineExceeded, map[string]any{"phase": "queue"})
		}
		if !hasKey(params, "timeoutMs") {
			var failure *Error
			if params, failure = prepend(params, member{"timeoutMs", timeoutMs(remaining)}); failure != nil {
				return nil, failure
			}
		}
	}
	c := &call{ctx: ctx, outcome: make(chan outcome, 1), listener: listener}
	if listener != nil {
		c.woken = make(chan struct{}, 1)
	}
	id, failure := p.enter(c, method, params)
	if failure != nil {
		return nil, failure
	}
	for {
		select {
		case <-c.woken:
			c.deliver(ctx)
		case done := <-c.outcome:
			if listener != nil {
				c.deliver(ctx)
			}
			return done.result, done.err
		case <-ctx.Done():
			return p.leave(ctx, c, id)
		}
	}
}

func hasKey(object []byte, name string) bool {
	found := false
	_ = jsonscan.Object(object, func(key string, _ []byte) error {
		found = found || key == name
		return nil
	}) // the params were checked when they were encoded
	return found
}

// enter puts the call into the table and its frame into the queue, in one step for the other side of the table.
func (p *peer) enter(c *call, method string, params []byte) (int64, *Error) {
	id := p.lastID.Add(1)
	line := requestFrame(id, method, params)
	if limit := int(p.maxOut.Load()); len(line)-1 > limit {
		return 0, localError(CodeInvalidRequest, "", fmt.Sprintf("the request is longer than maxFrameBytes (%d)", limit),
			nil, map[string]any{"limit": limit})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, errSidecarExited(DeliveredNo, p.err)
	}
	frame, err := p.writer.send(line)
	if err != nil {
		return 0, errSidecarExited(DeliveredNo, err)
	}
	c.frame = frame
	p.pending[id] = c
	return id, nil
}

// leave ends a call whose context ended: at once, and with the truth about its frame. The sidecar is told; its own
// answer is dropped when it comes.
func (p *peer) leave(ctx context.Context, c *call, id int64) (json.RawMessage, *Error) {
	p.mu.Lock()
	_, open := p.pending[id]
	delete(p.pending, id)
	p.mu.Unlock()
	if !open { // the outcome came first
		done := <-c.outcome
		return done.result, done.err
	}
	if p.writer.takeBack(c.frame) {
		return nil, errContext(ctx, DeliveredNo, "queue")
	}
	params, err := marshal(cancelledParams{RequestID: fmt.Append(nil, id), Reason: ctx.Err().Error()})
	if err == nil {
		p.send(notificationFrame(notificationCancelled, params))
	}
	return nil, errContext(ctx, DeliveredMaybe, "wait")
}
