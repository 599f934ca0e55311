package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheDemoWorks(t *testing.T) {
	root, err := findRoot("")
	if err != nil {
		t.Fatal(err)
	}
	for _, needed := range []string{".venv/bin/mcp-sidecar", ".venv/bin/mcp-server-time", "node_modules"} {
		if _, err := os.Stat(filepath.Join(root, needed)); err != nil {
			if os.Getenv("REQUIRE_ALL") == "1" {
				t.Fatalf("%s is missing: run make setup", needed)
			}
			t.Skipf("%s is missing: run make setup", needed)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	failures, err := run(ctx, root)
	if err != nil || failures > 0 {
		t.Errorf("%d steps failed: %v", failures, err)
	}
}
