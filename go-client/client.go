package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// Client is a running sidecar and what this process knows of it. Its methods may be called from any goroutine. A
// sidecar that dies is started again; see the package's documentation for what a caller notices.
type Client struct {
	opts      Options
	notes     *noteQueue
	listeners listeners
	lifetime  context.Context // ends with the client

	mu       sync.Mutex
	current  *session          // nil while there is none
	lives    int               // the number of the last session
	changed  chan struct{}     // closed and replaced whenever current or closing changes
	closing  bool              // no new work; set by Close, Drain and the crash limit
	book     map[place]*record // what is connected, for the replay after a restart
	logLevel string
	logins   map[string]time.Time // by their id: those that Options.Authorize was given, until they expire
	err      error                // why the client ended by itself
	info     Info

	stop     context.CancelFunc // ends starts and back-offs
	closeReq sync.Once
	done     chan struct{}
}

// Start runs the sidecar and returns when it has answered. The context bounds the start alone. The error is a
// StartFailed (1011) with the command, the exit code and the last words of a program that is missing or dies, or a
// VersionMismatch (1008), or an InvalidParams (-32602) for options that contradict each other.
func Start(ctx context.Context, opts *Options) (*Client, error) {
	lifetime, stop := context.WithCancel(context.Background())
	c := &Client{
		opts:     opts.withDefaults(),
		lifetime: lifetime,
		changed:  make(chan struct{}),
		book:     map[place]*record{},
		logins:   map[string]time.Time{},
		stop:     stop,
		done:     make(chan struct{}),
	}
	c.listeners.all = map[*listener]struct{}{}
	if _, err := c.opts.promises(); err != nil {
		stop()
		return nil, err
	}
	if _, err := c.opts.vault(); err != nil {
		stop()
		return nil, err
	}
	c.notes = newNoteQueue(c.handleNote)
	first, err := c.startSession(ctx, 1)
	if err != nil {
		stop()
		c.notes.close(c.opts.StopTimeout)
		return nil, err
	}
	c.enter(first)
	go c.supervise(lifetime, first)
	return c, nil
}

func (c *Client) enter(s *session) {
	c.mu.Lock()
	c.current, c.info, c.lives = s, s.info, s.number
	c.broadcast()
	c.mu.Unlock()
	c.hook(func() {
		observe(c.opts.OnReady, Ready{Life: s.number, PID: s.process.pid, Took: s.took, Info: s.info})
	})
}

// broadcast wakes who waits for a session; mu is held.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// session returns the live sidecar, and waits for it while it is being started again.
func (c *Client) session(ctx context.Context) (*session, *Error) {
	for {
		c.mu.Lock()
		s, closing, err, changed := c.current, c.closing, c.err, c.changed
		c.mu.Unlock()
		var ended *Error
		switch {
		case errors.As(err, &ended):
			return nil, ended
		case closing:
			return nil, errClosed()
		case s != nil:
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errContext(ctx, DeliveredNo, "queue")
		}
	}
}

// Info returns the versions, limits and platform of the sidecar, from its last start.
func (c *Client) Info() Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// Done is closed when the client has ended: after [Client.Close] or [Client.Drain], or by itself after too many
// crashes. Then no process and no goroutine of it is left.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client ended by itself (a CrashLoop, 1010), and nil before that and after Close.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the sidecar and all its servers: calls in flight are cut with their true Delivered, sessions are closed
// politely; what does not end within Options.StopTimeout is interrupted, then killed. It waits for the end, and for an
// observer that is at work no longer than Options.StopTimeout: so an observer may call it too, and gets it back after
// that time. Closing twice is fine.
func (c *Client) Close() error {
	c.closeReq.Do(func() {
		c.mu.Lock()
		c.closing = true
		s := c.current
		c.broadcast()
		c.mu.Unlock()
		c.stop()
		if s != nil {
			s.close()
			s.process.stop(c.opts.StopTimeout)
		}
	})
	<-c.done
	return nil
}

// Drain ends the client politely: no new work, calls in flight may finish until the context ends (10 s where it has
// no deadline), then everything is closed. A failure to drain is returned; the client is closed in any case.
func (c *Client) Drain(ctx context.Context) error {
	s, failure := c.session(ctx)
	if failure != nil {
		c.Close()
		return failure
	}
	c.mu.Lock()
	c.closing = true
	c.broadcast()
	c.mu.Unlock()
	var params shutdownParams
	if deadline, ok := ctx.Deadline(); ok {
		ms := int(max(0, timeoutMs(time.Until(deadline))-int64(drainSlack/time.Millisecond)))
		params.DeadlineMs = &ms
	}
	raw, failure := encodeParams(params)
	if failure == nil {
		_, failure = s.call(ctx, MethodShutdown, raw, nil)
	}
	if failure == nil {
		s.peer.writer.closeWhenEmpty()
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	c.Close()
	if failure != nil {
		return failure
	}
	return nil
}

// drainSlack is kept of a context's deadline for closing the sessions after the calls.
const drainSlack = 250 * time.Millisecond

// Request sends any method of the wire with any params that encode to a JSON object, and returns the result's bytes.
// The typed methods are built on it: addresses are replayed and lost calls repeated by the same rules.
func (c *Client) Request(ctx context.Context, method string, params any) (json.RawMessage, error) {
	raw, failure := encodeParams(params)
	if failure != nil {
		return nil, failure
	}
	if method == MethodShutdown { // the process will end because it was told to, not because it crashed
		c.mu.Lock()
		c.closing = true
		s := c.current
		c.broadcast()
		c.mu.Unlock()
		if s == nil {
			return nil, errClosed()
		}
		result, failure := s.call(ctx, method, raw, nil)
		return asResult(result, failure)
	}
	return asResult(c.do(ctx, request{method: method, params: raw}))
}

// asResult keeps a nil *Error from becoming an error that is not nil.
func asResult(result json.RawMessage, failure *Error) (json.RawMessage, error) {
	if failure != nil {
		return nil, failure
	}
	return result, nil
}

// Ping asks whether the sidecar's loop is alive.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.Request(ctx, MethodPing, nil)
	return err
}

// Health returns facts about the sidecar's process.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	raw, err := c.Request(ctx, MethodSidecarHealth, nil)
	if err != nil {
		return nil, err
	}
	var health Health
	if err := decodeOwn(MethodSidecarHealth, raw, &health); err != nil {
		return nil, err
	}
	health.Raw = raw
	return &health, nil
}

// SetLogLevel sets the level of the sidecar's log lines: debug, info, warning or error. It holds after a restart too.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	if _, err := c.Request(ctx, MethodSidecarSetLogLevel, setLogLevelParams{Level: level}); err != nil {
		return err
	}
	c.mu.Lock()
	c.logLevel = level
	c.mu.Unlock()
	return nil
}

// decodeOwn reads a result of the sidecar itself.
func decodeOwn(method string, raw json.RawMessage, target any) error {
	if err := json.Unmarshal(raw, target); err != nil {
		return localError(CodeInternal, "", "the sidecar's result of "+method+" has another shape: "+err.Error(), err, nil)
	}
	return nil
}
