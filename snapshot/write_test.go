package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

func pageSizes() *rapid.Generator[wal.PageSize] {
	return rapid.Custom(func(t *rapid.T) wal.PageSize {
		return wal.MinPageSize << rapid.IntRange(0, 7).Draw(t, "shift")
	})
}

// drawDatabase gives a database of up to 640 KiB, some of it zeros.
func drawDatabase(t *rapid.T) *database {
	size := pageSizes().Draw(t, "page size")
	d := newDatabase(size, uint32(rapid.IntRange(0, 640<<10/int(size)).Draw(t, "pages")))
	d.header.TXID = state.TXID(rapid.Uint64Range(2, 1<<64-1).Draw(t, "TXID"))
	d.header.Time = rapid.Int64().Draw(t, "time")
	every := wal.PageNo(rapid.IntRange(1, 5).Draw(t, "every"))
	for no := wal.PageNo(1); uint32(no) <= d.header.Pages; no += every {
		d.set(no, uint64(no))
	}
	return d
}

func TestRoundTripFull(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := drawDatabase(rt)
		workers := rapid.IntRange(0, 3).Draw(rt, "workers")
		same(t, d.write(t, snapshot.WriteOptions{Workers: workers}), d.contents(nil))
	})
}

func TestRoundTripIncremental(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		base := drawDatabase(rt)
		d := newDatabase(base.header.PageSize, uint32(rapid.IntRange(0, 640<<10/int(base.header.PageSize)).Draw(rt, "new length")))
		d.header.TXID = base.header.TXID
		d.header.Base = 1
		for no, page := range base.pages {
			if uint32(no) <= d.header.Pages {
				d.pages[no] = page
			}
		}
		var changed []wal.PageNo
		if d.header.Pages > 0 {
			changed = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) wal.PageNo {
				return wal.PageNo(rapid.Uint32Range(1, d.header.Pages).Draw(t, "page"))
			}), 0, -1, rapid.ID).Draw(rt, "changed")
		}
		slices.Sort(changed)
		for _, no := range changed {
			d.set(no, 1000+uint64(no))
		}
		before := base.table()
		object := d.write(t, snapshot.WriteOptions{Changes: &snapshot.Changes{Base: before, Runs: runsOf(changed)}})
		same(t, object, d.contents(changed))
		sameTable(t, base.table(), before)
	})
}

// runsOf joins pages, which ascend, to runs.
func runsOf(pages []wal.PageNo) []snapshot.Run {
	var runs []snapshot.Run
	for _, no := range pages {
		if n := len(runs); n > 0 && runs[n-1].First+wal.PageNo(runs[n-1].Pages) == no {
			runs[n-1].Pages++
			continue
		}
		runs = append(runs, snapshot.Run{First: no, Pages: 1})
	}
	return runs
}

func TestWorkersDoNotChangeBytes(t *testing.T) {
	t.Parallel()
	d := newDatabase(1024, 3000).fill()
	want := d.write(t, snapshot.WriteOptions{Workers: 1})
	for _, n := range []int{0, 2, 7} {
		if !bytes.Equal(want, d.write(t, snapshot.WriteOptions{Workers: n})) {
			t.Errorf("%d workers write other bytes than one", n)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	d := newDatabase(4096, 150).fill()
	var got []int64
	d.write(t, snapshot.WriteOptions{Progress: func(n int64) { got = append(got, n) }})
	if diff := cmp.Diff([]int64{64 * 4096, 128 * 4096, 150 * 4096}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	table := func(size wal.PageSize) *state.Table { return state.NewTable(size) }
	runs := func(r ...snapshot.Run) *snapshot.Changes {
		return &snapshot.Changes{Base: table(512), Runs: r}
	}
	lock := wal.MaxPageSize.LockPage()
	full, incremental := newDatabase(512, 9).header, incrementalOf(512, 9)
	noTXID, size := full, full
	noTXID.TXID, size.PageSize = 0, 511
	for name, tt := range map[string]struct {
		h snapshot.Header
		c *snapshot.Changes
	}{
		"no TXID":              {noTXID, nil},
		"page size":            {size, nil},
		"full with changes":    {full, runs()},
		"incremental without":  {incremental, nil},
		"changes without base": {incremental, &snapshot.Changes{}},
		"another page size":    {incremental, &snapshot.Changes{Base: table(1024)}},
		"page 0":               {incremental, runs(snapshot.Run{First: 0, Pages: 1})},
		"empty run":            {incremental, runs(snapshot.Run{First: 1, Pages: 0})},
		"past the end":         {incremental, runs(snapshot.Run{First: 9, Pages: 2})},
		"past all ends":        {incremental, runs(snapshot.Run{First: 9, Pages: 1<<32 - 1})},
		"not ascending":        {incremental, runs(snapshot.Run{First: 5, Pages: 1}, snapshot.Run{First: 2, Pages: 1})},
		"touching":             {incremental, runs(snapshot.Run{First: 2, Pages: 1}, snapshot.Run{First: 3, Pages: 1})},
		"lock page": {incrementalOf(wal.MaxPageSize, uint32(lock)+1), &snapshot.Changes{
			Base: table(wal.MaxPageSize), Runs: []snapshot.Run{{First: lock - 1, Pages: 3}},
		}},
	} {
		var b bytes.Buffer
		_, err := snapshot.Write(context.Background(), &b, tt.h, newDatabase(512, 9), snapshot.WriteOptions{Changes: tt.c})
		if err == nil || b.Len() != 0 {
			t.Errorf("%s: error %v, %d bytes written", name, err, b.Len())
		}
	}
}

// faulty does what at says at the n-th read or write, counted from 0.
type faulty struct {
	*database
	calls, n int
	at       func() error
}

func (f *faulty) hit() error {
	f.calls++
	if f.calls-1 == f.n {
		return f.at()
	}
	return nil
}

func (f *faulty) ReadPages(first wal.PageNo, buf []byte) error {
	if err := f.hit(); err != nil {
		return err
	}
	return f.database.ReadPages(first, buf)
}

func (f *faulty) Write(b []byte) (int, error) {
	if err := f.hit(); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TestFaults lets every read and then every write fail in turn, or end the
// context. A snapshot that Write calls good must have had no fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	for _, want := range []error{cause, context.Canceled} {
		canceled := errors.Is(want, context.Canceled)
		for _, side := range []string{"read", "write"} {
			for n := 0; ; n++ {
				ctx, cancel := context.WithCancel(context.Background())
				f := &faulty{database: newDatabase(65536, 22), n: n, at: func() error {
					if canceled {
						cancel()
						return nil
					}
					return cause
				}}
				opts := snapshot.WriteOptions{Workers: 2}
				var err error
				if side == "read" {
					_, err = snapshot.Write(ctx, io.Discard, f.header, f, opts)
				} else {
					_, err = snapshot.Write(ctx, f, f.header, f.database, opts)
				}
				cancel()
				if f.calls <= n {
					if err != nil || n < 6 {
						t.Errorf("%v: %d calls to %s, error %v", want, n, side, err)
					}
					break
				}
				last := canceled && side == "write" && err == nil // the trailer is out
				if !errors.Is(err, want) && !last {
					t.Errorf("%v at %s %d: error %v", want, side, n, err)
				}
			}
		}
	}
}
