package salvage_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/salvage"
	"tidemark/snapshot"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// content is a database's pages.
type pagesOf struct {
	b    []byte
	size int
}

func (p pagesOf) ReadPages(first wal.PageNo, buf []byte) error {
	copy(buf, p.b[(int(first)-1)*p.size:])
	return nil
}

// stateAfter is the database file after so many commits of the generation, as SQLite makes it.
func (w *writer) stateAfter(n int) []byte {
	w.t.Helper()
	f := w.files()
	end := wal.HeaderSize
	if n > 0 {
		end += w.ends[n-1] * (24 + w.size)
	}
	path := filepath.Join(w.t.TempDir(), "state.db")
	for name, b := range map[string][]byte{path: f.db, path + "-wal": f.wal[:end]} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		w.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// replicaOf makes a replica whose newest commit is a state.
func replicaOf(t *testing.T, b []byte, size int) storage.Bucket {
	t.Helper()
	bucket := mem.New()
	a, err := archive.Create(t.Context(), bucket, wal.PageSize(size), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := snapshot.Header{PageSize: wal.PageSize(size), TXID: 1, Pages: uint32(len(b) / size), Time: time.Now().UnixMilli()}
	if _, err := a.PutSnapshot(t.Context(), h, pagesOf{b, size}, snapshot.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return bucket
}

func TestReplica(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(12)
	stranger := newWriter(t, page)
	for i := range 100 {
		stranger.exec("INSERT INTO sessions (name, body) VALUES ('x%d', randomblob(900))", i)
	}
	stranger.checkpoint()
	hole := func(n int) func(*files) {
		return func(f *files) { f.zero(w.ends[n-2]+1, w.ends[n-1]) }
	}
	for _, c := range []struct {
		name    string
		at      int // the replica stands after so many commits
		damage  func(*files)
		kind    salvage.Kind
		proof   salvage.Proof
		want    int
		verdict salvage.Verdict
		says    string
	}{
		{"past what is lost", 7, hole(5), salvage.KindReplica, salvage.Proven, 12, salvage.Whole, "after commit 6"},
		{"at the end", 12, hole(5), salvage.KindReplica, salvage.Proven, 12, salvage.Whole, "after commit 11"},
		{"at what is lost", 5, hole(5), salvage.KindReplica, salvage.Proven, 5, salvage.Lost, "after commit 4"},
		{"before what is lost", 3, hole(5), salvage.KindProven, salvage.Proven, 4, salvage.Lost, "after commit 3"},
		{"before the WAL", 0, hole(5), salvage.KindProven, salvage.Proven, 4, salvage.Lost, "exactly the database without the WAL"},
		{"newer than the files", 12, func(f *files) { f.wal = f.wal[:32+w.ends[6]*(24+page)] }, salvage.KindReplica, salvage.Proven, 12, salvage.Whole, "commits after the last one"},
		{"for half a database", 4, func(f *files) { f.db = f.db[:9*page] }, salvage.KindReplica, salvage.Proven, 12, salvage.Whole, "after commit 4"},
		{"for no database", 4, func(f *files) { f.db = nil }, salvage.KindReplica, salvage.Proven, 12, salvage.Whole, "after commit 4"},
		{"where nothing is lost", 4, func(*files) {}, salvage.KindProven, salvage.Proven, 12, salvage.Whole, "after commit 4"},
		{"of all that there is", 12, func(f *files) { f.wal = nil; f.db = f.db[:3*page] }, salvage.KindReplica, salvage.Probable, 12, salvage.Lost, "pages are the same"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := w.files()
			c.damage(&f)
			s := set(t, f)
			s.opts.Replica = replicaOf(t, w.stateAfter(c.at), page)
			rep, got := s.run()
			same(t, "contents", got, w.after(c.want))
			best := rep.Best()
			if best.Kind != c.kind || best.Proof != c.proof || rep.Verdict != c.verdict || !strings.Contains(rep.Replica.Relation, c.says) {
				t.Errorf("%v %s\n%+v\n%+v\n%+v", kinds(rep), rep.Verdict, rep.Replica, best, rep.Log)
			}
		})
	}
	t.Run("and says that it has what is lost", func(t *testing.T) {
		f := w.files()
		hole(5)(&f)
		s := set(t, f)
		s.opts.Replica = replicaOf(t, w.stateAfter(5), page)
		if rep, _ := s.run(); rep.Best().Commits != 5 || rep.Best().Through != 4 || rep.Find(salvage.KindProven).Commits != 4 {
			t.Errorf("%+v", rep.Best())
		}
	})
	t.Run("what follows it, with a frame that nothing proves", func(t *testing.T) {
		f := w.files()
		hole(5)(&f)
		s := set(t, f)
		s.opts.Replica, s.opts.Take = replicaOf(t, w.stateAfter(5), page), salvage.KindFrames
		rep, got := s.run()
		same(t, "contents", got, w.after(12))
		if best := rep.Best(); best.Proof != salvage.Probable || best.Pages.Replica == 0 {
			t.Errorf("%+v", best)
		}
	})
	t.Run("what equals it", func(t *testing.T) {
		f := w.files()
		hole(5)(&f)
		s := set(t, f)
		s.opts.Replica = replicaOf(t, w.stateAfter(12), page)
		if rep, _ := s.run(); rep.Best().Equals != 1 || rep.Find(salvage.KindDatabase).Equals != 0 {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("of another database", func(t *testing.T) {
		f := w.files()
		hole(5)(&f)
		s := set(t, f)
		s.opts.Replica = replicaOf(t, stranger.files().db, page)
		rep, got := s.run()
		same(t, "contents", got, w.after(4))
		if rep.Verdict != salvage.Lost || !strings.Contains(rep.Replica.Relation, "another history") {
			t.Errorf("%+v", rep.Replica)
		}
	})
	t.Run("of another database, larger than what is left of this one", func(t *testing.T) {
		f := w.files()
		f.wal, f.db = nil, f.db[:9*page]
		s := set(t, f)
		s.opts.Replica = replicaOf(t, elsewhere(t), page)
		rep, _ := s.run()
		if best := rep.Best(); best.Kind != salvage.KindDatabase || rep.Find(salvage.KindReplica) == nil {
			t.Errorf("%v %+v", kinds(rep), rep.Replica)
		}
	})
	t.Run("of another page size", func(t *testing.T) {
		f := w.files()
		wide := newWriter(t, 4096)
		s := set(t, f)
		s.opts.Replica = replicaOf(t, wide.files().db, 4096)
		rep, got := s.run()
		same(t, "contents", got, w.after(12))
		if !strings.Contains(rep.Replica.Relation, "another database") {
			t.Errorf("%+v", rep.Replica)
		}
	})
}

// elsewhere is a database that has nothing to do with the others, and more rows.
func elsewhere(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "elsewhere.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		fmt.Sprintf("PRAGMA page_size=%d", page), "CREATE TABLE things(a INTEGER PRIMARY KEY, b)",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) INSERT INTO things SELECT i, hex(randomblob(40)) FROM n",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
