package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one step of the demo.
type row struct {
	server, what, note string
	took               time.Duration
	err                error
}

// report collects the steps and prints them as a table.
type report struct {
	out      io.Writer
	rows     []row
	failures int
}

func newReport(out io.Writer) *report { return &report{out: out} }

func measure(server, what string, do func() (string, error)) row {
	begin := time.Now()
	note, err := do()
	return row{server: server, what: what, note: note, took: time.Since(begin), err: err}
}

func (r *report) step(server, what string, do func() (string, error)) {
	r.add(measure(server, what, do))
}

// add takes a step that is done.
func (r *report) add(done row) {
	if done.err != nil {
		r.failures++
		r.live("!! %s %s: %v", done.server, done.what, done.err)
	}
	r.rows = append(r.rows, done)
}

func (r *report) title(text string) { r.live("%s", text) }

// live prints a line at once.
func (r *report) live(format string, args ...any) {
	fmt.Fprintf(r.out, format+"\n", args...) //nolint:errcheck // a terminal
}

const noteWidth = 78

// print writes the table.
func (r *report) print() {
	r.live("")
	table := tabwriter.NewWriter(r.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "\tSERVER\tSTEP\tTIME\tRESULT")
	for _, done := range r.rows {
		mark, note := "ok", done.note
		if done.err != nil {
			mark, note = "FAILED", done.err.Error()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", mark, done.server, done.what, rounded(done.took), short(note))
	}
	if err := table.Flush(); err != nil {
		r.failures++
	}
	r.live("\n%d steps, %d failed", len(r.rows), r.failures)
}

// short makes a note one line of bounded width.
func short(note string) string {
	note = strings.Join(strings.Fields(note), " ")
	if runes := []rune(note); len(runes) > noteWidth {
		return string(runes[:noteWidth-3]) + "..."
	}
	return note
}

func since(begin time.Time) string { return rounded(time.Since(begin)) }

func rounded(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
