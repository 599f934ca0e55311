// Package sqlvault keeps the sidecar's logins in a table of the host's own database, through database/sql.
//
// It is an example that can be used as it is: the statements are plain SQL, with SQLite's placeholders. The records are
// sealed by the sidecar, so the database never holds a token; back up the key (MCP_SIDECAR_KEY) apart from it.
package sqlvault

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

// Vault is a [sidecar.Vault] in one table.
type Vault struct{ db *sql.DB }

var _ sidecar.Vault = (*Vault)(nil)

// New returns a vault in the table mcp_logins, and makes the table where it is missing.
func New(ctx context.Context, db *sql.DB) (*Vault, error) {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS mcp_logins (
		key     TEXT PRIMARY KEY,
		value   BLOB NOT NULL,
		version TEXT NOT NULL,
		tenant  TEXT NOT NULL,
		account TEXT NOT NULL)`)
	if err != nil {
		return nil, err
	}
	return &Vault{db}, nil
}

// Get returns the record under the key; nil if there is none.
func (v *Vault) Get(ctx context.Context, key string) (*sidecar.VaultRecord, error) {
	var record sidecar.VaultRecord
	err := v.db.QueryRowContext(ctx, `SELECT value, version FROM mcp_logins WHERE key = ?`, key).
		Scan(&record.Value, &record.Version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, nil
	case err != nil: // "cannot tell" is not "none": the sidecar must not begin a new login for it
		return nil, err
	}
	return &record, nil
}

// Put writes the record if its version still is ifVersion. One statement compares and writes, so no two hosts can both
// win. Versions are never used twice, also not after a delete.
func (v *Vault) Put(ctx context.Context, key string, value []byte, ifVersion string) (string, error) {
	version := rand.Text()
	var done sql.Result
	var err error
	if ifVersion == "" {
		scope := sidecar.ScopeOf(ctx)
		done, err = v.db.ExecContext(ctx, `INSERT INTO mcp_logins (key, value, version, tenant, account)
			VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING`, key, value, version, scope.Tenant, scope.User)
	} else {
		done, err = v.db.ExecContext(ctx, `UPDATE mcp_logins SET value = ?, version = ? WHERE key = ? AND version = ?`,
			value, version, key, ifVersion)
	}
	if err != nil {
		return "", err
	}
	if written, err := done.RowsAffected(); err != nil || written == 0 {
		return "", v.conflict(ctx, key, err)
	}
	return version, nil
}

// Delete removes the record if its version still is ifVersion, or whatever its version for "".
func (v *Vault) Delete(ctx context.Context, key string, ifVersion string) error {
	done, err := v.db.ExecContext(ctx, `DELETE FROM mcp_logins WHERE key = ? AND (version = ? OR ? = '')`,
		key, ifVersion, ifVersion)
	if err != nil || ifVersion == "" {
		return err
	}
	if deleted, err := done.RowsAffected(); err != nil || deleted == 0 {
		err = v.conflict(ctx, key, err)
		var other *sidecar.VaultConflict
		if errors.As(err, &other) && other.Current == nil { // it is gone, as wanted
			return nil
		}
		return err
	}
	return nil
}

// DeleteTenant removes all logins of a tenant that is no more. Their tokens are not revoked: [sidecar.Server.RevokeAuth]
// does that.
func (v *Vault) DeleteTenant(ctx context.Context, tenant string) error {
	_, err := v.db.ExecContext(ctx, `DELETE FROM mcp_logins WHERE tenant = ?`, tenant)
	return err
}

// conflict tells what stands there instead; an earlier error goes before it.
func (v *Vault) conflict(ctx context.Context, key string, err error) error {
	if err != nil {
		return err
	}
	current, err := v.Get(ctx, key)
	if err != nil {
		return err
	}
	return &sidecar.VaultConflict{Current: current}
}
