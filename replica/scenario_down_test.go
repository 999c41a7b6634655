package replica_test

import (
	"bytes"
	"errors"
	"testing"

	"tidemark/replica"
)

// down is something that happens to a database while tidemark is not there.
type down struct {
	do func(*scene)
	// clean is the outcome if tidemark was stopped, killed if it was killed and
	// the application had made two more commits.
	clean, killed outcome
}

// The ways of stopping.
const (
	isStopped  = "stopped"
	isKilled   = "killed"
	isSpooling = "killed while spooling"
)

// run tries each after some ways of stopping.
func run(t *testing.T, downs map[string]down, hows ...string) {
	t.Helper()
	for name, d := range downs {
		for _, how := range hows {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				stop := map[string]func(*scene){isStopped: cleanly, isKilled: killed, isSpooling: killedSpooling}[how]
				s := newScene(t, stop)
				d.do(s)
				s.resume(map[string]outcome{isStopped: d.clean, isKilled: d.killed, isSpooling: either}[how])
			})
		}
	}
}

// frames is the number of whole commits' frames in the WAL.
func (s *scene) frames() int {
	s.t.Helper()
	h, b := header(s.t, s.a.path+"-wal"), read(s.t, s.a.path+"-wal")
	n := 0
	for h.Offset(uint32(n+2)) <= int64(len(b)) && [8]byte(b[h.Offset(uint32(n+1))+8:]) == [8]byte(b[16:]) {
		n++
	}
	return n
}

// restart lets the WAL restart and makes it so many frames longer than it was.
func restart(more int) func(*scene) {
	return func(s *scene) {
		n := s.frames()
		s.a.exec("PRAGMA wal_checkpoint(RESTART)")
		s.update(n + more)
	}
}

// After a restart the WAL can look as if it went on from the remembered position:
// it is as long. The salts tell.
func TestWALRestartedWhileDown(t *testing.T) {
	t.Parallel()
	downs := map[string]down{
		"twice":               {func(s *scene) { restart(0)(s); restart(0)(s) }, resync, resync},
		"three times":         {func(s *scene) { restart(-1)(s); restart(1)(s); restart(0)(s) }, resync, resync},
		"RESTART and nothing": {func(s *scene) { s.a.exec("PRAGMA wal_checkpoint(RESTART)") }, exact, exact},
	}
	for length, more := range map[string]int{"shorter": -2, "as long": 0, "a frame longer": 1} {
		downs["at once, now "+length] = down{restart(more), exact, resync}
		downs["later, now "+length] = down{func(s *scene) { s.update(2); restart(more)(s) }, resync, resync}
	}
	run(t, downs, isStopped, isKilled, isSpooling)
}

// thereAndBack changes a page, and makes it what it was: a frame then holds what the
// database file holds.
func (s *scene) thereAndBack() {
	s.t.Helper()
	was := row(s.t, s.a.db, "SELECT hex(v) FROM t WHERE id=1")
	s.update(1)
	s.commit("UPDATE t SET v=x'" + was + "' WHERE id=1")
}

// What happens to a database in the ordinary course of things.
func TestWrittenWhileDown(t *testing.T) {
	t.Parallel()
	reopen := func(s *scene) { s.a.close(); s.a.open() }
	run(t, map[string]down{
		"not at all":          {func(*scene) {}, exact, exact},
		"there and back":      {(*scene).thereAndBack, exact, exact},
		"restarted, and back": {func(s *scene) { s.a.exec("PRAGMA wal_checkpoint(RESTART)"); s.thereAndBack() }, exact, resync},
		"a little":            {func(s *scene) { s.insert(3) }, exact, exact},
		"checkpointed":        {func(s *scene) { s.update(2); s.a.exec("PRAGMA wal_checkpoint(FULL)") }, exact, exact},
		"truncated":           {func(s *scene) { s.a.exec("PRAGMA wal_checkpoint(TRUNCATE)") }, exact, resync},
		"then truncated":      {func(s *scene) { s.update(2); s.a.exec("PRAGMA wal_checkpoint(TRUNCATE)") }, resync, resync},
		"closed":              {reopen, exact, resync},
		"closed, then":        {func(s *scene) { reopen(s); s.insert(3) }, exact, resync},
		"then closed":         {func(s *scene) { s.insert(3); reopen(s) }, resync, resync},
		"VACUUM":              {func(s *scene) { s.commit("DELETE FROM t WHERE id=2"); s.commit("VACUUM") }, exact, exact},
		"VACUUM, then closed": {func(s *scene) { s.commit("DELETE FROM big"); s.commit("VACUUM"); reopen(s) }, resync, resync},
		"rollback journal":    {func(s *scene) { s.a.exec("PRAGMA journal_mode=DELETE"); s.insert(2) }, resync, resync},
		"and WAL again": {func(s *scene) {
			s.a.exec("PRAGMA journal_mode=DELETE")
			s.insert(2)
			s.a.exec("PRAGMA journal_mode=WAL")
			s.insert(1)
		}, resync, resync},
	}, isStopped, isKilled)
}

// spill makes a transaction whose pages reach the WAL before it ends.
func (s *scene) spill(end string) {
	s.t.Helper()
	s.a.spills()
	s.a.exec("BEGIN")
	before := read(s.t, s.a.path+"-wal")
	s.a.exec("UPDATE t SET v=zeroblob(300000) WHERE id=1")
	s.a.exec("UPDATE t SET v=randomblob(600) WHERE id=2")
	s.a.exec("UPDATE big SET v=randomblob(200000)")
	s.a.exec("UPDATE t SET v=randomblob(500) WHERE id=2") // in a frame that is in the file already
	if bytes.Equal(before, read(s.t, s.a.path+"-wal")) {
		s.t.Fatal("nothing was spilled")
	}
	if s.a.exec(end); end == "COMMIT" {
		s.states = append(s.states, s.a.content())
	}
}

// Transactions that reach the WAL before they end leave frames there that don't
// count, or that are written again.
func TestSpilledWhileDown(t *testing.T) {
	t.Parallel()
	run(t, map[string]down{
		"rolled back":              {func(s *scene) { s.spill("ROLLBACK") }, exact, exact},
		"rolled back, then less":   {func(s *scene) { s.spill("ROLLBACK"); s.update(1) }, exact, exact},
		"rolled back, then again":  {func(s *scene) { s.spill("ROLLBACK"); s.spill("COMMIT"); s.update(1) }, exact, exact},
		"committed":                {func(s *scene) { s.spill("COMMIT") }, exact, exact},
		"committed and on":         {func(s *scene) { s.spill("COMMIT"); s.spill("ROLLBACK"); s.insert(2) }, exact, exact},
		"rolled back, then closed": {func(s *scene) { s.spill("ROLLBACK"); s.a.close(); s.a.open() }, exact, resync},
	}, isStopped, isSpooling)
}

// A WAL that the application's crash, or the system's, left damaged: SQLite goes
// on from the last commit that it finds whole, and so does tidemark. Commits that
// it has and SQLite has not stay in the history.
func TestCrashedWhileDown(t *testing.T) {
	t.Parallel()
	frame := 24 + 4096
	for then, write := range map[string]func(s *scene){"": func(*scene) {}, ", then written": func(s *scene) { s.insert(2) }} {
		hows := []string{isStopped, isKilled}
		if then != "" {
			hows = hows[:1]
		}
		cut := func(keep func(n int, wal []byte) []byte) func(*scene) {
			return func(s *scene) {
				n := s.frames()
				s.crash(func(wal []byte) []byte { return keep(n, wal) })
				write(s)
			}
		}
		flip := func(frames, at int) func(n int, wal []byte) []byte {
			return func(n int, wal []byte) []byte {
				wal[32+frame*(n-frames)+at] ^= 0x10
				return wal
			}
		}
		t.Run("crash"+then, func(t *testing.T) {
			run(t, map[string]down{
				"only":              {cut(func(_ int, wal []byte) []byte { return wal }), exact, exact},
				"emptied":           {cut(func(int, []byte) []byte { return nil }), resync, resync},
				"header":            {cut(func(_ int, wal []byte) []byte { return wal[:32] }), resync, resync},
				"no header":         {cut(func(_ int, wal []byte) []byte { return wal[:20] }), resync, resync},
				"torn header":       {cut(func(_ int, wal []byte) []byte { wal[17] ^= 1; return wal }), resync, resync},
				"last frame torn":   {cut(func(n int, wal []byte) []byte { return wal[:32+frame*n-1000] }), resync, exact},
				"last commit gone":  {cut(func(n int, wal []byte) []byte { return wal[:32+frame*(n-1)] }), resync, exact},
				"bad image":         {cut(flip(1, 999)), resync, exact},
				"bad checksum":      {cut(flip(1, 17)), resync, exact},
				"bad in the middle": {cut(func(_ int, wal []byte) []byte { wal[32+frame+999] ^= 0x10; return wal }), resync, resync},
				"a tail":            {cut(func(_ int, wal []byte) []byte { return append(wal, wal[32:32+2*frame]...) }), exact, exact},
			}, hows...)
		})
	}
}

// A WAL that misses a frame while somebody has it open is a damaged database, and
// nothing is made of it.
func TestDamagedWhileDown(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]int{"what was read": 4, "what was not": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cleanly)
			s.update(2)
			wal := read(t, s.a.path+"-wal")
			wal[32+(24+4096)*(s.frames()-back)+999] ^= 0x10
			write(t, s.a.path+"-wal", wal)
			if err := s.refused(); !errors.Is(err, replica.ErrDamaged) {
				t.Errorf("%v, want ErrDamaged", err)
			}
		})
	}
}

// More than can be read under the write lock was written while tidemark was down.
func TestMuchWrittenWhileDown(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]struct {
		do   string
		want outcome
	}{
		"":              {"SELECT 1", exact},
		"checkpointed":  {"PRAGMA wal_checkpoint(PASSIVE)", either},
		"and restarted": {"PRAGMA wal_checkpoint(RESTART)", either},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cleanly, "PRAGMA page_size=512")
			s.commit("INSERT INTO big VALUES(randomblob(1300000))")
			s.update(1)
			s.a.exec(then.do)
			s.resume(then.want)
		})
	}
}
