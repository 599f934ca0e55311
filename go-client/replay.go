package sidecar

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// After a restart every address is made again at its next use, lazily, and what was asked of it is asked again before
// the first operation. Addresses with a subscription come back at once.

// restore makes an address again if this life of the sidecar does not know it yet. For an operation the desired state
// is applied too.
func (c *Client) restore(ctx context.Context, s *session, at place, operation bool) *Error {
	c.mu.Lock()
	r := c.book[at]
	done := r == nil || r.current(s.number, operation)
	c.mu.Unlock()
	if done {
		return nil
	}
	select {
	case r.replay <- struct{}{}:
		defer func() { <-r.replay }()
	case <-ctx.Done():
		return errContext(ctx, DeliveredNo, "connect")
	}
	c.mu.Lock()
	known, done := r.session >= s.number, r.current(s.number, operation)
	method, params, update := r.method, r.params, r.update
	steps := r.desired.steps()
	c.mu.Unlock()
	if done {
		return nil
	}
	if !known && method != "" {
		if failure := remake(ctx, s, at, method, params, update); failure != nil {
			return failure
		}
	}
	c.mu.Lock()
	r.enterLife(s.number)
	c.mu.Unlock()
	if !operation {
		return nil
	}
	for _, step := range steps {
		if failure := c.apply(ctx, s, r, step); failure != nil {
			return failure
		}
	}
	c.mu.Lock()
	r.applied = max(r.applied, s.number)
	c.mu.Unlock()
	return nil
}

// current reports whether a life of the sidecar has all it needs of the address; mu is held.
func (r *record) current(number int, operation bool) bool {
	return r.session >= number && (!operation || r.applied >= number || r.desired.empty())
}

// remake sends what made the address, lazily.
func remake(ctx context.Context, s *session, at place, method string, params, update []byte) *Error {
	var failure *Error
	if method == MethodServersConnect {
		if params, failure = prepend(params, member{"lazy", true}); failure != nil {
			return failure
		}
	}
	if _, failure = s.call(ctx, method, params, nil); failure != nil || update == nil {
		return failure
	}
	if update, failure = prepend(update, member{"server", at.name}, member{"scope", at.scope}); failure != nil {
		return failure
	}
	_, failure = s.call(ctx, MethodServersUpdate, update, nil)
	return failure
}

// apply asks one thing again. What the server itself refuses now is given up and reported: a call must not fail for
// ever because of it.
func (c *Client) apply(ctx context.Context, s *session, r *record, step step) *Error {
	_, failure := s.call(ctx, step.method, step.params, nil)
	if failure == nil {
		return nil
	}
	switch failure.Code {
	case CodeRemoteError, CodeCapabilityMissing, CodeInvalidParams, CodeMethodNotFound:
	default:
		return failure
	}
	c.mu.Lock()
	switch step.method {
	case MethodRootsSet:
		r.desired.roots = nil
	case MethodLoggingSetLevel:
		r.desired.level = nil
	case MethodResourcesSubscribe:
		r.desired.unsubscribe(textOf(step.params, "uri"))
	}
	c.mu.Unlock()
	if c.opts.Logger != nil {
		c.opts.Logger.Warn("what was asked of a server could not be asked again after a restart",
			"method", step.method, "error", failure)
	}
	return nil
}

// missing returns the addresses that a life of the sidecar lacks, in the order of their scopes and names.
func (c *Client) missing(lacks func(place, *record) bool) []place {
	c.mu.Lock()
	defer c.mu.Unlock()
	var places []place
	for at, r := range c.book {
		if lacks(at, r) {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.scope.Tenant, b.scope.Tenant), cmp.Compare(a.scope.User, b.scope.User),
			cmp.Compare(a.scope.Session, b.scope.Session), cmp.Compare(a.name, b.name))
	})
	return places
}

// restoreAll makes addresses again, before something that speaks of all of them.
func (c *Client) restoreAll(ctx context.Context, s *session, which func(place) bool) *Error {
	for _, at := range c.missing(func(at place, r *record) bool { return r.session < s.number && which(at) }) {
		if failure := c.restore(ctx, s, at, false); failure != nil {
			return failure
		}
	}
	return nil
}

const (
	replayWidth   = 8 // connections that are opened side by side
	firstReplay   = time.Second
	lastReplay    = time.Minute
	replayTimeout = time.Minute
)

// replaySubscribed brings the addresses with a subscription back at once. One whose server is away is tried again
// until this life ends, or somebody else has brought it back.
func (c *Client) replaySubscribed(ctx context.Context, s *session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-stop:
		}
	}()
	wanting := func(_ place, r *record) bool { return len(r.desired.subscriptions) > 0 && !r.current(s.number, true) }
	for pause := firstReplay; ; pause = min(2*pause, lastReplay) {
		places := c.missing(wanting)
		if len(places) == 0 || ctx.Err() != nil {
			return
		}
		slots := make(chan struct{}, replayWidth)
		var wg sync.WaitGroup
		for _, at := range places {
			slots <- struct{}{}
			wg.Add(1)
			go func() {
				defer wg.Done()
				defer func() { <-slots }()
				bounded, cancel := context.WithTimeout(ctx, replayTimeout)
				defer cancel()
				failure := c.restore(bounded, s, at, true)
				if failure != nil && !errors.Is(failure, ErrSidecarExited) && ctx.Err() == nil && c.opts.Logger != nil {
					c.opts.Logger.Warn("a subscription is not back yet after a restart", "server", at.name, "error", failure)
				}
			}()
		}
		wg.Wait()
		if len(c.missing(wanting)) == 0 || !sleep(ctx, jitter(pause)) {
			return
		}
	}
}
