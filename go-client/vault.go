package sidecar

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
)

// Vault keeps the sidecar's sealed records in this program's own storage, such as a table of its database (see
// examples/sqlvault). Records are opaque: the sidecar has sealed them, and their keys tell nothing. Options.Vault takes
// it; the key that seals comes from MCP_SIDECAR_KEY in the sidecar's environment or from Options.VaultConfig.KeyFile.
//
// Writing is compare-and-swap, so that two hosts on one database never lose a rotated token. Each call has about three
// seconds; an error other than a [*VaultConflict] says that the storage cannot be used now, and costs no login. The
// methods may be called from several goroutines at once. [ScopeOf] tells whose record it is.
type Vault interface {
	// Get returns the record under the key, and nil if there is truly none.
	Get(ctx context.Context, key string) (*VaultRecord, error)
	// Put writes the value if the version of what stands there still is ifVersion, "" meaning that nothing may stand
	// there, and returns the new version, which is not "". Otherwise it writes nothing and returns a *[VaultConflict].
	Put(ctx context.Context, key string, value []byte, ifVersion string) (version string, err error)
	// Delete removes the record if its version still is ifVersion, "" meaning whatever its version; else it returns a
	// *[VaultConflict]. Deleting what is not there is no error.
	Delete(ctx context.Context, key string, ifVersion string) error
}

// VaultRecord is one sealed record of a [Vault]. The version changes with every write.
type VaultRecord struct {
	Value   []byte
	Version string
}

// VaultConflict is the error of a [Vault] where another version stands than the one that was expected.
type VaultConflict struct {
	// Current is what stands there; nil where nothing does.
	Current *VaultRecord
}

// Error says that the record was written by somebody else.
func (*VaultConflict) Error() string { return "the record was written by somebody else" }

type scopeKey struct{}

// ScopeOf returns the scope that the context of a [Vault] call speaks of: whose login it is.
func ScopeOf(ctx context.Context) Scope {
	scope, _ := ctx.Value(scopeKey{}).(Scope)
	return scope
}

// The answers spell out what is absent: null is a record that is not there.
type recordAnswer struct {
	Value   *string `json:"value"`
	Version *string `json:"version"`
}

func answerOf(record *VaultRecord) recordAnswer {
	if record == nil {
		return recordAnswer{}
	}
	value := base64.StdEncoding.EncodeToString(record.Value)
	return recordAnswer{&value, &record.Version}
}

func (c *Client) vaultGet(ctx context.Context, raw json.RawMessage) (any, error) {
	var params credentialsGetParams
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, badQuestion(err)
	}
	record, err := c.opts.Vault.Get(context.WithValue(ctx, scopeKey{}, params.Scope), params.Key)
	if err != nil {
		return nil, err
	}
	return answerOf(record), nil
}

func (c *Client) vaultPut(ctx context.Context, raw json.RawMessage) (any, error) {
	var params credentialsPutParams
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, badQuestion(err)
	}
	value, err := base64.StdEncoding.DecodeString(params.Value)
	if err != nil {
		return nil, badQuestion(err)
	}
	ifVersion := ""
	if params.IfVersion != nil {
		if ifVersion = *params.IfVersion; ifVersion == "" {
			return nil, badQuestion(errors.New(`ifVersion is ""`))
		}
	}
	version, err := c.opts.Vault.Put(context.WithValue(ctx, scopeKey{}, params.Scope), params.Key, value, ifVersion)
	var conflict *VaultConflict
	switch {
	case errors.As(err, &conflict):
		return struct {
			OK bool `json:"ok"`
			recordAnswer
		}{false, answerOf(conflict.Current)}, nil
	case err != nil:
		return nil, err
	case version == "":
		return nil, errors.New("the vault returned no version")
	}
	return map[string]any{"ok": true, "version": version}, nil
}

func (c *Client) vaultDelete(ctx context.Context, raw json.RawMessage) (any, error) {
	var params credentialsDeleteParams
	if err := json.Unmarshal(raw, &params); err != nil {
		return nil, badQuestion(err)
	}
	ifVersion := ""
	if params.IfVersion != nil {
		ifVersion = *params.IfVersion
	}
	if err := c.opts.Vault.Delete(context.WithValue(ctx, scopeKey{}, params.Scope), params.Key, ifVersion); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}
