package check_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"tidemark/replica"
	"tidemark/replica/check"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// replicated ships a database, as it is, to a bucket.
func replicated(t *testing.T, path, stateDir string, b storage.Bucket, takeover ...bool) {
	t.Helper()
	opts := replica.Options{Path: path, StateDir: stateDir, Bucket: b, Takeover: len(takeover) > 0}
	if _, err := replica.Once(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, stmts ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range stmts {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// How a replica stands to a database.
func TestReplica(t *testing.T) {
	t.Parallel()
	ledger := []string{"CREATE TABLE t (v)", "INSERT INTO t VALUES (1)"}
	for name, c := range map[string]struct {
		// before makes the world; check looks at path, with the state directory state.
		before func(t *testing.T, path, state string, b storage.Bucket)
		want   []string
		id     check.ID
		says   string
	}{
		"none": {
			func(*testing.T, string, string, storage.Bucket) {},
			[]string{"warn replica"},
			check.Replica, "no replica",
		},
		"up to date": {
			func(t *testing.T, path, state string, b storage.Bucket) { t.Helper(); replicated(t, path, state, b) },
			nil, check.Behind, "nothing is missing: the newest commit is TXID 1 of 20",
		},
		"behind": {
			func(t *testing.T, path, state string, b storage.Bucket) {
				t.Helper()
				replicated(t, path, state, b)
				write(t, path, "INSERT INTO t VALUES (2)")
			},
			[]string{"warn behind"},
			check.Behind, "of 2 pages differ from the newest commit, TXID 1",
		},
		"without local state, and the same": {
			func(t *testing.T, path, _ string, b storage.Bucket) { t.Helper(); replicated(t, path, t.TempDir(), b) },
			nil, check.Replica, "page by page",
		},
		"without local state, and not the same": {
			func(t *testing.T, path, _ string, b storage.Bucket) {
				t.Helper()
				replicated(t, path, t.TempDir(), b)
				write(t, path, "INSERT INTO t VALUES (2)")
			},
			[]string{"fail replica"},
			check.Replica, "nothing shows that it is this database's: ",
		},
		"of another database": {
			func(t *testing.T, path, state string, b storage.Bucket) {
				t.Helper()
				other := filepath.Join(t.TempDir(), "other.db")
				write(t, other, "CREATE TABLE o (v)")
				replicated(t, other, "", b)
				replicated(t, path, state, mem.New())
			},
			[]string{"fail replica"},
			check.Replica, "nothing shows",
		},
		"with other pages": {
			func(t *testing.T, _, _ string, b storage.Bucket) {
				t.Helper()
				other := filepath.Join(t.TempDir(), "other.db")
				write(t, other, "PRAGMA page_size = 8192", "CREATE TABLE o (v)")
				replicated(t, other, "", b)
			},
			[]string{"fail replica"},
			check.Replica, "its pages have 8192 bytes",
		},
		"advanced by somebody else": {
			func(t *testing.T, path, state string, b storage.Bucket) {
				t.Helper()
				replicated(t, path, state, b)
				other := filepath.Join(t.TempDir(), "other.db")
				copyTo(t, other, path)
				write(t, other, "INSERT INTO t VALUES (3)")
				replicated(t, other, "", b, true)
			},
			[]string{"fail replica"},
			check.Replica, "it ends at TXID 2, what was shipped from here at 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, state := filepath.Join(dir, "app.db"), filepath.Join(dir, "state")
			write(t, path, ledger...)
			b := mem.New()
			c.before(t, path, state, b)
			write(t, path, "PRAGMA journal_mode = WAL")
			before, held := sight(t, dir), keys(t, b)
			items := checked(t, check.Options{Path: path, StateDir: state, Bucket: b, Quick: true})
			wantBad(t, items, c.want...)
			if i := item(t, items, c.id); !strings.Contains(i.Finding, c.says) {
				t.Errorf("%+v; want %q", i, c.says)
			}
			wantUntouched(t, before, sight(t, dir))
			if got := keys(t, b); got != held {
				t.Errorf("the bucket holds %s, it held %s", got, held)
			}
		})
	}
}

func keys(t *testing.T, b storage.Bucket) string {
	t.Helper()
	var all []string
	if err := b.List(t.Context(), "", "", func(i storage.Info) error { all = append(all, i.Key); return nil }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// twisted is a bucket that does not keep its word in one way.
type twisted struct {
	storage.Bucket

	overwrites, forgets, keeps bool
	refuses                    error
}

func (b twisted) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if b.refuses != nil && (opts.IfAbsent || !errors.Is(b.refuses, storage.ErrUnconditional)) {
		return b.refuses
	}
	if b.overwrites {
		opts.IfAbsent = false
	}
	return b.Bucket.Put(ctx, key, body, opts)
}

func (b twisted) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := b.Bucket.Get(ctx, key, off, n)
	if err == nil && b.forgets {
		return io.NopCloser(strings.NewReader("something else")), r.Close()
	}
	return r, err
}

func (b twisted) Delete(ctx context.Context, key string) error {
	if b.keeps {
		return nil
	}
	return b.Bucket.Delete(ctx, key)
}

// A store that does not keep its word is found out.
func TestStorage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "closed", path)
	for name, c := range map[string]struct {
		opts check.Options
		want []string
		id   check.ID
		says string
	}{
		"well":       {check.Options{Bucket: mem.New()}, []string{"warn replica"}, check.Storage, "takes a write"},
		"overwrites": {check.Options{Bucket: twisted{Bucket: mem.New(), overwrites: true}}, []string{"fail conditional-writes", "warn replica"}, check.Conditional, "overwrites"},
		"unfenced":   {check.Options{Bucket: twisted{Bucket: mem.New(), overwrites: true}, Unfenced: true}, []string{"warn conditional-writes", "warn replica"}, check.Conditional, "overwrites"},
		"unconditional": {
			check.Options{Bucket: twisted{Bucket: mem.New(), refuses: storage.ErrUnconditional}},
			[]string{"fail conditional-writes", "warn replica"},
			check.Conditional, "knows no",
		},
		"refuses":     {check.Options{Bucket: twisted{Bucket: mem.New(), refuses: storage.ErrDenied}}, []string{"fail storage"}, check.Storage, "put it: access denied"},
		"unreachable": {check.Options{Bucket: twisted{Bucket: mem.New(), refuses: storage.ErrUnreachable}}, []string{"fail storage"}, check.Storage, "unreachable"},
		"forgets":     {check.Options{Bucket: twisted{Bucket: mem.New(), forgets: true}}, []string{"fail storage"}, check.Storage, "not what is read back"},
		"keeps":       {check.Options{Bucket: twisted{Bucket: mem.New(), keeps: true}}, []string{"fail storage"}, check.Storage, "still there"},
		"no bucket":   {check.Options{BucketErr: storage.ErrNoBucket}, []string{"fail storage"}, check.Storage, "no such bucket"},
		"no folder":   {check.Options{BucketErr: storage.ErrNoBucket, MayCreate: true}, []string{"warn storage"}, check.Storage, "does not exist yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.opts.Path, c.opts.Quick = path, true
			items := checked(t, c.opts)
			wantBad(t, items, c.want...)
			if i := item(t, items, c.id); !strings.Contains(i.Finding, c.says) {
				t.Errorf("%+v; want %q", i, c.says)
			}
		})
	}
}

// A check that is told to stop does.
func TestStopped(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "closed", path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if items, err := check.Run(ctx, check.Options{Path: path}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", items, err)
	}
}
