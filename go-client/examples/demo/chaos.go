package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// The chaos mode kills things while calls run, and shows what the host saw: which calls failed, with which code, whether
// they may have run, and when the next one worked. Every call has a name of its own, and the servers note it: no call
// may have run twice, none that was answered may not have run, and none that failed with delivered "no" may have run.

const (
	chaosWorkers = 8                      // for each server
	chaosPause   = 600 * time.Millisecond // between a recovery and the next blow
	chaosHang    = 2 * time.Second        // after which a sidecar that hangs is given up
	chaosLimit   = 5 * time.Second        // in which the next call must work
	circuitRests = 5 * time.Second        // when five calls in a row have lost their connection
)

// target is one server under fire.
type target struct {
	name    string
	journal string
	server  *sidecar.Server

	mu       sync.Mutex
	outcomes map[string]error // by the name of the call
	lastGood time.Time
}

// blow is one thing that is killed, and what came of it.
type blow struct {
	what     string
	hits     []*target // whose calls it costs
	do       func() error
	grace    time.Duration // what passes in any case
	why      string        // and why
	failures map[string]int
	recovery time.Duration
}

func chaos(ctx context.Context, root string, rounds int) (int, error) {
	root, err := findRoot(root)
	if err != nil {
		return 0, err
	}
	folder, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	counter := &counterProcess{address: fmt.Sprintf("127.0.0.1:%d", port), journal: filepath.Join(folder, "http")}
	if err := counter.start(); err != nil {
		return 0, err
	}
	defer counter.kill() //nolint:errcheck // it may be dead already
	r := newReport(os.Stdout)
	client, err := sidecar.Start(ctx, &sidecar.Options{
		Command: ownSidecar(root), MaxCrashes: -1, HangTimeout: chaosHang,
		OnExit: func(exit sidecar.Exit) {
			if exit.Restarting {
				r.live("      sidecar %d ended (%s); another is started", exit.PID, exit)
			}
		},
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	targets := []*target{
		{name: "stdio", journal: filepath.Join(folder, "stdio")},
		{name: "http", journal: counter.journal},
	}
	python := filepath.Join(root, ".venv", "bin", "python")
	transports := []sidecar.Transport{
		sidecar.Stdio{Command: python, Args: []string{
			filepath.Join(root, "tests", "servers", "raw_stdio.py"), "--journal", targets[0].journal,
		}},
		sidecar.HTTP{URL: "http://" + counter.address + "/mcp"},
	}
	for i, t := range targets {
		t.outcomes = map[string]error{}
		if t.server, err = client.Connect(ctx, t.name, &sidecar.ServerConfig{Transport: transports[i]}); err != nil {
			return 0, err
		}
	}
	blows := fire(ctx, client, counter, targets, rounds, r)
	return verdict(r, targets, blows)
}

// fire runs the calls and deals the blows.
func fire(
	ctx context.Context, client *sidecar.Client, counter *counterProcess, targets []*target, rounds int, r *report,
) []*blow {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, t := range targets {
		for worker := range chaosWorkers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := 0; !stop.Load() && ctx.Err() == nil; i++ {
					t.call(ctx, fmt.Sprintf("%s-%d-%d", t.name, worker, i))
				}
			}()
		}
	}
	var blows []*blow
	for range rounds {
		for _, b := range []*blow{
			{what: "kill the stdio server", hits: targets[:1], do: func() error { return killChild(ctx, targets[0]) }},
			{what: "kill the HTTP server", hits: targets[1:], grace: circuitRests, why: "the circuit rests", do: counter.restart},
			{what: "kill the sidecar", hits: targets, do: func() error {
				return syscall.Kill(client.Info().Sidecar.PID, syscall.SIGKILL)
			}},
			{what: "stop the sidecar (SIGSTOP)", hits: targets, grace: chaosHang, why: "to notice", do: func() error {
				return syscall.Kill(client.Info().Sidecar.PID, syscall.SIGSTOP)
			}},
		} {
			if sleep(ctx, chaosPause) != nil {
				break
			}
			r.live("   %s", b.what)
			b.deal(ctx, r, targets)
			blows = append(blows, b)
		}
	}
	stop.Store(true)
	wg.Wait()
	return blows
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call makes one call that must not run twice. The servers know no tool of its name; that they say so is the answer.
func (t *target) call(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := t.server.Call(ctx, name, nil)
	if errors.Is(err, sidecar.ErrRemoteError) {
		err = nil
	}
	t.mu.Lock()
	t.outcomes[name] = err
	if err == nil {
		t.lastGood = time.Now()
	}
	t.mu.Unlock()
	var failure *sidecar.Error
	if errors.As(err, &failure) { // a host does not hammer: it waits as long as it is told
		_ = sleep(ctx, max(failure.RetryAfter, 20*time.Millisecond))
	}
}

// failures counts what went wrong so far, by code and delivered.
func (t *target) failures() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := map[string]int{}
	for _, err := range t.outcomes {
		if err != nil {
			found[t.name+" "+kindOf(err)]++
		}
	}
	return found
}

func kindOf(err error) string {
	var failure *sidecar.Error
	if !errors.As(err, &failure) {
		return err.Error()
	}
	return fmt.Sprintf("%s, delivered %s", failure.Kind, failure.Delivered)
}

// deal hurts, and waits until every target answers again.
func (b *blow) deal(ctx context.Context, r *report, targets []*target) {
	before := count(targets)
	begin := time.Now()
	if err := b.do(); err != nil {
		r.live("!! %s: %v", b.what, err)
		r.failures++
		return
	}
	for _, t := range b.hits {
		for {
			t.mu.Lock()
			good := t.lastGood
			t.mu.Unlock()
			// What was already on its way when the blow fell is no recovery.
			if good.After(begin.Add(b.grace + 2*callTakes)) {
				b.recovery = max(b.recovery, good.Sub(begin)-b.grace, 0)
				break
			}
			if sleep(ctx, time.Millisecond) != nil || time.Since(begin) > b.grace+4*chaosLimit {
				b.recovery = time.Since(begin)
				break
			}
		}
	}
	b.failures = count(targets)
	for kind, n := range before {
		if b.failures[kind] -= n; b.failures[kind] == 0 {
			delete(b.failures, kind)
		}
	}
	if b.recovery > chaosLimit {
		r.live("!! %s: works again only after %s", b.what, rounded(b.recovery))
		r.failures++
	}
}

func count(targets []*target) map[string]int {
	all := map[string]int{}
	for _, t := range targets {
		for kind, n := range t.failures() {
			all[kind] += n
		}
	}
	return all
}

func killChild(ctx context.Context, t *target) error {
	info, err := t.server.Info(ctx)
	if err != nil {
		return err
	}
	if info.PID == 0 {
		return errors.New("it has no process")
	}
	return syscall.Kill(info.PID, syscall.SIGKILL)
}

// verdict prints the tables and compares what the host was told with what ran.
func verdict(r *report, targets []*target, blows []*blow) (int, error) {
	r.live("")
	table := tabwriter.NewWriter(r.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "BLOW\tWORKS AGAIN AFTER\tCALLS THAT FAILED")
	for _, b := range blows {
		var parts []string
		for kind, n := range b.failures {
			parts = append(parts, fmt.Sprintf("%d x %s", n, kind))
		}
		slices.Sort(parts)
		if len(parts) == 0 {
			parts = []string{"none"}
		}
		note := rounded(b.recovery)
		if b.grace > 0 {
			note += fmt.Sprintf(" + %s %s", b.grace, b.why)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", b.what, note, strings.Join(parts, "; "))
	}
	fmt.Fprintln(table, "\t\t")
	fmt.Fprintln(table, "SERVER\tCALLS, FAILED\tRAN TWICE, ANSWERED AND NOT RUN, \"NO\" AND RUN")
	for _, t := range targets {
		twice, missing, lied, failed, err := t.compare()
		if err != nil {
			return 0, err
		}
		r.failures += twice + missing + lied
		fmt.Fprintf(table, "%s\t%d, %d\t%d, %d, %d\n", t.name, len(t.outcomes), failed, twice, missing, lied)
	}
	if err := table.Flush(); err != nil {
		return 0, err
	}
	r.live("\n%d blows, %d faults", len(blows), r.failures)
	return r.failures, nil
}

func (t *target) compare() (twice, missing, lied, failed int, err error) {
	raw, err := os.ReadFile(t.journal)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	ran := map[string]int{}
	for _, line := range strings.Split(string(raw), "\n") {
		if name, ok := strings.CutPrefix(line, "call "); ok {
			ran[name]++
		}
	}
	for name, outcome := range t.outcomes {
		if outcome != nil {
			failed++
		}
		var failure *sidecar.Error
		switch {
		case ran[name] > 1:
			twice++
		case outcome == nil && ran[name] == 0:
			missing++
		case errors.As(outcome, &failure) && failure.Delivered == sidecar.DeliveredNo && ran[name] > 0:
			lied++
		}
	}
	return twice, missing, lied, failed, nil
}

// counterProcess is this program as the HTTP server that is killed.
type counterProcess struct {
	address, journal string
	cmd              *exec.Cmd
}

func (p *counterProcess) start() error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(own, "-counter", p.address, "-journal", p.journal)
	p.cmd.Stderr = os.Stderr
	return p.cmd.Start()
}

func (p *counterProcess) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // killed, as wanted
	return err
}

func (p *counterProcess) restart() error {
	if err := p.kill(); err != nil {
		return err
	}
	return p.start()
}
