package replica

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

const (
	// maxSegment is the stored size at which a segment is sealed before its
	// time. A single transaction can exceed it.
	maxSegment = 64 << 20
	// maxLocked is how many frames are read under the write lock, and lockedTurn for
	// how long at most. readTurn is how long is read at once without it: whatever
	// is due is done in between, beside a writer that is faster, too.
	maxLocked  = 4000
	lockedTurn = 100 * time.Millisecond
	readTurn   = 20 * time.Millisecond
	// sumsEvery is how often the page sums are saved. After a crash they are
	// rolled forward by the indexes of the segments since.
	sumsEvery = 5 * time.Minute
)

// engine follows one database until it is told to stop, or something fails. All
// but the shipper is used by one goroutine.
type engine struct {
	*replicator
	// arch is the replica as it was at the start; offline tells that it could
	// not be read.
	arch    *archive.Archive
	offline bool
	// adrift tells that it may have missed something since the last place at
	// which it stood.
	adrift bool
	// beginning tells that nothing can be restored from it yet.
	beginning bool
	watch     watcher
	// adopt, if not nil, is what is to be remembered of the archive once the
	// database is found to belong to it.
	adopt *local.Shipped

	// table and head are the state after the last commit that was read.
	table *state.Table
	head  segment.Commit
	tail  tail
	seg   *openSegment
	cache pageCache
	prev  previous
	snaps snapshots
	// descends tells that this database is known to have made the history.
	descends bool
	// seen holds the times at which commits were seen that are yet to be read.
	seen []time.Time

	// kept is the position that was remembered last; locked tells that the
	// write lock is held, under which nothing is done that can wait.
	kept     wal.Position
	keptFile local.Stamp // what the database file looked like then
	locked   bool
	// readUntil ends a reading at the end of a commit, zero: at the WAL's end. cut
	// tells that it did.
	readUntil time.Time
	cut       bool

	// blindSince is when the wal-index could last be read, zero if it can be.
	blindSince time.Time

	short     int // looks at the WAL that ended before the limit, in a row
	last      moments
	handed    bool // the WAL is handed off completely and has not moved since
	handedAt  wal.Position
	stirred   bool // something was read since the start
	nextHand  time.Time
	handDelay time.Duration
	sumsSaved time.Time
}

// tail is the place up to which the WAL has been read, over its restarts.
type tail struct {
	src    io.ReaderAt
	reader *wal.Reader // nil: the WAL has had no header yet
	// sealed is the end of the WAL when it was attached to or handed off. If
	// the WAL restarts, it restarts from there: see package source.
	sealed wal.Position
	// published tells how many frames of the WAL count; limit is what it said.
	published func() (uint32, error)
	limit     uint32
	// only is the one generation that may be read, zero: any.
	only wal.Salts
	// until bounds how many count, 0: all. beyond is how many are past it.
	until, beyond uint32
}

// errGap says that the WAL restarted although it had not been read to its end.
var errGap = errors.New("the WAL restarted before it was read")

func (t *tail) position() wal.Position {
	if t.reader == nil {
		return wal.Position{}
	}
	return t.reader.Position()
}

// renew looks whether the WAL has restarted, and moves to the new generation. It
// also looks how far the WAL counts, after the header: see source.DB.Published.
func (t *tail) renew() (restarted bool, err error) {
	if restarted, err = t.follow(); err != nil || t.reader == nil {
		return restarted, err
	}
	n, err := t.published()
	if err != nil {
		return restarted, err
	}
	t.beyond = 0
	if t.until > 0 && n > t.until {
		n, t.beyond = t.until, n-t.until
	}
	t.reader.SetLimit(n)
	t.limit = n
	return restarted, nil
}

func (t *tail) follow() (restarted bool, err error) {
	h, err := wal.ReadHeader(t.src)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, wal.ErrHeader):
		return false, nil // truncated to nothing, or being written
	case err != nil:
		return false, err
	case t.reader != nil && t.reader.Header().Salts == h.Salts:
		return false, nil
	case t.only != (wal.Salts{}) && t.only != h.Salts:
		return false, fmt.Errorf("%w: it is another one", errGap)
	case t.position() != t.sealed && t.position().Frame > 0:
		// A generation that never held a commit can be given up for another: a
		// writer that is killed, or rolls back, leaves its header only.
		return false, fmt.Errorf("%w: read to %v of %v", errGap, t.position(), t.sealed)
	}
	t.reader = wal.NewReader(t.src, h, h.Start())
	return true, nil
}

// next finds the next commit, or io.EOF.
func (t *tail) next() (wal.Commit, error) {
	if t.reader == nil {
		return wal.Commit{}, io.EOF
	}
	return t.reader.Next()
}

// openSegment is the segment that is being written.
type openSegment struct {
	file  disk.File
	w     *segment.Writer
	began time.Time
	// touched lists the pages since the last hand-off, some more than once.
	touched []wal.PageNo
}

// maxBlind is how long the wal-index may refuse to be read before that is an
// error: nothing would be shipped, and nobody would know.
const maxBlind = 10 * time.Second

// Read reads the commits that the WAL holds now into the open segment, as many as
// it can in a moment, and tells how many there were. It leaves them for the next
// time if the wal-index can't be read.
func (e *engine) Read() (n int, err error) { return e.read(time.Now().Add(readTurn)) }

// Tend seals the segment when that is due, and tells how far it has read.
func (e *engine) Tend() error {
	if e.sealDue() {
		if err := e.seal(); err != nil {
			return err
		}
	}
	e.tell()
	return nil
}

// readAll does so without a limit in time.
func (e *engine) readAll() error {
	_, err := e.read(time.Time{})
	return err
}

func (e *engine) read(until time.Time) (n int, err error) {
	e.readUntil = until
	n, err = e.readPublished()
	e.readUntil = time.Time{}
	if !errors.Is(err, source.ErrBusy) {
		e.blindSince = time.Time{}
		return n, err
	}
	if e.blindSince.IsZero() {
		e.blindSince = time.Now()
	}
	if time.Since(e.blindSince) < maxBlind {
		err = nil
	}
	return n, err
}

func (e *engine) readPublished() (n int, err error) {
	e.cut, e.prev.left = false, previousTurn
	if e.locked {
		e.prev.left = previousLocked
	}
	restarted, err := e.tail.renew()
	if restarted {
		// Until now the WAL stood still, so everything was secured by the
		// hand-off. From here on the new generation can prove itself.
		e.handed = false
		err = errors.Join(err, e.remember(local.Process))
	}
	if err != nil {
		return 0, err
	}
	for {
		c, err := e.tail.next()
		if errors.Is(err, io.EOF) {
			return n, e.checkEnd()
		}
		if err != nil {
			return n, err
		}
		n++
		if err := e.take(c); err != nil {
			return n, err
		}
		if e.seg.w.Stored() > maxSegment && !e.locked {
			if err := e.seal(); err != nil {
				return n, err
			}
		}
		if !e.readUntil.IsZero() && time.Now().After(e.readUntil) && e.tail.position().Frame < e.tail.limit {
			e.cut = true
			return n, nil
		}
	}
}

// maxShort is how often in a row the WAL may end before what SQLite counts: a
// restart between two looks at it can make it seem so once.
const maxShort = 5

// checkEnd takes note of whether all that SQLite counts was there to be read. A
// damaged WAL never has it.
func (e *engine) checkEnd() error {
	if at := e.tail.position().Frame; at >= e.tail.limit {
		e.short = 0
		return nil
	}
	if e.tail.beyond > 0 {
		return nil // the limit is in the middle of a transaction
	}
	if e.short++; e.short < maxShort {
		return nil
	}
	e.short = 0
	return fmt.Errorf("%w: nothing to be read from frame %d on of %d", errGap, e.tail.position().Frame, e.tail.limit)
}

// Keep reads to the end of the WAL as it is now and leaves nothing in memory
// only.
func (e *engine) Keep(only wal.Salts) (uint32, error) {
	e.tail.only = only
	defer func() { e.tail.only = wal.Salts{} }()
	if _, err := e.readPublished(); err != nil {
		return 0, err
	}
	at := e.tail.position().Frame
	if at < e.tail.limit {
		return 0, fmt.Errorf("%w: read to frame %d of %d", source.ErrBusy, at, e.tail.limit)
	}
	return at, e.keep()
}

// Secure is Keep under the write lock.
func (e *engine) Secure() (uint32, error) { return e.secure(time.Now().Add(lockedTurn)) }

// secure reads until a time, zero: without a limit to it.
func (e *engine) secure(until time.Time) (uint32, error) {
	if err := e.readLocked(until); err != nil {
		return 0, err
	}
	// What SQLite counts must have been read. It counts 0 if the WAL is about
	// to restart.
	if at := e.tail.position().Frame; e.tail.limit != 0 && at != e.tail.limit {
		return 0, fmt.Errorf("%w: read to frame %d of %d", errGap, at, e.tail.limit)
	}
	e.short = 0
	e.savePages(maxSaved)
	// The limit is the number of frames, or 0 when the WAL is about to restart.
	return e.tail.limit, e.keep()
}

// readLocked reads under the write lock, but not for long: source.ErrBehind says
// that there is more. A transaction that is longer than that is source.ErrBusy.
func (e *engine) readLocked(until time.Time) error {
	from := e.tail.position()
	e.locked, e.tail.until, e.readUntil = true, from.Frame+maxLocked, until
	_, err := e.readPublished()
	e.locked, e.tail.until, e.readUntil = false, 0, time.Time{}
	if err != nil {
		return err
	}
	switch at := e.tail.position(); {
	case e.cut:
		return source.ErrBehind
	case e.tail.beyond == 0:
		return nil
	case at == from:
		return fmt.Errorf("%w: %d frames are left to be read", source.ErrBusy, e.tail.beyond)
	default:
		return source.ErrBehind
	}
}

// keep leaves nothing in memory only, and lets the WAL restart from here.
func (e *engine) keep() error {
	e.savePages(math.MaxUint32)
	if at := e.tail.position(); at == e.tail.sealed && at == e.kept {
		return nil
	}
	if e.seg != nil {
		if err := errors.Join(e.seg.w.Flush(), e.appendPartSums(e.seg)); err != nil {
			return err
		}
	}
	e.tail.sealed = e.tail.position()
	return e.remember(local.Process)
}

// remember saves the position: all commits before it are in the archive or, at
// least in the operating system's hands, in the spool. The caller has seen to
// that.
func (e *engine) remember(survive local.Durability) error {
	file := local.Stamp(e.db.Seen())
	err := e.dir.Save(local.State{
		Replica: e.arch.Meta().Replica, TXID: e.head.TXID, Checksum: e.table.Checksum(), Pages: e.table.Len(),
		Time: e.head.Time, Position: e.tail.position(), File: file,
	}, survive)
	if err == nil {
		e.kept, e.keptFile = e.tail.position(), file
	}
	return err
}

// take adds a commit of the WAL to the open segment and to the state.
func (e *engine) take(c wal.Commit) error {
	e.last.read, e.stirred = time.Now(), true
	now := e.now()
	if len(e.seen) > 0 {
		now, e.seen = e.seen[0], e.seen[1:]
	}
	if err := e.begin(now); err != nil {
		return err
	}
	h, n := e.tail.reader.Header(), c.Start.Frame
	for f, err := range e.tail.reader.Frames() {
		if err != nil {
			return err
		}
		if n++; uint32(f.Page) > c.Pages {
			continue // spilled early, and not part of the database in the end
		}
		if err := e.frame(f, &h); err != nil {
			return err
		}
		e.prev.note(&h, f.Page, n)
	}
	return e.commit(segment.Commit{Time: now, Pages: c.Pages})
}

// commit ends a transaction in the open segment.
func (e *engine) commit(c segment.Commit) error {
	if c.Pages < e.table.Len() {
		e.cache.truncate(wal.PageNo(c.Pages))
		if e.snaps.job != nil {
			e.snaps.job.changes.cut(c.Pages)
		}
	}
	e.table.Resize(c.Pages)
	c.After = e.table.Checksum()
	id, err := e.seg.w.Commit(c)
	if err != nil {
		return err
	}
	if c.Time.Before(e.head.Time) {
		c.Time = e.head.Time
	}
	c.TXID = id
	e.head = c
	return nil
}

// begin makes sure that there is an open segment.
func (e *engine) begin(now time.Time) error {
	if e.seg != nil {
		return nil
	}
	if now.Before(e.head.Time) {
		now = e.head.Time // commit times never decrease
	}
	first := e.head.TXID + 1
	if err := e.removePartSums(first); err != nil { // of a segment that never was
		return fmt.Errorf("begin segment: %w", err)
	}
	f, err := disk.Create(e.dir.FS(), e.dir.PartPath(first))
	if err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	w := segment.NewWriter(f, segment.Header{
		PageSize: e.db.PageSize(), Replica: e.arch.Meta().Replica, First: first,
		Before: e.table.Checksum(), PagesBefore: e.table.Len(), Time: now, Writer: e.opts.Writer,
	})
	e.seg = &openSegment{file: f, w: w, began: time.Now()}
	return nil
}

// seal closes the open segment and queues it. It is remembered before it gets
// its final name: whichever of the two a crash leaves out, the other tells all.
func (e *engine) seal() error {
	s := e.seg
	if s == nil {
		return nil
	}
	e.seg = nil // after an error it is taken up again from what is on disk
	t, err := s.w.Close(e.table.At)
	if err = errors.Join(err, e.appendPartSums(s)); err == nil && e.ship.isFailing() {
		err = s.file.Sync() // it may have to wait for long
	}
	if err = errors.Join(err, s.file.Close()); err != nil {
		return fmt.Errorf("seal segment: %w", err)
	}
	if err := e.remember(local.Process); err != nil {
		return err
	}
	h := s.w.Header()
	path := e.dir.SpoolPath(h.First)
	if err := e.dir.FS().Rename(e.dir.PartPath(h.First), path); err != nil {
		return fmt.Errorf("seal segment: %w", err)
	}
	if err := e.removePartSums(h.First); err != nil {
		return fmt.Errorf("seal segment: %w", err)
	}
	e.ship.add(sealedOf(h, t, path, s.w.Stored()))
	if time.Since(e.sumsSaved) >= sumsEvery {
		return e.saveSums()
	}
	return nil
}

func (e *engine) saveSums() error {
	e.sumsSaved = time.Now()
	return e.dir.SaveSums(e.arch.Meta().Replica, e.head.TXID, e.table)
}

// tell tells how far it has read.
func (e *engine) tell() {
	var open backlog
	if e.seg != nil {
		open = backlog{bytes: e.seg.w.Stored(), oldest: e.seg.w.Header().Time}
	}
	e.status.at(e.tail.position().Frame, e.db.PageSize())
	e.status.has(StatusCommit{TXID: e.head.TXID, Time: e.head.Time}, open)
	if !e.adrift {
		e.status.found()
	}
	e.status.flush()
}

// finish reads and seals what is left, and remembers where to go on.
func (e *engine) finish() error {
	if !e.db.Parked() { // else there is nothing to read
		if err := e.readAll(); err != nil {
			return err
		}
	}
	e.tell()
	if err := e.seal(); err != nil {
		return err
	}
	return errors.Join(e.remember(local.Power), e.saveSums())
}
