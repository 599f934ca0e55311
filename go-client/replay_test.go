//go:build unix

package sidecar

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// diary returns what this life of the sidecar was asked, once it holds a line that begins so.
func diary(t *testing.T, c *Client, until string) []string {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		raw, err := c.Request(within(t), "test/diary", nil)
		var seen struct{ Lines []string }
		if err != nil || json.Unmarshal(raw, &seen) != nil {
			t.Fatalf("%s %v", raw, err)
		}
		for _, line := range seen.Lines {
			if strings.HasPrefix(line, until) {
				return seen.Lines
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not in %q", until, seen.Lines)
		}
	}
}

// kill ends the sidecar and waits for the next one.
func kill(t *testing.T, c *Client) {
	t.Helper()
	pid := c.Info().Sidecar.PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.waitFor(func() bool { return c.info.Sidecar.PID != pid })
}

func TestASubscribedAddressIsBackAtOnceWithAllThatWasAskedOfIt(t *testing.T) {
	c := startPart(t, part("good"))
	ctx := within(t)
	a, err := c.Scope(Scope{Tenant: "t"}).Connect(ctx, "a", &ServerConfig{
		Transport: HTTP{URL: "https://x"}, Auth: Bearer{Token: "old"}, Limits: &ServerLimits{Burst: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		a.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "info"}),
		a.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "debug"}),
		a.Subscribe(ctx, &mcp.SubscribeParams{URI: "x://1"}),
		a.Subscribe(ctx, &mcp.SubscribeParams{URI: "x://2"}),
		a.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: "x://1"}),
		a.SetRoots(ctx, []*mcp.Root{{URI: "file:///r"}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Update(ctx, &Update{Token: "new", Tools: &ToolPolicy{Deny: []string{"x"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Update(ctx, &Update{Headers: map[string]string{"X": "1"}}); err != nil {
		t.Fatal(err)
	}
	b, err := c.Connect(ctx, "b", someServer)
	if err != nil {
		t.Fatal(err)
	}
	kill(t, c)
	lines := diary(t, c, "resources/subscribe")[1:] // without initialize
	want := []string{
		`servers/connect {"lazy":true,"transport":{"headers":{"X":"1"},"type":"http","url":"https://x"},` +
			`"auth":{"token":"new","type":"bearer"},"tools":{"deny":["x"]},"server":"a","scope":{"tenant":"t"},"limits":{"burst":1}}`,
		`roots/set {"server":"a","scope":{"tenant":"t"},"roots":[{"uri":"file:///r"}]}`,
		`logging/setLevel {"server":"a","scope":{"tenant":"t"},"level":"debug"}`,
		`resources/subscribe {"server":"a","scope":{"tenant":"t"},"uri":"x://2"}`,
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("have %q\nwant %q", lines, want)
	}
	if _, err := b.ListTools(ctx, nil); err != nil { // only now
		t.Error(err)
	}
	if lines = diary(t, c, "tools/list"); len(lines) != 1+len(want)+2 || !strings.HasPrefix(lines[len(want)+1], "servers/connect") {
		t.Errorf("%q", lines)
	}
	if _, err := a.ListTools(ctx, nil); err != nil {
		t.Error(err)
	}
	if lines = diary(t, c, "tools/list"); len(lines) != 1+len(want)+3 {
		t.Errorf("it was asked again: %q", lines)
	}
}

func TestWhatWasAskedOfAnAddressIsAskedAgainBeforeItsFirstOperationOnly(t *testing.T) {
	c := startPart(t, part("good"))
	ctx := within(t)
	a, err := c.Connect(ctx, "a", someServer)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "info"}); err != nil {
		t.Fatal(err)
	}
	kill(t, c)
	if _, err := a.Info(ctx); err != nil { // a question about the address opens nothing
		t.Error(err)
	}
	if lines := diary(t, c, "servers/get"); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
	if _, err := a.ListTools(ctx, nil); err != nil {
		t.Error(err)
	}
	lines := diary(t, c, "tools/list")
	if len(lines) != 5 || !strings.HasPrefix(lines[3], "logging/setLevel") {
		t.Errorf("%q", lines)
	}
	other := *someServer
	other.Protocol, other.Replace = "legacy", true
	if _, err = c.Connect(ctx, "a", &other); err != nil { // another connection: nothing was asked of it
		t.Fatal(err)
	}
	kill(t, c)
	if _, err := a.ListTools(ctx, nil); err != nil {
		t.Error(err)
	}
	if lines = diary(t, c, "tools/list"); len(lines) != 3 || !strings.Contains(lines[1], `"protocol":"legacy"`) {
		t.Errorf("%q", lines)
	}
}

func TestImportedAddressesAreImportedAgainEachByItself(t *testing.T) {
	c := startPart(t, part("good"))
	ctx := within(t)
	made, err := c.Scope(Scope{User: "u"}).Import(ctx, &ImportConfig{
		Config: json.RawMessage(`{"mcpServers":{"one":{"command":"x","args":["${A}"]},"two":{"url":"https://y"}}}`),
		Env:    map[string]string{"A": "1"}, Connect: true,
	})
	if err != nil || len(made.Servers) != 2 || len(made.Errors) != 0 {
		t.Fatalf("%+v %v", made, err)
	}
	one := c.Scope(Scope{User: "u"}).Server("one")
	if _, err := one.Update(ctx, &Update{Limits: &ServerLimits{Burst: 2}}); err != nil {
		t.Fatal(err)
	}
	kill(t, c)
	if _, err := one.ListTools(ctx, nil); err != nil {
		t.Error(err)
	}
	lines := diary(t, c, "tools/list")[1:]
	want := []string{
		`servers/import {"config":{"mcpServers":{"one":{"command":"x","args":["${A}"]}}},"scope":{"user":"u"},"env":{"A":"1"}}`,
		`servers/update {"server":"one","scope":{"user":"u"},"limits":{"burst":2}}`,
		`tools/list {"server":"one","scope":{"user":"u"}}`,
	}
	if fmt.Sprint(lines) != fmt.Sprint(want) {
		t.Errorf("have %q\nwant %q", lines, want)
	}
	if infos, err := c.AllServers(ctx); err == nil || len(infos) > 0 { // the part has no servers/list
		t.Errorf("%v %v", infos, err)
	}
	if lines = diary(t, c, `servers/import {"config":{"mcpServers":{"two"`); len(lines) == 0 {
		t.Error("two is not back")
	}
}
