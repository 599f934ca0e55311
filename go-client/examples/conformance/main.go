// Conformance is the client that the official MCP conformance suite (@modelcontextprotocol/conformance) tests: a small
// host over the Go client, and so over the whole product.
//
// The suite starts it once for each scenario, with the URL of its server as the last argument, the scenario's name in
// MCP_CONFORMANCE_SCENARIO, and for some scenarios credentials or arguments in MCP_CONFORMANCE_CONTEXT. It does what a
// host does: connect, log in where that is asked for, list everything, call every tool. It exits 0 if all that worked,
// or failed as the scenario wants it to fail. `make conformance` runs the suite.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/internal/forms"
	"github.com/mcp-sidecar/mcp-sidecar/go-client/mcp"
)

// timeout is less than what the suite gives a client.
const timeout = 50 * time.Second

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: conformance URL (the suite starts it)")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	run := scenario{name: os.Getenv("MCP_CONFORMANCE_SCENARIO"), url: os.Args[len(os.Args)-1]}
	if err := run.do(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "conformance: %s: %v\n", run.name, err)
		os.Exit(1)
	}
}

// scenario is one run.
type scenario struct {
	name, url string
	given     given

	client *sidecar.Client
	server *sidecar.Server
	logins int
	asked  int
}

// given is what MCP_CONFORMANCE_CONTEXT may hold.
type given struct {
	ClientID         string     `json:"client_id"`
	ClientSecret     string     `json:"client_secret"`
	PrivateKeyPEM    string     `json:"private_key_pem"`
	SigningAlgorithm string     `json:"signing_algorithm"`
	IDPClientID      string     `json:"idp_client_id"`
	IDPIDToken       string     `json:"idp_id_token"`
	IDPIssuer        string     `json:"idp_issuer"`
	IDPTokenEndpoint string     `json:"idp_token_endpoint"`
	ValidJWT         string     `json:"valid_jwt"`
	ToolCalls        []toolCall `json:"toolCalls"`
}

// toolCall keeps its arguments as they came: a null, a blank or a 1.0 must arrive.
type toolCall struct {
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
}

func (s *scenario) do(ctx context.Context) error {
	if text := os.Getenv("MCP_CONFORMANCE_CONTEXT"); text != "" {
		if err := json.Unmarshal([]byte(text), &s.given); err != nil {
			return fmt.Errorf("MCP_CONFORMANCE_CONTEXT: %w", err)
		}
	}
	client, err := sidecar.Start(ctx, s.options())
	if err != nil {
		return err
	}
	s.client = client
	err = s.use(ctx)
	if expected := failures[s.name]; expected != nil {
		switch {
		case err == nil:
			err = errors.New("it worked, and should not have")
		case errors.Is(err, expected):
			fmt.Fprintln(os.Stderr, "conformance: refused, as it should be:", err)
			err = nil
		}
	}
	return errors.Join(err, client.Close())
}

// failures are the scenarios in which the server or its authorization server is wrong, and what must come of it.
var failures = map[string]error{
	"auth/resource-mismatch":             sidecar.ErrAuthPolicy,
	"auth/iss-supported-missing":         sidecar.ErrAuthPolicy,
	"auth/iss-wrong-issuer":              sidecar.ErrAuthPolicy,
	"auth/iss-unexpected":                sidecar.ErrAuthPolicy,
	"auth/iss-normalized":                sidecar.ErrAuthPolicy,
	"auth/metadata-issuer-mismatch":      sidecar.ErrAuthPolicy,
	"auth/scope-retry-limit":             errTooManyLogins,
	"sep-2640-client-verify-digest":      sidecar.ErrBadPeerMessage,
	"sep-2640-client-verify-size":        sidecar.ErrBadPeerMessage,
	"sep-2640-client-verify-frontmatter": sidecar.ErrBadPeerMessage,
}

// options promise everything: the suite looks at what is promised, and asks.
func (s *scenario) options() *sidecar.Options {
	return &sidecar.Options{
		Host:        sidecar.HostInfo{Name: "mcp-sidecar-conformance", Version: sidecar.Version},
		Stderr:      os.Stderr,
		VaultConfig: &sidecar.VaultConfig{Type: "memory"},
		// The suite's servers are on this machine, their authorization servers on other ports of it.
		Egress: &sidecar.Egress{
			AllowHTTP:    []string{"localhost", "127.0.0.1"},
			AllowPrivate: []string{"localhost", "127.0.0.0/8", "::1/128"},
		},
		Elicit:     s.elicit,
		Sample:     sample,
		Roots:      func(context.Context, *sidecar.RootsRequest) ([]*mcp.Root, error) { return nil, nil },
		Assertions: s.assertion,
	}
}

// elicit accepts everything. What has a default is left out: the sidecar fills it in. Between the rounds of one call
// it makes another, which must not be mixed up with it.
func (s *scenario) elicit(ctx context.Context, request *sidecar.ElicitRequest) (*mcp.ElicitResult, error) {
	s.asked++
	if s.name == "sep-2322-client-request-state" && s.asked == 1 {
		if _, err := request.Server.Call(ctx, "test_mrtr_unrelated", nil); err != nil {
			return nil, err
		}
	}
	form, err := forms.Parse(request.Params.RequestedSchema)
	if err != nil {
		return nil, err
	}
	return &mcp.ElicitResult{Action: "accept", Content: form.Object(true)}, nil
}

func sample(context.Context, *sidecar.SampleRequest) (*mcp.CreateMessageResult, error) {
	return &mcp.CreateMessageResult{
		Role: mcp.RoleAssistant, Model: "none", StopReason: "endTurn", Content: &mcp.TextContent{Text: "A sample."},
	}, nil
}

// use is what a host does with a server.
func (s *scenario) use(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	info, err := s.server.Info(ctx)
	if err != nil {
		return err
	}
	steps := []func(context.Context) error{s.tools, s.resources, s.prompts}
	if info.Capabilities != nil && info.Capabilities.Extensions["io.modelcontextprotocol/skills"] != nil {
		steps = []func(context.Context) error{s.skills}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.server.Disconnect(ctx, false)
}

// tools lists the tools and calls each once, or makes the calls that the suite names.
func (s *scenario) tools(ctx context.Context) error {
	var tools []*mcp.Tool
	err := s.loggedIn(ctx, func() error {
		tools = nil
		for tool, err := range s.server.Tools(ctx, nil) {
			if err != nil {
				return err
			}
			tools = append(tools, tool)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("tools: %w", err)
	}
	if s.name == "json-schema-ref-no-deref" {
		return nil // its server only lists
	}
	calls := s.given.ToolCalls
	if len(calls) == 0 {
		if calls, err = callsFor(tools); err != nil {
			return err
		}
	}
	for _, call := range calls {
		if call.Name == "test_mrtr_unrelated" {
			continue // it is called in the middle of another
		}
		err := s.loggedIn(ctx, func() error {
			_, err := s.server.Call(ctx, call.Name, call.Arguments)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", call.Name, err)
		}
	}
	return nil
}

// callsFor makes one call for each tool. The tool that echoes a schema gets that of the first, as it came.
func callsFor(tools []*mcp.Tool) ([]toolCall, error) {
	var calls []toolCall
	for _, tool := range tools {
		form, err := forms.Parse(tool.InputSchema)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tool.Name, err)
		}
		object := form.Object(false)
		if _, echo := object["schema"]; echo && len(tools) > 1 {
			object["schema"] = tools[0].InputSchema
		}
		arguments, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		calls = append(calls, toolCall{tool.Name, arguments})
	}
	return calls, nil
}

func (s *scenario) resources(ctx context.Context) error {
	for resource, err := range s.server.Resources(ctx, nil) {
		if errors.Is(err, sidecar.ErrCapabilityMissing) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("resources: %w", err)
		}
		if _, err := s.server.ReadResource(ctx, &mcp.ReadResourceParams{URI: resource.URI}); err != nil {
			return fmt.Errorf("%s: %w", resource.URI, err)
		}
	}
	return nil
}

func (s *scenario) prompts(ctx context.Context) error {
	for prompt, err := range s.server.Prompts(ctx, nil) {
		if errors.Is(err, sidecar.ErrCapabilityMissing) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("prompts: %w", err)
		}
		if _, err := s.server.GetPrompt(ctx, &mcp.GetPromptParams{Name: prompt.Name}); err != nil {
			return fmt.Errorf("%s: %w", prompt.Name, err)
		}
	}
	return nil
}

// skills lists the skills and, where the scenario is about reading, reads each with all its files.
func (s *scenario) skills(ctx context.Context) error {
	for skill, err := range s.server.Skills(ctx, nil) {
		if err != nil { // not one of the refusals that a scenario may want
			return fmt.Errorf("skills: %v", err) //nolint:errorlint // as said
		}
		if s.name == "sep-2640-client-no-prefetch" {
			continue
		}
		if _, err := s.server.ReadSkill(ctx, &mcp.ReadSkillParams{URI: skill.URI}); err != nil {
			return fmt.Errorf("%s: %w", skill.URI, err)
		}
		for _, file := range skill.Resources {
			if _, err := s.server.ReadSkill(ctx, &mcp.ReadSkillParams{URI: file.URI}); err != nil {
				return fmt.Errorf("%s: %w", file.URI, err)
			}
		}
	}
	return nil
}
