package sidecar

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one running sidecar with its three pipes.
type process struct {
	command []string
	pid     int
	stdin   *os.File
	stdout  *os.File
	stderr  *stderrRelay
	started time.Time
	handle  *os.Process
	exited  chan struct{} // closed when the process was waited for
	state   *os.ProcessState
}

// signalNames are the names that the wire uses.
var signalNames = map[syscall.Signal]string{
	syscall.SIGABRT: "SIGABRT", syscall.SIGALRM: "SIGALRM", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE",
	syscall.SIGHUP: "SIGHUP", syscall.SIGILL: "SIGILL", syscall.SIGINT: "SIGINT", syscall.SIGKILL: "SIGKILL",
	syscall.SIGPIPE: "SIGPIPE", syscall.SIGQUIT: "SIGQUIT", syscall.SIGSEGV: "SIGSEGV", syscall.SIGTERM: "SIGTERM",
}

// killSignal ends a process at once, on every platform.
var killSignal = os.Kill

// exitDrain is how long the pipes of a process that has ended are still read: what it wrote is in them, but a
// grandchild may hold them open for ever.
const exitDrain = 50 * time.Millisecond

// startProcess runs the command. Its stderr goes to the relay, which drains it whatever happens.
func startProcess(command, env []string, dir string, relay *stderrRelay) (*process, error) {
	if errPlatform != nil {
		return nil, errPlatform
	}
	p := &process{command: command, stderr: relay, started: time.Now(), exited: make(chan struct{})}
	var ours, theirs []*os.File
	closeAll := func(files []*os.File) {
		for _, file := range files {
			_ = file.Close() // nothing was written
		}
	}
	for i := range 3 { // os.Pipe sets close-on-exec: no other child inherits an end
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(ours, theirs...))
			return nil, err
		}
		if i == 0 {
			r, w = w, r
		}
		ours, theirs = append(ours, r), append(theirs, w)
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // the host names its own program
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	cmd.SysProcAttr = sysProcAttr()
	p.stdin, p.stdout = ours[0], ours[1]

	relay.drain(ours[2]) // before there is anything to drain, so that nothing can be missed
	started := make(chan error)
	go func() {
		// Pdeathsig fires when the forking thread ends, not the process: keep this thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid, p.handle = cmd.Process.Pid, cmd.Process
		closeAll(theirs)
		started <- nil
		_ = cmd.Wait() // the state says it all
		p.state = cmd.ProcessState
		deadline := time.Now().Add(exitDrain)
		_ = p.stdout.SetReadDeadline(deadline) // a pipe; if it has no deadlines its end of file must do
		_ = ours[2].SetReadDeadline(deadline)
		close(p.exited)
	}()
	if err := <-started; err != nil {
		closeAll(append(ours[:2], theirs...)) // the relay closes its own end
		<-relay.done
		return nil, err
	}
	return p, nil
}

// signal sends a signal to the sidecar alone: the guard of its children must outlive it to clean up. It goes through
// the handle, so it can never reach another process that got the same pid.
func (p *process) signal(sig os.Signal) {
	if err := p.handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = p.handle.Kill() // a platform without this signal
	}
}

// stop ends the process in steps, each bounded: the end of its input, which the caller has begun, then an interrupt,
// then a kill.
func (p *process) stop(step time.Duration) {
	timer := time.NewTimer(step)
	defer timer.Stop()
	select {
	case <-p.exited:
		return
	case <-timer.C:
	}
	p.signal(os.Interrupt)
	p.signal(os.Interrupt) // the first asks it to drain, which it is doing already; the second means now
	timer.Reset(step)
	select {
	case <-p.exited:
		return
	case <-timer.C:
	}
	p.signal(killSignal)
	<-p.exited
}

// exit describes the end; only after exited is closed.
func (p *process) exit() Exit {
	e := Exit{PID: p.pid, ExitCode: -1, Uptime: time.Since(p.started), StderrTail: p.stderr.tail()}
	if p.state != nil {
		e.ExitCode = p.state.ExitCode()
		if status, ok := p.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			if e.Signal = signalNames[status.Signal()]; e.Signal == "" {
				e.Signal = status.Signal().String()
			}
		}
	}
	return e
}
