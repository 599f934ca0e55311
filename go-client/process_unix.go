//go:build unix && !linux

package sidecar

import (
	"syscall"
	"time"
)

// errPlatform is nil: this platform is supported.
var errPlatform error

// sysProcAttr puts the sidecar in a process group of its own, so that Ctrl-C reaches the host alone. That the host is
// gone it learns from its stdin and from its parent's pid.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// worked and busy tell nothing here: every silence counts alike.
func (p *process) worked() int64 { return 0 }

func (p *process) busy(int64, time.Duration) bool { return false }
