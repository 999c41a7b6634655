package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal/segment"
)

// Object reads ranges of one object of a bucket as an io.ReaderAt, one Get a
// read. It carries its context, since io.ReaderAt has no room for one.
type Object struct {
	ctx    context.Context //nolint:containedctx // io.ReaderAt takes none
	bucket storage.Bucket
	key    string
	size   int64
}

// NewObject gives the object under the key, whose size must be known.
func NewObject(ctx context.Context, b storage.Bucket, key string, size int64) *Object {
	return &Object{ctx: ctx, bucket: b, key: key, size: size}
}

// ReadAt reads a range with one Get. io.EOF, as it is, says that the object ends
// before the range does.
func (o *Object) ReadAt(p []byte, off int64) (int, error) {
	r, err := o.bucket.Get(o.ctx, o.key, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if err == io.ErrUnexpectedEOF { //nolint:errorlint // wrapped, it is a connection that broke
		err = io.EOF
	}
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return n, err
}

// Index reads a segment's or a pack's index and checks that it is this
// replica's, and a pack what its key says.
func (a *Archive) Index(ctx context.Context, s Segment) (segment.Header, *segment.Index, error) {
	var h segment.Header
	var x *segment.Index
	src, err := a.ends(ctx, s.Key(), s.Size, segment.HeaderSize)
	if err == nil {
		h, x, err = segment.ReadIndex(src, s.Size)
	}
	if err != nil {
		return h, nil, fmt.Errorf("read index of %s: %w", s.Key(), err)
	}
	if err := a.owns(s.Key(), h.Replica, h.First, s.First); err != nil {
		return h, nil, err
	}
	if s.IsPack() && x.Trailer.Last != s.Last {
		return h, nil, fmt.Errorf("%w: %s ends at TXID %v", ErrBroken, s.Key(), x.Trailer.Last)
	}
	return h, x, nil
}

// SegmentHeader reads a segment's header only.
func (a *Archive) SegmentHeader(ctx context.Context, s Segment) (segment.Header, error) {
	b, err := a.head(ctx, s.Key(), segment.HeaderSize)
	if err != nil {
		return segment.Header{}, err
	}
	h, err := segment.ParseHeader(b)
	if err != nil {
		return h, fmt.Errorf("read header of %s: %w", s.Key(), err)
	}
	return h, a.owns(s.Key(), h.Replica, h.First, s.First)
}

// SnapshotHeader reads a snapshot's header only.
func (a *Archive) SnapshotHeader(ctx context.Context, s Snapshot) (snapshot.Header, error) {
	b, err := a.head(ctx, s.Key(), snapshot.HeaderSize)
	if err != nil {
		return snapshot.Header{}, err
	}
	h, err := snapshot.ReadHeader(b)
	if err != nil {
		return h, fmt.Errorf("read header of %s: %w", s.Key(), err)
	}
	return h, a.ownsSnapshot(s, h)
}

// Snapshot opens a snapshot for reading in ranges.
func (a *Archive) Snapshot(ctx context.Context, s Snapshot) (*snapshot.Reader, error) {
	src, err := a.ends(ctx, s.Key(), s.Size, snapshot.HeaderSize)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.Key(), err)
	}
	return a.SnapshotIn(src, s)
}

// SnapshotIn is Snapshot for one whose bytes are elsewhere, such as in memory.
func (a *Archive) SnapshotIn(src io.ReaderAt, s Snapshot) (*snapshot.Reader, error) {
	r, err := snapshot.Open(src, s.Size)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.Key(), err)
	}
	return r, a.ownsSnapshot(s, r.Header())
}

// Bucket is where the replica lies.
func (a *Archive) Bucket() storage.Bucket { return a.bucket }

func (a *Archive) head(ctx context.Context, key string, n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := NewObject(ctx, a.bucket, key, int64(n)).ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read header of %s: %w", key, err)
	}
	return b[:got], nil
}

// owns checks that an object is what its key and its place say.
func (a *Archive) owns(key string, id segment.ReplicaID, has, want state.TXID) error {
	if id != a.meta.Replica {
		return fmt.Errorf("%w: %s belongs to replica %v, and tidemark.json says %v: one of the two is damaged, or of another replica", ErrBroken, key, id, a.meta.Replica)
	}
	if has != want {
		return fmt.Errorf("%w: %s holds TXID %v", ErrBroken, key, has)
	}
	return nil
}

// ownsSnapshot does so for a snapshot: one that adds to another under the key of
// a full one would be restored without what it adds to.
func (a *Archive) ownsSnapshot(s Snapshot, h snapshot.Header) error {
	if err := a.owns(s.Key(), h.Replica, h.TXID, s.TXID); err != nil {
		return err
	}
	if h.Base != s.Base {
		return fmt.Errorf("%w: %s adds to TXID %v", ErrBroken, s.Key(), h.Base)
	}
	return nil
}

// Head is the newest state of the archive.
type Head struct {
	// Last is the newest commit's TXID; 0: the archive holds no state yet.
	Last state.TXID
	// First and Sum identify the object that holds it: a segment's first TXID
	// and checksum, or 0 and the time in a snapshot's header, in milliseconds.
	First state.TXID
	Sum   uint64
	// Checksum and Pages are the state after it.
	Checksum state.Checksum
	Pages    uint32
	// Commit is the newest commit as the log shows it.
	Commit Commit
}

// Head reads what the newest commit is. It takes a read or two.
func (a *Archive) Head(ctx context.Context) (Head, error) {
	if n := len(a.listing.Segments); n > 0 {
		_, x, err := a.Index(ctx, a.listing.Segments[n-1])
		if err != nil {
			return Head{}, err
		}
		t := x.Trailer
		return Head{Last: t.Last, First: a.Newest(), Sum: t.Sum(), Checksum: t.After, Pages: t.PagesAfter, Commit: Commit{TXID: t.Last, Time: t.Time}}, nil
	}
	n := len(a.listing.Snapshots)
	if n == 0 {
		return Head{}, nil
	}
	s := a.listing.Snapshots[n-1] // it tells its state, whatever it adds to
	r, err := a.Snapshot(ctx, s)
	if err != nil {
		return Head{}, err
	}
	return Head{
		Last: s.TXID, Sum: uint64(r.Header().Time), Checksum: r.Checksum(), Pages: r.Header().Pages,
		Commit: snapshotCommit(r.Header(), s),
	}, nil
}

// Newest is the first TXID of the newest segment, 0 without one. The newest
// segments are not packed, so that whoever wrote the last one finds it here.
func (a *Archive) Newest() state.TXID {
	segs := a.listing.Segments
	if len(segs) == 0 {
		return 0
	}
	return segs[len(segs)-1].First
}

// HoldsSegment tells whether the archive has this very segment: with this last
// commit and this checksum. One that has been packed it has no more.
func (a *Archive) HoldsSegment(ctx context.Context, first, last state.TXID, sum uint64) (bool, error) {
	for _, s := range a.listing.Segments {
		if s.First == first {
			_, x, err := a.Index(ctx, s)
			return err == nil && x.Trailer.Last == last && x.Trailer.Sum() == sum, err
		}
	}
	return false, nil
}

// HoldsSnapshot tells whether the archive has a snapshot of a commit that has
// this time in its header, in milliseconds.
func (a *Archive) HoldsSnapshot(ctx context.Context, id state.TXID, time int64) (bool, error) {
	for _, s := range a.listing.Snapshots {
		if s.TXID == id {
			h, err := a.SnapshotHeader(ctx, s)
			return err == nil && h.Time == time, err
		}
	}
	return false, nil
}
