package sidecar

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errPlatform is nil: this platform is supported.
var errPlatform error

// sysProcAttr puts the sidecar in a process group of its own, so that Ctrl-C reaches the host alone, and lets the
// kernel end it when the thread that forked it ends. That thread is pinned for as long as the process lives, so it
// ends only with this process.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// worked returns the processor time that the sidecar has used, in clock ticks of 10 ms.
func (p *process) worked() int64 {
	_, ticks := p.stat()
	return ticks
}

// busy reports whether a silent sidecar is at work or waits for a processor or a disk: then it is slow, and may be so
// because of its machine. One that is stopped, or waits for something that never comes, is not.
func (p *process) busy(before int64, silence time.Duration) bool {
	state, ticks := p.stat()
	if state == "T" || state == "t" {
		return false
	}
	const tick, tenth = 10 * time.Millisecond, 10
	return state == "R" || state == "D" || time.Duration(ticks-before)*tick > silence/tenth
}

func (p *process) stat() (state string, ticks int64) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/stat")
	if err != nil {
		return "", 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // what stands before is the program's name
	const user, system = 11, 12                                             // counted from the state, the third of proc(5)
	if len(fields) <= system {
		return "", 0
	}
	for _, field := range []string{fields[user], fields[system]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return "", 0
		}
		ticks += n
	}
	return fields[0], ticks
}
