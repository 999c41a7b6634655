package replica

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// rig is an engine between a database that is made up and the segments that it
// writes: pages as SQLite leaves them in the WAL and in the file, without SQLite.
type rig struct {
	fatal func(...any)
	size  wal.PageSize
	e     *engine
	// file and log are what is on disk.
	file, log fake
	h         wal.Header
	end       wal.Position
	seed      uint64
	// pages is the database after the newest commit, newest those of them whose
	// newest image is in the WAL only.
	pages  [][]byte
	newest map[int]struct{}
	out    bytes.Buffer
	// first is the state before the segment, states those after its commits.
	first  [][]byte
	states [][][]byte
	// whole and deltas count the segments' frames.
	whole, deltas int
	// unread leaves what is written to be read by the engine's own means.
	unread bool
}

// fake is a file in memory. Reading it takes some time.
type fake struct {
	b     []byte
	takes time.Duration
	reads int
}

func (f *fake) ReadAt(p []byte, off int64) (int, error) {
	f.reads++
	if f.takes > 0 {
		time.Sleep(f.takes) //nolint:forbidigo // the bubble's time
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *fake) write(off int64, p []byte) {
	if n := off + int64(len(p)) - int64(len(f.b)); n > 0 {
		f.b = append(f.b, make([]byte, n)...)
	}
	copy(f.b[off:], p)
}

// newRig begins with a database whose file has all of it.
func newRig(fatal func(...any), size wal.PageSize, pages int, images int64) *rig {
	b := &rig{fatal: fatal, size: size, newest: map[int]struct{}{}}
	for i := range pages {
		b.pages = append(b.pages, b.fresh())
		b.file.write(size.Offset(wal.PageNo(i+1)), b.pages[i])
	}
	b.h = wal.Header{PageSize: size, Salts: wal.Salts{Salt1: 1, Salt2: 2}}
	b.e = &engine{cache: pageCache{from: &memory{size: images}}, head: segment.Commit{TXID: 1, Pages: uint32(pages)}}
	b.e.table = state.NewTable(size)
	for i, p := range b.pages {
		b.e.table.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), p))
	}
	b.restart()
	b.start()
	b.begin()
	return b
}

// fresh is a page that has nothing in common with another.
func (b *rig) fresh() []byte {
	b.seed++
	p := make([]byte, b.size)
	rng := rand.NewChaCha8([32]byte{byte(b.seed), byte(b.seed >> 8)})
	_, _ = rng.Read(p) // never fails
	return p
}

// start is a new engine that goes on where the one before was.
func (b *rig) start() {
	was := b.e
	was.cache.drop()
	at := &seat{}
	b.e = &engine{
		replicator: &replicator{opts: Options{Now: time.Now}, seat: at}, table: was.table, head: was.head, seg: was.seg,
		cache: pageCache{from: was.cache.from}, prev: previous{file: &b.file, wal: &b.log, seat: at, left: time.Hour},
	}
	b.e.tail = tail{
		src: &b.log, reader: wal.NewReader(&b.log, b.h, b.end), published: func() (uint32, error) { return b.end.Frame, nil },
	}
}

// restart is a checkpoint of all, and the WAL's next generation over this one.
func (b *rig) restart() {
	b.checkpoint(len(b.pages))
	b.file.b = append(b.file.b, make([]byte, len(b.pages)*int(b.size))...)[:len(b.pages)*int(b.size)]
	b.h.Salts.Salt1++
	var err error
	b.log.write(0, b.h.AppendTo(nil))
	if b.h, err = wal.ReadHeader(&b.log); err != nil {
		b.fatal(err)
	}
	b.end = b.h.Start()
	b.e.tail.reader = wal.NewReader(&b.log, b.h, b.end)
}

// checkpoint copies some pages into the file.
func (b *rig) checkpoint(most int) {
	for i := range b.newest {
		if most--; most < 0 {
			return
		}
		b.file.write(b.size.Offset(wal.PageNo(i+1)), b.pages[i])
		delete(b.newest, i)
	}
}

// change is a page's new image.
type change struct {
	page  int // from 0 on
	image []byte
}

// write makes the images one commit, after which the database has so many pages,
// and has the engine read it.
func (b *rig) write(pages int, changes ...change) {
	now := slices.Clone(b.pages)
	for i, c := range changes {
		for len(now) <= c.page {
			now = append(now, make([]byte, b.size))
		}
		now[c.page] = c.image
		b.newest[c.page] = struct{}{}
		commit := uint32(0)
		if i == len(changes)-1 {
			commit = uint32(pages)
		}
		frame, end := b.h.AppendFrame(nil, b.end, wal.PageNo(c.page+1), commit, c.image)
		b.log.write(b.h.Offset(end.Frame), frame)
		b.end = end
	}
	for len(now) < pages {
		now = append(now, make([]byte, b.size))
	}
	for i := pages; i < len(now); i++ {
		delete(b.newest, i)
	}
	b.pages = now[:pages:pages]
	b.states = append(b.states, b.pages)
	if b.unread {
		return
	}
	c, err := b.e.tail.reader.Next()
	if err == nil {
		err = b.e.take(c)
	}
	if err != nil {
		b.fatal("read a commit: ", err)
	}
}

func (b *rig) begin() {
	b.out.Reset()
	b.first, b.states = b.pages, nil
	b.e.seg = &openSegment{w: segment.NewWriter(&b.out, segment.Header{
		PageSize: b.size, First: b.e.head.TXID + 1, Before: b.e.table.Checksum(), PagesBefore: b.e.table.Len(), Time: time.Now(),
	})}
}

// seal ends the segment, and proves that each of its commits restores exactly from
// the state before it.
func (b *rig) seal() {
	if len(b.states) == 0 {
		return
	}
	if _, err := b.e.seg.w.Close(b.e.table.At); err != nil {
		b.fatal("seal: ", err)
	}
	r, err := segment.NewReader(bytes.NewReader(b.out.Bytes()), int64(b.out.Len()))
	if err != nil {
		b.fatal(err)
	}
	restored := map[int][]byte{}
	length := len(b.first)
	for i, p := range b.first {
		restored[i] = bytes.Clone(p)
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.fatal("read the segment: ", err)
		}
		if rec.Commit.TXID == 0 {
			b.apply(restored, rec)
			continue
		}
		for i := range max(length, int(rec.Commit.Pages)) {
			if restored[i] == nil {
				restored[i] = make([]byte, b.size)
			}
			if i >= int(rec.Commit.Pages) {
				delete(restored, i)
			}
		}
		length = int(rec.Commit.Pages)
		b.compare(restored, rec.Commit)
	}
	if len(b.states) > 0 {
		b.fatal(len(b.states), " commits are missing in the segment")
	}
	b.begin()
}

// apply does what a restore does.
func (b *rig) apply(restored map[int][]byte, rec segment.Record) {
	i := int(rec.Page) - 1
	image := bytes.Clone(rec.Data)
	if b.whole++; rec.Delta {
		b.whole--
		b.deltas++
		if restored[i] == nil {
			b.fatal("page ", rec.Page, " is a delta to nothing")
		}
		for k := range image {
			image[k] ^= restored[i][k]
		}
	}
	restored[i] = image
}

// compare takes the next of the states.
func (b *rig) compare(restored map[int][]byte, c segment.Commit) {
	want := b.states[0]
	b.states = b.states[1:]
	table := state.NewTable(b.size)
	table.Resize(uint32(len(restored)))
	for i, p := range restored {
		if i >= len(want) || !bytes.Equal(p, want[i]) {
			b.fatal("TXID ", c.TXID, ": page ", i+1, " is not what was committed")
		}
		table.Set(wal.PageNo(i+1), state.SumPage(wal.PageNo(i+1), p))
	}
	if len(restored) != len(want) || table.Checksum() != c.After {
		b.fatal("TXID ", c.TXID, " has ", len(restored), " pages of state ", table.Checksum(), ", want ", len(want), " of ", c.After)
	}
}
