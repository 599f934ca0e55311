//go:build !unix

package sidecar

import "syscall"

// sysProcAttr has nothing to say here: this platform has no process groups of this kind.
func sysProcAttr() *syscall.SysProcAttr { return nil }
