package verify

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// readAhead is how much of an object is asked of its stream at a time.
const readAhead = 256 << 10

// decoded is what was read of one object, from its first byte to its last.
type decoded struct {
	// damage is why its own checksums don't hold, discord what of it does not fit
	// together although they do; "" if nothing.
	damage, discord string

	// Of an object of the log: the states before its first commit and after its
	// last, those that were asked for, its index, and the digests of what others hold
	// of the same commits.
	before, after point
	states        map[state.TXID]point
	index         *segment.Index
	header        segment.Header
	digests       map[interval]uint64

	// Of a snapshot: its header, its state checksum, and the pages that it holds.
	snap     snapshot.Header
	checksum state.Checksum
	listed   []snapshot.Run
}

// wanted is what is to be remembered of the log's commits.
type wanted struct {
	states map[state.TXID]bool
	// digests are stretches that more than one object holds, of each object.
	digests map[string][]interval
}

// decodeLog reads an object of the log. Its error is that of reading, not of what was
// read.
func (v *verifier) decodeLog(ctx context.Context, o logObject, want wanted) (d *decoded, err error) {
	src, err := v.open(ctx, o.key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.key, err)
	}
	defer src.Close() //nolint:errcheck // only read
	in := bufio.NewReaderSize(src, readAhead)
	l := &logDecoder{want: want, hashes: newDigests(want.digests[o.key]), decoded: &decoded{states: map[state.TXID]point{}}}
	err = l.read(in, o)
	if err == nil && v.meta != nil {
		l.damage = v.meta.owns(l.header.Replica, l.header.PageSize, l.header.First, o.first)
		if l.damage == "" && o.pack && l.after.id != o.last {
			l.damage = fmt.Sprintf("its key says that it ends at TXID %v, it ends at TXID %v", o.last, l.after.id)
		}
	}
	return finish(l.decoded, o.key, err)
}

// finish tells an object that is damaged from one that could not be read.
func finish(d *decoded, key string, err error) (*decoded, error) {
	switch {
	case err == nil:
		return d, nil
	case isDamage(err):
		return &decoded{damage: err.Error()}, nil
	default:
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
}

// logDecoder reads one object of the log.
type logDecoder struct {
	*decoded
	want   wanted
	hashes digests
	// commits is a digest of the commits as the records have them.
	commits xxhash.Digest
	// images are the sums of the pages whose last frame was a whole image; 0 for
	// those whose last one was a delta.
	images map[wal.PageNo]state.Sum
}

func (l *logDecoder) read(in *bufio.Reader, o logObject) error {
	r, err := segment.NewReader(in, o.size)
	if err != nil {
		return err
	}
	r.KeepIndex()
	l.header, l.images = r.Header(), map[wal.PageNo]state.Sum{}
	l.commits.Reset()
	l.before = pointOf(r.Last())
	l.note(l.before)
	for {
		rec, err := r.Next()
		if err == io.EOF { //nolint:errorlint // bare by contract
			break
		}
		if err != nil {
			return err
		}
		l.hashes.add(r.Last().TXID, rec)
		if rec.Commit.TXID != 0 {
			addCommit(&l.commits, rec.Commit)
			l.note(pointOf(rec.Commit))
			continue
		}
		l.images[rec.Page] = 0
		if !rec.Delta {
			l.images[rec.Page] = sumPage(rec.Page, rec.Data)
		}
	}
	l.after, l.index, l.digests = pointOf(r.Last()), r.Index(), l.hashes.sums()
	l.discord = l.compare()
	return nil
}

func pointOf(c segment.Commit) point {
	return point{id: c.TXID, checksum: c.After, pages: c.Pages, time: c.Time}
}

// note remembers a state that was asked for.
func (l *logDecoder) note(p point) {
	if l.want.states[p.id] {
		l.states[p.id] = p
	}
}

// compare says where the index and the records differ, or "".
func (l *logDecoder) compare() string {
	var sum xxhash.Digest
	sum.Reset()
	if err := l.index.Each(func(c segment.Commit) { addCommit(&sum, c) }); err != nil {
		return err.Error()
	}
	if sum.Sum64() != l.commits.Sum64() {
		return "its index lists other commits than its records hold"
	}
	wrong := wal.PageNo(0)
	err := l.index.Pages(func(no wal.PageNo, sum state.Sum) {
		if image := l.images[no]; image != 0 && image != sum && wrong == 0 {
			wrong = no
		}
	})
	switch {
	case err != nil:
		return err.Error()
	case wrong != 0:
		return fmt.Sprintf("its page sum of page %v is not that of the image that it holds", wrong)
	}
	return ""
}

// addCommit adds what records and index both say of a commit.
func addCommit(d *xxhash.Digest, c segment.Commit) {
	b := make([]byte, 0, 32)
	b = binary.BigEndian.AppendUint64(b, uint64(c.TXID))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixMilli()))
	b = append(b, byte(c.Flags))
	b = binary.BigEndian.AppendUint32(b, c.Pages)
	b = binary.BigEndian.AppendUint32(b, c.Frames)
	_, _ = d.Write(b) // never fails
}

// sumPage is the sum of a page, as package state defines it.
func sumPage(no wal.PageNo, page []byte) state.Sum {
	d := xxhash.NewWithSeed(uint64(no))
	_, _ = d.Write(page) // never fails
	return state.Sum(d.Sum64())
}

// digests are digests of stretches of commits, frames and all.
type digests struct {
	of   []interval
	hash []xxhash.Digest
}

func newDigests(of []interval) digests {
	d := digests{of, make([]xxhash.Digest, len(of))}
	for i := range d.hash {
		d.hash[i].Reset()
	}
	return d
}

// add adds a record. last is the last commit, the record itself if it is one.
func (d *digests) add(last state.TXID, rec segment.Record) {
	id := last
	if rec.Commit.TXID == 0 {
		id++
	}
	var b []byte
	for i, x := range d.of {
		if id < x.first || id > x.last {
			continue
		}
		if b == nil {
			b = recordBytes(rec)
		}
		_, _ = d.hash[i].Write(b) // never fails
	}
}

func recordBytes(rec segment.Record) []byte {
	c := rec.Commit
	b := binary.BigEndian.AppendUint32(nil, uint32(rec.Page))
	if c.TXID == 0 {
		if rec.Delta {
			b = append(b, 1)
		}
		return binary.BigEndian.AppendUint64(b, xxhash.Sum64(rec.Data))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(c.TXID))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(c.After))
	b = binary.BigEndian.AppendUint32(b, c.Pages)
	return append(b, byte(c.Flags))
}

func (d *digests) sums() map[interval]uint64 {
	out := map[interval]uint64{}
	for i, x := range d.of {
		out[x] = d.hash[i].Sum64()
	}
	return out
}

// decodeSnapshot reads a snapshot from end to end.
func (v *verifier) decodeSnapshot(ctx context.Context, o snapObject) (*decoded, error) {
	src, err := v.open(ctx, o.key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", o.key, err)
	}
	defer src.Close() //nolint:errcheck // only read
	d := &decoded{}
	// One goroutine checks the object, another one lists its pages by itself.
	pr, pw := io.Pipe()
	listed := make(chan error, 1)
	go func() {
		runs, err := listPages(pr)
		d.listed = runs
		_, _ = io.Copy(io.Discard, pr) // the other one needs the rest
		listed <- err
	}()
	d.snap, d.checksum, err = snapshot.Verify(io.TeeReader(src, pw))
	_ = pw.Close() // never fails
	lerr := <-listed
	if err == nil {
		err = lerr
	}
	if err == nil && v.meta != nil {
		d.damage = v.meta.ownsSnapshot(d.snap, o)
	}
	return finish(d, o.key, err)
}

// listPages reads which pages a snapshot's blocks hold, as the format's description
// has it (package snapshot).
func listPages(src io.Reader) (runs []snapshot.Run, err error) {
	in := bufio.NewReaderSize(src, readAhead)
	if _, err := io.CopyN(io.Discard, in, snapshot.HeaderSize); err != nil {
		return nil, fmt.Errorf("%w: no header", block.ErrCorrupt)
	}
	const pageBlock = 1
	blocks := block.NewReader(in, snapshot.HeaderSize)
	for {
		h, raw, err := blocks.Next()
		if err != nil || h.Kind != pageBlock {
			return runs, nil //nolint:nilerr // there are no pages, or what is wrong the other reader says
		}
		if runs, err = appendRuns(runs, raw); err != nil {
			return nil, err
		}
	}
}

// appendRuns reads the list of runs that a page block begins with.
func appendRuns(runs []snapshot.Run, raw []byte) ([]snapshot.Run, error) {
	bad := false
	next := func() uint64 {
		x, n := binary.Uvarint(raw)
		if bad = bad || n <= 0; bad {
			return 0
		}
		raw = raw[n:]
		return x
	}
	no := uint64(0)
	for count := next(); count > 0 && !bad; count-- {
		no += next()
		length := next()
		if bad || no+length > 1<<32 || length == 0 {
			bad = true
			break
		}
		if n := len(runs); n > 0 && uint64(runs[n-1].First)+uint64(runs[n-1].Pages) == no {
			runs[n-1].Pages += uint32(length)
		} else {
			runs = append(runs, snapshot.Run{First: wal.PageNo(no), Pages: uint32(length)})
		}
		no += length
	}
	if bad {
		return nil, fmt.Errorf("%w: list of pages can't be read", block.ErrCorrupt)
	}
	return runs, nil
}
