package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// maxLogins is how often a person would put up with it.
const maxLogins = 3

var errTooManyLogins = errors.New("the server asks for a login again and again")

const (
	callback = "http://localhost:3000/callback" // nobody listens there: its URL is read from the redirect
	metadata = "https://conformance-test.local/client-metadata.json"
)

// connect connects the server with the credentials of the scenario.
func (s *scenario) connect(ctx context.Context) error {
	config := &sidecar.ServerConfig{Transport: sidecar.HTTP{URL: s.url}}
	if strings.HasPrefix(s.name, "auth/") {
		config.Auth = s.auth()
	}
	return s.loggedIn(ctx, func() error {
		server, err := s.client.Connect(ctx, "conformance", config)
		s.server = server
		return err
	})
}

func (s *scenario) auth() sidecar.OAuth {
	auth := sidecar.OAuth{ClientID: s.given.ClientID, ClientSecret: s.given.ClientSecret, ClientName: "conformance"}
	switch s.name {
	case "auth/client-credentials-basic":
		auth.Grant, auth.TokenEndpointAuthMethod = "client_credentials", "client_secret_basic"
		return auth
	case "auth/client-credentials-jwt":
		auth.Grant, auth.TokenEndpointAuthMethod = "client_credentials", "private_key_jwt"
		auth.PrivateKey = &sidecar.PrivateKey{PEM: s.given.PrivateKeyPEM, Algorithm: s.given.SigningAlgorithm}
		return auth
	case "auth/enterprise-managed-authorization":
		auth.Grant, auth.TokenEndpointAuthMethod = "jwt_bearer", "client_secret_basic"
		return auth
	case "auth/wif-jwt-bearer":
		auth.Grant, auth.TokenEndpointAuthMethod = "jwt_bearer", "none"
		return auth
	case "auth/dpop", "auth/dpop-nonce":
		auth.DPoP = true
	}
	auth.Redirect = sidecar.HostRedirect{URI: callback}
	if auth.ClientID == "" {
		auth.ClientMetadataURL = metadata // used where the authorization server takes it, else it registers
	}
	return auth
}

// loggedIn does something, and again after each login that it asks for.
func (s *scenario) loggedIn(ctx context.Context, do func() error) error {
	for {
		err := do()
		var required *sidecar.AuthRequiredError
		if !errors.As(err, &required) {
			return err
		}
		if s.logins++; s.logins > maxLogins {
			return errors.Join(errTooManyLogins, err)
		}
		location, err := visit(ctx, required.Authorization.URL)
		if err != nil {
			return fmt.Errorf("authorization: %w", err)
		}
		if _, err := s.client.CompleteAuth(ctx, location); err != nil {
			return fmt.Errorf("callback: %w", err)
		}
	}
}

// visit is the person with the browser: it opens the URL and returns where it is sent, without going there.
func visit(ctx context.Context, target string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return "", err
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	location := response.Header.Get("Location")
	if location == "" {
		return "", fmt.Errorf("the authorization server answers %s and no redirect", response.Status)
	}
	return location, nil
}

// assertion returns the workload's token, or exchanges the identity provider's for one (RFC 8693).
func (s *scenario) assertion(ctx context.Context, asked *sidecar.AssertionRequest) (string, error) {
	if s.given.ValidJWT != "" {
		return s.given.ValidJWT, nil
	}
	form := url.Values{
		"grant_type":           {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":        {s.given.IDPIDToken},
		"subject_token_type":   {"urn:ietf:params:oauth:token-type:id_token"},
		"requested_token_type": {"urn:ietf:params:oauth:token-type:id-jag"},
		"audience":             {asked.Audience},
		"resource":             {asked.Resource},
		"client_id":            {s.given.IDPClientID},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.given.IDPTokenEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("the identity provider answers %s", response.Status)
	}
	return answer.AccessToken, nil
}
