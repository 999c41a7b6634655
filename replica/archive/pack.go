package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// readAhead is how much of an object is read at a time: small segments have small
// blocks.
const readAhead = 64 << 10

// JoinOptions are the choices of one [Archive.Join].
type JoinOptions struct {
	// Writer names the process that joins. It stands in the pack's header, for
	// people: the writers of what is joined are not kept.
	Writer string
	// Local, if not nil, gives a copy of an object that is on the local disk, or
	// nil; then the object is read from the bucket. It is checked like one from
	// there. Join closes it.
	Local func(Segment) io.ReadCloser
	// Tee, if not nil, gets the bytes of the pack while they are made. They are a
	// pack only if Join succeeds. Its errors are its own business.
	Tee io.Writer
}

// JoinError says which object of a run could not be joined to those before it.
type JoinError struct {
	// Segment is the object.
	Segment Segment
	// Err is what is wrong with it: ErrBroken if it does not continue what comes
	// before it, block.ErrCorrupt, block.ErrVersion, storage.ErrNotExist, or what
	// else reading it gave.
	Err error
}

// Error names the object and what is wrong with it.
func (e *JoinError) Error() string { return fmt.Sprintf("join %s: %v", e.Segment.Key(), e.Err) }

// Unwrap gives what is wrong.
func (e *JoinError) Unwrap() error { return e.Err }

// Join makes one pack of consecutive objects of the log, with every commit of
// theirs as it is, and puts it beside them. last is the last commit of the run.
//
// Each object is read to its end and must continue the one before it without a
// gap, by its TXIDs and by the state checksums; else there is no pack, and the
// error is a *JoinError. It reads and writes in one pass, with memory for a few
// blocks and some bytes for each commit and each page that the run touched.
//
// It may be repeated: that the pack is there already is success, so that an
// answer that got lost does no harm. Something else under its key is ErrBroken.
// Unlike PutSegment it may run beside anything else.
func (a *Archive) Join(ctx context.Context, run []Segment, last state.TXID, opts JoinOptions) (Segment, error) {
	pack := Segment{First: run[0].First, Last: last}
	pr, pw := io.Pipe()
	j := &joining{
		arch: a, opts: opts, in: bufio.NewReaderSize(nil, readAhead), out: tee{pw, opts.Tee}, sums: map[wal.PageNo]state.Sum{},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.err = j.run(ctx, run, last)
		pw.CloseWithError(j.err)
	}()
	err := a.bucket.Put(ctx, pack.Key(), pr, storage.PutOptions{IfAbsent: true, Size: -1})
	exists := errors.Is(err, storage.ErrExists)
	if exists {
		_, _ = io.Copy(io.Discard, pr) // what was to be put tells whether it is the same
	}
	pr.CloseWithError(errPutEnded) // it must not wait for a reader that is gone
	<-done
	switch {
	case j.err != nil && !errors.Is(j.err, errPutEnded):
		return Segment{}, j.err
	case exists:
		pack.Size, err = a.samePack(ctx, pack, j)
		return pack, err
	case err != nil:
		return Segment{}, fmt.Errorf("put %s: %w", pack.Key(), err)
	}
	pack.Size = j.w.Stored()
	return pack, nil
}

// tee writes to one writer, and what that takes to another one, if there is one.
type tee struct {
	io.Writer
	to io.Writer
}

// Write gives what the first writer gives.
func (t tee) Write(p []byte) (int, error) {
	n, err := t.Writer.Write(p)
	if t.to != nil {
		_, _ = t.to.Write(p[:n]) // documented
	}
	return n, err
}

// joining is a pack being made.
type joining struct {
	arch *Archive
	opts JoinOptions
	in   *bufio.Reader
	out  io.Writer
	w    *segment.Writer
	// at is the last commit so far.
	at segment.Commit
	// sums are those of the touched pages so far.
	sums    map[wal.PageNo]state.Sum
	trailer segment.Trailer
	err     error
}

func (j *joining) run(ctx context.Context, run []Segment, last state.TXID) error {
	for _, s := range run {
		if err := j.add(ctx, s); err != nil {
			return err
		}
	}
	if end := run[len(run)-1]; j.at.TXID != last {
		return &JoinError{end, fmt.Errorf("%w: it ends at TXID %v, not at %v", ErrBroken, j.at.TXID, last)}
	}
	var missing wal.PageNo
	var err error
	j.trailer, err = j.w.Close(func(no wal.PageNo) state.Sum {
		sum, ok := j.sums[no]
		if !ok {
			missing = no
		}
		return sum
	})
	if err == nil && missing != 0 {
		err = fmt.Errorf("%w: no index from TXID %v to %v has the sum of page %v", ErrBroken, run[0].First, last, missing)
	}
	return err
}

// add appends an object.
func (j *joining) add(ctx context.Context, s Segment) (err error) {
	src, err := j.open(ctx, s)
	if err != nil {
		return &JoinError{s, err}
	}
	defer src.Close() //nolint:errcheck // only read
	j.in.Reset(src)
	r, err := segment.NewReader(j.in, s.Size)
	if err == nil {
		err = j.follows(r.Header(), s)
	}
	if err != nil {
		return &JoinError{s, err}
	}
	if j.w == nil {
		h := r.Header()
		h.Writer = j.opts.Writer
		j.w = segment.NewWriter(j.out, h)
	}
	x, err := j.w.Append(r)
	if errors.Is(err, errPutEnded) {
		return err
	}
	if err == nil {
		err = x.Pages(func(no wal.PageNo, sum state.Sum) { j.sums[no] = sum })
	}
	if err != nil {
		return &JoinError{s, err}
	}
	j.at = segment.Commit{TXID: x.Trailer.Last, Time: x.Trailer.Time, Pages: x.Trailer.PagesAfter, After: x.Trailer.After}
	return nil
}

func (j *joining) open(ctx context.Context, s Segment) (io.ReadCloser, error) {
	if j.opts.Local != nil {
		if r := j.opts.Local(s); r != nil {
			return r, nil
		}
	}
	return j.arch.bucket.Get(ctx, s.Key(), 0, -1)
}

// follows checks that an object is what its key says and continues what has been
// joined so far.
func (j *joining) follows(h segment.Header, s Segment) error {
	if err := j.arch.owns(s.Key(), h.Replica, h.First, s.First); err != nil {
		return err
	}
	switch {
	case h.PageSize != j.arch.meta.PageSize:
		return fmt.Errorf("%w: its pages have %d bytes, the replica's %d", ErrBroken, h.PageSize, j.arch.meta.PageSize)
	case j.w == nil:
		return nil
	case h.First != j.at.TXID+1:
		return fmt.Errorf("%w: it begins at TXID %v, the one before it ends at %v", ErrBroken, h.First, j.at.TXID)
	case h.Before != j.at.After || h.PagesBefore != j.at.Pages:
		return fmt.Errorf("%w: it continues state %v (%d pages), the one before it leads to %v (%d pages)",
			ErrBroken, h.Before, h.PagesBefore, j.at.After, j.at.Pages)
	case h.Time.Before(j.at.Time):
		return fmt.Errorf("%w: its first commit is from %s, the one before it from %s", ErrBroken, stamp(h.Time), stamp(j.at.Time))
	}
	return nil
}

// samePack tells whether the pack that is in the way holds the same history, and
// its size. One that another process has put there differs in its writer's name,
// and is whole if it can be read to its end.
func (a *Archive) samePack(ctx context.Context, pack Segment, ours *joining) (int64, error) {
	size := int64(-1)
	err := a.bucket.List(ctx, pack.Key(), "", func(o storage.Info) error {
		size = o.Size
		return nil
	})
	if err == nil {
		pack.Size = size
		err = a.holdsSame(ctx, pack, ours)
	}
	if err != nil {
		return 0, fmt.Errorf("put %s: it exists: %w", pack.Key(), err)
	}
	return size, nil
}

func (a *Archive) holdsSame(ctx context.Context, pack Segment, ours *joining) error {
	h, x, err := a.Index(ctx, pack)
	if err != nil {
		return err
	}
	if x.Trailer.Sum() == ours.trailer.Sum() && pack.Size == ours.w.Stored() {
		return nil
	}
	src, err := a.bucket.Get(ctx, pack.Key(), 0, -1)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read
	r, err := segment.NewReader(bufio.NewReaderSize(src, readAhead), pack.Size)
	for err == nil {
		_, err = r.Next()
	}
	if err != io.EOF { //nolint:errorlint // as above
		return err
	}
	want := ours.w.Header()
	got, end := r.Last(), ours.at
	if h.Before != want.Before || h.PagesBefore != want.PagesBefore || !h.Time.Equal(want.Time) ||
		got.TXID != end.TXID || got.After != end.After || got.Pages != end.Pages || !got.Time.Equal(end.Time) {
		return fmt.Errorf("%w: it has other content", ErrBroken)
	}
	return nil
}

// As gives the replica with another listing, for who knows better than the one that
// it was opened with: what was put and deleted since.
func (a *Archive) As(l Listing) *Archive {
	b := *a
	b.listing = l
	return &b
}
