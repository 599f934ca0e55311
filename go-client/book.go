package sidecar

import (
	"encoding/json"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// place is the key of an address.
type place struct {
	scope Scope
	name  string
}

// record is what is remembered of one address: enough to connect it again in another life of the sidecar.
type record struct {
	method  string        // how it was made: servers/connect or servers/import
	params  []byte        // of that method, without what speaks of one call alone; updates are merged in
	update  []byte        // what servers/update has changed since, where it cannot be merged in; nil: nothing
	session int           // the life in which it was connected last
	base    int           // generations of former lives
	seen    int           // the last generation of this life
	replay  chan struct{} // one slot: who holds it connects the address again

	desired desired
	applied int // the life in which the desired state was applied last
}

// placeOf reads the address in the params of any method.
func placeOf(params []byte) (place, bool) {
	var at place
	err := jsonscan.Object(params, func(key string, value []byte) error {
		switch key {
		case "server":
			return json.Unmarshal(value, &at.name)
		case "scope":
			at.scope = Scope{}
			return json.Unmarshal(value, &at.scope)
		}
		return nil
	})
	return at, err == nil && at.name != ""
}

// without returns the object without some of its members; the others keep their bytes and order.
func without(object []byte, names ...string) []byte {
	out := []byte{'{'}
	_ = jsonscan.Object(object, func(key string, value []byte) error {
		for _, name := range names {
			if key == name {
				return nil
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(out, quote(key)...), ':')
		out = append(out, value...)
		return nil
	}) // the object was checked when it was encoded
	return append(out, '}')
}

// remember notes what a servers/connect has done to its address.
func (c *Client) remember(number int, params []byte, failure *Error) {
	at, ok := placeOf(params)
	if !ok {
		return
	}
	if failure != nil {
		switch failure.Code {
		case CodeInvalidParams, CodeInvalidRequest, CodeParseError, CodeQuotaExceeded, CodeServerExists,
			CodeDraining, CodeNotReady, CodeOverloaded, CodeSidecarExited, CodeMethodNotFound:
			return // no new address, and an old one is as it was
		}
		if failure.Delivered == DeliveredNo && (failure.Code == CodeCancelled || failure.Code == CodeDeadlineExceeded) &&
			failure.Corr == "" {
			return // this client's own: the frame was never written
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record(at, number).becomes(MethodServersConnect, without(params, "timeoutMs", "wait", "lazy", "replace"))
}

// record returns that of an address, in this life; mu is held.
func (c *Client) record(at place, number int) *record {
	r := c.book[at]
	if r == nil {
		r = &record{replay: make(chan struct{}, 1), applied: number}
		c.book[at] = r
	}
	r.enterLife(number)
	return r
}

// becomes gives the record its config. Another one begins anew: what was asked of the former connection is gone.
func (r *record) becomes(method string, params []byte) {
	if r.method != method || !sameJSON(r.params, params) {
		r.update, r.desired = nil, desired{}
	}
	r.method, r.params = method, params
}

// enterLife moves a record to another life of the sidecar, where generations begin anew.
func (r *record) enterLife(number int) {
	if r.session != number {
		r.base += r.seen
		r.seen, r.session = 0, number
	}
}

func (c *Client) forget(params []byte) {
	if at, ok := placeOf(params); ok {
		c.mu.Lock()
		delete(c.book, at)
		c.mu.Unlock()
	}
}

// generation adds up the generations of all lives of the sidecar.
func (c *Client) generation(number int, info *ServerInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.book[place{info.Scope, info.Server}]
	if r == nil || number < r.session {
		return // not ours, or an echo of a former life
	}
	r.enterLife(number)
	r.seen = max(r.seen, info.Generation)
	info.Generation += r.base
}
