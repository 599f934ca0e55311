//go:build unix

package sidecar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestManyKillsUnderLoadRunNoToolTwiceAndLoseNoList(t *testing.T) {
	const workers, kills = 20, 15
	opts := part("good")
	opts.MaxCrashes = -1
	c := startPart(t, opts)
	server, err := c.Connect(within(t), "a", someServer)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	var stop atomic.Bool
	var lost atomic.Int64
	calls, called := 0, sync.NewCond(new(sync.Mutex))
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				count := filepath.Join(folder, fmt.Sprint(worker, "-", i))
				_, err := server.Call(within(t), "t", map[string]any{"count": count})
				called.L.Lock()
				calls++
				called.Broadcast()
				called.L.Unlock()
				raw, _ := os.ReadFile(count) // it is not there if the tool did not run
				var failure *Error
				switch {
				case err == nil && len(raw) != 1:
					t.Errorf("answered, and ran %d times", len(raw))
				case errors.As(err, &failure):
					lost.Add(1)
					if failure.Code != CodeSidecarExited || len(raw) > 1 || failure.Delivered == DeliveredNo && len(raw) > 0 {
						t.Errorf("ran %d times: %v, delivered %s", len(raw), err, failure.Delivered)
					}
				}
				if _, err := server.ListTools(within(t), nil); err != nil && !errors.Is(err, ErrSidecarExited) {
					t.Errorf("a list: %v", err)
				}
			}
		}()
	}
	for range kills {
		pid := c.Info().Sidecar.PID
		called.L.Lock()
		for busy := calls + workers; calls < busy; {
			called.Wait() // until it is at work again
		}
		called.L.Unlock()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		c.waitFor(func() bool { return c.info.Sidecar.PID != pid })
	}
	stop.Store(true)
	wg.Wait()
	works(t, c)
	t.Logf("%d calls, %d lost", calls, lost.Load())
}

// waitFor waits until what is true of the client; it is looked at under its lock whenever a session comes or goes.
func (c *Client) waitFor(what func() bool) {
	for {
		c.mu.Lock()
		holds, changed := what(), c.changed
		c.mu.Unlock()
		if holds {
			return
		}
		<-changed
	}
}
