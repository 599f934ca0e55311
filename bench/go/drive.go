package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// transport is where a server is: a command, or a URL with the certificate to trust.
type transport struct {
	Command []string `json:"command"`
	URL     string   `json:"url"`
	CA      string   `json:"ca"`
}

// client is what is measured: one of the ways to call MCP servers from Go.
type client interface {
	// pids returns the processes whose time is the client's.
	pids() map[string]int
	connect(ctx context.Context, name string, to transport, era string) (session, error)
	// ping is a round trip over the hop alone, with a payload of that many bytes.
	ping(ctx context.Context, payload string) error
	close() error
}

// session is one connection to one server.
type session interface {
	// call calls a tool; decode asks for its structured content as maps where the client leaves it as bytes.
	call(ctx context.Context, tool string, arguments map[string]any, decode bool) error
	close(ctx context.Context) error
}

// command is one line of the workbench.
type command struct {
	Do        string    `json:"do"`
	Name      string    `json:"name"`
	Transport transport `json:"transport"`
	Era       string    `json:"era"`
	Seconds   float64   `json:"seconds"`
	Flight    int       `json:"flight"`
	Size      int       `json:"size"`
	Count     int       `json:"count"`
	Decode    bool      `json:"decode"`
}

// figures answer a command: how often, how long in all, and the percentiles of one time, in seconds.
type figures struct {
	Calls int            `json:"calls,omitempty"`
	Wall  float64        `json:"wall,omitempty"`
	P50   float64        `json:"p50,omitempty"`
	P99   float64        `json:"p99,omitempty"`
	PIDs  map[string]int `json:"pids,omitempty"`
	Error string         `json:"error,omitempty"`
}

// patience bounds a single call: what takes longer has failed.
const patience = 60 * time.Second

type driver struct {
	client   client
	sessions map[string]session
	silenced context.CancelFunc // ends the call that is never answered
	silent   sync.WaitGroup
}

func drive(which string, in io.Reader, out io.Writer) error {
	var made client
	var err error
	switch which {
	case "ours":
		made, err = newOurs()
	case "sdk":
		made = &sdk{}
	default:
		err = fmt.Errorf("unknown client %q", which)
	}
	if err != nil {
		return err
	}
	d := &driver{client: made, sessions: map[string]session{}}
	answers := json.NewEncoder(out)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		got, err := d.do(&c)
		if err != nil {
			got = &figures{Error: err.Error()}
		}
		if err := answers.Encode(got); err != nil {
			return err
		}
	}
	for _, s := range d.sessions {
		_ = s.close(context.Background()) // the process ends; what cannot be closed ends with it
	}
	return errors.Join(lines.Err(), made.close())
}

func (d *driver) do(c *command) (*figures, error) {
	ctx := context.Background()
	switch c.Do {
	case "pids":
		return &figures{PIDs: d.client.pids()}, nil
	case "connect":
		made, err := d.client.connect(ctx, c.Name, c.Transport, c.Era)
		if err == nil {
			d.sessions[c.Name] = made
		}
		return &figures{}, err
	case "disconnect":
		err := d.sessions[c.Name].close(ctx)
		delete(d.sessions, c.Name)
		return &figures{}, err
	case "calls":
		return repeat(ctx, c, func(ctx context.Context) error { return d.sessions[c.Name].call(ctx, "echo", nil, false) })
	case "big":
		return repeat(ctx, c, func(ctx context.Context) error {
			return d.sessions[c.Name].call(ctx, "big", map[string]any{"size": c.Size}, c.Decode)
		})
	case "ping":
		payload := strings.Repeat("x", c.Size)
		return repeat(ctx, c, func(ctx context.Context) error { return d.client.ping(ctx, payload) })
	case "cycle":
		return repeat(ctx, c, func(ctx context.Context) error { return d.cycle(ctx, c) })
	case "open":
		return d.many(ctx, c, func(name string) error {
			made, err := d.client.connect(ctx, name, c.Transport, c.Era)
			if err != nil {
				return err
			}
			return d.keep(name, made)
		})
	case "each":
		return d.many(ctx, c, func(name string) error { return d.session(name).call(ctx, "echo", nil, false) })
	case "shut":
		return d.many(ctx, c, func(name string) error { return d.session(name).close(ctx) })
	case "block":
		blocked, cancel := context.WithCancel(ctx)
		d.silenced = cancel
		d.silent.Go(func() { _ = d.sessions[c.Name].call(blocked, "silent", nil, false) }) // it can only be cancelled
		return &figures{}, nil
	case "unblock":
		d.silenced()
		d.silent.Wait()
		return &figures{}, nil
	}
	return nil, fmt.Errorf("unknown command %q", c.Do)
}

// cycle is a whole life of a connection: connect, one call, close.
func (d *driver) cycle(ctx context.Context, c *command) error {
	made, err := d.client.connect(ctx, c.Name, c.Transport, c.Era)
	if err != nil {
		return err
	}
	if err := made.call(ctx, "echo", nil, false); err != nil {
		return err
	}
	return made.close(ctx)
}

var keeping sync.Mutex

func (d *driver) keep(name string, made session) error {
	keeping.Lock()
	defer keeping.Unlock()
	d.sessions[name] = made
	return nil
}

func (d *driver) session(name string) session {
	keeping.Lock()
	defer keeping.Unlock()
	return d.sessions[name]
}

// many does the same with Count sessions, Flight of them at once.
func (d *driver) many(_ context.Context, c *command, do func(name string) error) (*figures, error) {
	names := make(chan string)
	failed := make(chan error, c.Count)
	began := time.Now()
	var workers sync.WaitGroup
	for range max(1, c.Flight) {
		workers.Go(func() {
			for name := range names {
				if err := do(name); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := range c.Count {
		names <- fmt.Sprintf("%s-%d", c.Name, i)
	}
	close(names)
	workers.Wait()
	wall := time.Since(began)
	select {
	case err := <-failed:
		return nil, err
	default:
		return &figures{Calls: c.Count, Wall: wall.Seconds()}, nil
	}
}

// repeat does something until the seconds are over or Count is reached, Flight at once, and returns the figures.
func repeat(ctx context.Context, c *command, do func(context.Context) error) (*figures, error) {
	began := time.Now()
	end := began.Add(time.Duration(c.Seconds * float64(time.Second)))
	flight := max(1, c.Flight)
	taken := make([][]time.Duration, flight)
	failed := make(chan error, flight)
	var workers sync.WaitGroup
	for worker := range flight {
		workers.Go(func() {
			for n := 0; (c.Count > 0 && n*flight+worker < c.Count) || (c.Count == 0 && time.Now().Before(end)); n++ {
				bounded, cancel := context.WithTimeout(ctx, patience)
				before := time.Now()
				err := do(bounded)
				taken[worker] = append(taken[worker], time.Since(before))
				cancel()
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	wall := time.Since(began)
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	all := slices.Concat(taken...)
	slices.Sort(all)
	if len(all) == 0 {
		return nil, errors.New("nothing was done in the time")
	}
	at := func(share float64) float64 { return all[min(len(all)-1, int(share*float64(len(all))))].Seconds() }
	return &figures{Calls: len(all), Wall: wall.Seconds(), P50: at(0.5), P99: at(0.99)}, nil
}

// here is this program, for the table of processes.
func here() int { return os.Getpid() }
