// Demo starts the sidecar and uses real MCP servers over three transports and both protocol eras: five that anybody may
// use, and one that wants a login.
//
// It prints what it does with timings, and exits 1 if anything failed. `make demo` runs it. With -chaos it kills things
// while calls run instead, and shows what the host saw; that is `make demo-chaos`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

func main() {
	root := flag.String("root", "", "the repository's root (default: the nearest folder above with proto/openrpc.json)")
	timeout := flag.Duration("timeout", 2*time.Minute, "the longest the whole demo may take")
	blows := flag.Int("chaos", 0, "kill servers and the sidecar while calls run, so many rounds, instead of the tour")
	counter := flag.String("counter", "", "be the server that the chaos kills, on this address")
	journal := flag.String("journal", "", "the file in which it notes its calls")
	flag.Parse()
	if *counter != "" {
		fmt.Fprintln(os.Stderr, "demo:", serveCounter(*counter, *journal))
		os.Exit(1)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	var failures int
	var err error
	if *blows > 0 {
		failures, err = chaos(ctx, *root, *blows)
	} else {
		failures, err = run(ctx, *root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	if failures > 0 {
		fmt.Fprintf(os.Stderr, "demo: %d faults\n", failures)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string) (int, error) {
	root, err := findRoot(root)
	if err != nil {
		return 0, err
	}
	servers, err := startHTTPServers(ctx, root)
	defer servers.stop()
	if err != nil {
		return 0, err
	}
	r := newReport(os.Stdout)
	begin := time.Now()
	user := newPerson(r.live)
	client, err := sidecar.Start(ctx, &sidecar.Options{
		Command:   ownSidecar(root),
		Host:      sidecar.HostInfo{Name: "demo", Version: sidecar.Version},
		Elicit:    user.answer,
		Authorize: user.logIn,
		// Logins of a demo need not outlive it.
		VaultConfig: &sidecar.VaultConfig{Type: "memory"},
		// Its authorization server is on this machine, on a port that no connection names.
		Egress: &sidecar.Egress{AllowHTTP: []string{"127.0.0.1"}, AllowPrivate: []string{"127.0.0.0/8"}},
	})
	if err != nil {
		return 0, err
	}
	defer client.Close()
	info := client.Info()
	r.title(fmt.Sprintf("sidecar %s (fastmcp %s, mcp %s, python %s) started in %s",
		info.Sidecar.Version, info.Sidecar.FastMCP, info.Sidecar.MCP, info.Sidecar.Python, since(begin)))

	tour(ctx, client, servers, user, r)
	r.step("", "close the sidecar and all servers", func() (string, error) { return "", client.Close() })
	r.print()
	return r.failures, nil
}

// findRoot returns the folder of the checkout: the servers of the demo are installed there.
func findRoot(root string) (string, error) {
	if root != "" {
		return filepath.Abs(root)
	}
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "proto", "openrpc.json")); err == nil {
			return folder, nil
		}
		above := filepath.Dir(folder)
		if above == folder {
			return "", errors.New("run it inside the repository, or name it with -root")
		}
		folder = above
	}
}

// ownSidecar returns the checkout's own program, or nothing, which lets the environment decide.
func ownSidecar(root string) []string {
	own := filepath.Join(root, ".venv", "bin", "mcp-sidecar")
	if _, err := os.Stat(own); err != nil || os.Getenv("MCP_SIDECAR_COMMAND") != "" {
		return nil
	}
	return []string{own}
}
