package salvage_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"tidemark/replica/salvage"
)

// TestDamage holds the output against what the writer knows of its database, for each
// kind of damage to the WAL.
func TestDamage(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(12)
	all := len(w.states)
	first := func(n int) int { return w.ends[n-1] + 1 } // the first frame of commit n+1
	cut := func(n int64) func(*files) { return func(f *files) { f.wal = f.wal[:n] } }
	at := func(frame int) int64 { return int64(32 + (frame-1)*(24+page)) }
	for _, c := range []struct {
		name   string
		damage func(*files)
		kind   salvage.Kind
		proof  salvage.Proof
		want   int // the output is the state after so many commits
		// verdict is Lost unless it says otherwise.
		verdict salvage.Verdict
	}{
		{"nothing", func(*files) {}, salvage.KindProven, salvage.Proven, all, salvage.Whole},
		{"header zeroed", func(f *files) { clear(f.wal[:32]) }, salvage.KindIntact, salvage.Probable, all, ""},
		{"bad magic", func(f *files) { f.wal[0] ^= 0xff }, salvage.KindProven, salvage.Proven, all, salvage.Whole},
		{"bad page size", func(f *files) { f.wal[9] ^= 0x40 }, salvage.KindProven, salvage.Proven, all, salvage.Whole},
		{"salts of a frame", func(f *files) { f.frame(9)[10] ^= 1 }, salvage.KindProven, salvage.Proven, all, salvage.Whole},
		{"stored sum of a frame", func(f *files) { f.frame(9)[20] ^= 1 }, salvage.KindProven, salvage.Proven, all, salvage.Whole},
		{"cut between commits", cut(at(first(7))), salvage.KindProven, salvage.Proven, 7, salvage.Whole},
		{"cut between frames", cut(at(first(7) + 1)), salvage.KindProven, salvage.Proven, 7, ""},
		{"cut in a frame", cut(at(first(7)) + 500), salvage.KindProven, salvage.Proven, 7, ""},
		{"cut in a frame's header", cut(at(first(7)) + 10), salvage.KindProven, salvage.Proven, 7, ""},
		{"cut in the header", cut(20), salvage.KindDatabase, salvage.Probable, 0, ""},
		{"empty", cut(0), salvage.KindDatabase, salvage.Proven, 0, salvage.Whole},
		{"a flipped bit", func(f *files) { f.frame(first(7))[500] ^= 1 }, salvage.KindProven, salvage.Proven, 7, ""},
		{"a frame zeroed", func(f *files) { f.zero(first(7), first(7)) }, salvage.KindProven, salvage.Proven, 7, ""},
		{"many frames zeroed", func(f *files) { f.zero(first(5), first(9)) }, salvage.KindProven, salvage.Proven, 5, ""},
		{"the first frame zeroed", func(f *files) { f.zero(1, 1) }, salvage.KindIntact, salvage.Probable, all, ""},
		{"the end zeroed", func(f *files) { f.zero(w.ends[all-1], w.ends[all-1]) }, salvage.KindProven, salvage.Proven, all - 1, ""},
		{"garbage", func(f *files) { copy(f.wal, bytes.Repeat([]byte{7, 99, 3}, len(f.wal)/3)) }, salvage.KindDatabase, salvage.Probable, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := w.files()
			c.damage(&f)
			rep, got := set(t, f).run()
			same(t, "contents", got, w.after(c.want))
			best := rep.Best()
			if c.verdict == "" {
				c.verdict = salvage.Lost
			}
			if best.Kind != c.kind || best.Proof != c.proof || rep.Verdict != c.verdict {
				t.Errorf("%s, %s, %s; want %s, %s, %s\n%+v\n%+v", best.Kind, best.Proof, rep.Verdict, c.kind, c.proof, c.verdict, rep, rep.Log)
			}
		})
	}
}

// TestHeals has a frame damaged whose page a checkpoint has brought into the database.
func TestHeals(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(6)
	w.exec("PRAGMA wal_checkpoint(PASSIVE)")
	f := w.files()
	last := w.ends[5]
	f.frame(last)[700] ^= 4
	s := set(t, f)
	rep, got := s.run()
	same(t, "contents", got, w.after(6))
	if rep.Verdict != salvage.Whole || rep.Log.Healed != 1 || rep.Best().Proof != salvage.Proven {
		t.Errorf("%+v %+v", rep, rep.Log)
	}
}

// TestCheckpointed has frames lost that a checkpoint has brought into the database.
func TestCheckpointed(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(6)
	w.pin()
	w.exec("PRAGMA wal_checkpoint(PASSIVE)")
	w.insert(2)
	f := w.files()
	f.zero(w.ends[2]+1, w.ends[2]+1)
	rep, got := set(t, f).run()
	same(t, "contents", got, w.after(8))
	best := rep.Best()
	if best.Kind != salvage.KindCheckpointed || best.Proof != salvage.Probable || best.Commits < 8 {
		t.Errorf("%v %+v", kinds(rep), best)
	}
	// The prefix alone, over pages that are newer, is no state that there was.
	if p := rep.Find(salvage.KindProven); p == nil || p.Proof == salvage.Proven {
		t.Errorf("%+v", p)
	}
}

// TestLength loses the first page of a commit that made the database longer: the length that
// it gave is known from the commit.
func TestLength(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(3)
	w.commit("INSERT INTO sessions (name, body) VALUES ('long', zeroblob(%d))", 9*page)
	f := w.files()
	at := w.ends[2] + 1
	for binary.BigEndian.Uint32(f.frame(at)) != 1 {
		at++
	}
	f.frame(at)[600] ^= 1
	s := set(t, f)
	s.opts.Take = salvage.KindPartial
	rep, got := s.run()
	same(t, "contents", got, w.after(4))
	if best := rep.Best(); best.Integrity != "ok" || best.Proof != salvage.Probable || best.Commits != 3 || best.Pages.Lost != 1 {
		t.Errorf("%+v", best)
	}
	if i := slices.Index(kinds(rep), salvage.KindProven); i != 1 {
		t.Errorf("%v", kinds(rep))
	}
}

// TestCutInAPage ends the database in the midst of a page. The rows that are there are those that
// were: none of them has zeros in the place of what is gone.
func TestCutInAPage(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	for i := range 40 {
		w.exec("INSERT INTO notes (text) VALUES ('%s')", strings.Repeat(string(rune('a'+i%26)), 100))
	}
	w.checkpoint()
	f := w.files()
	known := map[string]bool{}
	for row := range strings.Lines(w.base) {
		known[row] = true
	}
	for cut := len(f.db) - page + 30; cut < len(f.db); cut += 97 {
		_, got := set(t, files{db: f.db[:cut]}).run()
		for row := range strings.Lines(got) {
			if !known[row] && !strings.HasPrefix(row, "table lost_and_found") {
				t.Errorf("cut at %d: %q was never there", cut, row)
			}
		}
	}
}

// TestForeign has WALs beside databases that are not theirs.
func TestForeign(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(8)
	other := newWriter(t, page)
	other.exec("CREATE TABLE more (a, b, c)")
	other.exec("CREATE INDEX m1 ON more (a, b)")
	for i := range 300 {
		other.exec("INSERT INTO more VALUES (%d, %d, 'text %d')", i, i*i, i)
	}
	other.exec("DELETE FROM sessions")
	other.checkpoint()
	wide := newWriter(t, 4096)
	wide.insert(3)
	narrow := newWriter(t, 512)
	narrow.insert(3)
	for _, c := range []struct {
		name string
		f    files
		want string
	}{
		{"another database", files{other.files().db, w.files().wal}, other.base},
		{"a smaller page size", files{wide.files().db, w.files().wal}, wide.base},
		{"a larger page size", files{narrow.files().db, w.files().wal}, narrow.base},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := set(t, c.f)
			s.opts.All = s.opts.Output + "-all"
			rep, got := s.run()
			same(t, "contents", got, c.want)
			if rep.Match.Fit != salvage.Foreign || rep.Best().Kind != salvage.KindDatabase || rep.Verdict != salvage.Lost {
				t.Errorf("%v %+v %+v", kinds(rep), rep.Match, rep.Best())
			}
			if rep.Find(salvage.KindWAL) == nil {
				t.Errorf("the WAL alone is missing: %v", kinds(rep))
			}
		})
	}
}

// TestOlderOverNewer has blocks of an older generation over newer ones.
func TestOlderOverNewer(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(6)
	old := w.files().wal
	w.checkpoint()
	w.insert(12)
	f := w.files()
	at := 32 + w.ends[3]*(24+page)
	copy(f.wal[at:], old[at:at+3*(24+page)])
	rep, got := set(t, f).run()
	same(t, "contents", got, w.after(4))
	if rep.Log.Frames["stale"] == 0 || rep.Log.Probable == 0 || rep.Verdict != salvage.Lost {
		t.Errorf("%+v", rep.Log)
	}
}

// TestDatabaseDamaged has the database damaged beside a good WAL.
func TestDatabaseDamaged(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(12)
	for _, c := range []struct {
		name   string
		damage func(*files)
		kind   salvage.Kind
		proof  salvage.Proof
		rows   int64 // at least
	}{
		{"half", func(f *files) { f.db = f.db[:len(f.db)/2/page*page] }, salvage.KindGenerations, salvage.Probable, 72},
		{"cut in a page", func(f *files) { f.db = f.db[:len(f.db)-600] }, salvage.KindGenerations, salvage.Probable, 72},
		{"first page", func(f *files) { clear(f.db[:page]) }, salvage.KindProven, salvage.Probable, 72},
		{"a page in the midst", func(f *files) { clear(f.db[9*page : 10*page]) }, salvage.KindProven, salvage.Damaged, 69},
		{"missing", func(f *files) { f.db = nil }, salvage.KindGenerations, salvage.Damaged, 58},
		{"empty", func(f *files) { f.db = []byte{} }, salvage.KindGenerations, salvage.Damaged, 58},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := w.files()
			c.damage(&f)
			rep, got := set(t, f).run()
			best := rep.Best()
			if best.Proof == salvage.Probable {
				same(t, "contents", got, w.after(12))
			}
			if best.Kind != c.kind || best.Proof != c.proof || best.Rebuilt != (c.proof == salvage.Damaged) || best.Rows < c.rows || rep.Verdict != salvage.Lost {
				t.Errorf("%v %+v", kinds(rep), best)
			}
			t.Logf("%v %s %+v", kinds(rep), best.Why, rep.Match)
		})
	}
}

// TestIndex has commits cut off from the end, without a trace in the WAL: the wal-index tells.
func TestIndex(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(8)
	index, err := os.ReadFile(w.path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]salvage.Verdict{8: salvage.Whole, 5: salvage.Lost} {
		f := w.files()
		f.wal = f.wal[:32+w.ends[n-1]*(24+page)]
		s := set(t, f)
		s.put("app.db-shm", index)
		rep, got := s.run()
		same(t, "contents", got, w.after(n))
		if rep.Verdict != want || (len(rep.Notes) > 0) != (want == salvage.Lost) {
			t.Errorf("%d commits: %s %v", n, rep.Verdict, rep.Notes)
		}
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	f := w.files()
	f.wal = nil
	s := set(t, f)
	journal := binary.BigEndian.AppendUint64(nil, 0xd9d505f920a163d7)
	s.put("app.db-journal", append(journal, make([]byte, 504)...))
	rep, got := s.run()
	same(t, "contents", got, w.base)
	if rep.Journal == nil || !rep.Journal.Hot || rep.Journal.Advice == "" || rep.Verdict != salvage.Lost {
		t.Errorf("%+v %+v", rep, rep.Journal)
	}
}

// What is cut off a database is lost, and of what is left nothing says that it is as it was.
func TestCutOff(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	f := w.files()
	f.wal = nil
	all := binary.BigEndian.Uint32(f.db[28:]) // fileformat2, section 1.3.8
	f.db = f.db[:len(f.db)/2/page*page]
	left := uint32(len(f.db) / page)
	rep, _ := set(t, f).run()
	if got := rep.Best().Pages; got.Total != all || got.Lost != all-left || got.Probable != left || got.Proven != 0 {
		t.Errorf("of %d pages %d are left: %+v", all, left, got)
	}
	if !strings.Contains(rep.Database.Header, "cut off") {
		t.Errorf("of the file is said: %q", rep.Database.Header)
	}
}
