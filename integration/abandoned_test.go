package integration_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"tidemark/snapshot/state"
)

// TestAbandonedRestart has a transaction restart the WAL, for it is so large that
// it spills, and then come to nothing. The next commit, of another process, makes
// up salts anew, as SQLite does where the WAL holds no frame that counts. A WAL
// that restarted twice, and between the two held nothing, has not lost anything:
// every commit has its TXID.
func TestAbandonedRestart(t *testing.T) {
	t.Parallel()
	at := folderPlace(t)
	db := filepath.Join(keptDir(t, at), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	p := replicate(t, db, at, "--sync-interval", "0", "--checkpoint-pages", "50")
	p.attached(t, at)
	other, err := openLive(db)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // closed below unless the test failed
	p.reached(t, at, state.TXID(app.write(t, 3)+1))
	p.eventually(t, "the WAL is handed off", func() bool {
		complete := p.logged(t, func(line map[string]any) bool { return line["msg"] == "handed off the WAL" && line["complete"] == true })
		return complete > 0 && backfilled(t, other)
	})
	app.close(t)

	was := walHeader(t, db)
	execSQL(t, other, "PRAGMA cache_size = 10")
	execSQL(t, other, "BEGIN IMMEDIATE")
	execSQL(t, other, "UPDATE data SET v = zeroblob(100000)")
	if walHeader(t, db).Salts == was.Salts {
		t.Fatal("the WAL has not restarted")
	}
	p.pass(t, 2*time.Second) // while it looks at the WAL
	execSQL(t, other, "ROLLBACK")
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	restarted := walHeader(t, db).Salts
	app = goWriter(t, db)
	commits := app.write(t, 20)
	if walHeader(t, db).Salts == restarted {
		t.Error("the WAL has not restarted again")
	}
	settled(t, p, at, commits)
	p.stop(t)
	app.close(t)
	wantEach(t, at, commits, 0)
}

// backfilled tells whether the database file has all that is in the WAL.
func backfilled(t *testing.T, db *sql.DB) bool {
	t.Helper()
	var busy, frames, done int
	if err := db.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &done); err != nil {
		t.Fatal(err)
	}
	return busy == 0 && frames > 0 && frames == done
}
