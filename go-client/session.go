package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// session is one life of the sidecar: a process and the peer on its pipes, past the handshake.
type session struct {
	number  int // 1 for the first
	process *process
	peer    *peer
	info    Info
	took    time.Duration // from its start to its first answer
	hung    atomic.Bool   // it was killed because it did not answer
	ended   chan struct{} // closed when the process is gone and nothing is pending
}

// startSession starts a sidecar and shakes hands with it. On failure nothing is left behind, and the observers are
// told.
func (c *Client) startSession(ctx context.Context, number int) (*session, error) {
	s, exit, err := c.tryStart(ctx, number)
	if err == nil {
		return s, nil
	}
	exit.Life, exit.Err = number, err
	c.report(exit, nil)
	return nil, err
}

func (c *Client) tryStart(ctx context.Context, number int) (*session, Exit, error) {
	none := Exit{ExitCode: -1}
	command, err := locate(c.opts.Command)
	if err != nil {
		return nil, none, localError(CodeStartFailed, DeliveredNo, err.Error(), err, nil)
	}
	if err := verify(c.opts.Checksums); err != nil {
		return nil, none, startFailed(command, err.Error(), err, nil)
	}
	relay := newStderrRelay(c.opts.Stderr, c.opts.Logger)
	proc, err := startProcess(command, c.opts.Env, c.opts.Dir, relay)
	if err != nil {
		return nil, none, startFailed(command, err.Error()+"; "+searchOrder, err, nil)
	}
	s := &session{number: number, process: proc, ended: make(chan struct{})}
	s.peer = newPeer(proc.stdout, proc.stdin, peerConfig{
		maxFrame: c.opts.maxFrame(),
		handlers: c.handlers(),
		notify:   func(method string, params json.RawMessage) { c.notified(s.number, method, params) },
		panicked: c.panicked,
		broken:   func(error) { proc.signal(killSignal) },
	})
	go s.run()
	c.hook(func() { observe(c.opts.OnStart, Started{Life: number, PID: proc.pid, Command: command}) })
	if err := s.initialize(ctx, &c.opts); err != nil {
		proc.signal(killSignal)
		<-s.ended
		var failure *Error
		if errors.As(err, &failure) && failure.Code == CodeVersionMismatch {
			return nil, proc.exit(), failure
		}
		if errors.Is(ctx.Err(), context.Canceled) { // the caller's wish, no fault of the program
			return nil, proc.exit(), errContext(ctx, DeliveredNo, "queue")
		}
		exit := proc.exit()
		return nil, exit, startFailed(command, startReason(err, exit), err, &exit)
	}
	if c.opts.HangTimeout > 0 {
		go s.watch(c.opts.HangTimeout)
	}
	s.took = time.Since(proc.started)
	return s, Exit{}, nil
}

// stdoutGrace is how long a sidecar may still clean up after it has closed its stdout.
const stdoutGrace = 2 * time.Second

// run follows the process and its pipes to their end.
func (s *session) run() {
	s.peer.run() // ends with stdout
	// A process whose stdout is closed can do nothing more for us.
	select {
	case <-s.process.exited:
	case <-time.After(stdoutGrace):
		s.process.signal(killSignal)
		<-s.process.exited
	}
	<-s.process.stderr.drained
	_ = s.process.stdout.Close() // read to its end
	close(s.ended)
}

func (s *session) initialize(ctx context.Context, opts *Options) error {
	ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
	defer cancel()
	promised, err := opts.promises()
	if err != nil {
		return err
	}
	vault, err := opts.vault()
	if err != nil {
		return err
	}
	params, failure := encodeParams(initializeParams{
		ProtocolVersion: ProtocolVersion, Host: opts.Host, Capabilities: promised,
		Limits: opts.Limits, Egress: opts.Egress, Vault: vault,
	})
	if failure != nil {
		return failure
	}
	raw, failure := s.peer.call(ctx, MethodInitialize, params, nil)
	if failure != nil {
		return failure
	}
	if err := json.Unmarshal(raw, &s.info); err != nil {
		return err
	}
	s.info.Raw = raw
	if s.info.ProtocolVersion != ProtocolVersion {
		return localError(CodeVersionMismatch, DeliveredNo, "the sidecar speaks another version of the wire", nil,
			map[string]any{"want": ProtocolVersion, "have": s.info.ProtocolVersion})
	}
	if want, have := opts.SidecarVersion, s.info.Sidecar.Version; want != "" && want != have {
		return localError(CodeVersionMismatch, DeliveredNo, "the sidecar has another version than Options.SidecarVersion", nil,
			map[string]any{"want": want, "have": have})
	}
	if limit := s.info.Limits.MaxFrameBytes; limit > 0 {
		s.peer.maxOut.Store(int64(limit))
	}
	return nil
}

func startReason(err error, exit Exit) string {
	var failure *Error
	switch {
	case errors.As(err, &failure) && failure.Code == CodeSidecarExited:
		return "it ended before it answered (" + exit.String() + ")"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	default:
		return err.Error()
	}
}

func startFailed(command []string, reason string, cause error, exit *Exit) *Error {
	extra := map[string]any{"command": command}
	message := "the sidecar could not be started: " + strings.Join(command, " ") + ": " + reason
	if exit != nil {
		extra["exitCode"] = exit.ExitCode
		extra["stderrTail"] = exit.StderrTail
		if exit.Signal != "" {
			extra["signal"] = exit.Signal
		}
		if tail := strings.TrimSpace(exit.StderrTail); tail != "" {
			message += "; its last words: " + tail
		}
	}
	return localError(CodeStartFailed, DeliveredNo, message, cause, extra)
}

// call sends one request over this life of the sidecar.
func (s *session) call(
	ctx context.Context, method string, params []byte, listener func(*mcp.ProgressNotificationParams),
) (json.RawMessage, *Error) {
	return s.peer.call(ctx, method, params, listener)
}

// close begins the polite end: no new work, what is open is cut, then the end of input.
func (s *session) close() {
	zero := 0
	if params, failure := encodeParams(shutdownParams{DeadlineMs: &zero}); failure == nil {
		// Nobody waits for this answer: the end of the process is the answer.
		s.peer.send(requestFrame(s.peer.lastID.Add(1), MethodShutdown, params))
	}
	s.peer.writer.closeWhenEmpty()
}
