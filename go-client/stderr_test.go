//go:build unix

package sidecar

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAFloodOnStderrNeverBlocksAndIsLoggedAgain(t *testing.T) {
	var log lockedBuffer
	opts := part("chatty")
	opts.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	c := startPart(t, opts)
	works(t, c)
	deadline := time.Now().Add(patience)
	for !strings.Contains(log.String(), `"msg":"line 63","n":63`) {
		if time.Now().After(deadline) {
			t.Fatalf("the last line is missing: %.300s", log.String())
		}
		works(t, c)
	}
	if !strings.Contains(log.String(), `"time":"2026-01-02T03:04:05.678Z","level":"WARN"`) {
		t.Error("time or level is lost")
	}
	if size := len(log.String()); size > 16<<20 {
		t.Errorf("long lines are not cut: %d bytes", size)
	}
}

func TestALogLineKeepsItsLevelAndAttributes(t *testing.T) {
	for line, want := range map[string]string{
		`{"time":"2026-01-02T03:04:05.678Z","level":"error","msg":"m","server":"s","scope":{"tenant":"t"},"corr":"c"}`: `{"time":"2026-01-02T03:04:05.678Z","level":"ERROR","msg":"m","server":"s","scope":{"tenant":"t"},"corr":"c"}`,
		`{"time":"2026-01-02T03:04:05.678Z","level":"DEBUG","msg":"m"}`:                                                ``,
		"no JSON \xff": `"level":"WARN","msg":"no JSON �","source":"stderr"}`,
		"  \n":         ``,
	} {
		var log lockedBuffer
		relog(slog.New(slog.NewJSONHandler(&log, nil)), []byte(line))
		if have := strings.TrimSpace(log.String()); want == "" && have != "" || !strings.HasSuffix(have, want) {
			t.Errorf("%q became %s, want %s", line, have, want)
		}
	}
}
