package sidecar

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

const (
	tailBytes      = 2 << 10
	maxStderrLine  = 64 << 10  // longer lines are cut
	maxStderrQueue = 256 << 10 // bytes waiting for a slow writer or logger; what does not fit is dropped and counted
)

// stderrRelay drains the sidecar's stderr. Draining never waits for the host's writer or logger: those are served by
// a goroutine of their own, from a bounded queue.
type stderrRelay struct {
	copyTo io.Writer
	logger *slog.Logger

	mu      sync.Mutex
	kept    []byte // the last bytes
	queue   []byte // whole lines; the buffer and that of serve take turns
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
	left, wait := 0, 1 // bytes that were looked at, and how many there must be to look again
	for cut := false; ; {
		_, err := in.Peek(wait)
		seen, _ := in.Peek(in.Buffered())
		r.keep(seen[left:])
		whole, again := bytes.LastIndexByte(seen, '\n')+1, false
		switch {
		case cut: // the rest of a line that was too long; what follows it is looked at again
			if whole = bytes.IndexByte(seen, '\n') + 1; whole == 0 {
				whole = len(seen)
			} else {
				cut, again = false, true
			}
		case whole > 0:
			r.push(seen[:whole])
		case len(seen) == maxStderrLine || err != nil: // a line too long, or a last one without its end
			r.push(seen)
			cut, whole = true, len(seen)
		}
		_, _ = in.Discard(whole) // it is buffered
		left = len(seen) - whole
		if err != nil && left == 0 {
			break
		}
		if wait = left + 1; again {
			wait = 1
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

// keep remembers the last bytes of what was read.
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

// push queues whole lines, or the beginning of one.
func (r *stderrRelay) push(lines []byte) {
	if len(lines) == 0 || r.copyTo == nil && r.logger == nil {
		return
	}
	r.mu.Lock()
	if len(r.queue)+len(lines) >= maxStderrQueue { // the newest say more
		r.dropped += bytes.Count(r.queue, []byte("\n"))
		r.queue = r.queue[:0]
	}
	r.queue = append(r.queue, lines...)
	if lines[len(lines)-1] != '\n' {
		r.queue = append(r.queue, '\n')
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
	var lines []byte
	for {
		r.mu.Lock()
		lines, r.queue = r.queue, lines[:0]
		dropped, ended := r.dropped, r.ended
		r.dropped = 0
		r.mu.Unlock()
		for rest := lines; len(rest) > 0; {
			end := bytes.IndexByte(rest, '\n') + 1
			r.pass(rest[:end])
			rest = rest[end:]
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
