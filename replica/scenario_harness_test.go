package replica_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// The scenarios replicate a database, do something to it, to the replicator or to
// the archive, and replicate again. Their oracle is the content: the digest of the
// application's table after each commit, against a restore of every TXID.

// scene is a database with an application, and what the next run of tidemark will
// find.
type scene struct {
	t *testing.T
	a *app
	// b and opts are for the next run.
	b    *mem.Bucket
	opts replica.Options
	// states are the digests after the commits of the history, the first being
	// TXID 1.
	states []string
	// safe is how many of them tidemark had promised to keep when it stopped.
	safe int
}

// newScene replicates some commits and stops as told.
func newScene(t *testing.T, stop func(*scene), pragmas ...string) *scene {
	t.Helper()
	a := newApp(t, append(pragmas, "PRAGMA wal_autocheckpoint=0", "PRAGMA synchronous=OFF")...)
	s := &scene{t: t, a: a, b: mem.New()}
	a.exec("CREATE TABLE big(v)")
	a.exec("INSERT INTO big VALUES(randomblob(40000))") // 10 pages that nobody touches
	a.insert(2)
	a.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	s.opts = replica.Options{
		Path: a.path, Bucket: s.b, StateDir: filepath.Join(t.TempDir(), "state"), SyncInterval: time.Millisecond, Logger: discard(),
	}
	s.states = []string{a.content()}
	stop(s)
	return s
}

// content is the digest of all tables.
func (a *app) content() string {
	a.t.Helper()
	h := sha256.New()
	rows, err := a.db.QueryContext(a.t.Context(), "SELECT v FROM big")
	if err != nil {
		a.t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	for rows.Next() {
		var v []byte
		if err := rows.Scan(&v); err != nil {
			a.t.Fatal(err)
		}
		_, _ = h.Write(v)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		a.t.Fatal(err)
	}
	return fmt.Sprintf("%s-%x", a.digest(), h.Sum(nil)[:4])
}

// commit makes one commit that is to be in the history.
func (s *scene) commit(q string) {
	s.t.Helper()
	s.a.exec(q)
	s.states = append(s.states, s.a.content())
}

// insert makes n of them.
func (s *scene) insert(n int) {
	s.t.Helper()
	for range n {
		s.commit("INSERT INTO t(v) VALUES(randomblob(500))")
	}
}

// update makes n commits of one frame each.
func (s *scene) update(n int) {
	s.t.Helper()
	for range n {
		s.commit("UPDATE t SET v=randomblob(500) WHERE id=1")
	}
}

// uploaded waits until nothing is left to upload, and that is noted.
func (s *scene) uploaded() {
	s.t.Helper()
	shipped(s.t, s.b, state.TXID(len(s.states)))
	waitFor(s.t, func() bool {
		es, err := os.ReadDir(filepath.Join(s.opts.StateDir, "spool"))
		return err == nil && len(es) == 0
	})
}

// cleanly stops tidemark as a user would.
func cleanly(s *scene) {
	e := launch(s.t, s.opts)
	s.insert(3)
	e.stop()
	s.safe = len(s.states)
}

// killed lets the next run find what a kill would have left. The application
// makes two more commits that tidemark has not seen.
func killed(s *scene) {
	e := launch(s.t, s.opts)
	s.insert(3)
	s.uploaded()
	s.freeze()
	s.insert(2)
	e.end() //nolint:errcheck // it ships to the bucket that is forgotten
}

// killedSpooling kills it when it has handed the WAL off a few times since it
// last uploaded.
func killedSpooling(s *scene) {
	s.opts.SyncInterval, s.opts.CheckpointPages = time.Hour, 3
	live, bucket := s.opts.StateDir, s.b
	e := launch(s.t, s.opts)
	for s.safe < 3 {
		s.insert(2)
		s.opts.StateDir, s.b = live, bucket
		s.freeze()
	}
	e.end() //nolint:errcheck // as above
	s.opts.SyncInterval, s.opts.CheckpointPages = time.Millisecond, 0
}

// freeze makes the next run find the local state and the archive as they are.
func (s *scene) freeze() {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "killed")
	copyState(s.t, s.opts.StateDir, dir)
	s.b = clone(s.t, s.b, func(string) bool { return true })
	s.opts.StateDir, s.opts.Bucket = dir, s.b
	d, err := local.Open(disk.OS{}, dir)
	if err != nil {
		s.t.Fatal(err)
	}
	st, err := d.Load()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.safe = int(st.TXID)
}

// outcome is what the next run is to do.
type outcome int

const (
	exact  outcome = iota // every commit is there, and no resync
	resync                // what differs is one commit
	either                // whichever can be proven
)

// resume runs tidemark again, with some commits, and checks the whole history.
func (s *scene) resume(want outcome) {
	s.t.Helper()
	s.opts.CheckpointPages = 3
	e := launch(s.t, s.opts)
	attached, before := s.a.content(), len(s.states)
	s.update(4)
	e.stop()
	s.check(want, attached, before)
}

// check compares the history with what was committed. attached is the state that
// the last run began with, before the number of commits until then.
func (s *scene) check(want outcome, attached string, before int) {
	s.t.Helper()
	cs := commitsOf(s.t, s.b)
	wanted, at := s.states, -1
	for i, c := range cs {
		if !c.Resync {
			continue
		}
		if at >= 0 {
			s.t.Fatalf("TXID %d and %d are resyncs", at+1, i+1)
		}
		at = i
	}
	if at >= 0 {
		if at < s.safe || at > before {
			s.t.Fatalf("TXID %d is a resync, %d commits were safe, %d were made", at+1, s.safe, before)
		}
		wanted = append(append(append([]string{}, s.states[:at]...), attached), s.states[before:]...)
	}
	if want == exact && at >= 0 {
		s.t.Errorf("TXID %d is a resync of %d pages", at+1, cs[at].Pages)
	}
	if want == resync && at < 0 {
		s.t.Error("there is no resync")
	}
	s.compare(cs, wanted)
	if got := row(s.t, s.a.db, "PRAGMA integrity_check"); got != "ok" {
		s.t.Error("integrity_check of the application's database: ", got)
	}
}

// compare restores every TXID, and checks that a resync ships what differs and no
// more.
func (s *scene) compare(cs []archive.Commit, want []string) {
	s.t.Helper()
	if len(cs) != len(want) {
		s.t.Errorf("%d commits in the archive, want %d", len(cs), len(want))
	}
	var before []byte
	// Those that were safe before are shown elsewhere, but for the last.
	for i := max(0, s.safe-1); i < min(len(cs), len(want)); i++ {
		got, file := restoredFile(s.t, s.b, cs[i].TXID)
		if got != want[i] {
			s.t.Errorf("TXID %d (resync: %t): digest %s, want %s", i+1, cs[i].Resync, got, want[i])
		}
		if n := differ(before, file); cs[i].Resync && n != int(cs[i].Pages) {
			s.t.Errorf("TXID %d: a resync of %d pages, %d differ", i+1, cs[i].Pages, n)
		}
		before = file
	}
}

// differ counts the pages of a file that another one does not have so.
func differ(was, now []byte) (n int) {
	size := int(now[16])<<8 | int(now[17])
	for i := 0; i < len(now); i += size {
		if i+size > len(was) || !bytes.Equal(was[i:i+size], now[i:i+size]) {
			n++
		}
	}
	return n
}

// restoredFile restores a commit, and gives the digest and the file.
func restoredFile(t *testing.T, b storage.Bucket, id state.TXID) (string, []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "restored.db")
	_, err := restore.Run(t.Context(), restore.Options{
		Bucket: b, Output: out, Target: restore.Target{TXID: id}, Logger: discard(),
	})
	if err != nil {
		t.Fatalf("restore TXID %v: %v", id, err)
	}
	file, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	o := &app{t: t, path: out}
	o.open()
	defer o.close()
	return o.content(), file
}

// refused runs tidemark again and gives the error that it must stop with. The
// archive must stay as it is.
func (s *scene) refused() error {
	s.t.Helper()
	n := len(commitsOf(s.t, s.b))
	_, err := replica.Once(s.t.Context(), s.opts)
	if err == nil {
		s.t.Fatal("it is not refused")
	}
	if now := len(commitsOf(s.t, s.b)); now != n {
		s.t.Errorf("%d commits are in the archive, there were %d", now, n)
	}
	return err
}

// read gives a file's bytes.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write replaces a file's bytes, not the file.
func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// crash leaves of the application what a kill would: its files. It is open again
// afterwards, and has not looked at them yet. change gets the WAL.
func (s *scene) crash(change func(wal []byte) []byte) {
	s.t.Helper()
	db, wal := read(s.t, s.a.path), read(s.t, s.a.path+"-wal")
	s.a.close()
	write(s.t, s.a.path, db)
	write(s.t, s.a.path+"-wal", change(wal))
	s.a.open()
	s.recall()
}

// recall drops the commits from those that are to be found which SQLite no longer
// finds, unless tidemark had promised to keep them. It asks it of a copy.
func (s *scene) recall() {
	s.t.Helper()
	c := &app{t: s.t, path: filepath.Join(s.t.TempDir(), "copy.db")}
	write(s.t, c.path, read(s.t, s.a.path))
	write(s.t, c.path+"-wal", read(s.t, s.a.path+"-wal"))
	c.open()
	defer c.close()
	if at := slices.Index(s.states, c.content()); at >= 0 {
		s.states = s.states[:max(at+1, s.safe)]
	}
}

func asIs(wal []byte) []byte { return wal }

// other makes a database with other content, and gives its file.
func (s *scene) other() string {
	s.t.Helper()
	o := newApp(s.t)
	o.exec("CREATE TABLE big(v)")
	for i := range 7 {
		o.exec(fmt.Sprintf("INSERT INTO t(v) VALUES('other %d')", i))
	}
	o.close()
	return o.path
}
