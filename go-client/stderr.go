package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

const (
	tailBytes      = 2 << 10
	maxStderrLine  = 64 << 10 // longer lines are cut
	maxStderrQueue = 1 << 20  // bytes waiting for a slow writer or logger; past it lines are dropped and counted
)

// stderrRelay drains the sidecar's stderr. Draining never waits for the host's writer or logger: those are served by
// a goroutine of their own, from a bounded queue.
type stderrRelay struct {
	copyTo io.Writer
	logger *slog.Logger

	mu      sync.Mutex
	kept    []byte // the last bytes
	queue   [][]byte
	queued  int
	dropped int
	ended   bool
	wake    chan struct{}
	drained chan struct{} // closed when stderr has ended
	done    chan struct{} // closed when everything was handed over
}

func newStderrRelay(copyTo io.Writer, logger *slog.Logger) *stderrRelay {
	return &stderrRelay{
		copyTo: copyTo, logger: logger,
		wake: make(chan struct{}, 1), drained: make(chan struct{}), done: make(chan struct{}),
	}
}

func (r *stderrRelay) drain(from io.ReadCloser) {
	go r.read(from)
	go r.serve()
}

func (r *stderrRelay) read(from io.ReadCloser) {
	defer close(r.drained)
	defer from.Close()
	in := bufio.NewReaderSize(from, maxStderrLine)
	for {
		// A line longer than the buffer comes in pieces; only the first is passed on.
		line, err := in.ReadSlice('\n')
		r.push(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = in.ReadSlice('\n')
			r.keep(line)
		}
		if err != nil {
			break
		}
	}
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.nudge()
}

func (r *stderrRelay) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *stderrRelay) keep(part []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(part) > tailBytes {
		part = part[len(part)-tailBytes:]
	}
	r.kept = append(r.kept, part...)
	if over := len(r.kept) - tailBytes; over > 0 {
		r.kept = append(r.kept[:0], r.kept[over:]...)
	}
}

func (r *stderrRelay) push(line []byte) {
	if len(line) == 0 {
		return
	}
	r.keep(line)
	if r.copyTo == nil && r.logger == nil {
		return
	}
	r.mu.Lock()
	if r.queued+len(line) > maxStderrQueue {
		r.dropped++
	} else {
		r.queue = append(r.queue, append([]byte(nil), line...))
		r.queued += len(line)
	}
	r.mu.Unlock()
	r.nudge()
}

// tail returns the last 2 kB.
func (r *stderrRelay) tail() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.ToValidUTF8(string(r.kept), "\uFFFD")
}

func (r *stderrRelay) serve() {
	defer close(r.done)
	for {
		r.mu.Lock()
		lines, dropped, ended := r.queue, r.dropped, r.ended
		r.queue, r.queued, r.dropped = nil, 0, 0
		r.mu.Unlock()
		for _, line := range lines {
			r.pass(line)
		}
		if dropped > 0 && r.logger != nil {
			r.logger.Warn("lines of the sidecar's stderr were dropped: the host read too slowly", "count", dropped)
		}
		if ended && len(lines) == 0 {
			return
		}
		if len(lines) == 0 {
			<-r.wake
		}
	}
}

func (r *stderrRelay) pass(line []byte) {
	if r.copyTo != nil {
		if _, err := r.copyTo.Write(line); err != nil && r.logger != nil {
			r.logger.Debug("a line of the sidecar's stderr could not be copied", "error", err)
		}
	}
	if r.logger != nil {
		relog(r.logger, line)
	}
}

// relog writes one line of the sidecar's log again, at its level and with its attributes. A line that is no JSON
// object comes from something else that writes to stderr, and is a warning.
func relog(logger *slog.Logger, line []byte) {
	text := strings.TrimSpace(strings.ToValidUTF8(string(line), "\uFFFD"))
	if text == "" {
		return
	}
	ctx := context.Background()
	raw := []byte(text)
	if jsonscan.Validate(raw) != nil || jsonscan.Kind(raw) != '{' {
		logger.LogAttrs(ctx, slog.LevelWarn, text, slog.String("source", "stderr"))
		return
	}
	level, message, at := slog.LevelInfo, "", time.Now()
	var attrs []slog.Attr
	_ = jsonscan.Object(raw, func(key string, value []byte) error {
		var word string
		isText := json.Unmarshal(value, &word) == nil
		switch {
		case key == "level" && isText:
			level = slogLevel(word)
		case key == "msg" && isText:
			message = word
		case key == "time" && isText:
			if parsed, err := time.Parse(time.RFC3339Nano, word); err == nil {
				at = parsed
			}
		case isText:
			attrs = append(attrs, slog.String(key, word))
		default:
			attrs = append(attrs, slog.Any(key, json.RawMessage(value)))
		}
		return nil
	}) // validated above
	if !logger.Enabled(ctx, level) {
		return
	}
	record := slog.NewRecord(at, level, message, 0)
	record.AddAttrs(attrs...)
	_ = logger.Handler().Handle(ctx, record) // as slog itself does: a handler's failure is its own affair
}

func slogLevel(word string) slog.Level {
	switch strings.ToLower(word) {
	case "debug":
		return slog.LevelDebug
	case "warning", "warn":
		return slog.LevelWarn
	case "error", "critical":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}
