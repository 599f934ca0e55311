//go:build !unix

package sidecar

import (
	"errors"
	"syscall"
)

// errPlatform refuses platforms on which nobody would end the servers when this process dies.
var errPlatform = errors.New("this platform is not supported yet: the sidecar runs on Linux and macOS")

func sysProcAttr() *syscall.SysProcAttr { return nil }
