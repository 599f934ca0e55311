//go:build unix && !linux

package sidecar

import "syscall"

// errPlatform is nil: this platform is supported.
var errPlatform error

// sysProcAttr puts the sidecar in a process group of its own, so that Ctrl-C reaches the host alone. That the host is
// gone it learns from its stdin and from its parent's pid.
func sysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
