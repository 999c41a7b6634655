package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

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
// The segment that was being written is cut off there and sealed.
func (e *engine) spooled(st local.State, shipped local.Shipped) ([]spoolSegment, error) {
	firsts, parts, err := e.dir.Spooled()
	if err != nil {
		return nil, err
	}
	var spool []spoolSegment
	at := shipped.Last
	for _, first := range firsts {
		path := e.dir.SpoolPath(first)
		if first <= shipped.First {
			if err := os.Remove(path); err != nil { // uploaded already
				return nil, fmt.Errorf("clear spool: %w", err)
			}
			continue
		}
		s, err := readSpooled(path)
		if err != nil {
			return nil, err
		}
		if s.first != at+1 || s.header.Replica != st.Replica {
			return nil, fmt.Errorf("%w: %s does not follow TXID %v", local.ErrLost, path, at)
		}
		spool, at = append(spool, s), s.last
	}
	for _, first := range parts {
		if first == at+1 && at < st.TXID {
			s, err := e.recoverPart(first, st.TXID)
			if err != nil {
				return nil, err
			}
			spool, at = append(spool, s), s.last
		}
		if err := e.removePart(first); err != nil {
			return nil, err
		}
	}
	if at != st.TXID {
		return nil, fmt.Errorf("%w: the spool ends at TXID %v, %v was remembered", local.ErrLost, at, st.TXID)
	}
	return spool, nil
}

// readSpooled reads the index of a sealed segment.
func readSpooled(path string) (spoolSegment, error) {
	f, err := os.Open(path)
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
		return spoolSegment{}, fmt.Errorf("%w: %s: %w", local.ErrLost, path, err)
	}
	return spoolSegment{
		sealed: sealed{first: h.First, last: x.Trailer.Last, commits: x.Trailer.Commits, path: path},
		header: h, index: x,
	}, nil
}

// recoverPart seals the segment that was being written, up to a commit. What
// came after it was not remembered, and is read from the WAL again.
func (e *engine) recoverPart(first, last state.TXID) (spoolSegment, error) {
	in, err := os.Open(e.dir.PartPath(first))
	if err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	path := e.dir.SpoolPath(first)
	out, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	sums, err := readPartSums(e.dir.PartSumsPath(first), last, e.db.PageSize())
	if err == nil {
		err = copySegment(out, in, last, sums)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return spoolSegment{}, errors.Join(fmt.Errorf("recover %s: %w", in.Name(), err), os.Remove(out.Name()))
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return spoolSegment{}, fmt.Errorf("recover segment: %w", err)
	}
	e.log.Info("recovered a segment that was being written", slog.Uint64("first", uint64(first)), slog.Uint64("last", uint64(last)))
	return readSpooled(path)
}

// copySegment makes a sealed segment of the commits up to last of an unsealed
// one.
func copySegment(w io.Writer, src io.Reader, last state.TXID, sums func(wal.PageNo) state.Sum) error {
	r, err := segment.NewReader(src, -1)
	if err != nil {
		return fmt.Errorf("%w: %w", local.ErrLost, err)
	}
	out := segment.NewWriter(w, r.Header())
	for r.Last().TXID < last {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends at TXID %v, before %v", local.ErrLost, r.Last().TXID, last)
		}
		if err != nil {
			return err
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
func (e *engine) appendPartSums() error {
	b := make([]byte, 0, partSumsHeader+partSumSize*len(e.seg.touched))
	b = binary.BigEndian.AppendUint64(b, uint64(e.head.TXID))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.seg.touched)))
	for _, no := range e.seg.touched {
		b = binary.BigEndian.AppendUint32(b, uint32(no))
		b = binary.BigEndian.AppendUint64(b, uint64(e.table.At(no)))
	}
	e.seg.touched = e.seg.touched[:0]
	f, err := os.OpenFile(e.dir.PartSumsPath(e.seg.w.Header().First), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
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
func readPartSums(path string, last state.TXID, size wal.PageSize) (func(wal.PageNo) state.Sum, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", local.ErrLost, err)
	}
	sums := map[wal.PageNo]state.Sum{}
	for be := binary.BigEndian; len(b) >= partSumsHeader && state.TXID(be.Uint64(b)) <= last; {
		n := int(be.Uint32(b[8:]))
		for b = b[partSumsHeader:]; n > 0 && len(b) >= partSumSize; n-- {
			sums[wal.PageNo(be.Uint32(b))] = state.Sum(be.Uint64(b[4:]))
			b = b[partSumSize:]
		}
	}
	zeros := make([]byte, size)
	return func(no wal.PageNo) state.Sum {
		if sum, ok := sums[no]; ok {
			return sum
		}
		return state.SumPage(no, zeros)
	}, nil
}

// dropSpool removes what can't be brought into the history any more. The pages
// that it would have changed are found by the comparison that follows.
func (e *engine) dropSpool() error {
	firsts, parts, err := e.dir.Spooled()
	if err != nil {
		return err
	}
	if len(firsts)+len(parts) > 0 {
		e.log.Warn("dropping the spool: its commits can't be told apart any more, only their result",
			slog.Int("segments", len(firsts)+len(parts)))
	}
	for _, first := range firsts {
		err = errors.Join(err, os.Remove(e.dir.SpoolPath(first)))
	}
	for _, first := range parts {
		err = errors.Join(err, e.removePart(first))
	}
	if err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

// removePart removes an unsealed segment and what belongs to it.
func (e *engine) removePart(first state.TXID) error {
	err := os.Remove(e.dir.PartPath(first))
	if err = errors.Join(err, e.removePartSums(first)); err != nil {
		return fmt.Errorf("clear spool: %w", err)
	}
	return nil
}

func (e *engine) removePartSums(first state.TXID) error {
	if err := os.Remove(e.dir.PartSumsPath(first)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
