package sidecar

import "syscall"

// errPlatform is nil: this platform is supported.
var errPlatform error

// sysProcAttr puts the sidecar in a process group of its own, so that Ctrl-C reaches the host alone, and lets the
// kernel end it when the thread that forked it ends. That thread is pinned for as long as the process lives, so it
// ends only with this process.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
