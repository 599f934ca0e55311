//go:build unix

package sidecar

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestASidecarThatHangsIsKilledAndStartedAgain(t *testing.T) {
	exits := make(chan Exit, 8)
	opts := part("good")
	opts.HangTimeout = 600 * time.Millisecond
	opts.OnExit = func(e Exit) { exits <- e }
	c := startPart(t, opts)
	pid := c.Info().Sidecar.PID
	done := make(chan error, 1)
	go func() {
		_, err := c.Request(within(t), "test/wait", nil)
		done <- err
	}()
	for c.pendingCalls() < 1 {
		works(t, c)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	works(t, c) // a read: it is repeated
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	wantCode(t, <-done, CodeSidecarExited, DeliveredMaybe)
	if e := <-exits; !e.Hung || e.PID != pid || !e.Restarting || !e.Ready || e.Life != 1 {
		t.Errorf("%+v", e)
	}
}

func TestASidecarThatIsOnlyBusyIsLeftAlone(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("this system does not tell who works")
	}
	opts := part("good")
	opts.HangTimeout = 300 * time.Millisecond
	opts.OnExit = func(e Exit) {
		if e.Hung {
			t.Errorf("%+v", e)
		}
	}
	c := startPart(t, opts)
	if err := c.Ping(within(t)); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	p := c.current.process
	c.mu.Unlock()
	before := p.worked()
	if p.busy(before, time.Second) {
		t.Error("an idle process is busy")
	}
	if _, err := c.Request(within(t), "test/burn", nil); err != nil {
		t.Error(err)
	}
	if !p.busy(before, time.Second) {
		t.Error("a process that has worked is not busy")
	}
	works(t, c)
}

func TestTimeInWhichTheHostItselfWasStoppedIsNoSilence(t *testing.T) {
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), envMode+"=host:good", envHang+"=700ms")
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	pid, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := host.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		wait := time.NewTimer(1500 * time.Millisecond) // the time is what is tested
		<-wait.C
		if err := host.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(stdin, "again")
		again, err := lines.ReadString('\n')
		if err != nil || again != pid {
			t.Errorf("another sidecar: %q after %q (%v)", again, pid, err)
		}
	}
	_ = stdin.Close()
	if err := host.Wait(); err != nil {
		t.Error(err)
	}
}

func TestTheObserversOfTheSidecarsLifeAreToldInOrder(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(format string, args ...any) {
		mu.Lock()
		seen = append(seen, fmt.Sprintf(format, args...))
		mu.Unlock()
	}
	opts := part("good")
	opts.OnStart = func(s Started) { note("start %d %v", s.Life, s.PID > 0 && s.Command[0] == os.Args[0]) }
	opts.OnReady = func(r Ready) { note("ready %d %v", r.Life, r.Took > 0 && r.Info.Sidecar.PID == r.PID) }
	opts.OnExit = func(e Exit) { note("exit %d %v %v %v", e.Life, e.Ready, e.Restarting, e.Err) }
	c := startPart(t, opts)
	kill(t, c)
	works(t, c)
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	want := "start 1 true|ready 1 true|exit 1 true true <nil>|start 2 true|ready 2 true|exit 2 true false <nil>"
	if strings.Join(seen, "|") != want {
		t.Errorf("%q", seen)
	}
	seen = nil
	opts.Env = part("dies").Env
	mu.Unlock()
	_, err := Start(within(t), opts)
	mu.Lock()
	if !errors.Is(err, ErrStartFailed) || len(seen) != 2 || !strings.HasPrefix(seen[1], "exit 1 false false sidecar: StartFailed") {
		t.Errorf("%v %q", err, seen)
	}
}

func TestAProgramThatWasChangedIsNotStarted(t *testing.T) {
	folder := t.TempDir()
	script := filepath.Join(folder, "sidecar.sh")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	write("#!/bin/sh\nexec '" + os.Args[0] + "'\n")
	opts := part("good")
	opts.Command = []string{script}
	opts.Checksums = map[string]string{}
	for _, path := range []string{script, folder} {
		sum, err := Checksum(path)
		if err != nil || len(sum) != 64 {
			t.Fatalf("%s %v", sum, err)
		}
		opts.Checksums[path] = strings.ToUpper(sum)
	}
	works(t, startPart(t, opts))
	write("#!/bin/sh\nexec '" + os.Args[0] + "' \n") // one byte
	for path := range opts.Checksums {
		changed := *opts
		changed.Checksums = map[string]string{path: opts.Checksums[path]}
		_, err := Start(within(t), &changed)
		failure := wantCode(t, err, CodeStartFailed, DeliveredNo)
		if !strings.Contains(failure.Message, path) || !errors.Is(err, errTampered) {
			t.Error(failure)
		}
	}
	opts.Checksums = map[string]string{"/no/such": ""}
	if _, err := Start(within(t), opts); !errors.Is(err, ErrStartFailed) {
		t.Error(err)
	}
	opts.Checksums, opts.SidecarVersion = nil, "9.9"
	if _, err := Start(within(t), opts); !errors.Is(err, ErrVersionMismatch) {
		t.Error(err)
	}
}
