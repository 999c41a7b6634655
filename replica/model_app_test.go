package replica_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pgregory.net/rapid"

	"tidemark/replica"
	"tidemark/snapshot/state"
)

// What the application of the model test does.

// openApp opens the database, if it must.
func (w *world) openApp() {
	w.must(w.app.open())
	w.look()
}

// same checks that the application finds what it has committed last.
func (w *world) same() {
	digest, err := contentOf(w.t.Context(), w.app.db)
	w.must(err)
	if v := w.model.versions[w.model.newest()]; digest != v.digest {
		w.fail("the application finds content %s, and not what was committed last, %s", digest, v.digest)
	}
}

// one is the value that a query gives.
func (w *world) one(q string) (v string) {
	w.must(w.app.db.QueryRowContext(w.t.Context(), q).Scan(&v))
	return v
}

// committed makes what the database holds now a version.
func (w *world) committed(what string) {
	digest, err := contentOf(w.t.Context(), w.app.db)
	w.must(err)
	w.model.made(version{digest: digest, made: what})
	w.look()
}

// write changes rows in the transaction that is open.
func (w *world) write(most int) string {
	var what strings.Builder
	w.seed++
	unique := false
	for range rapid.IntRange(1, 4).Draw(w.t, "rows") {
		id := rapid.IntRange(1, 60).Draw(w.t, "id")
		if rapid.IntRange(0, 4).Draw(w.t, "delete") == 4 {
			to := id + rapid.IntRange(0, 10).Draw(w.t, "to")
			w.must(w.app.exec("DELETE FROM t WHERE id BETWEEN ? AND ?", id, to))
			_, _ = fmt.Fprintf(&what, " -%d..%d", id, to)
			unique = false // it may delete what was new
			continue
		}
		size := rapid.IntRange(16, most).Draw(w.t, "size")
		w.must(w.app.exec("INSERT OR REPLACE INTO t VALUES(?, ?)", id, blob(size, w.seed)))
		_, _ = fmt.Fprintf(&what, " %d:%d", id, size)
		unique = true
	}
	if !unique || rapid.Bool().Draw(w.t, "mark") { // no version comes twice
		w.must(w.app.exec("UPDATE mark SET n = ?", w.seed))
	}
	return what.String()
}

// enter begins a transaction.
func (w *world) enter() {
	w.endTransaction("COMMIT")
	w.openApp()
	w.must(w.app.exec("PRAGMA shrink_memory")) // so that it spills, see app.spills
	w.must(w.app.exec("BEGIN IMMEDIATE"))
}

// endTransaction ends the transaction that is open, if there is one.
func (w *world) endTransaction(how string) {
	if w.inside == "" {
		return
	}
	what := w.inside
	w.inside = ""
	w.must(w.app.exec(how))
	if how == "COMMIT" {
		w.note("commit%s", what)
		w.committed("commit" + what)
		return
	}
	w.note("roll back%s", what)
	w.look()
	w.same()
}

// The sizes of a row, at most.
const (
	smallRow = 600
	largeRow = 40_000
)

func (w *world) commit() {
	for range rapid.IntRange(1, 4).Draw(w.t, "commits") {
		w.enter()
		w.inside = w.write(smallRow)
		w.endTransaction("COMMIT")
	}
}

func (w *world) bigCommit() {
	w.enter()
	w.inside = w.write(largeRow)
	w.endTransaction("COMMIT")
}

// begin leaves a transaction open whose frames are in the WAL, partly.
func (w *world) begin() {
	w.enter()
	w.inside = w.write(largeRow)
	w.note("begin")
}

func (w *world) rollBack() {
	if w.inside == "" {
		w.begin()
	}
	w.endTransaction("ROLLBACK")
}

// patience is how long a checkpoint of the application's takes at least for which
// tidemark has to give up its pin; see package source.
const patience = 300 * time.Millisecond

func (w *world) checkpoint() {
	w.endTransaction("COMMIT")
	w.openApp()
	modes := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}
	if w.app.reader != nil {
		modes = modes[:1] // the others wait for it
	}
	mode := rapid.SampledFrom(modes).Draw(w.t, "mode")
	w.note("checkpoint %s", mode)
	began := time.Now()
	err := await(func() (bool, error) {
		var busy, frames, copied int
		err := w.app.db.QueryRowContext(w.t.Context(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &frames, &copied)
		return busy == 0, err // at once if tidemark is checkpointing
	}, nil)
	if err != nil {
		w.fail("tidemark keeps the application from a checkpoint: %v", err)
	}
	if took := time.Since(began); w.proc != nil && took > patience {
		w.note("it takes %v", took)
		w.loosen("a checkpoint of the application's")
	}
	w.look()
}

func (w *world) vacuum() {
	w.endTransaction("COMMIT")
	w.openApp()
	w.note("VACUUM")
	w.must(w.app.exec("VACUUM"))
	w.committed("VACUUM")
}

func (w *world) closeApp() {
	w.endTransaction("COMMIT")
	w.note("the application closes")
	w.must(w.app.close())
	w.look()
}

func (w *world) reopen() {
	w.closeApp()
	w.note("the application opens")
	w.openApp()
	w.same()
}

func (w *world) read() {
	w.note("a reader begins")
	w.must(w.app.read())
}

func (w *world) unread() {
	if w.app.reader != nil {
		w.note("the reader ends")
	}
	w.must(w.app.unread())
	w.look()
}

// replace puts another version of the database in its place: a restore, or mv of
// a backup.
func (w *world) replace() {
	w.verify()
	id := state.TXID(rapid.IntRange(1, int(w.model.seen)).Draw(w.t, "TXID"))
	digest, err := contentAt(w.t.Context(), w.bucket.Bucket, id, w.app.path+".new")
	w.must(err)
	w.closeApp()
	w.unread()
	if w.proc != nil && !w.proc.attached {
		w.stop()
	}
	w.note("TXID %v is put in the database's place", id)
	w.must(errors.Join(os.RemoveAll(w.app.path+"-wal"), os.RemoveAll(w.app.path+"-shm"), os.Rename(w.app.path+".new", w.app.path)))
	w.model.made(version{digest: digest, made: fmt.Sprintf("TXID %v put back", id), jump: true})
	w.look()
	if w.proc != nil {
		w.replacedLive()
	}
	w.gap.lose("the database was replaced")
	w.openApp()
	w.same()
}

// noticed is how long it may take at most until tidemark has noticed; it looks every
// second, and tries again after half a minute at most.
const noticed = 2 * time.Minute

// replacedLive waits until tidemark has noticed. The application can go on
// meanwhile.
func (w *world) replacedLive() {
	if rapid.Bool().Draw(w.t, "go on at once") {
		w.commit()
	}
	select {
	case <-w.proc.done:
	case <-time.After(noticed):
		w.fail("it does not notice that the database was replaced")
	}
	if !errors.Is(w.proc.err, replica.ErrReplaced) {
		w.fail("it does not say that the database was replaced: %v", w.proc.err)
	}
	w.ended()
}

// repeats tells whether the WAL has a page with the content that it had in the
// state that is remembered. If that is not in the archive, it can have.
func (w *world) repeats() bool {
	if w.facts.frames == 0 || !w.gap.known || w.gap.base > w.head() {
		return w.facts.frames > 0
	}
	out := w.file("base")
	_, err := contentAt(w.t.Context(), w.bucket.Bucket, w.gap.base, out)
	w.must(err)
	was, err := os.ReadFile(out)
	w.must(err)
	repeats, err := w.app.repeats(was, w.facts.frames)
	w.must(err)
	return repeats
}
