package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"tidemark/replica"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/wal"
)

// world is everything that a sequence of actions happens to.
type world struct {
	t   *rapid.T
	dir string
	app client
	// inside tells that the application has a transaction open; what is what it
	// did in it.
	inside string
	// seed makes content unique, files names.
	seed, files uint64

	bucket *fickle
	opts   replica.Options
	clock  atomic.Int64
	proc   *process // nil: tidemark is down
	// stopped is how the last stop ended.
	stopped error

	model history
	// first is the version that the replica began with.
	first int
	// shared is what all runs share, such as the memory for page images.
	shared *replica.Process
	// gap is not nil while nothing is known to follow the database. facts is the
	// WAL when it was looked at last.
	gap   *gap
	facts walFacts
	// loose is the licence of what can happen at any time in a run.
	loose *licence

	notes []string
	log   bytes.Buffer
}

func (w *world) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// fail ends the sequence. All failures with one format are alike.
func (w *world) fail(format string, args ...any) {
	panic(&breach{format, fmt.Sprintf(format, args...)})
}

// must is for what the test itself relies on.
func (w *world) must(err error) {
	if err != nil {
		w.fail("the test fails: %v", err)
	}
}

// file is a new name in the world's folder.
func (w *world) file(name string) string {
	w.files++
	return filepath.Join(w.dir, fmt.Sprintf("%s-%d", name, w.files))
}

func (w *world) setUp() {
	dir, err := os.MkdirTemp("", "model-")
	w.must(err)
	w.dir = dir
	w.bucket = &fickle{Bucket: mem.New()}
	size := rapid.SampledFrom([]int{512, 4096, 512, 4096, 1024, 65536}).Draw(w.t, "page size")
	auto := rapid.SampledFrom([]int{0, 1}).Draw(w.t, "auto_vacuum")
	checkpoint := rapid.SampledFrom([]int{0, 0, 10, 1000}).Draw(w.t, "wal_autocheckpoint")
	images := rapid.SampledFrom([]int64{0, 3 * int64(size), replica.DefaultCacheMemory}).Draw(w.t, "memory for images")
	w.note("pages of %d bytes, auto_vacuum=%d, wal_autocheckpoint=%d, memory for images %d", size, auto, checkpoint, images)
	w.shared.SetCacheMemory(images)
	w.app.path = filepath.Join(dir, "app.db")
	w.app.pragmas = fmt.Sprintf("&_pragma=wal_autocheckpoint(%d)", checkpoint)
	db, err := connect(w.app.path, fmt.Sprintf("&_pragma=page_size(%d)&_pragma=auto_vacuum(%d)", size, auto))
	w.must(errors.Join(err, db.Close()))
	w.must(w.app.open())
	w.must(w.app.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE mark(n)"))
	w.must(w.app.exec("INSERT INTO mark VALUES(0)"))
	w.committed("the beginning")
	w.opts = replica.Options{
		Path: w.app.path, StateDir: w.file("state"), StopPatience: 500 * time.Millisecond, Process: w.shared,
		SnapshotInterval: rapid.SampledFrom([]time.Duration{0, time.Nanosecond}).Draw(w.t, "snapshot interval"),
		Now:              func() time.Time { return time.Now().Add(time.Duration(w.clock.Load())) },
		Logger:           slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{ReplaceAttr: brief})),
	}.On(disk.OS{}).Packed(upkeep.Packing{Most: 4, Share: 1})
	if rapid.Bool().Draw(w.t, "park at once") {
		w.opts = w.opts.Parking(nil)
	}
	w.gap = newGap(false, 0, wal.Position{}, w.facts)
	w.start()
	w.first = w.model.newest()
}

// brief leaves out of the log what is the same in each line.
func brief(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case "db", "replica":
		return slog.Attr{}
	case slog.TimeKey:
		a.Value = slog.StringValue(a.Value.Time().Format("05.000"))
	}
	return a
}

func (w *world) cleanUp() {
	if w.proc != nil {
		_ = w.proc.end() // a sequence that failed
	}
	_ = w.app.unread()
	_ = w.app.close()
	_ = w.shared.Close()
	_ = os.RemoveAll(w.dir)
}

// look takes note of what the WAL is.
func (w *world) look() {
	switch {
	case w.app.db != nil && w.inside != "":
		return // nothing is published
	case w.app.db != nil:
		var err error
		w.facts, err = w.app.facts()
		w.must(err)
	case !w.app.hasWAL():
		w.facts = walFacts{}
	default:
		return
	}
	if w.gap != nil {
		w.gap.observe(w.facts)
	}
}

// notice finds out whether a run that began without storage follows the database
// now, and that none has ended by itself.
func (w *world) notice() {
	if w.proc == nil {
		return
	}
	select {
	case <-w.proc.done:
		w.fail("tidemark ended by itself: %v", w.proc.err)
	case <-w.proc.ready:
		w.attach()
	default:
	}
}

// attach ends the gap: with a licence, if commits can't be told apart after it.
func (w *world) attach() {
	if w.proc.attached {
		return
	}
	w.proc.attached = true
	if w.opts.SpoolLimit > 0 {
		w.loosen("the spool's limit")
	}
	if why := w.gap.verdict(); why != "" {
		next := w.gap.base + 1
		w.license(&licence{first: next, last: next, lo: w.gap.lo, hi: w.model.newest(), why: why})
	}
	w.gap = nil
}

func (w *world) license(l *licence) { w.model.licences = append(w.model.licences, l) }

// loosen licenses resyncs from now on until the next moment that ends it.
func (w *world) loosen(why string) {
	if w.loose != nil {
		return
	}
	w.loose = &licence{first: w.head() + 1, last: open, hi: open, why: why}
	w.license(w.loose)
}

// tighten ends that: a resync that is yet to come has a TXID up to last.
func (w *world) tighten(last state.TXID) {
	if w.loose != nil {
		w.loose.last, w.loose.hi = last, w.model.newest()
	}
	w.loose = nil
}

func (w *world) head() state.TXID {
	id, err := headOf(w.t.Context(), w.bucket.Bucket)
	if errors.Is(err, storage.ErrNotExist) || w.model.seen == 0 && err != nil {
		return 0
	}
	w.must(err)
	return id
}

// course is what tidemark is to do.
type course int

const (
	follow course = iota // until it is stopped
	once                 // until all is shipped
)

func (c course) String() string { return []string{"follow", "once"}[c] }

func (w *world) start() { w.run(follow) }
func (w *world) ship()  { w.run(once) }

func (w *world) run(what course) {
	w.endTransaction("COMMIT")
	if w.app.db == nil && w.app.hasWAL() {
		w.openApp()
	}
	o := &w.opts
	o.Bucket, o.Takeover = w.bucket, false
	o.CheckpointPages = rapid.IntRange(5, 50).Draw(w.t, "checkpoint pages")
	o.SyncInterval = rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Hour}).Draw(w.t, "sync interval")
	o.SpoolLimit = rapid.SampledFrom([]int64{0, 0, 0, 8 << 10}).Draw(w.t, "spool limit")
	w.note("tidemark starts (%v, %d pages, sync interval %v, spool limit %d)", what, o.CheckpointPages, o.SyncInterval, o.SpoolLimit)
	if !w.gap.known {
		w.gap.base = w.head()
	}
	if w.launch(what) && what == once {
		<-w.proc.done
		if err := w.proc.err; err != nil && (w.bucket.is(storageUp) || !isAway(err)) {
			w.fail("a run to ship everything once ended: %v", err)
		}
		w.ended()
	}
}

// launch begins a run, and waits until it follows the database or, without
// storage, has tried to. It tells whether there is one.
func (w *world) launch(what course) bool {
	w.gap.lo, w.gap.repeats = w.model.newest(), w.gap.moved && w.repeats()
	run := replica.Run
	if what == once {
		run = replica.Once
	}
	asked := w.bucket.next()
	if !w.bucket.is(storageDown) {
		asked = nil
	}
	w.proc = begin(w.opts, run)
	select {
	case <-w.proc.ready:
	case <-asked:
		if w.gap.known && what == follow {
			w.gap.repeats = true // nobody looks what is written meanwhile
			return true
		}
		<-w.proc.done
	case <-w.proc.done:
	}
	select {
	case <-w.proc.ready:
		w.attach()
		return true
	default:
	}
	err := w.proc.err
	w.ended()
	switch {
	case errors.Is(err, replica.ErrRefused) && !w.gap.known && !w.opts.Takeover:
		w.refused()
		return w.launch(what)
	case isAway(err) && w.bucket.is(storageDown):
		w.note("it can't")
	case isAway(err) && what == once && w.bucket.is(storageLossy):
	default:
		w.fail("tidemark does not start: %v", err)
	}
	return false
}

// refused checks that a database without local state was refused for a reason,
// and takes the replica over.
func (w *world) refused() {
	w.verify()
	at, newest := w.model.at, w.model.newest()
	if len(at) == 1 && at[0] == newest && w.gap.lost == "" {
		w.fail("a database that is at the replica's newest commit is refused")
	}
	w.note("refused; tidemark takes over")
	w.opts.Takeover = true
}

// isAway tells whether an error is about storage, or about a stop that did not wait for it.
func isAway(err error) bool {
	return errors.Is(err, storage.ErrUnreachable) || errors.Is(err, context.Canceled)
}

// ended takes note of what a run has left.
func (w *world) ended() {
	attached := w.proc.attached
	w.proc = nil
	if attached {
		st, known := w.remembered()
		base, head := st.TXID, w.head()
		switch {
		case !known:
			base = head
		case base < head:
			w.fail("TXID %v is remembered, and %v is in the archive", base, head)
		}
		w.gap = newGap(known, base, st.Position, w.facts)
		w.tighten(base + 1)
	}
	w.look()
}

// remembered reads the local state.
func (w *world) remembered() (local.State, bool) {
	d, err := local.Open(disk.OS{}, w.opts.StateDir)
	w.must(err)
	st, err := d.Load()
	w.must(d.Close())
	if errors.Is(err, local.ErrLost) {
		return local.State{}, false
	}
	w.must(err)
	return st, true
}

// stop ends it as a user would.
func (w *world) stop() {
	w.note("tidemark stops")
	err := w.proc.end()
	w.notePending()
	if err != nil && !isAway(err) && w.opts.SpoolLimit == 0 { // else the spool can be full
		w.fail("a stop fails: %v", err)
	}
	w.stopped = err
	followed := w.proc.attached
	w.ended()
	if err == nil && followed && w.inside == "" {
		w.complete()
	}
}

// complete checks that a clean stop has left nothing behind.
func (w *world) complete() {
	if g := w.gap; !g.known || g.base != w.head() || g.facts.beyond(g.at) {
		w.fail("a stop leaves commits unread: TXID %v is remembered, %v is in the archive, the WAL is %+v", g.base, w.head(), g.facts)
	}
	spool, err := filepath.Glob(filepath.Join(w.opts.StateDir, "spool", "*.[sp][ea][gr]*"))
	if err != nil || len(spool) > 0 {
		w.fail("a stop leaves a spool: %v %v", spool, err)
	}
}

// notePending notices, before the end of a run is taken in, that it came to follow
// the database.
func (w *world) notePending() {
	select {
	case <-w.proc.ready:
		w.attach()
	default:
	}
}

// kill goes on with what the disk and the archive hold at this moment. What the
// killed one does after it, to the archive and to its local state, is forgotten.
func (w *world) kill() {
	w.note("tidemark is killed")
	w.notice()
	old := w.bucket
	old.still.Lock()
	files, err := snap(w.opts.StateDir)
	if err == nil {
		w.opts.StateDir = w.file("state")
		err = writeTree(w.opts.StateDir, files)
	}
	var objects *mem.Bucket
	if err == nil {
		objects, err = old.copied(w.t.Context())
	}
	old.mu.Lock()
	if err == nil {
		w.bucket = &fickle{Bucket: objects, weather: old.weather}
	}
	old.weather = storageUp
	old.mu.Unlock()
	old.still.Unlock()
	w.must(err)
	_ = w.proc.end() // whatever it says
	w.notePending()
	w.ended()
}

// loseState removes what tidemark keeps beside the database.
func (w *world) loseState() {
	w.note("the local state is lost")
	w.must(os.RemoveAll(w.opts.StateDir))
	w.gap.known = false
}

// change changes how storage does.
func (w *world) change() {
	w.weather(rapid.SampledFrom([]weather{storageDown, storageDown, storageUp, storageLossy}).Draw(w.t, "storage"))
}

func (w *world) weather(s weather) {
	w.note("storage is %v", s)
	w.bucket.set(s)
	if w.proc == nil || w.proc.attached || s == storageDown {
		return
	}
	w.endTransaction("COMMIT") // it waits for the write lock
	select {
	case <-w.proc.ready:
		w.attach()
	case <-w.proc.done:
		w.fail("tidemark ended by itself: %v", w.proc.err)
	}
}

func (w *world) turnClock() {
	by := rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(w.t, "by")
	w.note("the clock is turned by %v", by)
	w.clock.Add(int64(by))
}

// catchUp waits until the archive's newest commit is the newest version, and
// looks at what is new in it.
func (w *world) catchUp() {
	w.endTransaction("COMMIT")
	w.weather(storageUp)
	w.note("tidemark catches up")
	if w.opts.SyncInterval > time.Second {
		w.stop()
		if w.verify(); w.stopped == nil && w.model.versions[w.model.newest()].digest != w.model.versions[w.model.at[0]].digest {
			w.fail("a stop has not shipped everything: TXID %v is version %v", w.model.seen, w.model.at)
		}
		return
	}
	var looked state.TXID
	err := await(func() (bool, error) {
		id := w.head()
		if id == looked {
			return false, nil
		}
		looked = id
		digest, err := contentAt(w.t.Context(), w.bucket.Bucket, id, w.file("newest"))
		return digest == w.model.versions[w.model.newest()].digest, err
	}, w.proc.done)
	if err != nil {
		w.fail("it does not catch up: %v", w.why(err))
	}
	w.tighten(looked)
	w.verify()
	if w.opts.SpoolLimit > 0 {
		w.loosen("the spool's limit")
	}
}

// why adds to an error how tidemark has ended.
func (w *world) why(err error) error {
	select {
	case <-w.proc.done:
		return errors.Join(err, w.proc.err)
	default:
		return err
	}
}

// awaitHandOff waits until nothing keeps the WAL from restarting.
func (w *world) awaitHandOff() {
	w.unread()
	w.endTransaction("COMMIT")
	w.openApp()
	w.note("tidemark hands the WAL off")
	err := await(func() (bool, error) {
		w.look()
		return w.facts.copied == w.facts.frames, nil
	}, w.proc.done)
	if err != nil {
		w.fail("there is no hand-off: %v", w.why(err))
	}
}
