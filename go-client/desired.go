package sidecar

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// desired is what a host has asked of a connection that outlives its links: it is applied again in every life of the
// sidecar, before the first operation. Within one life the sidecar does so itself.
type desired struct {
	level         []byte // params of logging/setLevel; nil: never set
	roots         []byte // params of roots/set
	subscriptions []subscription
}

type subscription struct {
	uri    string
	params []byte
}

func (d *desired) empty() bool { return d.level == nil && d.roots == nil && len(d.subscriptions) == 0 }

// step is one request that applies a part.
type step struct {
	method string
	params []byte
}

func (d *desired) steps() []step {
	var steps []step
	if d.roots != nil {
		steps = append(steps, step{MethodRootsSet, d.roots})
	}
	if d.level != nil {
		steps = append(steps, step{MethodLoggingSetLevel, d.level})
	}
	for _, s := range d.subscriptions {
		steps = append(steps, step{MethodResourcesSubscribe, s.params})
	}
	return steps
}

func (d *desired) unsubscribe(uri string) {
	d.subscriptions = slices.DeleteFunc(d.subscriptions, func(s subscription) bool { return s.uri == uri })
}

// noteDone remembers what a request that succeeded has changed.
func (c *Client) noteDone(number int, r request, result []byte) {
	switch r.method {
	case MethodServersImport:
		c.rememberImport(number, r.params, result)
		return
	case MethodServersDisconnect:
		c.forget(r.params)
		return
	case MethodServersUpdate, MethodLoggingSetLevel, MethodRootsSet, MethodResourcesSubscribe, MethodResourcesUnsubscribe:
	default:
		return
	}
	at, ok := placeOf(r.params)
	if !ok {
		return
	}
	params := without(r.params, "timeoutMs")
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.book[at]
	if one == nil { // an address of the sidecar's own configuration: what is asked of it is asked again all the same
		one = c.record(at, number)
	}
	switch r.method {
	case MethodServersUpdate:
		one.updated(params)
	case MethodLoggingSetLevel:
		one.desired.level = params
	case MethodRootsSet:
		one.desired.roots = params
	case MethodResourcesSubscribe, MethodResourcesUnsubscribe:
		uri := textOf(params, "uri")
		one.desired.unsubscribe(uri)
		if r.method == MethodResourcesSubscribe {
			one.desired.subscriptions = append(one.desired.subscriptions, subscription{uri, params})
		}
	}
}

// updated merges the params of servers/update in, as the sidecar does: each key replaces its whole former value.
func (r *record) updated(update []byte) {
	update = without(update, "server", "scope")
	if r.method != MethodServersConnect {
		r.update = mergeUpdate(orObject(r.update), update, func(config []byte, key string, value []byte) []byte {
			return setMember(config, key, value)
		})
		return
	}
	r.params = mergeUpdate(r.params, update, func(config []byte, key string, value []byte) []byte {
		switch key {
		case "token":
			return setInside(config, "auth", "token", value)
		case "headers":
			if auth := memberOf(config, "auth"); auth != nil && textOf(auth, "type") == "headers" {
				return setInside(config, "auth", "headers", value)
			}
			return setInside(config, "transport", "headers", value)
		}
		return setMember(config, key, value)
	})
}

func mergeUpdate(config, update []byte, set func(config []byte, key string, value []byte) []byte) []byte {
	_ = jsonscan.Object(update, func(key string, value []byte) error {
		if !emptyRaw(value) {
			config = set(config, key, value)
		}
		return nil
	}) // it was checked when it was encoded
	return config
}

// rememberImport notes the addresses that a servers/import has made, each with its own part of the configuration.
func (c *Client) rememberImport(number int, params, result []byte) {
	var made struct {
		Servers []struct {
			Server string `json:"server"`
			Scope  Scope  `json:"scope"`
		} `json:"servers"`
	}
	if json.Unmarshal(result, &made) != nil {
		return
	}
	entries := memberOf(orObject(memberOf(params, "config")), "mcpServers")
	common := without(params, "timeoutMs", "connect", "config")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, server := range made.Servers {
		entry := memberOf(orObject(entries), server.Server)
		if entry == nil {
			continue
		}
		config := setMember([]byte("{}"), "mcpServers", setMember([]byte("{}"), server.Server, entry))
		at := place{server.Scope, server.Server}
		// A name that was connected with the same config keeps that: the two forms say the same.
		if one := c.book[at]; one == nil || one.method != MethodServersConnect {
			c.record(at, number).becomes(MethodServersImport, setMember(common, "config", config))
		}
	}
}

func orObject(object []byte) []byte {
	if jsonscan.Kind(object) != '{' {
		return []byte("{}")
	}
	return object
}

// memberOf returns the value of one member, the last one of that name; nil where there is none.
func memberOf(object []byte, name string) []byte {
	var found []byte
	_ = jsonscan.Object(object, func(key string, value []byte) error {
		if key == name {
			found = value
		}
		return nil
	}) // it was checked when it was encoded
	return found
}

func textOf(object []byte, name string) string {
	var text string
	if json.Unmarshal(memberOf(object, name), &text) != nil {
		return ""
	}
	return text
}

// setMember returns the object with one member replaced; the others keep their bytes.
func setMember(object []byte, name string, value []byte) []byte {
	rest := without(object, name)
	out := append(append([]byte{'{'}, quote(name)...), ':')
	out = append(out, value...)
	if len(rest) > len("{}") {
		out = append(out, ',')
	}
	return append(out, rest[1:]...)
}

func setInside(object []byte, outer, name string, value []byte) []byte {
	return setMember(object, outer, setMember(orObject(memberOf(object, outer)), name, value))
}

// sameJSON compares two objects by their values; numbers as they are spelled.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	read := func(raw []byte) (value any, err error) {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		err = decoder.Decode(&value)
		return value, err
	}
	left, errLeft := read(a)
	right, errRight := read(b)
	return errLeft == nil && errRight == nil && reflect.DeepEqual(left, right)
}

// isOperation tells an MCP operation, which needs the desired state, from a question about an address.
func isOperation(method string) bool {
	return !strings.HasPrefix(method, "servers/") && !strings.HasPrefix(method, "auth/")
}
