//go:build unix

package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStartNamesEveryPlaceItLookedForTheProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{envCommand, envPython, envWrapper} {
		t.Setenv(name, "")
	}
	_, err := Start(within(t), nil)
	failure := wantCode(t, err, CodeStartFailed, DeliveredNo)
	for _, word := range []string{"Options.Command", envCommand, envPython, envWrapper, programName} {
		if !strings.Contains(failure.Message, word) {
			t.Errorf("the message does not name %s: %s", word, failure.Message)
		}
	}
	if !errors.Is(err, ErrStartFailed) {
		t.Error("not ErrStartFailed")
	}
}

func TestStartOfAMissingProgramSaysItsCommand(t *testing.T) {
	_, err := Start(within(t), &Options{Command: []string{"/no/such/program", "serve"}})
	failure := wantCode(t, err, CodeStartFailed, DeliveredNo)
	if !strings.Contains(failure.Message, "/no/such/program") {
		t.Error(failure.Message)
	}
}

func TestStartOfAProgramThatDiesSaysItsCodeAndLastWords(t *testing.T) {
	_, err := Start(within(t), part("dies"))
	failure := wantCode(t, err, CodeStartFailed, DeliveredNo)
	var data struct {
		Command    []string `json:"command"`
		ExitCode   int      `json:"exitCode"`
		StderrTail string   `json:"stderrTail"`
	}
	if err := json.Unmarshal(failure.Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.ExitCode != 3 || !strings.Contains(data.StderrTail, "my shoes") || data.Command[0] != os.Args[0] {
		t.Errorf("%+v", data)
	}
}

func TestStartGivesUpOnASilentProgram(t *testing.T) {
	opts := part("silent")
	opts.StartTimeout = 200 * time.Millisecond
	begin := time.Now()
	_, err := Start(within(t), opts)
	wantCode(t, err, CodeStartFailed, DeliveredNo)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("not a deadline: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestStartRefusesAnotherVersionOfTheWire(t *testing.T) {
	for _, mode := range []string{"version", "newer"} {
		_, err := Start(within(t), part(mode))
		wantCode(t, err, CodeVersionMismatch, DeliveredNo)
	}
}

func TestTheProgramIsFoundInTheOrderOfTheDocumentation(t *testing.T) {
	t.Setenv(envPython, "/py")
	t.Setenv(envWrapper, "")
	t.Setenv(envCommand, "")
	check := func(command []string, want string) {
		t.Helper()
		have, err := locate(command)
		if err != nil || strings.Join(have, "|") != want {
			t.Errorf("want %s, have %v %v", want, have, err)
		}
	}
	check(nil, "/py|-m|sidecar")
	t.Setenv(envWrapper, "/w.py")
	check(nil, "/py|/w.py")
	t.Setenv(envCommand, `'/a b/c' "d \"e\" \n" f\ g ''`)
	check(nil, `/a b/c|d "e" \n|f g|`)
	check([]string{"x", "y"}, "x|y")
	t.Setenv(envCommand, `'open`)
	if _, err := locate(nil); err == nil {
		t.Error("an open quote is accepted")
	}
}

func TestAStartThatIsCancelledLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(within(t))
	opts := part("silent")
	opts.Stderr = writerFunc(func([]byte) { cancel() }) // it says a word when it runs
	_, err := Start(ctx, opts)
	wantCode(t, err, CodeCancelled, DeliveredNo)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type writerFunc func(line []byte)

func (f writerFunc) Write(line []byte) (int, error) {
	f(line)
	return len(line), nil
}

func TestTheSidecarHasAProcessGroupOfItsOwn(t *testing.T) {
	c := startPart(t, part("good"))
	pid := c.Info().Sidecar.PID
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("its group is %d: Ctrl-C would reach it (%v)", group, err)
	}
}

func TestManyStartsAndStopsLeaveNothing(t *testing.T) {
	before := openFiles(t)
	for range 30 {
		c, err := Start(within(t), part("good"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if _, err = Start(within(t), part("dies")); err == nil {
			t.Fatal("it lives")
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open files, %d before", after, before)
	}
}

// openFiles counts this process's descriptors, where the system tells them.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not tell the open files")
	}
	return len(entries)
}
