//go:build unix

package sidecar

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// Logins against the authorization server of the tests, whose MCP server takes only its tokens.

type authWorld struct {
	origin string
	key    string
}

// protected starts the servers; what is asked of them is this test's own.
func protected(t *testing.T) *authWorld {
	t.Helper()
	long(t)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	command := realCommand()
	need(t, "the sidecar", command != nil)
	server := exec.Command(filepath.Join(root, ".venv/bin/python"), "-m", "tests.servers.oauth_world")
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
	return &authWorld{"http://127.0.0.1:" + strings.TrimSpace(port), "go"}
}

const authRedirect = "http://127.0.0.1:9/callback"

func (w *authWorld) config(auth Auth) *ServerConfig {
	return &ServerConfig{Transport: HTTP{URL: w.origin + "/" + w.key + "/mcp"}, Auth: auth}
}

func (w *authWorld) oauth() *ServerConfig {
	return w.config(OAuth{Redirect: HostRedirect{URI: authRedirect}})
}

func (w *authWorld) set(t *testing.T, changes string) {
	t.Helper()
	answer, err := http.Post(w.origin+"/control/"+w.key, "application/json", strings.NewReader(changes))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
}

// requests counts the token requests of a grant.
func (w *authWorld) requests(t *testing.T, grant string) int {
	t.Helper()
	answer, err := http.Get(w.origin + "/log/" + w.key)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var seen struct {
		Log []struct {
			Form map[string]string `json:"form"`
		} `json:"log"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&seen); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, entry := range seen.Log {
		if entry.Form["grant_type"] == grant {
			count++
		}
	}
	return count
}

// browse is the person: it opens the URL, agrees, and returns where it is sent.
func browse(ctx context.Context, target string) (string, error) {
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

func authOptions() *Options {
	return &Options{
		VaultConfig: &VaultConfig{Type: "memory"},
		Egress:      &Egress{AllowHTTP: []string{"127.0.0.1"}, AllowPrivate: []string{"127.0.0.0/8"}},
	}
}

func TestRealLoginOfAWebBackEnd(t *testing.T) {
	t.Parallel()
	w := protected(t)
	told := make(chan *AuthRequired, 8)
	opts := authOptions()
	opts.OnAuthRequired = func(e *AuthRequired) { told <- e }
	c := realClient(t, opts)
	ctx := within(t)
	alice := c.Scope(Scope{Tenant: "acme", User: "alice", Session: "1"})
	server, err := alice.Connect(ctx, "p", w.oauth())
	var required *AuthRequiredError
	if server == nil || !errors.As(err, &required) || !errors.Is(err, ErrAuthRequired) {
		t.Fatalf("%v %v", server, err)
	}
	if strings.Contains(err.Error(), "http") || !strings.Contains(required.Authorization.URL, "code_challenge") {
		t.Errorf("%v, %s", err, required.Authorization.URL)
	}
	if e := <-told; e.Server.Name() != "p" || e.Authorization.State != required.Authorization.State {
		t.Errorf("%+v", e)
	}
	var again *AuthRequiredError
	if _, err = server.Call(ctx, "echo", nil); !errors.As(err, &again) || again.Authorization.URL != required.Authorization.URL {
		t.Errorf("a call in between: %v", err)
	}
	location, err := browse(ctx, required.Authorization.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, foreign := range map[string]*ScopedClient{"another user": c.Scope(Scope{Tenant: "acme", User: "bob"}), "nobody": c.Scope(Scope{})} {
		if _, err := foreign.CompleteAuth(ctx, location); !errors.Is(err, ErrAuthPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	info, err := c.Scope(Scope{Tenant: "acme", User: "alice"}).CompleteAuth(ctx, location) // any session of hers
	if err != nil || info.Server != "p" {
		t.Fatalf("%+v %v", info, err)
	}
	if _, err = alice.CompleteAuth(ctx, location); !errors.Is(err, ErrAuthPolicy) {
		t.Errorf("the callback works twice: %v", err)
	}
	result, err := server.Call(ctx, "echo", map[string]string{"text": "hi"})
	if err != nil || result.Content[0].(*mcp.TextContent).Text != "hi" {
		t.Errorf("%+v %v", result, err)
	}
	w.set(t, `{"do":"expire"}`) // the next call finds it, and nobody is asked again
	if _, err = server.Call(ctx, "echo", nil); err != nil || w.requests(t, "refresh_token") != 1 {
		t.Errorf("after the token's end: %v, %d refreshes", err, w.requests(t, "refresh_token"))
	}
	for _, status := range []func(context.Context) ([]CredentialStatus, error){server.AuthStatus, alice.AuthStatus} {
		known, err := status(ctx)
		if err != nil || len(known) != 1 || !known[0].Refreshable || known[0].StoredIn != "memory" || known[0].ExpiresAt.IsZero() {
			t.Errorf("%+v %v", known, err)
		}
	}
	if revoked, err := server.RevokeAuth(ctx); err != nil || !revoked {
		t.Errorf("%v %v", revoked, err)
	}
	if _, err = server.Call(ctx, "echo", nil); !errors.Is(err, ErrAuthRequired) {
		t.Errorf("after the end of the login: %v", err)
	}
	begun, err := server.BeginAuth(ctx, FlowRedirect)
	if err != nil || begun.URL == "" {
		t.Errorf("%+v %v", begun, err)
	}
	query, err := url.Parse(begun.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = alice.CompleteAuthParts(ctx, &AuthCallback{
		State: query.Query().Get("state"), Error: "access_denied", Iss: fmt.Sprint(strings.SplitN(begun.URL, "/authorize", 2)[0]),
	})
	if !errors.Is(err, ErrAuthDenied) {
		t.Errorf("a person who says no: %v", err)
	}
}

func TestRealConnectWithAuthorizeWaitsForTheLoginAndAsksOnceForAll(t *testing.T) {
	t.Parallel()
	w := protected(t)
	var asked atomic.Int64
	opts := authOptions()
	opts.Authorize = func(ctx context.Context, required *AuthRequired) (string, error) {
		asked.Add(1)
		if _, err := required.Server.Info(ctx); err != nil { // a handler may use the client
			t.Error(err)
		}
		return browse(ctx, required.Authorization.URL)
	}
	c := realClient(t, opts)
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			server, err := c.Connect(within(t), name, w.oauth())
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			if _, err := server.Call(within(t), "echo", nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
	}
	wg.Wait()
	if asked.Load() != 1 || w.requests(t, "authorization_code") != 1 {
		t.Errorf("asked %d times, %d codes", asked.Load(), w.requests(t, "authorization_code"))
	}
}

func TestRealPersonIsSentToTheBrowserOnceAlsoIfTheHandlerDoesNotWait(t *testing.T) {
	t.Parallel()
	w := protected(t)
	opened := make(chan string, 8)
	told := make(chan string, 8)
	opts := authOptions()
	opts.Authorize = func(_ context.Context, required *AuthRequired) (string, error) {
		opened <- required.Authorization.URL
		return "", nil // as with a loopback redirect: somebody else ends the login
	}
	opts.OnAuthRequired = func(e *AuthRequired) { told <- e.Server.Name() }
	c := realClient(t, opts)
	for _, name := range []string{"one", "two"} {
		config := w.oauth()
		config.Wait = WaitUsable
		if _, err := c.Connect(within(t), name, config); !errors.Is(err, ErrAuthRequired) {
			t.Fatal(err)
		}
		<-told
	}
	location, err := browse(within(t), <-opened)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteAuth(within(t), location); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		if _, err := c.Server(name).Call(within(t), "echo", nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(opened) > 0 {
		t.Error("the browser is opened again")
	}
}

func TestRealAuthorizeThatFailsOrPanicsEndsTheLogin(t *testing.T) {
	t.Parallel()
	w := protected(t)
	for name, handler := range map[string]func(context.Context, *AuthRequired) (string, error){
		"fails":  func(context.Context, *AuthRequired) (string, error) { return "", errors.New("no browser") },
		"panics": func(context.Context, *AuthRequired) (string, error) { panic("a secret") },
	} {
		opts := authOptions()
		opts.Authorize, opts.Logger = handler, quiet()
		c := realClient(t, opts)
		begin := time.Now()
		_, err := c.Connect(within(t), "p", w.oauth())
		var failure *Error
		if !errors.As(err, &failure) || failure.Code != CodeAuthDenied && failure.Code != CodeAuthPolicy {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		works(t, c)
	}
}

func TestRealTokensOfTheHostAreAskedForAndAskedAgainWhenRejected(t *testing.T) {
	t.Parallel()
	w := protected(t)
	var mu sync.Mutex
	var reasons []string
	opts := authOptions()
	opts.Tokens = func(ctx context.Context, r *TokenRequest) (*HostToken, error) {
		mu.Lock()
		reasons = append(reasons, r.Reason)
		mu.Unlock()
		if r.Reason == "missing" {
			return &HostToken{AccessToken: "stale"}, nil
		}
		return nil, errors.New("the user is gone")
	}
	host := realClient(t, opts)
	_, err := host.Connect(within(t), "p", w.config(HostAuth{}))
	if !errors.Is(err, ErrAuthTransient) && !errors.Is(err, ErrAuthDenied) {
		t.Errorf("%v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(reasons, " ") != "missing rejected" {
		t.Errorf("%q", reasons)
	}
}

func TestRealLoginInTheVaultOfTheHostOutlivesTheSidecar(t *testing.T) {
	t.Parallel()
	w := protected(t)
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	vault := &lockedVault{records: memoryVault{}}
	opts := authOptions()
	opts.VaultConfig, opts.Vault = nil, vault
	opts.Env = []string{"MCP_SIDECAR_KEY=" + base64.StdEncoding.EncodeToString(key)}
	opts.Authorize = func(ctx context.Context, required *AuthRequired) (string, error) {
		return browse(ctx, required.Authorization.URL)
	}
	c := realClient(t, opts)
	server, err := c.Scope(Scope{Tenant: "t", User: "u"}).Connect(within(t), "p", w.oauth())
	if err != nil {
		t.Fatal(err)
	}
	if known, err := server.AuthStatus(within(t)); err != nil || len(known) != 1 || known[0].StoredIn != "host" {
		t.Errorf("%+v %v", known, err)
	}
	kill(t, c)
	if _, err := server.Call(within(t), "echo", nil); err != nil {
		t.Error(err)
	}
	if codes := w.requests(t, "authorization_code"); codes != 1 {
		t.Errorf("%d logins", codes)
	}
	vault.mu.Lock()
	defer vault.mu.Unlock()
	for name, record := range vault.records {
		if text := name + string(record.Value); strings.Contains(text, "at-") && strings.Contains(text, "rt-") || strings.Contains(text, w.origin) {
			t.Errorf("the record is not sealed: %s", name)
		}
	}
	if len(vault.records) == 0 {
		t.Error("nothing is stored")
	}
}

// lockedVault makes a map safe for many questions at once.
type lockedVault struct {
	mu      sync.Mutex
	records memoryVault
}

func (v *lockedVault) Get(ctx context.Context, key string) (*VaultRecord, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.records.Get(context.WithValue(ctx, scopeKey{}, Scope{Tenant: "t"}), key)
}

func (v *lockedVault) Put(ctx context.Context, key string, value []byte, ifVersion string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.records.Put(ctx, key, value, ifVersion)
}

func (v *lockedVault) Delete(ctx context.Context, key string, ifVersion string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.records.Delete(ctx, key, ifVersion)
}

func TestRealLoginThatTheHostAlreadyHoldsIsTakenOver(t *testing.T) {
	t.Parallel()
	w := protected(t)
	c := realClient(t, authOptions())
	lazy := w.config(OAuth{Redirect: HostRedirect{URI: authRedirect}, ClientID: "mine"})
	lazy.Lazy = true
	server, err := c.Connect(within(t), "p", lazy)
	if err != nil {
		t.Fatal(err)
	}
	issuer := issuerOf(t, w)
	info, err := server.ImportAuth(within(t), &AuthImport{
		Tokens: ImportedTokens{AccessToken: "at-old", RefreshToken: "rt-old", ExpiresAt: time.Now().Add(time.Hour)},
		Client: &ImportedClient{ClientID: "mine"}, Issuer: issuer, TokenEndpoint: issuer + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	if info.Auth.Type != "oauth" || info.Auth.Issuer != issuer {
		t.Errorf("%+v", info.Auth)
	}
	known, err := server.AuthStatus(within(t))
	if err != nil || len(known) != 1 || known[0].Issuer != issuer || !known[0].Refreshable {
		t.Errorf("%+v %v", known, err)
	}
	_, err = server.ImportAuth(within(t), &AuthImport{Tokens: ImportedTokens{AccessToken: "a\r\nb"}, Issuer: issuer, TokenEndpoint: issuer})
	if !errors.Is(err, ErrInvalidParams) {
		t.Errorf("a token with a line break: %v", err)
	}
}

func issuerOf(t *testing.T, w *authWorld) string {
	t.Helper()
	answer, err := http.Get(w.origin + "/ports")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var ports map[string]int
	if err := json.NewDecoder(answer.Body).Decode(&ports); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d/%s", ports["issuer"], w.key)
}
