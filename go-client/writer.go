package sidecar

import (
	"errors"
	"io"
	"slices"
	"sync"
)

var errWriterClosed = errors.New("the pipe to the sidecar is closed")

type frameState int32

const (
	frameQueued  frameState = iota
	frameTouched            // some of it, or all, may have reached the other side
	frameDropped            // taken back, or the pipe broke first: not a byte was written
)

// outFrame is one line on its way out. Its state is guarded by the writer's mutex.
type outFrame struct {
	line  []byte
	state frameState
}

// frameWriter owns the pipe: frames leave whole and in the order in which they were queued. Callers never block on a
// stalled reader; what they queued can be taken back until its first byte is written.
type frameWriter struct {
	out io.WriteCloser

	mu      sync.Mutex
	queue   []*outFrame
	closing bool
	err     error
	wake    chan struct{} // one slot
	done    chan struct{}
}

const coalesceBytes = 64 << 10

func newFrameWriter(out io.WriteCloser) *frameWriter {
	return &frameWriter{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// send queues a line.
func (w *frameWriter) send(line []byte) (*outFrame, error) {
	f := &outFrame{line: line}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if w.closing {
		return nil, errWriterClosed
	}
	w.queue = append(w.queue, f)
	w.nudge()
	return f, nil
}

func (w *frameWriter) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// takeBack drops a frame that has not begun to leave. It reports false where some of it may have left.
func (w *frameWriter) takeBack(f *outFrame) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.state == frameQueued {
		f.state, f.line = frameDropped, nil
		if at := slices.Index(w.queue, f); at >= 0 { // else a stalled pipe would pile up what was taken back
			w.queue = slices.Delete(w.queue, at, at+1)
		}
	}
	return f.state == frameDropped
}

// closeWhenEmpty ends the stream after what is queued.
func (w *frameWriter) closeWhenEmpty() {
	w.mu.Lock()
	w.closing = true
	w.nudge()
	w.mu.Unlock()
}

// ending reports whether the stream takes no more lines.
func (w *frameWriter) ending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closing || w.err != nil
}

// fail drops what is queued and ends the stream at once.
func (w *frameWriter) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.dropQueue()
	w.nudge()
	w.mu.Unlock()
	_ = w.out.Close() // unblocks a write that is stalled; the pipe is done for either way
}

func (w *frameWriter) dropQueue() {
	for _, f := range w.queue {
		if f.state == frameQueued {
			f.state, f.line = frameDropped, nil
		}
	}
	w.queue = nil
}

// batch takes the next lines, small ones together. last is true when the stream is to end.
func (w *frameWriter) batch(scratch []byte) (lines []byte, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, true
	}
	lines = scratch[:0]
	taken := 0
	for _, f := range w.queue {
		if taken > 0 && len(lines)+len(f.line) > coalesceBytes {
			break
		}
		taken++
		f.state = frameTouched
		if len(lines) == 0 && len(f.line) > coalesceBytes {
			lines, f.line = f.line, nil
			break
		}
		lines = append(lines, f.line...)
		f.line = nil
	}
	w.queue = w.queue[taken:]
	if len(w.queue) == 0 {
		w.queue = nil
	}
	return lines, w.closing && w.queue == nil && len(lines) == 0
}

// run writes until the stream ends; it returns what broke it, nil after closeWhenEmpty.
func (w *frameWriter) run() error {
	defer close(w.done)
	scratch := make([]byte, 0, coalesceBytes)
	for {
		lines, last := w.batch(scratch)
		if last {
			break
		}
		if len(lines) == 0 {
			<-w.wake
			continue
		}
		if _, err := w.out.Write(lines); err != nil {
			w.fail(err)
			return err
		}
	}
	w.mu.Lock()
	err := w.err
	w.mu.Unlock()
	_ = w.out.Close() // nothing is left to lose
	return err
}
