//go:build unix

package sidecar

import (
	"context"
	"strings"
	"testing"
)

// benchClient starts the real sidecar for a benchmark of the hop.
func benchClient(b *testing.B) *Client {
	b.Helper()
	command := realCommand()
	if command == nil {
		b.Skip("the sidecar is missing: run make setup")
	}
	c, err := Start(context.Background(), &Options{Command: command})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if err := c.Ping(context.Background()); err != nil {
		b.Fatal(err)
	}
	return c
}

func benchPing(b *testing.B, size int) {
	c := benchClient(b)
	params := map[string]string{"payload": strings.Repeat("x", size)}
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := c.Request(context.Background(), MethodPing, params); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHop1kB(b *testing.B)  { benchPing(b, 1000) }
func BenchmarkHop10MB(b *testing.B) { benchPing(b, 10_000_000) }

func BenchmarkHop64InFlight(b *testing.B) {
	c := benchClient(b)
	b.SetParallelism(32) // times GOMAXPROCS
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Ping(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
