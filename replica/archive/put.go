package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal/segment"
)

// Body is bytes that can be read more than once: to put them, and to see whether
// what is there already is the same.
type Body struct {
	// Size is their number.
	Size int64
	// Open begins to read them.
	Open func() (io.ReadCloser, error)
}

func bytesBody(b []byte) Body {
	return Body{int64(len(b)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// PutSegment puts a sealed segment. It may be repeated: that the same bytes are
// there already is success, so that an answer that got lost does no harm.
// ErrFenced says that another segment is, and whose.
func (a *Archive) PutSegment(ctx context.Context, first state.TXID, b Body) error {
	err := a.putOnce(ctx, SegmentKey(first), b)
	if !errors.Is(err, ErrFenced) {
		return err
	}
	// Storage that is in trouble can give back less than it holds. Only a whole
	// segment is somebody's.
	theirs, who, rerr := a.inTheWay(ctx, first)
	if rerr != nil {
		return fmt.Errorf("put %s: it exists, and can't be read to see whose it is: %v", SegmentKey(first), rerr) //nolint:errorlint // not corrupt for good
	}
	ours, rerr := tail(b)
	if rerr != nil {
		return fmt.Errorf("put %s: %w", SegmentKey(first), rerr)
	}
	if bytes.Equal(ours, theirs) {
		return nil
	}
	return fmt.Errorf("%w: %s", err, who)
}

// inTheWay reads the trailer of the segment that begins with a commit, which has
// the checksum of all of it, and tells a person who put it there.
func (a *Archive) inTheWay(ctx context.Context, first state.TXID) (trailer []byte, who string, err error) {
	var s Segment
	err = a.bucket.List(ctx, SegmentKey(first), "", func(o storage.Info) error {
		s = Segment{First: first, Size: o.Size}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	h, x, err := a.Index(ctx, s)
	if err != nil {
		return nil, "", err
	}
	trailer = make([]byte, segment.TrailerSize)
	if _, err := NewObject(ctx, a.bucket, s.Key(), s.Size).ReadAt(trailer, s.Size-segment.TrailerSize); err != nil {
		return nil, "", err
	}
	name := h.Writer
	if name == "" {
		name = "somebody"
	}
	return trailer, fmt.Sprintf("%s put TXID %v to %v there, from %s on", name, first, x.Trailer.Last, stamp(h.Time)), nil
}

// tail reads the last bytes of a body, where a segment has its trailer.
func tail(b Body) ([]byte, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	if _, err := io.CopyN(io.Discard, r, max(b.Size-segment.TrailerSize, 0)); err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// CheckFence finds out whether the storage honours conditional writes, on which
// the fence rests: it tries to put the replica's description once more, as it is.
// ErrUnfenceable says that it does not.
func (a *Archive) CheckFence(ctx context.Context) error {
	b := bytesBody(a.raw)
	body, err := b.Open()
	if err != nil {
		return err
	}
	err = a.bucket.Put(ctx, metaKey, body, storage.PutOptions{IfAbsent: true, Size: b.Size})
	switch {
	case errors.Is(err, storage.ErrExists):
		return nil
	case err == nil:
		return fmt.Errorf("%w: it overwrote %s", ErrUnfenceable, metaKey)
	case errors.Is(err, storage.ErrUnconditional):
		return fmt.Errorf("%w: %w", ErrUnfenceable, err)
	default:
		return fmt.Errorf("look whether conditional writes are honoured: %w", err)
	}
}

// PutSnapshot writes a full snapshot straight into the bucket. That it is there
// already, as after an answer that got lost, is success. ErrFenced says that
// another one is.
func (a *Archive) PutSnapshot(ctx context.Context, h snapshot.Header, src snapshot.PageSource, opts snapshot.WriteOptions) (snapshot.Summary, error) {
	key := SnapshotKey(h.TXID, h.Base)
	h.Replica = a.meta.Replica
	pr, pw := io.Pipe()
	type result struct {
		sum snapshot.Summary
		err error
	}
	done := make(chan result, 1)
	go func() {
		sum, err := snapshot.Write(ctx, pw, h, src, opts)
		pw.CloseWithError(err)
		done <- result{sum, err}
	}()
	err := a.bucket.Put(ctx, key, pr, storage.PutOptions{IfAbsent: true, Size: -1})
	pr.CloseWithError(errPutEnded) // the encoder must not wait for a reader that is gone
	res := <-done
	switch {
	case errors.Is(err, storage.ErrExists):
		return res.sum, a.sameSnapshot(ctx, key, h, res.sum, res.err)
	case err != nil:
		return res.sum, fmt.Errorf("put %s: %w", key, err)
	case res.err != nil:
		return res.sum, fmt.Errorf("put %s: %w", key, res.err)
	}
	return res.sum, nil
}

// sameSnapshot tells whether the snapshot that is in the way is the one that was
// written, if it was written to its end: it can't be read again to compare.
func (a *Archive) sameSnapshot(ctx context.Context, key string, h snapshot.Header, sum snapshot.Summary, writing error) error {
	if writing == nil {
		r, err := snapshot.Open(NewObject(ctx, a.bucket, key, sum.Stored), sum.Stored)
		if err == nil && r.Header() == h && r.Checksum() == sum.Checksum {
			return nil
		}
	}
	return fmt.Errorf("put %s: %w", key, ErrFenced)
}

var errPutEnded = errors.New("the upload has ended")

// putOnce puts an object under a key that is written once.
func (a *Archive) putOnce(ctx context.Context, key string, b Body) error {
	f, err := b.Open()
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	err = a.bucket.Put(ctx, key, f, storage.PutOptions{IfAbsent: true, Size: b.Size})
	if err = errors.Join(err, f.Close()); !errors.Is(err, storage.ErrExists) {
		if err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
		return nil
	}
	same, err := a.same(ctx, key, b)
	if err != nil {
		return fmt.Errorf("put %s: it exists; read it back: %w", key, err)
	}
	if !same {
		return fmt.Errorf("put %s: %w", key, ErrFenced)
	}
	return nil
}

// same tells whether an object holds the body's bytes.
func (a *Archive) same(ctx context.Context, key string, b Body) (bool, error) {
	theirs, err := a.bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return false, err
	}
	defer theirs.Close() //nolint:errcheck // only read
	ours, err := b.Open()
	if err != nil {
		return false, err
	}
	defer ours.Close() //nolint:errcheck // only read
	return sameBytes(theirs, ours)
}

func sameBytes(a, b io.Reader) (bool, error) {
	bufA, bufB := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		endA, endB := ended(&errA), ended(&errB)
		if err := errors.Join(errA, errB); err != nil {
			return false, fmt.Errorf("compare: %w", err)
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) || endA != endB {
			return false, nil
		}
		if endA {
			return true, nil
		}
	}
}

// ended tells whether an error of io.ReadFull is the end of its reader, and
// takes it away then.
func ended(err *error) bool {
	// Wrapped, either can be a connection that broke.
	if *err == io.EOF || *err == io.ErrUnexpectedEOF { //nolint:errorlint // as above
		*err = nil
		return true
	}
	return false
}
