package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"
)

// Logins. The simple way is Options.Authorize; a web back end shows the URL of an [AuthRequiredError] to its user and
// gives what the redirect brought to CompleteAuth.

// AuthRequiredError says that a person must log in: [Client.Connect] returns it beside the server, and [errors.As]
// finds it in every failure that is an AuthRequired (1301). It is also [ErrAuthRequired].
type AuthRequiredError struct {
	// Authorization is the login that waits: where to send the person, and until when.
	Authorization Authorization

	failure *Error
}

// Error says whose login it is, and not where: the URL is a secret.
func (e *AuthRequiredError) Error() string { return e.failure.Error() }

// Unwrap returns the failure, an *[Error] of code 1301.
func (e *AuthRequiredError) Unwrap() error { return e.failure }

// authRequired finds the login in a failure of code 1301.
func (e *Error) authRequired() *AuthRequiredError {
	if e.Code != CodeAuthRequired || len(e.Data) == 0 {
		return nil
	}
	var data struct {
		Authorization *Authorization `json:"authorization"`
	}
	if json.Unmarshal(e.Data, &data) != nil || data.Authorization == nil {
		return nil
	}
	return &AuthRequiredError{*data.Authorization, e}
}

// loginNeeded is what Connect returns beside the server.
func loginNeeded(info *ServerInfo) error {
	failure := localError(CodeAuthRequired, DeliveredNo, "a person must log in", nil,
		map[string]any{"authorization": info.Authorization})
	failure.Server, failure.Scope = info.Server, info.Scope
	return &AuthRequiredError{*info.Authorization, failure}
}

// notified takes a notification on the read loop. A login is begun here, so that no observer can hold it up.
func (c *Client) notified(number int, method string, params json.RawMessage) {
	n := note{session: number, method: method, params: params}
	if method == notificationAuthRequired && c.opts.Authorize != nil {
		if event, err := c.eventOf(n); err == nil {
			go c.authorize(event.(*AuthRequired)) //nolint:forcetypeassert // it is what this notification is read as
		}
	}
	c.notes.push(n)
}

// authorize runs Options.Authorize for one login, however many addresses wait for it and however often it is told.
func (c *Client) authorize(required *AuthRequired) {
	login := required.Authorization
	if !c.claimLogin(login) {
		return
	}
	ctx := c.lifetime
	if !login.ExpiresAt.IsZero() {
		bounded, cancel := context.WithDeadline(ctx, login.ExpiresAt)
		defer cancel()
		ctx = bounded
	}
	callbackURL, err := c.askToAuthorize(ctx, required)
	scope := c.Scope(required.Server.scope)
	switch {
	case ctx.Err() != nil: // the login has ended by itself
		return
	case err != nil:
		_, err = scope.CompleteAuthParts(ctx, &AuthCallback{
			State: login.State, Error: "access_denied", ErrorDescription: err.Error(),
		})
		if errors.Is(err, ErrAuthDenied) { // as it was meant
			err = nil
		}
	case callbackURL != "":
		_, err = scope.CompleteAuth(ctx, callbackURL)
	}
	if err == nil {
		return
	}
	// What became of the login shows in the state of its connections; a callback that is refused shows here alone, and
	// the login may be asked for once more.
	c.mu.Lock()
	delete(c.logins, login.AuthorizationID)
	c.mu.Unlock()
	if c.opts.Logger != nil {
		c.opts.Logger.Warn("a login could not be completed", "server", required.Server.name, "error", err)
	}
}

// claimLogin reports whether nobody has asked the person for this login yet.
func (c *Client) claimLogin(login Authorization) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(c.logins, func(_ string, until time.Time) bool { return until.Before(now) })
	if _, known := c.logins[login.AuthorizationID]; known {
		return false
	}
	until := login.ExpiresAt
	if until.IsZero() {
		until = now.Add(loginKept)
	}
	c.logins[login.AuthorizationID] = until
	return true
}

// loginKept is how long a login is remembered that says no end of its own.
const loginKept = time.Hour

func (c *Client) askToAuthorize(ctx context.Context, required *AuthRequired) (callbackURL string, err error) {
	defer func() {
		if value := recover(); value != nil {
			c.panicked("Authorize", value)
			err = errors.New("the handler panicked")
		}
	}()
	return c.opts.Authorize(ctx, required)
}

// Flow says how a person logs in; "" lets the connection's config decide.
type Flow string

// The values of [Flow].
const (
	FlowRedirect Flow = "redirect"
	FlowDevice   Flow = "device"
)

// BeginAuth begins a login anew, or returns the one that waits.
func (s *Server) BeginAuth(ctx context.Context, flow Flow) (*Authorization, error) {
	raw, err := s.request(ctx, MethodAuthBegin, struct {
		Flow Flow `json:"flow,omitempty"`
	}{flow})
	if err != nil {
		return nil, err
	}
	authorization := new(Authorization)
	return authorization, decodeOwn(MethodAuthBegin, raw, authorization)
}

// CompleteAuth ends a login of the empty scope; see [ScopedClient.CompleteAuth].
func (c *Client) CompleteAuth(ctx context.Context, callbackURL string) (*ServerInfo, error) {
	return c.Scope(Scope{}).CompleteAuth(ctx, callbackURL)
}

// CompleteAuth ends a login with the whole URL that the person's browser was sent back to. The tenant and the user of
// this scope must be those of the login; a callback that is foreign, unknown, used or late is an AuthPolicy (1306) and
// touches no pending login. It returns once the tokens are stored.
func (c *ScopedClient) CompleteAuth(ctx context.Context, callbackURL string) (*ServerInfo, error) {
	return c.completeAuth(ctx, struct {
		Scope       Scope  `json:"scope"`
		CallbackURL string `json:"callbackUrl"`
	}{c.scope, callbackURL})
}

// CompleteAuthParts is CompleteAuth for a host that has taken the callback's query apart.
func (c *ScopedClient) CompleteAuthParts(ctx context.Context, parts *AuthCallback) (*ServerInfo, error) {
	return c.completeAuth(ctx, struct {
		Scope Scope `json:"scope"`
		*AuthCallback
	}{c.scope, orEmpty(parts)})
}

func (c *ScopedClient) completeAuth(ctx context.Context, params any) (*ServerInfo, error) {
	raw, err := c.client.Request(ctx, MethodAuthComplete, params)
	if err != nil {
		return nil, err
	}
	return c.client.serverInfo(MethodAuthComplete, raw)
}

// ImportAuth takes over a login that this host already holds. Connect the server before, lazily if need be.
func (s *Server) ImportAuth(ctx context.Context, login *AuthImport) (*ServerInfo, error) {
	type tokens struct {
		ImportedTokens
		ExpiresAt string `json:"expiresAt,omitempty"`
	}
	given := orEmpty(login)
	raw, err := s.request(ctx, MethodAuthImport, struct {
		*AuthImport
		Tokens tokens `json:"tokens"`
	}{given, tokens{given.Tokens, wireTime(given.Tokens.ExpiresAt)}})
	if err != nil {
		return nil, err
	}
	return s.client.serverInfo(MethodAuthImport, raw)
}

// AuthStatus tells the stored login of this server; never a secret.
func (s *Server) AuthStatus(ctx context.Context) ([]CredentialStatus, error) {
	return s.client.authStatus(ctx, authStatusParams{Server: s.name, Scope: &s.scope})
}

// AuthStatus tells the stored logins of the empty scope; see [ScopedClient.AuthStatus].
func (c *Client) AuthStatus(ctx context.Context) ([]CredentialStatus, error) {
	return c.Scope(Scope{}).AuthStatus(ctx)
}

// AuthStatus tells the stored logins of all servers that this tenant and user have connected; never a secret.
func (c *ScopedClient) AuthStatus(ctx context.Context) ([]CredentialStatus, error) {
	return c.client.authStatus(ctx, authStatusParams{Scope: &c.scope})
}

func (c *Client) authStatus(ctx context.Context, params authStatusParams) ([]CredentialStatus, error) {
	raw, err := c.Request(ctx, MethodAuthStatus, params)
	if err != nil {
		return nil, err
	}
	var status struct {
		Credentials []CredentialStatus `json:"credentials"`
	}
	err = decodeOwn(MethodAuthStatus, raw, &status)
	return status.Credentials, err
}

// RevokeAuth revokes the login at its authorization server where that offers it, and forgets it in any case: tokens,
// session and caches are gone. It reports whether the server has revoked it.
func (s *Server) RevokeAuth(ctx context.Context) (revokedAtServer bool, err error) {
	raw, err := s.request(ctx, MethodAuthRevoke, nil)
	if err != nil {
		return false, err
	}
	var revoked struct {
		RevokedAtServer bool `json:"revokedAtServer"`
	}
	err = decodeOwn(MethodAuthRevoke, raw, &revoked)
	return revoked.RevokedAtServer, err
}
