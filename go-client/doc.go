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
// # Questions
//
// Servers ask back: for a person's input (elicitation), for a sample of a model, for roots. The handlers of [Options]
// answer; setting one is the promise that the servers are told. Each question has a goroutine of its own, and a handler
// may use the client, also the very server that asks. Its context carries the values of the context of the call that
// the question belongs to, where the protocol proves which that is, and ends when nobody waits for the answer any more.
// An error, a panic or silence is MCP's "no" to the question; the call that caused it goes on with that.
//
// # Events
//
// State changes, list changes, log messages, resource updates, task states, logins that are needed: the observers of
// Options are told one at a time and in order, and [Client.Events], [ScopedClient.Events] and [Server.Events] tell the
// same in a loop. Both are off the read loop: a slow one loses log messages, counted, and holds up nobody.
//
// # Logins
//
// Where a server wants a login, [Client.Connect] returns the server and an [*AuthRequiredError] with the URL to send
// the person to; what the redirect brings goes to [ScopedClient.CompleteAuth], in whatever process it arrives. With
// Options.Authorize a program that can wait for its person needs neither. The sidecar keeps, refreshes and revokes;
// where the logins rest is Options.VaultConfig's to say, or they rest in the host's own database ([Vault]), or with the
// host altogether ([HostAuth] and Options.Tokens).
//
// # When the sidecar dies
//
// It is started again, also when it hangs. Calls in flight fail within 100 ms with [ErrSidecarExited] and the truth
// about their delivery. Calls that never left are repeated at once; of those that may have arrived only reads (lists,
// ReadResource, GetPrompt, Complete, Ping and their like) and calls made [Server.With] the option [Idempotent] are
// repeated, once. Connections come back by themselves at their next use, those with a subscription at once, with the
// roots and the log level that were set. Five crashes in three minutes ([Options]) end the client: [Client.Done] is
// closed and [Client.Err] is an [ErrCrashLoop]. OnStart, OnReady and OnExit of Options show all of it.
//
// When this process dies, in any way, the sidecar and all its servers die with it.
package sidecar
