package replica_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Writers and VACUUM next to each other: every restore holds the rows up to one of
// them, as they were committed.
func TestLiveVacuumBesideWriters(t *testing.T) {
	t.Parallel()
	s := newScene(t, func(*scene) {}, "PRAGMA auto_vacuum=INCREMENTAL")
	s.a.exec("DELETE FROM t")
	s.opts.CheckpointPages = 20
	e := launch(t, s.opts)
	var mu sync.Mutex
	rows, vacuums := map[int64]string{}, 0
	var g errgroup.Group
	for w := range 3 {
		c := &app{t: t, path: s.a.path}
		c.open()
		g.Go(func() error {
			for i := range 12 {
				v := fmt.Sprintf("%d of writer %d %s", i, w, strings.Repeat("x", 900))
				var id int64
				err := c.db.QueryRowContext(t.Context(), "INSERT INTO t(v) VALUES(?) RETURNING id", v).Scan(&id)
				if err != nil {
					return err
				}
				mu.Lock()
				rows[id] = v
				mu.Unlock()
			}
			return nil
		})
	}
	g.Go(func() error {
		for i := range 8 {
			q := []string{"VACUUM", "DELETE FROM big", "PRAGMA incremental_vacuum(3)", "INSERT INTO big VALUES(zeroblob(30000))"}[i%4]
			if _, err := s.a.db.ExecContext(t.Context(), q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
			vacuums++
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	e.stop()
	cs, n := commitsOf(t, s.b), 0
	if want := 1 + len(rows) + vacuums; len(cs) != want {
		t.Errorf("%d commits, want %d", len(cs), want)
	}
	for _, c := range cs {
		if c.Resync {
			t.Errorf("TXID %v is a resync", c.TXID)
		}
		now := prefix(t, s.b, c.TXID, rows)
		if now < n || now > n+1 {
			t.Errorf("TXID %v has %d rows, the one before %d", c.TXID, now, n)
		}
		n = now
	}
	if n != len(rows) {
		t.Errorf("the last commit has %d rows, want %d", n, len(rows))
	}
}

// prefix restores a commit, and gives the number of its rows if they are the first
// ones, as they were committed.
func prefix(t *testing.T, b storage.Bucket, id state.TXID, want map[int64]string) (n int) {
	t.Helper()
	_, file := restoredFile(t, b, id)
	o := &app{t: t, path: filepath.Join(t.TempDir(), "prefix.db")}
	write(t, o.path, file)
	o.open()
	defer o.close()
	rows, err := o.db.QueryContext(t.Context(), "SELECT id, v FROM t ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	for rows.Next() {
		var id int64
		var v string
		if err := rows.Scan(&id, &v); err != nil {
			t.Fatal(err)
		}
		if n++; int64(n) != id || v != want[id] {
			t.Errorf("TXID %v: row %d is %d, %.20q", id, n, id, v)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
