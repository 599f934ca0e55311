package sidecar

import (
	"fmt"
	"time"
)

// What the observers of the sidecar's own life are told.

// Started tells that a sidecar process was started.
type Started struct {
	// Life counts the starts of this client from 1, those that fail among them.
	Life int
	PID  int
	// Command is what was run.
	Command []string
}

// Ready tells that a sidecar answers, and that calls go to it.
type Ready struct {
	Life int
	PID  int
	// Took is the time from the start of the process to its first answer.
	Took time.Duration
	Info Info
}

// Exit tells how a sidecar process ended, or that a start failed.
type Exit struct {
	// Life is that of its [Started].
	Life int
	// PID was its process id; 0 where there was no process.
	PID int
	// ExitCode is its exit code, -1 if a signal ended it.
	ExitCode int
	// Signal is the name of the signal that ended it, such as "SIGKILL"; "" otherwise.
	Signal string
	// Uptime is how long it ran.
	Uptime time.Duration
	// StderrTail is the last 2 kB it wrote to stderr.
	StderrTail string
	// Ready says that it had answered; Err is the reason where it had not.
	Ready bool
	Err   error
	// Hung says that it was killed because it did not answer any more.
	Hung bool
	// Restarting says whether another is started for one that was ready.
	Restarting bool
}

func (e Exit) String() string {
	switch {
	case e.Hung:
		return "it did not answer and was killed"
	case e.Signal != "":
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit code %d", e.ExitCode)
}
