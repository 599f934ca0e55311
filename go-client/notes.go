package sidecar

import (
	"encoding/json"
	"sync"
)

// note is a notification of the sidecar, with the life it came from.
type note struct {
	session int
	method  string
	params  json.RawMessage
}

// maxQueuedNotes bounds what a slow observer can pile up; the oldest go first and are counted.
const maxQueuedNotes = 10_000

// noteQueue hands notifications over in order, one at a time, off the read loop.
type noteQueue struct {
	handle func(n note, dropped int)

	mu      sync.Mutex
	queue   []note
	dropped int
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

func newNoteQueue(handle func(n note, dropped int)) *noteQueue {
	q := &noteQueue{handle: handle, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *noteQueue) push(n note) {
	q.mu.Lock()
	if len(q.queue) >= maxQueuedNotes {
		q.queue = q.queue[1:]
		q.dropped++
	}
	q.queue = append(q.queue, n)
	q.mu.Unlock()
	q.nudge()
}

func (q *noteQueue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close ends the queue after what is in it.
func (q *noteQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.nudge()
	<-q.done
}

func (q *noteQueue) run() {
	defer close(q.done)
	for {
		q.mu.Lock()
		notes, dropped, closed := q.queue, q.dropped, q.closed
		q.queue, q.dropped = nil, 0
		q.mu.Unlock()
		for _, n := range notes {
			q.handle(n, dropped)
			dropped = 0
		}
		if len(notes) > 0 {
			continue
		}
		if closed {
			return
		}
		<-q.wake
	}
}
