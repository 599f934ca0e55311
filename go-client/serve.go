package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// The requests of the sidecar, from their line to their one answer.

// reverseHandler answers a request of the sidecar. Its context ends with the request's own deadline or cancel.
type reverseHandler func(ctx context.Context, params json.RawMessage) (result any, err error)

// inbound is one request of the sidecar; it is answered once, by whoever comes first: its handler or its end.
type inbound struct {
	rawID  []byte
	cancel context.CancelFunc
}

// request serves a request of the sidecar in a goroutine of its own; it is answered exactly once.
func (p *peer) request(f *frame) *frameFault {
	key := idKey(f.id)
	params := f.params
	if params == nil {
		params = []byte("{}")
	}
	p.mu.Lock()
	if p.inbound[key] != nil {
		p.mu.Unlock()
		return &frameFault{code: CodeInvalidRequest, why: "invalid request: this id is already in flight", rawID: f.id}
	}
	timeout, of := p.origin(params)
	ctx, cancel := context.WithTimeout(of, timeout)
	asked := &inbound{rawID: f.id, cancel: cancel}
	p.inbound[key] = asked
	p.mu.Unlock()
	if jsonscan.Kind(params) != '{' {
		p.reply(asked, nil, localError(CodeInvalidParams, "", "params must be an object", nil, map[string]any{"path": ""}))
		return nil
	}
	if f.method == MethodPing { // answered on the spot, so that it also shows that the read loop lives
		p.reply(asked, pong(params), nil)
		return nil
	}
	handler := p.handlers[f.method]
	if handler == nil {
		p.reply(asked, nil, localError(CodeMethodNotFound, "", fmt.Sprintf("unknown method %.100q", f.method), nil, nil))
		return nil
	}
	go p.serve(ctx, asked, f.method, handler, params)
	return nil
}

// serve runs a handler. The answer does not wait for one that hangs: when the context ends, that is the answer.
func (p *peer) serve(
	ctx context.Context, asked *inbound, method string, handler reverseHandler, params json.RawMessage,
) {
	stop := context.AfterFunc(ctx, func() { p.reply(asked, nil, errContext(ctx, DeliveredMaybe, "wait")) })
	defer stop()
	var failure *Error
	result, err := p.guarded(ctx, method, handler, params)
	if err == nil {
		var raw []byte
		if raw, err = marshal(result); err == nil {
			p.reply(asked, raw, nil)
			return
		}
	}
	switch {
	case errors.As(err, &failure):
	case ctx.Err() != nil:
		failure = errContext(ctx, DeliveredMaybe, "wait")
	default:
		failure = localError(CodeInternal, "", err.Error(), err, nil)
	}
	p.reply(asked, nil, failure)
}

// guarded makes a panic of a handler its failure: the sidecar gets the "no" that it has for it, and this process
// lives on. What was thrown stays here; it may hold secrets.
func (p *peer) guarded(
	ctx context.Context, method string, handler reverseHandler, params json.RawMessage,
) (result any, err error) {
	defer func() {
		if value := recover(); value != nil {
			if p.panicked != nil {
				p.panicked(method, value)
			}
			err = localError(CodeInternal, "", "the handler of "+method+" panicked", nil, nil)
		}
	}()
	return handler(ctx, params)
}

// reply answers one request of the sidecar, unless it was answered.
func (p *peer) reply(asked *inbound, result []byte, failure *Error) {
	key := idKey(asked.rawID)
	p.mu.Lock()
	open := p.inbound[key] == asked
	if open {
		delete(p.inbound, key)
	}
	p.mu.Unlock()
	asked.cancel()
	if !open {
		return
	}
	line := answerFrame(asked.rawID, result)
	if failure == nil && len(line)-1 > int(p.maxOut.Load()) {
		failure = localError(CodeInternal, "", "the answer is longer than maxFrameBytes", nil, nil)
	}
	if failure != nil {
		line = errorFrame(asked.rawID, failure)
	}
	p.send(line)
}

func pong(params []byte) []byte {
	result := []byte("{}")
	_ = jsonscan.Object(params, func(key string, value []byte) error {
		if key == "payload" {
			result = append(append([]byte(`{"payload":`), value...), '}')
		}
		return nil
	}) // params were valid JSON with the frame
	return result
}

// reverseTimeout bounds a request of the sidecar that names no time of its own; past it nobody waits for the answer.
const reverseTimeout = 24 * time.Hour

// origin returns how long a request of the sidecar may take, and the context that it belongs to: that of the host's own
// call where the sidecar names one that is open, so that its values and its end reach the handler. mu is held.
func (p *peer) origin(params []byte) (time.Duration, context.Context) {
	timeout, of := reverseTimeout, context.Background()
	if jsonscan.Kind(params) != '{' {
		return timeout, of
	}
	_ = jsonscan.Object(params, func(key string, value []byte) error {
		switch key {
		case "timeoutMs":
			var ms float64
			if json.Unmarshal(value, &ms) == nil && ms > 0 && ms < float64(reverseTimeout/time.Millisecond) {
				timeout = time.Duration(ms * float64(time.Millisecond))
			}
		case "requestId":
			if id, err := strconv.ParseInt(string(value), 10, 64); err == nil && p.pending[id] != nil {
				of = p.pending[id].ctx
			}
		}
		return nil
	}) // the params were valid JSON with the frame
	return timeout, of
}
