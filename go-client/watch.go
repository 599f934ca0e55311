package sidecar

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// A sidecar that hangs closes nothing. What shows it is silence: no byte moves in either direction, although a ping
// waits for its answer.

type meteredReader struct {
	in    io.Reader
	moved *atomic.Int64
}

func (r meteredReader) Read(buffer []byte) (int, error) {
	n, err := r.in.Read(buffer)
	r.moved.Add(int64(n))
	return n, err
}

type meteredWriter struct {
	io.WriteCloser
	moved *atomic.Int64
}

// meteredChunk is small enough that a long frame shows that it moves.
const meteredChunk = 256 << 10

func (w meteredWriter) Write(data []byte) (int, error) {
	written := 0
	for {
		chunk := data[written:min(len(data), written+meteredChunk)]
		n, err := w.WriteCloser.Write(chunk)
		written += n
		w.moved.Add(int64(n))
		if err != nil || written >= len(data) {
			return written, err
		}
	}
}

const (
	watchTicks = 28 // in the limit
	pingTick   = 8  // of silence, when it is asked
	busyFactor = 3  // a sidecar that works, or waits for a processor, is given so many times the limit
)

// watch kills the sidecar when it has been silent for the limit. Time is counted in ticks that this process saw:
// while it is stopped itself, or its machine sleeps, there are none.
func (s *session) watch(limit time.Duration) {
	tick := max(limit/watchTicks, time.Millisecond)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var asked atomic.Bool
	silent, seen, worked := 0, s.peer.moved.Load(), s.process.worked()
	for {
		select {
		case <-s.ended:
			return
		case <-ticker.C:
		}
		if s.peer.writer.ending() { // it can be asked no more, and ends by itself or is ended
			return
		}
		if moved := s.peer.moved.Load(); moved != seen {
			silent, seen, worked = 0, moved, s.process.worked()
			continue
		}
		silent++
		if silent >= pingTick && asked.CompareAndSwap(false, true) {
			go func() {
				defer asked.Store(false)
				_, _ = s.call(ctx, MethodPing, []byte("{}"), nil) // that it comes is the answer
			}()
		}
		if silent < watchTicks {
			continue
		}
		if silent < busyFactor*watchTicks && s.process.busy(worked, time.Duration(silent)*tick) {
			continue
		}
		s.hung.Store(true)
		s.process.signal(killSignal)
		return
	}
}
