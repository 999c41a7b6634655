package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// spoolSegment is a segment that an earlier run left.
type spoolSegment struct {
	sealed
	header segment.Header
	index  *segment.Index
}

// spooled collects what an earlier run left to upload: sealed segments that
// follow what is shipped, without a gap, up to exactly the remembered commit.
// The segment that was being written is cut off there and sealed. After an error
// it gives what it has found until then.
func (e *engine) spooled(st local.State, shipped local.Shipped) (spool []spoolSegment, err error) {
	firsts, parts, err := e.dir.Spooled()
	if err != nil {
		return nil, err
	}
	at := shipped.Newest.Last
	for _, first := range firsts {
		path := e.dir.SpoolPath(first)
		if err := e.removePartSums(first); err != nil { // of before it was sealed
			return spool, fmt.Errorf("clear spool: %w", err)
		}
		if first <= shipped.Newest.First {
			if err := e.dir.FS().Remove(path); err != nil { // uploaded already
				return spool, fmt.Errorf("clear spool: %w", err)
			}
			continue
		}
		s, err := e.readSpooled(path)
		if err != nil {
			return spool, err
		}
		if s.first != at+1 || s.header.Replica != st.Replica {
			return spool, fmt.Errorf("%w: %s does not follow TXID %v", local.ErrLost, path, at)
		}
		spool, at = append(spool, s), s.last
	}
	for _, first := range parts {
		if first == at+1 && at < st.TXID {
			s, err := e.recoverPart(first, st.TXID)
			if err != nil {
				return spool, err
			}
			spool, at = append(spool, s), s.last
		}
		if err := e.removePart(first); err != nil {
			return spool, err
		}
	}
	if at != st.TXID {
		return spool, fmt.Errorf("%w: the spool ends at TXID %v, %v was remembered", local.ErrLost, at, st.TXID)
	}
	return spool, nil
}

// lost makes an error of reading local state local.ErrLost, unless it may pass.
func lost(err error) error {
	if ofSystem(err) {
		return err
	}
	return fmt.Errorf("%w: %w", local.ErrLost, err)
}

// readSpooled reads the index of a sealed segment.
func (r *replicator) readSpooled(path string) (spoolSegment, error) {
	f, err := disk.Open(r.dir.FS(), path)
	if err != nil {
		return spoolSegment{}, fmt.Errorf("read spool: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return spoolSegment{}, fmt.Errorf("read spool: %w", err)
	}
	h, x, err := segment.ReadIndex(f, info.Size())
	if err != nil {
		return spoolSegment{}, lost(fmt.Errorf("%s: %w", path, err))
	}
	return spoolSegment{
		sealed: sealedOf(h, x.Trailer, path, info.Size()),
		header: h, index: x,
	}, nil
}

// recoverPart seals the segment that was being written, up to a commit. What
// came after it was not remembered, and is read from the WAL again.
func (e *engine) recoverPart(first, last state.TXID) (spoolSegment, error) {
	in, err := disk.Open(e.dir.FS(), e.dir.PartPath(first))
	if err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	path := e.dir.SpoolPath(first)
	out, err := disk.Create(e.dir.FS(), path+".tmp")
	if err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	sums, err := e.readPartSums(first, last)
	if err == nil {
		err = copySegment(out, in, last, sums)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return spoolSegment{}, errors.Join(fmt.Errorf("recover %s: %w", in.Name(), err), e.dir.FS().Remove(out.Name()))
	}
	if err := e.dir.FS().Rename(out.Name(), path); err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	e.log.Info("recovered a segment that was being written", slog.Uint64("first", uint64(first)), slog.Uint64("last", uint64(last)))
	return e.readSpooled(path)
}

// copySegment makes a sealed segment of the commits up to last of an unsealed
// one.
func copySegment(w io.Writer, src io.Reader, last state.TXID, sums func(wal.PageNo) state.Sum) error {
	r, err := segment.NewReader(src, -1)
	if err != nil {
		return lost(err)
	}
	out := segment.NewWriter(w, r.Header())
	for r.Last().TXID < last {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends at TXID %v, before %v", local.ErrLost, r.Last().TXID, last)
		}
		if err != nil {
			return lost(err)
		}
		if err := out.Copy(rec); err != nil {
			return err
		}
	}
	_, err = out.Close(sums)
	return err
}

// The page sums of the segment that is being written can't be computed from it,
// as a delta's base may lie outside. So each hand-off appends those of the pages
// that came since the one before. That they are right is proven when they are
// used, by the state's checksum. All integers are big-endian:
//
//	| TXID u64 | count u32 | page u32 | sum u64 | page u32 | sum u64 | ...
const (
	partSumsHeader = 12
	partSumSize    = 12
)

// appendPartSums is the hand-off's part of that.
func (e *engine) appendPartSums(seg *openSegment) error {
	b := make([]byte, 0, partSumsHeader+partSumSize*len(seg.touched))
	b = binary.BigEndian.AppendUint64(b, uint64(e.head.TXID))
	b = binary.BigEndian.AppendUint32(b, uint32(len(seg.touched)))
	for _, no := range seg.touched {
		b = binary.BigEndian.AppendUint32(b, uint32(no))
		b = binary.BigEndian.AppendUint64(b, uint64(e.table.At(no)))
	}
	seg.touched = seg.touched[:0]
	f, err := e.dir.FS().OpenFile(e.dir.PartSumsPath(seg.w.Header().First), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("save page sums: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("save page sums: %w", err)
	}
	return nil
}

// readPartSums reads them back as of a commit. A page without one came into the
// database without being written: it is zeros.
func (e *engine) readPartSums(first, last state.TXID) (func(wal.PageNo) state.Sum, error) {
	b, err := disk.ReadFile(e.dir.FS(), e.dir.PartSumsPath(first))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", local.ErrLost, err)
	}
	if err != nil {
		return nil, err
	}
	sums := map[wal.PageNo]state.Sum{}
	for be := binary.BigEndian; len(b) >= partSumsHeader && state.TXID(be.Uint64(b)) <= last; {
		n := int(be.Uint32(b[8:]))
		for b = b[partSumsHeader:]; n > 0 && len(b) >= partSumSize; n-- {
			sums[wal.PageNo(be.Uint32(b))] = state.Sum(be.Uint64(b[4:]))
			b = b[partSumSize:]
		}
	}
	zeros := make([]byte, e.db.PageSize())
	return func(no wal.PageNo) state.Sum {
		if sum, ok := sums[no]; ok {
			return sum
		}
		return state.SumPage(no, zeros)
	}, nil
}

// dropSpool removes what can't be brought into the history any more. The pages
// that it would have changed are found by the comparison that follows.
func (r *replicator) dropSpool() error {
	firsts, parts, err := r.dir.Spooled()
	if err != nil {
		return err
	}
	if len(firsts)+len(parts) > 0 {
		r.log.Warn("dropping the spool: its commits can't be told apart any more, only their result",
			slog.Int("segments", len(firsts)+len(parts)))
	}
	for _, first := range firsts {
		err = errors.Join(err, r.dir.FS().Remove(r.dir.SpoolPath(first)))
	}
	for _, first := range parts {
		err = errors.Join(err, r.removePart(first))
	}
	if err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

// removePart removes an unsealed segment and what belongs to it.
func (r *replicator) removePart(first state.TXID) error {
	err := r.dir.FS().Remove(r.dir.PartPath(first))
	if err = errors.Join(err, r.removePartSums(first)); err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

func (r *replicator) removePartSums(first state.TXID) error {
	if err := r.dir.FS().Remove(r.dir.PartSumsPath(first)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
