package salvage_test

import (
	"bytes"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tidemark/replica/salvage"
)

// spoil damages a file at random, in one of the ways in which files are damaged. older is
// the same file from before.
func spoil(rng *rand.Rand, b, older []byte) []byte {
	if len(b) < 100 {
		return b
	}
	at := rng.IntN(len(b))
	run := b[at:min(len(b), at+1<<rng.IntN(15))]
	switch rng.IntN(7) {
	case 0:
		clear(run)
	case 1:
		b[at] ^= 1 << rng.IntN(8)
	case 2:
		return b[:at]
	case 3:
		for i := range run {
			run[i] = byte(rng.Uint32())
		}
	case 4:
		at &^= 511
		copy(b[at:min(len(b), at+4096<<rng.IntN(3))], older[min(at, len(older)):])
	case 5:
		clear(b[:32])
	case 6: // blocks in a wrong place
		copy(run, b[rng.IntN(len(b)):])
	}
	return b
}

// TestNothingFalse damages files at random: whatever is called proven must be a state
// that the writer knows, row by row, if it is the WAL that was damaged; and whatever is
// written is a database that SQLite finds nothing wrong with.
func TestNothingFalse(t *testing.T) {
	t.Parallel()
	w := newWriter(t, page)
	w.insert(6)
	before := w.files()
	w.checkpoint()
	w.insert(6)
	w.commit("UPDATE sessions SET name = 'old ' || name WHERE id < 20")
	w.commit("DELETE FROM sessions WHERE id BETWEEN 10 AND 30")
	w.insert(8)
	known := []string{w.base}
	known = append(known, w.states...)
	proven := 0
	seeds := []uint64{376} // a WAL that is older than the database
	tries := uint64(60)
	if os.Getenv("TIDEMARK_TEST_LONG") != "" {
		tries = 1000
	}
	for seed := range tries {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 1))
		f := w.files()
		onlyWAL := rng.IntN(3) > 0
		for range 1 + rng.IntN(3) {
			f.wal = spoil(rng, f.wal, before.wal)
			if !onlyWAL {
				f.db = spoil(rng, f.db, before.db)
			}
		}
		s := set(t, f)
		rep, err := s.try()
		if errors.Is(err, salvage.ErrNothing) {
			continue
		}
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
			continue
		}
		best := rep.Best()
		if check, err := checkOf(t, rep.Output); err != nil || check != "ok" {
			t.Errorf("seed %d: %s %v", seed, check, err)
		}
		if best.Proof != salvage.Proven {
			continue
		}
		proven++
		if onlyWAL && !slices.Contains(known, content(t, rep.Output)) {
			t.Errorf("seed %d: called proven, and no state that there was: %+v", seed, best)
		}
		if rep.Verdict == salvage.Whole && onlyWAL && len(f.wal) == len(w.files().wal) && content(t, rep.Output) != w.after(len(w.states)) {
			t.Errorf("seed %d: called whole, and it is not: %+v\n%+v", seed, best, rep.Log)
		}
	}
	if proven < len(seeds)/5 {
		t.Errorf("only %d of %d were proven", proven, len(seeds))
	}
}

// checkOf runs SQLite's check on a copy.
func checkOf(t *testing.T, path string) (check string, err error) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	moved := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(moved, bytes.Clone(b), 0o600); err != nil {
		return "", err
	}
	db, err := sql.Open("sqlite", "file:"+moved)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	err = db.QueryRow("PRAGMA integrity_check").Scan(&check)
	return check, err
}
