package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/jsonscan"
)

// May the MCP server have run the call? The values of [Error.Delivered].
const (
	DeliveredNo    = "no"
	DeliveredMaybe = "maybe"
	DeliveredYes   = "yes"
)

// Error is a failure that the sidecar or this client reports (proto/README.md, section 6). Compare it with the
// sentinels through [errors.Is], which looks at the code alone; the message is for people.
//
// A DeadlineExceeded is also [context.DeadlineExceeded], a Cancelled is also [context.Canceled], and [errors.As]
// finds the *[RemoteError] of a 1501 and the *[AuthRequiredError] of a 1301.
type Error struct {
	// Code is a standard JSON-RPC code, which speaks of the hop to the sidecar, or 1000 to 1999.
	Code int
	// Kind is the stable name of the code.
	Kind string
	// Message is for people.
	Message string
	// Delivered says whether the MCP server may have run the call: "no", "maybe" or "yes"; "" for standard codes.
	Delivered string
	// Retry says what must come first before a repetition can help: "never", "safe", "after", "reauth", "reconnect"
	// or "user". Whether repeating is right at all is for Delivered to say.
	Retry string
	// RetryAfter is how long to wait, where it is known.
	RetryAfter time.Duration
	// Server and Scope are the address; empty where the failure has none.
	Server string
	Scope  Scope
	// Corr finds the failure in the sidecar's log.
	Corr string
	// Data holds the error's data as it came, the extra fields of its code among them; nil where there is none.
	Data json.RawMessage

	cause error
}

// Error returns the kind, the code and the message.
func (e *Error) Error() string {
	kind := e.Kind
	if kind == "" {
		kind = "error"
	}
	where := ""
	if e.Server != "" {
		where = " " + e.Server
	}
	return fmt.Sprintf("sidecar:%s %s (%d): %s", where, kind, e.Code, e.Message)
}

// Is reports whether target is an *Error of the same code, or the context error that the code stands for.
func (e *Error) Is(target error) bool {
	var other *Error
	if errors.As(target, &other) {
		return other.Code == e.Code
	}
	return e.Code == CodeDeadlineExceeded && target == context.DeadlineExceeded ||
		e.Code == CodeCancelled && target == context.Canceled
}

// As finds the server's own error of a 1501, and the login of a 1301.
func (e *Error) As(target any) bool {
	if required, ok := target.(**AuthRequiredError); ok {
		if found := e.authRequired(); found != nil {
			*required = found
			return true
		}
	}
	if remote, ok := target.(**RemoteError); ok {
		if found := e.remote(); found != nil {
			*remote = found
			return true
		}
	}
	return false
}

// Unwrap returns what caused the failure in this process, or nil.
func (e *Error) Unwrap() error { return e.cause }

// UnmarshalJSON reads the `{code, message, data}` of a JSON-RPC error object.
func (e *Error) UnmarshalJSON(data []byte) error {
	if string(bytes.TrimSpace(data)) == "null" {
		return nil
	}
	found, err := errorFromWire(bytes.Clone(data))
	if err != nil {
		return err
	}
	*e = *found
	return nil
}

// MarshalJSON writes the `{code, message, data}` of a JSON-RPC error object.
func (e *Error) MarshalJSON() ([]byte, error) {
	return marshal(struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data,omitempty"`
	}{e.Code, e.Message, e.Data})
}

// RemoteError is an MCP server's own JSON-RPC error, verbatim; [errors.As] finds it in an [Error] of code 1501.
type RemoteError struct {
	Code    int             `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Error returns the server's code and message.
func (r *RemoteError) Error() string { return fmt.Sprintf("server error %d: %s", r.Code, r.Message) }

func (e *Error) remote() *RemoteError {
	if e.Code != CodeRemoteError || len(e.Data) == 0 {
		return nil
	}
	var found *RemoteError
	err := jsonscan.Object(e.Data, func(key string, value []byte) error {
		if key != "remote" {
			return nil
		}
		found = new(RemoteError)
		return jsonscan.Object(value, func(key string, value []byte) error {
			switch key {
			case "code":
				return json.Unmarshal(value, &found.Code)
			case "message":
				return json.Unmarshal(value, &found.Message)
			case "data":
				found.Data = value
			}
			return nil
		})
	})
	if err != nil {
		return nil
	}
	return found
}

// errorFromWire reads an error object; the bytes are kept. Keys match exactly.
func errorFromWire(raw []byte) (*Error, error) {
	e, hasCode := &Error{}, false
	err := jsonscan.Object(raw, func(key string, value []byte) error {
		switch key {
		case "code":
			hasCode = true
			return json.Unmarshal(value, &e.Code)
		case "message":
			return json.Unmarshal(value, &e.Message)
		case "data":
			e.Data = value
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !hasCode {
		return nil, errors.New("the error object has no code")
	}
	e.Kind, e.Retry = kinds[e.Code].kind, kinds[e.Code].retry
	if jsonscan.Kind(e.Data) == '{' {
		if err := e.readData(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *Error) readData() error {
	return jsonscan.Object(e.Data, func(key string, value []byte) error {
		switch key {
		case "kind":
			return json.Unmarshal(value, &e.Kind)
		case "delivered":
			return json.Unmarshal(value, &e.Delivered)
		case "retry":
			return json.Unmarshal(value, &e.Retry)
		case "server":
			return json.Unmarshal(value, &e.Server)
		case "scope":
			return json.Unmarshal(value, &e.Scope)
		case "corr":
			return json.Unmarshal(value, &e.Corr)
		case "retryAfterMs":
			var ms float64
			if err := json.Unmarshal(value, &ms); err != nil {
				return err
			}
			e.RetryAfter = time.Duration(ms * float64(time.Millisecond))
		}
		return nil
	})
}

// localError makes an error of this client. extra are the fields of its code; they stand in Data as on the wire.
func localError(code int, delivered, message string, cause error, extra map[string]any) *Error {
	e := &Error{
		Code: code, Kind: kinds[code].kind, Retry: kinds[code].retry,
		Message: message, Delivered: delivered, cause: cause,
	}
	data := map[string]any{}
	for key, value := range extra {
		data[key] = value
	}
	if code > 0 {
		data["kind"], data["retry"], data["delivered"] = e.Kind, e.Retry, delivered
	} else {
		e.Delivered = ""
	}
	if len(data) > 0 {
		raw, err := marshal(data)
		if err != nil {
			raw = nil // unreachable: the fields are texts and numbers
		}
		e.Data = raw
	}
	return e
}

// withAttempts notes how often the call was tried.
func (e *Error) withAttempts(tries int) *Error {
	if tries < 2 {
		return e
	}
	data := map[string]json.RawMessage{}
	if len(e.Data) > 0 && json.Unmarshal(e.Data, &data) != nil {
		return e
	}
	data["attempts"] = json.RawMessage(fmt.Sprint(tries))
	raw, err := marshal(data)
	if err != nil {
		return e
	}
	copied := *e
	copied.Data = raw
	return &copied
}

func errSidecarExited(delivered string, cause error) *Error {
	return localError(CodeSidecarExited, delivered, "the sidecar process ended while the call was open", cause, nil)
}

func errClosed() *Error {
	return localError(CodeDraining, DeliveredNo, "the client is closed", nil, nil)
}

// errContext turns the end of a context into the 1004 or 1005 of this client.
func errContext(ctx context.Context, delivered, phase string) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return localError(CodeDeadlineExceeded, delivered, "the deadline of the call passed", context.Cause(ctx),
			map[string]any{"phase": phase})
	}
	return localError(CodeCancelled, delivered, "the call was cancelled", context.Cause(ctx), nil)
}
