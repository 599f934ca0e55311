// Package sidecar calls MCP servers from Go, through a sidecar process that does the protocol.
//
// A program starts one sidecar, connects servers to it by name, and calls their tools:
//
//	client, err := sidecar.Start(ctx, nil)
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//
//	clock, err := client.Connect(ctx, "clock", &sidecar.ServerConfig{
//		Transport: sidecar.Stdio{Command: "mcp-server-time"},
//	})
//	if err != nil {
//		return err
//	}
//	result, err := clock.Call(ctx, "get_current_time", map[string]any{"timezone": "UTC"})
//
// The sidecar's program is found as [Options] says: Options.Command, MCP_SIDECAR_COMMAND, FASTMCP_PYTHON_PATH, or
// mcp-sidecar in PATH.
//
// # Names and scopes
//
// A connection has a name of the host's choosing, inside a [Scope]: a tenant, a user, a session. [Client.Connect] and
// [Client.Server] speak of the empty scope; [Client.Scope] gives a handle for another. A connection is found only by
// its exact scope and name. [Server] is a handle: it does no I/O and need not be closed.
//
// # Operations
//
// The operations of [Server] have the names and signatures of the official Go SDK's ClientSession, and the payload
// types of package mcp are its types, so moving between the two is a change of constructor. Lists come page by page
// (ListTools) or as iterators (Tools). [Server.Call] is the short form of CallTool. [Client.Request] reaches every
// method of the wire by name.
//
// Nothing is lost on the way: arguments given as json.RawMessage leave as they are, and every result has Raw, its
// bytes as the server sent them.
//
// # Deadlines
//
// A call ends when its context ends, whatever the server does. The remaining time, less a margin, goes with the call,
// so that the sidecar's own answer, which knows how far the call came, arrives first. Without a deadline
// Options.Timeout holds, then the connection's own, then 60 s.
//
// # Errors
//
// Every failure is an [*Error]. Compare it with errors.Is and the Err sentinels; it is also context.DeadlineExceeded
// or context.Canceled where that is what happened. A server's own error is an ErrRemoteError, and errors.As finds it
// as a [*RemoteError]. A tool that fails is no error: its result has IsError.
//
// Error.Delivered says whether the server may have run the call: after "no" it is safe to repeat, after "maybe" it is
// safe only if the call is idempotent.
//
// # When the sidecar dies
//
// It is started again. Calls in flight fail within 100 ms with [ErrSidecarExited] and the truth about their delivery.
// Calls that never left are repeated at once; of those that may have arrived only reads (lists, ReadResource,
// GetPrompt, Complete, Ping) and calls made [Server.With] the option [Idempotent] are repeated, once. Connections come back by
// themselves at their next use. Five crashes in three minutes ([Options]) end the client: [Client.Done] is closed and
// [Client.Err] is an [ErrCrashLoop].
//
// When this process dies, in any way, the sidecar and all its servers die with it.
package sidecar
