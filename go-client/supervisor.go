package sidecar

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstBackOff = 100 * time.Millisecond
	lastBackOff  = 5 * time.Second
)

// supervise follows one life of the sidecar after the other until the client ends. A sidecar that ends unasked is a
// crash, and so is a start that fails; enough of them within the window end the client.
func (c *Client) supervise(ctx context.Context, s *session) {
	defer func() {
		c.stop()
		c.notes.close(c.opts.StopTimeout)
		c.listeners.close()
		close(c.done)
	}()
	crashes := &crashCount{limit: c.opts.MaxCrashes, window: c.opts.CrashWindow}
	backOff := firstBackOff
	number := s.number
	for {
		<-s.ended
		backOff = firstBackOff // it was ready
		exit := s.process.exit()
		exit.Life, exit.Ready, exit.Hung = s.number, true, s.hung.Load()
		if !c.leave(s) {
			c.report(exit, s.process.stderr)
			return
		}
		over := crashes.add(time.Now())
		exit.Restarting = !over
		c.report(exit, s.process.stderr)
		reason := exit.String()
		for s = nil; s == nil; {
			if over {
				c.fail(localError(CodeCrashLoop, DeliveredNo, fmt.Sprintf(
					"the sidecar ended %d times within %v, the last time with %s; its last words: %s",
					c.opts.MaxCrashes, c.opts.CrashWindow, reason, exit.StderrTail), nil, nil))
				return
			}
			if !sleep(ctx, jitter(backOff)) {
				return
			}
			backOff = min(backOff*2, lastBackOff)
			number++
			next, err := c.startSession(ctx, number)
			if err == nil {
				s = next
				break
			}
			if ctx.Err() != nil {
				return
			}
			reason = err.Error()
			over = crashes.add(time.Now())
		}
		c.resume(ctx, s)
	}
}

// leave takes a session that has ended away and reports whether another should follow.
func (c *Client) leave(s *session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == s {
		c.current = nil
	}
	c.broadcast()
	return !c.closing
}

// resume makes a new session the current one, unless the client was closed meanwhile.
func (c *Client) resume(ctx context.Context, s *session) {
	c.mu.Lock()
	level := c.logLevel
	c.mu.Unlock()
	if level != "" {
		if raw, failure := encodeParams(setLogLevelParams{Level: level}); failure == nil {
			bounded, cancel := context.WithTimeout(ctx, c.opts.StartTimeout)
			_, failure = s.call(bounded, MethodSidecarSetLogLevel, raw, nil)
			cancel()
			if failure != nil && c.opts.Logger != nil {
				c.opts.Logger.Warn("the log level could not be set again", "error", failure)
			}
		}
	}
	c.enter(s)
	go c.replaySubscribed(ctx, s)
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing { // Close has seen no session, so nobody else ends this one
		s.close()
		s.process.stop(c.opts.StopTimeout)
	}
}

func (c *Client) fail(err *Error) {
	c.mu.Lock()
	c.closing = true
	c.err = err
	c.broadcast()
	c.mu.Unlock()
}

// hook runs an observer of the client's own life in its turn among the others.
func (c *Client) hook(run func()) { c.notes.push(note{hook: run}) }

// report tells the host how a sidecar ended, after its last log lines; a logger that never returns is not waited for.
func (c *Client) report(exit Exit, stderr *stderrRelay) {
	c.hook(func() {
		if stderr != nil {
			timer := time.NewTimer(c.opts.StopTimeout)
			defer timer.Stop()
			select {
			case <-stderr.done:
			case <-timer.C:
			}
		}
		if logger := c.opts.Logger; logger != nil && exit.Err != nil {
			logger.Error("the sidecar could not be started", "error", exit.Err)
		} else if logger != nil {
			logger.Info("the sidecar ended", "pid", exit.PID, "how", exit.String(), "restarting", exit.Restarting)
		}
		observe(c.opts.OnExit, exit)
	})
}

// jitter spreads a pause over +-20 %, so that many hosts do not start again in step.
func jitter(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // no secret
}

func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// crashCount tells when too many crashes fall into one window; a negative limit is none.
type crashCount struct {
	limit  int
	window time.Duration
	times  []time.Time
}

func (k *crashCount) add(now time.Time) bool {
	if k.limit < 0 {
		return false
	}
	k.times = append(k.times, now)
	for len(k.times) > 0 && now.Sub(k.times[0]) > k.window {
		k.times = k.times[1:]
	}
	return len(k.times) >= k.limit
}
