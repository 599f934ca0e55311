package sidecar

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Options configure [Start]. The zero value works.
type Options struct {
	// Command runs the sidecar. Empty: MCP_SIDECAR_COMMAND (shell words), else FASTMCP_PYTHON_PATH with
	// FASTMCP_WRAPPER_PATH (or -m sidecar), else mcp-sidecar in PATH.
	Command []string
	// Env is added to this process's environment, as NAME=value.
	Env []string
	// Dir is the sidecar's working directory; empty: this process's.
	Dir string
	// Stderr gets a copy of what the sidecar writes there: its log, a JSON object a line. A slow writer loses lines,
	// it never stops the sidecar.
	Stderr io.Writer
	// Logger gets the sidecar's log lines again, at their level and with their attributes.
	Logger *slog.Logger

	// Host is what the sidecar is told about this program.
	Host HostInfo
	// Limits and Egress configure the process; nil: the sidecar's defaults.
	Limits *ProcessLimits
	Egress *Egress

	// Vault keeps the logins in this program's own storage. The key that seals them comes from MCP_SIDECAR_KEY in the
	// sidecar's environment or from VaultConfig.KeyFile.
	Vault Vault
	// VaultConfig says where the sidecar keeps the logins itself; nil: a keyring, or else an encrypted file. With Vault
	// only its KeyFile counts.
	VaultConfig *VaultConfig

	// The handlers below answer questions. Setting one promises the servers that this host can answer; nil means it
	// cannot. Each question has a goroutine of its own, so a handler may call the client, and one that waits holds up
	// nobody. Its context ends when the question's time is over or nobody waits for the answer any more; it holds the
	// values of the context of the call that the question belongs to, where the protocol proves which. An error, a
	// panic, or no answer in time is the "no" that MCP has for the question.

	// Elicit asks the person. Forms are promised; for URLs say so in Capabilities. Accepting without some of the
	// content takes the defaults of the schema.
	Elicit func(ctx context.Context, request *ElicitRequest) (*mcp.ElicitResult, error)
	// Sample asks this host's model. For tools and context say so in Capabilities.
	Sample func(ctx context.Context, request *SampleRequest) (*mcp.CreateMessageResult, error)
	// Roots tells the roots of a connection that were not set in its config or by [Server.SetRoots].
	Roots func(ctx context.Context, request *RootsRequest) ([]*mcp.Root, error)
	// Tokens gives the access token of a connection whose Auth is [HostAuth].
	Tokens func(ctx context.Context, request *TokenRequest) (*HostToken, error)
	// Assertions makes the assertions of the grant jwt_bearer, and of clients that authenticate by one.
	Assertions func(ctx context.Context, request *AssertionRequest) (string, error)
	// Capabilities says more of what is promised than the handlers do: the URL mode of Elicit, tools and context of
	// Sample, roots without a handler. A member that is set replaces what its handler promises.
	Capabilities *Capabilities

	// Authorize is the simple way to log a person in: it is given what auth/required tells, sends the person to
	// Authorization.URL, and returns the whole URL of the redirect, which ends the login. An error ends it too, as
	// denied. "" leaves the end to somebody else: a loopback redirect, a device code, or [Client.CompleteAuth]. With
	// this handler [Client.Connect] waits for the login, unless its config says otherwise. Its context ends with the
	// login's time or the client.
	Authorize func(ctx context.Context, required *AuthRequired) (callbackURL string, err error)

	// Timeout is the deadline of a call whose context has none; 0: the connection's timeouts.requestMs, then 60 s.
	Timeout time.Duration
	// StartTimeout bounds a start of the sidecar until it has answered once; 0: 30 s.
	StartTimeout time.Duration
	// StopTimeout bounds each step of [Client.Close] (end of input, interrupt); after the last comes the kill. 0: 5 s.
	StopTimeout time.Duration

	// MaxCrashes is how many crashes within CrashWindow end the client; 0: 5, negative: no limit.
	MaxCrashes int
	// CrashWindow is the time in which crashes are counted; 0: 180 s.
	CrashWindow time.Duration

	// HangTimeout is how long the sidecar may be silent to a ping, without moving a byte, before it is killed and
	// started again; 0: 5 s, negative: for ever. Time in which this process itself was stopped does not count, and one
	// that is busy gets three times as long.
	HangTimeout time.Duration
	// Checksums are the SHA-256 (hex) of files and folders that a start runs, by path, as [Checksum] tells them. They
	// are compared before each start; a difference is a StartFailed.
	Checksums map[string]string
	// SidecarVersion is the version that the sidecar must have; "" takes any that speaks this wire. Another is a
	// VersionMismatch.
	SidecarVersion string

	// The observers below are told, in order and one at a time, off the read loop: they may call the client. A slow
	// one is left behind within bounds; see [Dropped]. [Client.Events] tells the same in a loop.

	// OnChanged is told every state change of a connection.
	OnChanged func(*ServerInfo)
	// OnAuthRequired is told when a person must log in.
	OnAuthRequired func(*AuthRequired)
	// OnLog is told the log messages of the servers; [Server.SetLoggingLevel] asks for them.
	OnLog func(*LogEvent)
	// OnListChanged is told when the tools, prompts or resources of a server have changed.
	OnListChanged func(*ListChanged)
	// OnResourceUpdated is told when a resource that [Server.Subscribe] named has changed.
	OnResourceUpdated func(*ResourceUpdated)
	// OnTask is told the status of background tasks.
	OnTask func(*TaskEvent)
	// OnElicitationComplete is told when the person has done what a URL elicitation asked for.
	OnElicitationComplete func(*ElicitationComplete)
	// OnToolChanged is told when a pinned tool has changed.
	OnToolChanged func(*ToolChanged)
	// OnStoreDegraded is told when logins cannot be stored and are kept in memory.
	OnStoreDegraded func(*StoreDegraded)
	// OnDropped is told what was left out because this host was too slow.
	OnDropped func(*Dropped)

	// OnStart is told of each sidecar process that was started.
	OnStart func(Started)
	// OnReady is told when it has answered for the first time and calls go to it.
	OnReady func(Ready)
	// OnExit is told how each sidecar process ended, and of starts that failed.
	OnExit func(Exit)
}

const (
	defaultStartTimeout = 30 * time.Second
	defaultStopTimeout  = 5 * time.Second
	defaultMaxCrashes   = 5
	defaultCrashWindow  = 180 * time.Second
	defaultHangTimeout  = 5 * time.Second
)

func (o *Options) withDefaults() Options {
	var filled Options
	if o != nil {
		filled = *o
	}
	if filled.Host.Name == "" {
		filled.Host = HostInfo{Name: "mcp-sidecar-go", Version: Version}
	}
	if filled.StartTimeout <= 0 {
		filled.StartTimeout = defaultStartTimeout
	}
	if filled.StopTimeout <= 0 {
		filled.StopTimeout = defaultStopTimeout
	}
	if filled.MaxCrashes == 0 {
		filled.MaxCrashes = defaultMaxCrashes
	}
	if filled.CrashWindow <= 0 {
		filled.CrashWindow = defaultCrashWindow
	}
	if filled.HangTimeout == 0 {
		filled.HangTimeout = defaultHangTimeout
	}
	return filled
}

// vault returns what initialize says about where logins rest.
func (o *Options) vault() (*VaultConfig, error) {
	if o.Vault == nil {
		return o.VaultConfig, nil
	}
	config := VaultConfig{Type: vaultHost}
	if given := o.VaultConfig; given != nil {
		if given.Type != "" && given.Type != vaultHost || given.Path != "" || given.URL != "" {
			return nil, localError(CodeInvalidParams, "", "Options.Vault and Options.VaultConfig name two places for logins",
				nil, map[string]any{"path": "/vault"})
		}
		config.KeyFile = given.KeyFile
	}
	return &config, nil
}

const vaultHost = "host"

func (o *Options) maxFrame() int {
	if o.Limits != nil && o.Limits.MaxFrameBytes > 0 {
		return o.Limits.MaxFrameBytes
	}
	return defaultMaxFrame
}

// Version is the version of this package.
const Version = "0.1.0"

// Wait says when [Client.Connect] returns.
type Wait string

// The values of [Wait].
const (
	// WaitDefault is WaitUsable.
	WaitDefault Wait = ""
	// WaitUsable returns when the connection is ready, or a person is needed.
	WaitUsable Wait = "true"
	// WaitReady returns only when the connection is ready.
	WaitReady Wait = "ready"
	// WaitNo returns at once; the connection is made behind it.
	WaitNo Wait = "false"
)

// MarshalJSON writes true, false or "ready".
func (w Wait) MarshalJSON() ([]byte, error) {
	switch w {
	case WaitUsable, WaitNo:
		return []byte(w), nil
	default:
		return json.Marshal(string(w))
	}
}
