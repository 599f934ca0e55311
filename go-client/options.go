package sidecar

import (
	"encoding/json"
	"io"
	"log/slog"
	"time"
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
	// Limits, Egress and Vault configure the process; nil: the sidecar's defaults.
	Limits *ProcessLimits
	Egress *Egress
	Vault  *VaultConfig

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

	// OnChanged is told every state change of a connection, in order and one at a time, off the read loop: it may
	// call the client.
	OnChanged func(*ServerInfo)
	// OnExit is told how each sidecar process ended, before another is started.
	OnExit func(Exit)
}

const (
	defaultStartTimeout = 30 * time.Second
	defaultStopTimeout  = 5 * time.Second
	defaultMaxCrashes   = 5
	defaultCrashWindow  = 180 * time.Second
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
	return filled
}

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
