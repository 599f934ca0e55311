//go:build unix

package sidecar

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// envMode makes the test binary play another part: a sidecar that misbehaves, or a host.
const envMode = "SIDECAR_TEST_MODE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(envMode); mode != "" {
		playPart(mode)
		return
	}
	findProgram()
	code := m.Run()
	if code == 0 {
		if err := leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// findProgram lets the examples read as a user writes them: with the sidecar and the servers in PATH. Where they are
// not installed the examples are skipped, unless nothing may be missing.
func findProgram() {
	if bin, err := filepath.Abs(venvBin); err == nil {
		os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	for _, program := range []string{programName, "mcp-server-time", "node"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("REQUIRE_ALL") != "1" {
			fmt.Printf("SKIP Example: %s is missing: run make setup\n", program)
			flag.Parse()
			_ = flag.Set("test.skip", "^Example") // it is a flag of package testing
			return
		}
	}
}

// leaks reports goroutines of this package and children that outlived the tests.
func leaks() error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		var dump strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&dump, 2); err != nil {
			return err
		}
		var left []string
		for _, stack := range strings.Split(dump.String(), "\n\n") {
			if strings.Contains(stack, "/go-client") && !strings.Contains(stack, "TestMain") {
				left = append(left, stack)
			}
		}
		children := childPIDs()
		if len(left) == 0 && len(children) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("left behind: children %v, goroutines:\n%s", children, strings.Join(left, "\n\n"))
		}
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond) // a goroutine that has ended tells nobody: the count is asked again
	}
}

// childPIDs returns the living children of this process, where the system tells them.
func childPIDs() []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		return nil
	}
	var living []string
	for _, pid := range strings.Fields(string(raw)) {
		if alive(pid) {
			living = append(living, pid)
		}
	}
	return living
}

// alive reports whether a process runs; a zombie does not.
func alive(pid string) bool {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z")
}
