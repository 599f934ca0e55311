package sqlvault

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

func TestALoginInTheDatabaseServesTheNextProcess(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	command := filepath.Join(root, ".venv", "bin", "mcp-sidecar")
	if _, err := os.Stat(command); err != nil {
		t.Skip("the sidecar is missing: run make setup")
	}
	server := exec.Command(filepath.Join(root, ".venv", "bin", "python"), "-m", "tests.servers.oauth_world")
	server.Dir = root
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // it has no reason to end by itself
		_ = server.Wait()
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	vault := open(t, filepath.Join(t.TempDir(), "logins.db"))
	var logins atomic.Int64
	for range 2 { // two processes, one after the other
		client, err := sidecar.Start(within(t), &sidecar.Options{
			Command: []string{command},
			Env:     []string{"MCP_SIDECAR_KEY=" + base64.StdEncoding.EncodeToString(key)},
			Vault:   vault,
			Egress:  &sidecar.Egress{AllowHTTP: []string{"127.0.0.1"}, AllowPrivate: []string{"127.0.0.0/8"}},
			Authorize: func(ctx context.Context, required *sidecar.AuthRequired) (string, error) {
				logins.Add(1)
				return agree(ctx, required.Authorization.URL)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		one, err := client.Scope(sidecar.Scope{Tenant: "acme", User: "ada"}).Connect(within(t), "p", &sidecar.ServerConfig{
			Transport: sidecar.HTTP{URL: "http://127.0.0.1:" + strings.TrimSpace(port) + "/sql/mcp"},
			Auth:      sidecar.OAuth{Redirect: sidecar.HostRedirect{URI: "http://127.0.0.1:9/callback"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := one.Call(within(t), "echo", nil); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	if logins.Load() != 1 {
		t.Errorf("%d logins", logins.Load())
	}
	var tenant, account, sealed string
	err = vault.db.QueryRow(`SELECT tenant, account, value FROM mcp_logins WHERE tenant <> ''`).Scan(&tenant, &account, &sealed)
	if err != nil || tenant != "acme" || account != "ada" || strings.Contains(sealed, "access_token") {
		t.Errorf("%s %s %.80q %v", tenant, account, sealed, err)
	}
}

// agree is the person with the browser.
func agree(ctx context.Context, target string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", err
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	return answer.Header.Get("Location"), nil
}
