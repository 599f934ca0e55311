package sqlvault

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver: SQLite in pure Go

	sidecar "github.com/mcp-sidecar/mcp-sidecar/go-client"
)

func open(t *testing.T, path string) *Vault {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	vault, err := New(within(t), db)
	if err != nil {
		t.Fatal(err)
	}
	return vault
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestARecordIsWrittenOnlyOverTheVersionThatWasRead(t *testing.T) {
	v := open(t, filepath.Join(t.TempDir(), "logins.db"))
	ctx := within(t)
	if record, err := v.Get(ctx, "k"); record != nil || err != nil {
		t.Fatalf("%+v %v", record, err)
	}
	first, err := v.Put(ctx, "k", []byte{0, 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	var conflict *sidecar.VaultConflict
	if _, err = v.Put(ctx, "k", []byte{9}, ""); !errors.As(err, &conflict) || conflict.Current.Version != first {
		t.Errorf("%v", err)
	}
	second, err := v.Put(ctx, "k", []byte{2}, first)
	if err != nil || second == first {
		t.Fatalf("%s %v", second, err)
	}
	if _, err = v.Put(ctx, "k", []byte{3}, first); !errors.As(err, &conflict) || conflict.Current.Value[0] != 2 {
		t.Errorf("%v", err)
	}
	if err = v.Delete(ctx, "k", first); !errors.As(err, &conflict) {
		t.Errorf("%v", err)
	}
	for _, version := range []string{second, second, ""} { // the second time it is gone already
		if err = v.Delete(ctx, "k", version); err != nil {
			t.Error(err)
		}
	}
	if _, err = v.Put(ctx, "k", []byte{4}, second); !errors.As(err, &conflict) || conflict.Current != nil {
		t.Errorf("%v", err)
	}
}

func TestOfManyHostsThatWriteAtOnceOneWinsEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logins.db")
	first := open(t, path)
	if _, err := first.Put(within(t), "k", []byte("0"), ""); err != nil {
		t.Fatal(err)
	}
	const hosts, rounds = 8, 10
	var won atomic.Int64
	var wg sync.WaitGroup
	for range hosts {
		host := open(t, path)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range rounds {
				for {
					record, err := host.Get(within(t), "k")
					if err != nil {
						t.Error(err)
						return
					}
					var n int
					if _, err := fmt.Sscan(string(record.Value), &n); err != nil {
						t.Error(err)
						return
					}
					_, err = host.Put(within(t), "k", fmt.Append(nil, n+1), record.Version)
					var conflict *sidecar.VaultConflict
					if errors.As(err, &conflict) {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					won.Add(1)
					break
				}
			}
		}()
	}
	wg.Wait()
	record, err := first.Get(within(t), "k")
	if err != nil || string(record.Value) != fmt.Sprint(hosts*rounds) || won.Load() != hosts*rounds {
		t.Errorf("%+v %v after %d writes", record, err, won.Load())
	}
}

func TestADatabaseThatCannotTellIsNoAbsence(t *testing.T) {
	v := open(t, filepath.Join(t.TempDir(), "logins.db"))
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	if record, err := v.Get(ctx, "k"); err == nil || record != nil {
		t.Errorf("%+v %v", record, err)
	}
	if _, err := v.Put(ctx, "k", nil, ""); err == nil {
		t.Error("written")
	}
}
