"""What a person does about each error: the text of `docs/errors.md` and of `mcp-sidecar doctor`."""

from __future__ import annotations

from typing import Final

ADVICE: Final = {
    -32700: (
        "The line is no JSON in UTF-8: look at what writes it. Nothing but frames may be written to the "
        "sidecar's stdin."
    ),
    -32600: (
        "Mend the frame: one object a line, a fresh id each, inside `maxFrameBytes`. A second `initialize` "
        "needs no mending."
    ),
    -32601: "The method does not exist in this version: look it up in proto/README.md.",
    -32602: "`data.path` points at the member at fault; the message says what it should be.",
    -32603: "A fault of the sidecar itself. Search its log for `data.corr` and report the traceback.",
    1001: "Repeat it: the engine was still being loaded. Give the first calls a longer deadline than a second.",
    1002: "The sidecar is being stopped. Start it again; the Go client does so by itself.",
    1003: "Wait for answers before asking more, or raise the setting that `limit` names.",
    1004: "Your own cancel. Where `delivered` is `maybe`, the tool may have run.",
    1005: (
        "`phase` says where the time went: `queue` (too much in flight), `connect` and `write` (the server or"
        " the way to it), `authorize` (a person is slow), `wait` (the tool is). Raise `timeoutMs`, or "
        "`timeouts.requestMs` of the server."
    ),
    1006: ("Ask the tool for less, or raise `limits.maxResultBytes` of the server or `maxFrameBytes` of the process."),
    1007: (
        "Disconnect what is not needed, raise the setting that `limit` names, or for `openFiles` the hard "
        "limit of `ulimit -n`."
    ),
    1008: "Use a sidecar and a host client of the same release.",
    1009: (
        "Look at the sidecar's last log lines. The client starts another one; repeat the call as `delivered` allows."
    ),
    1010: "The sidecar ends again and again: run `mcp-sidecar doctor`, read its log, then start a new client.",
    1011: (
        "The program named by the message cannot be started: install it, or set `Options.Command` or "
        "`MCP_SIDECAR_COMMAND`."
    ),
    1101: "Connect the server first, under exactly this name and scope.",
    1102: (
        "`phase` and `errno` say what failed: the name (dns), the port (tcp) or the proxy. Is the server up "
        "and its URL right?"
    ),
    1103: (
        "`reason` says why. For a private authority give `tls.caFile`; for a client certificate "
        "`tls.certFile` and `tls.keyFile`."
    ),
    1104: (
        "The command cannot be executed: is it installed, in the sidecar's PATH, executable? Absolute paths are safest."
    ),
    1105: (
        "The server speaks no version of MCP that the sidecar knows, or it is no MCP server: look at what its"
        " URL or command is."
    ),
    1106: "The connection broke and comes back by itself. If it does so often, look at the server's own log.",
    1107: (
        "The child ended: `stderrTail` has its last words. Missing variables (`env`, `inheritEnv`) are the usual cause."
    ),
    1108: "The server forgets its sessions, and refuses new ones: look at its log.",
    1109: "The server reads or answers nothing any more; its connection is made anew. Look at what it hangs on.",
    1110: (
        "The last five calls failed, so the server gets a rest: repeat after `retryAfterMs`, and look at the "
        "errors before."
    ),
    1111: (
        "Disconnect the old one, connect with `replace: true`, or choose another name. `servers/update` "
        "changes one in place."
    ),
    1201: "Call it less: set `limits.ratePerSecond`, and repeat after `retryAfterMs`.",
    1202: "The server or what stands before it is down or overloaded: repeat later.",
    1203: "Usually the wrong URL (a login page, a 404), or a proxy in between: open it with curl.",
    1204: "Give the URL that the server redirects to, if you trust its origin.",
    1301: "Open `authorization.url` in the person's browser; the redirect goes to `auth/complete`.",
    1302: (
        "The credentials are wrong or not enough, or the person said no: mend token or headers, or begin the "
        "login anew."
    ),
    1303: ("The refresh token is dead: log in again, or for a grant without a person mend the client's credentials."),
    1304: (
        "The authorization server cannot be reached, or a portal answers in its place. Credentials are kept: "
        "repeat later."
    ),
    1305: "The server wants more than `scopeCeiling` (or `scopes`) allows: widen it if that is right.",
    1306: (
        "`rule` says which rule refused it. For `egress` the message names the setting that would allow it; "
        "for `state` begin the login anew; the others speak of a provider that breaks OAuth."
    ),
    1307: "The login took too long: begin it anew with `auth/begin`.",
    1308: "Register a client at the provider by hand and give its `clientId` (and `clientSecret`).",
    1309: "The provider's metadata is broken (`reason`): give the endpoints yourself, or tell its operator.",
    1401: "Unlock the user's keyring and repeat; or choose another vault (`vault.type`).",
    1402: (
        "The message says what is missing. On a machine without a keyring use `file`, `host` or `redis` with a key."
    ),
    1403: "The entry was changed or sealed with another key: restore the key, or log in again.",
    1404: "Free the disk or mend its permissions (`errno`). Until then new credentials live in memory alone.",
    1501: "The server's own error, in `remote`: its documentation says what it means.",
    1502: "The server breaks its protocol (`reason`): tell its author. The connection goes on where it can.",
    1503: (
        "The result does not fit the tool's own `outputSchema`: tell its author, or set `tools.outputSchema` to `pass`."
    ),
    1504: (
        "The tool was redefined since it was pinned. Read its new definition; approve it with the new hash in"
        " `tools.pins`."
    ),
    1505: (
        "The server does not offer this operation, or asks for what the host did not promise: set a handler "
        "in the host."
    ),
    1506: "The server keeps asking: look at what it wants, and at what your handlers answer.",
    1507: ("`tools.allow` or `tools.deny` says no, or the tool is malformed. `servers/update` changes the policy."),
}
"""By code; the codes of the Go client alone among them."""
