package sidecar

import (
	"context"
	"encoding/json"
)

// ScopedClient is a client that speaks of the connections of one scope: one tenant, user and session. It is a handle
// without I/O; a connection is found only by its exact scope and name.
type ScopedClient struct {
	client *Client
	scope  Scope
}

// Scope returns a handle for the connections of one scope. The empty scope is the client's own.
func (c *Client) Scope(scope Scope) *ScopedClient { return &ScopedClient{client: c, scope: scope} }

// Connect makes the connection of one server in the empty scope; see [ScopedClient.Connect].
func (c *Client) Connect(ctx context.Context, name string, config *ServerConfig) (*Server, error) {
	return c.Scope(Scope{}).Connect(ctx, name, config)
}

// Server returns a handle for a server of the empty scope. It does no I/O.
func (c *Client) Server(name string) *Server { return c.Scope(Scope{}).Server(name) }

// Servers lists the connections of the empty scope.
func (c *Client) Servers(ctx context.Context) ([]*ServerInfo, error) {
	return c.Scope(Scope{}).Servers(ctx)
}

// AllServers lists the connections of every scope.
func (c *Client) AllServers(ctx context.Context) ([]*ServerInfo, error) {
	return c.listServers(ctx, listServersParams{AllScopes: true})
}

// Connect makes the connection of one server and returns when it is ready. A connection that cannot be made is an
// error; its address stays, and a later Connect or call tries again. The same config again joins what is there;
// another config under the same name is a ServerExists (1111) unless config.Replace is set.
//
// Where a person must log in, Connect returns the server and an *[AuthRequiredError]. With Options.Authorize, or with
// [WaitReady], it waits for the end of the login instead, by default ten minutes.
func (c *ScopedClient) Connect(ctx context.Context, name string, config *ServerConfig) (*Server, error) {
	patient := config != nil && config.Wait == WaitReady
	if config != nil && config.Wait == WaitDefault && c.client.opts.Authorize != nil {
		copied := *config
		copied.Wait, patient = WaitReady, true
		config = &copied
	}
	raw, failure := c.connectParams(name, config)
	if failure != nil {
		return nil, failure
	}
	server := c.Server(name)
	raw, failure = c.client.do(ctx, request{method: MethodServersConnect, params: raw, patient: patient})
	if failure != nil {
		if required := failure.authRequired(); required != nil {
			return server, required
		}
		return nil, failure
	}
	info, err := c.client.serverInfo(MethodServersConnect, raw)
	if err != nil {
		return nil, err
	}
	if info.State == StateAuthorizing && info.Authorization != nil {
		return server, loginNeeded(info)
	}
	return server, nil
}

// connectParams are the params of servers/connect and servers/test.
func (c *ScopedClient) connectParams(name string, config *ServerConfig) ([]byte, *Error) {
	if config == nil || config.Transport == nil {
		return nil, localError(CodeInvalidParams, "", "the config needs a Transport: HTTP, SSE or Stdio", nil,
			map[string]any{"path": "/transport"})
	}
	raw, failure := encodeParams(config)
	if failure != nil {
		return nil, failure
	}
	return prepend(raw, member{"server", name}, member{"scope", c.scope})
}

// Server returns a handle for a server of this scope. It does no I/O: a name that is not connected shows at its first
// use, as an UnknownServer (1101).
func (c *ScopedClient) Server(name string) *Server {
	return &Server{client: c.client, scope: c.scope, name: name}
}

// Servers lists the connections of this scope.
func (c *ScopedClient) Servers(ctx context.Context) ([]*ServerInfo, error) {
	return c.client.listServers(ctx, listServersParams{Scope: &c.scope})
}

func (c *Client) listServers(ctx context.Context, params listServersParams) ([]*ServerInfo, error) {
	raw, err := c.Request(ctx, MethodServersList, params)
	if err != nil {
		return nil, err
	}
	return c.serverInfos(MethodServersList, raw)
}

// serverInfos reads the list of a result.
func (c *Client) serverInfos(method string, raw json.RawMessage) ([]*ServerInfo, error) {
	var list struct {
		Servers []json.RawMessage `json:"servers"`
	}
	if err := decodeOwn(method, raw, &list); err != nil {
		return nil, err
	}
	infos := make([]*ServerInfo, 0, len(list.Servers))
	for _, element := range list.Servers {
		info, err := c.serverInfo(method, element)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// serverInfo reads one, its generation added to those of former lives of the sidecar.
func (c *Client) serverInfo(method string, raw json.RawMessage) (*ServerInfo, error) {
	var info ServerInfo
	if err := decodeOwn(method, raw, &info); err != nil {
		return nil, err
	}
	info.Raw = raw
	c.mu.Lock()
	number := c.lives
	c.mu.Unlock()
	c.generation(number, &info)
	return &info, nil
}
