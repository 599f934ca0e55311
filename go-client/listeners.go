package sidecar

import (
	"context"
	"iter"
	"sync"
)

// listeners are the loops over events.
type listeners struct {
	mu     sync.Mutex
	all    map[*listener]struct{}
	closed bool
}

type listener struct {
	wants func(Event) bool

	mu      sync.Mutex
	queue   []Event
	dropped int
	ended   bool
	wake    chan struct{} // one slot
}

func (l *listeners) listen(ctx context.Context, wants func(Event) bool) iter.Seq[Event] {
	one := &listener{wants: wants, wake: make(chan struct{}, 1)}
	l.mu.Lock()
	if l.closed {
		one.ended = true
	} else {
		l.all[one] = struct{}{}
	}
	l.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { l.remove(one) })
	return func(yield func(Event) bool) {
		defer stop()
		defer l.remove(one)
		for {
			events, dropped, ended := one.take()
			if dropped > 0 && !yield(&Dropped{"events", dropped}) {
				return
			}
			for _, event := range events {
				if ctx.Err() != nil || !yield(event) {
					return
				}
			}
			if len(events) > 0 {
				continue
			}
			if ended {
				return
			}
			<-one.wake
		}
	}
}

func (l *listeners) push(event Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.all {
		if one.wants(event) {
			one.push(event)
		}
	}
}

func (l *listeners) remove(one *listener) {
	l.mu.Lock()
	delete(l.all, one)
	l.mu.Unlock()
	one.end()
}

// close ends every loop after what it has.
func (l *listeners) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for one := range l.all {
		one.end()
	}
	clear(l.all)
}

func (l *listener) push(event Event) {
	l.mu.Lock()
	if len(l.queue) >= maxQueuedNotes {
		l.queue = l.queue[1:]
		l.dropped++
	}
	l.queue = append(l.queue, event)
	l.mu.Unlock()
	l.nudge()
}

func (l *listener) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.nudge()
}

func (l *listener) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *listener) take() ([]Event, int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, dropped := l.queue, l.dropped
	l.queue, l.dropped = nil, 0
	return events, dropped, l.ended
}
