//go:build unix

package sidecar

import (
	"context"
	"errors"
	"strconv"
	"testing"
)

// memoryVault is a Vault in one map; the key "broken" fails.
type memoryVault map[string]VaultRecord

var errBroken = errors.New("the database is down")

func (v memoryVault) Get(ctx context.Context, key string) (*VaultRecord, error) {
	if key == "broken" || ScopeOf(ctx).Tenant != "t" {
		return nil, errBroken
	}
	if record, ok := v[key]; ok {
		return &record, nil
	}
	return nil, nil
}

func (v memoryVault) Put(_ context.Context, key string, value []byte, ifVersion string) (string, error) {
	record, ok := v[key]
	if record.Version != ifVersion {
		conflict := &VaultConflict{}
		if ok {
			conflict.Current = &record
		}
		return "", conflict
	}
	old, _ := strconv.Atoi(ifVersion) // "" is 0
	v[key] = VaultRecord{value, strconv.Itoa(old + 1)}
	return v[key].Version, nil
}

func (v memoryVault) Delete(_ context.Context, key string, ifVersion string) error {
	record, ok := v[key]
	if ok && ifVersion != "" && record.Version != ifVersion {
		return &VaultConflict{&record}
	}
	delete(v, key)
	return nil
}

func TestTheVaultOfTheHostIsReadWrittenAndDeletedWithCompareAndSwap(t *testing.T) {
	opts := part("good")
	opts.Vault = memoryVault{}
	c := startPart(t, opts)
	about := func(more string) string { return `{"scope":{"tenant":"t"},"timeoutMs":3000,` + more + `}` }
	for _, step := range []struct{ method, params, want string }{
		{reverseCredentialsGet, `"key":"k"`, `{"value":null,"version":null}`},
		{reverseCredentialsPut, `"key":"k","value":"AAE=","ifVersion":null`, `{"ok":true,"version":"1"}`},
		{reverseCredentialsPut, `"key":"k","value":"AAI=","ifVersion":null`, `{"ok":false,"value":"AAE=","version":"1"}`},
		{reverseCredentialsPut, `"key":"k","value":"AAI=","ifVersion":"1"`, `{"ok":true,"version":"2"}`},
		{reverseCredentialsGet, `"key":"k"`, `{"value":"AAI=","version":"2"}`},
		{reverseCredentialsDelete, `"key":"k"`, `{}`},
		{reverseCredentialsDelete, `"key":"k"`, `{}`},
		{reverseCredentialsPut, `"key":"k","value":"AAI=","ifVersion":"2"`, `{"ok":false,"value":null,"version":null}`},
	} {
		if got, err := ask(t, c, step.method, about(step.params)); err != nil || got != step.want {
			t.Errorf("%s %s: %s %v", step.method, step.params, got, err)
		}
	}
	for _, bad := range []struct{ method, params string }{
		{reverseCredentialsGet, `"key":"broken"`},
		{reverseCredentialsPut, `"key":"k","value":"?","ifVersion":null`},
		{reverseCredentialsPut, `"key":"k","value":"AAE=","ifVersion":""`},
	} {
		if got, err := ask(t, c, bad.method, about(bad.params)); err == nil {
			t.Errorf("%s: %s", bad.params, got)
		}
	}
	works(t, c)
}
