package sidecar

import (
	"encoding/json"
	"sync"
	"time"
)

// note is a notification of the sidecar, with the life it came from; or a hook of this client that runs in its turn.
type note struct {
	session int
	method  string
	params  json.RawMessage
	hook    func()
}

// maxQueuedNotes bounds what a slow observer can pile up. Log messages stay out first and are counted; so does
// everything but this client's own hooks when ten times as much waits.
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
	waiting := len(q.queue)
	if n.hook == nil && (waiting >= 10*maxQueuedNotes || waiting >= maxQueuedNotes && n.method == notificationMessage) {
		q.dropped++
	} else {
		q.queue = append(q.queue, n)
	}
	q.mu.Unlock()
	q.nudge()
}

func (q *noteQueue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close ends the queue after what is in it, and waits for that no longer than it is told: an observer that hangs, or
// one that itself waits for this end, holds up nobody.
func (q *noteQueue) close(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.nudge()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	}
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
