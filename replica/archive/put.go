package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// body is bytes that can be read more than once: to put them, and to see
// whether what is there already is the same.
type body struct {
	size int64
	open func() (io.ReadSeekCloser, error)
}

func bytesBody(b []byte) body {
	return body{int64(len(b)), func() (io.ReadSeekCloser, error) { return nopCloser{bytes.NewReader(b)}, nil }}
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// PutSegment puts a sealed segment that lies in a file. It may be repeated:
// that the same bytes are there already is success, so that an answer that got
// lost does no harm. ErrFenced says that other bytes are.
func (a *Archive) PutSegment(ctx context.Context, first state.TXID, path string) (size int64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("put segment: %w", err)
	}
	b := body{info.Size(), func() (io.ReadSeekCloser, error) { return os.Open(path) }}
	return b.size, a.putOnce(ctx, SegmentKey(first), b)
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
func (a *Archive) putOnce(ctx context.Context, key string, b body) error {
	f, err := b.open()
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	err = a.bucket.Put(ctx, key, f, storage.PutOptions{IfAbsent: true, Size: b.size})
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
func (a *Archive) same(ctx context.Context, key string, b body) (bool, error) {
	theirs, err := a.bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return false, err
	}
	defer theirs.Close() //nolint:errcheck // only read
	ours, err := b.open()
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
	if errors.Is(*err, io.EOF) || errors.Is(*err, io.ErrUnexpectedEOF) {
		*err = nil
		return true
	}
	return false
}
