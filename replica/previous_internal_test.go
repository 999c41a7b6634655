package replica

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// edited is a page's image with a few bytes changed.
func edited(image []byte, at int) []byte {
	image = bytes.Clone(image)
	for i := range 8 {
		image[(at+i)%len(image)]++
	}
	return image
}

// Whatever the database file and the cache hold, each commit of each segment is
// exactly what was committed.
func TestPreviousHistories(t *testing.T) {
	t.Parallel()
	deltas := 0
	rapid.Check(t, func(t *rapid.T) {
		size := wal.PageSize(rapid.SampledFrom([]int{512, 1024, 4096}).Draw(t, "page size"))
		images := rapid.Int64Range(0, 4).Draw(t, "cached pages")
		b := newRig(t.Fatal, size, rapid.IntRange(1, 12).Draw(t, "pages"), images*int64(size))
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			b.step(t)
		}
		b.seal()
		deltas += b.deltas
	})
	if deltas == 0 && !t.Failed() {
		t.Error("no page was written as a delta")
	}
}

func (b *rig) step(t *rapid.T) {
	switch rapid.SampledFrom([]string{
		"commit", "commit", "commit", "commit", "segment", "checkpoint", "restart", "start", "cache", "file", "late",
	}).Draw(t, "step") {
	case "commit":
		b.drawCommit(t)
	case "segment":
		b.seal()
	case "checkpoint":
		b.checkpoint(rapid.IntRange(0, 5).Draw(t, "pages"))
	case "restart":
		b.restart()
	case "start": // with nothing but the page sums
		b.start()
	case "cache":
		b.e.cache.drop()
	case "late":
		b.e.prev.left = 0
	case "file": // it is not what it should be
		if n := rapid.IntRange(0, len(b.file.b)).Draw(t, "place"); rapid.Bool().Draw(t, "short") {
			b.file.b = b.file.b[:n]
		} else if n < len(b.file.b) {
			b.file.b[n]++
		}
		// What a checkpoint has copied is there no more: SQLite has it in the WAL.
		for i := range b.pages {
			b.newest[i] = struct{}{}
		}
	}
}

func (b *rig) drawCommit(t *rapid.T) {
	n := rapid.IntRange(1, 14).Draw(t, "length")
	var changes []change
	now := map[int][]byte{}
	for range rapid.IntRange(1, 6).Draw(t, "frames") {
		i := rapid.IntRange(0, 13).Draw(t, "page")
		was := now[i]
		if was == nil && i < len(b.pages) {
			was = b.pages[i]
		}
		var image []byte
		switch how := rapid.SampledFrom([]string{"edit", "edit", "edit", "fresh", "zeros", "same"}).Draw(t, "how"); {
		case was == nil || how == "fresh":
			image = b.fresh()
		case how == "edit":
			image = edited(was, rapid.IntRange(0, int(b.size)-1).Draw(t, "at"))
		case how == "zeros":
			image = make([]byte, b.size)
		default:
			image = was
		}
		now[i] = image
		changes = append(changes, change{i, image})
	}
	// Pages past the end are spilled ones that are not part of it after all.
	b.write(n, changes...)
}

// The first write of a page is a delta: after a checkpoint, from the WAL when the
// cache has forgotten it, and after a start.
func TestPreviousPlaces(t *testing.T) {
	t.Parallel()
	b := newRig(t.Fatal, 1024, 5, 0)
	wants := func(what string, deltas, whole int) {
		t.Helper()
		b.seal()
		if b.deltas != deltas || b.whole != whole {
			t.Fatalf("%s: %d deltas and %d whole pages, want %d and %d", what, b.deltas, b.whole, deltas, whole)
		}
		b.deltas, b.whole = 0, 0
	}
	edit := func(pages ...int) {
		for _, i := range pages {
			b.write(len(b.pages), change{i, edited(b.pages[i], 100)})
		}
	}
	edit(0, 1, 2)
	wants("in the file", 3, 0)
	edit(0, 1, 2)
	wants("in the WAL", 3, 0)
	b.restart()
	edit(0, 1, 2)
	wants("after a checkpoint", 3, 0)
	b.checkpoint(5)
	b.start()
	edit(0, 3)
	wants("after a checkpoint and a start", 2, 0)
	b.start()
	edit(0)
	wants("in a frame that was read before the start", 0, 1)
	b.write(7, change{5, b.fresh()}, change{6, b.fresh()})
	wants("new pages", 0, 2)
	b.write(7, change{1, b.fresh()})
	wants("a page that is filled anew", 0, 1)
	b.restart()
	b.write(3, change{0, edited(b.pages[0], 7)})
	was := b.file.b
	b.write(7, change{5, edited(was[5*1024:6*1024], 1)})
	wants("a page that was cut off and comes back", 1, 1)
	b.restart()
	b.file.b = append(b.file.b, make([]byte, 3*1024)...)
	b.write(10, change{9, b.fresh()}, change{8, edited(make([]byte, 1024), 1)})
	wants("a page that is zeros since the same commit", 0, 2)
}

// An image that is not the one of the last state is of no use, though it is where it
// should be.
func TestPreviousWrong(t *testing.T) {
	t.Parallel()
	b := newRig(t.Fatal, 512, 3, 0)
	b.file.b[0]++
	b.file.b = b.file.b[:2*512+100]
	for i := range b.pages {
		b.write(3, change{i, edited(b.pages[i], 50)})
	}
	b.seal()
	if b.whole != 2 || b.deltas != 1 {
		t.Fatalf("%d whole pages and %d deltas, want pages 1 and 3 whole", b.whole, b.deltas)
	}
	// The WAL as well.
	b.log.b[b.h.Offset(1)+wal.FrameHeaderSize+9]++
	b.write(3, change{0, edited(b.pages[0], 50)})
	b.seal()
	if b.whole != 3 {
		t.Fatalf("%d whole pages, want 3", b.whole)
	}
}

// A disk that is slow for each page is not waited for in each, and less under the
// write lock.
func TestPreviousSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t.Fatal, 512, 40, 0)
		b.file.takes, b.file.reads, b.unread = 3*time.Millisecond, 0, true
		reads := func(bound time.Duration) int { return int((bound + b.file.takes - 1) / b.file.takes) }
		for i := range 20 {
			b.write(40, change{i, edited(b.pages[i], 50)})
		}
		if err := b.e.readAll(); err != nil {
			t.Fatal(err)
		}
		if want := reads(previousTurn); b.file.reads != want {
			t.Errorf("%d reads of %v each in a turn, want %d", b.file.reads, b.file.takes, want)
		}
		for i := range 20 {
			b.write(40, change{20 + i, edited(b.pages[20+i], 50)})
		}
		if err := b.e.readLocked(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if want := reads(previousTurn) + reads(previousLocked); b.file.reads != want {
			t.Errorf("%d reads after one under the write lock, want %d", b.file.reads, want)
		}
		b.seal()
		if b.deltas != b.file.reads {
			t.Errorf("%d deltas after %d reads", b.deltas, b.file.reads)
		}
	})
}

// What is noted of the WAL takes little memory, whatever a transaction's length.
func TestPreviousBounded(t *testing.T) {
	t.Parallel()
	p := previous{seat: &seat{}}
	h := &wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 1}}
	for i := range uint32(3 * maxNoted) {
		p.note(h, wal.PageNo(i+1), i+1)
	}
	p.note(h, 1, 7)
	if len(p.frames) != maxNoted || p.frames[1] != 7 {
		t.Errorf("%d frames are noted, want %d; the newest of page 1 is %d, want 7", len(p.frames), maxNoted, p.frames[1])
	}
	p.note(&wal.Header{PageSize: 512, Salts: wal.Salts{Salt1: 2}}, 5, 9)
	if len(p.frames) != 1 {
		t.Errorf("%d frames are noted after a restart, want 1", len(p.frames))
	}
	p.forget()
	if p.frames != nil {
		t.Error("it forgets nothing")
	}
}

func TestPays(t *testing.T) {
	t.Parallel()
	const size = 1024 // 128 words
	for differ, want := range map[int]bool{0: true, 1: true, 80: true, 81: false, 128: false} {
		image, prev := make([]byte, size), make([]byte, size)
		for i := range differ {
			image[i*8+i%8] = 1
		}
		if got := pays(image, prev); got != want {
			t.Errorf("pays with %d of 128 words that differ: %t, want %t", differ, got, want)
		}
	}
}

// BenchmarkFirstTouch is what a page costs that is not in the cache and changes a
// little, with its previous image and without it.
func BenchmarkFirstTouch(b *testing.B) {
	for name, left := range map[string]time.Duration{"delta": time.Hour, "whole": 0} {
		b.Run(name, func(b *testing.B) {
			const pages = 512
			x := newRig(b.Fatal, 4096, pages, 0)
			images := slices.Clone(x.pages)
			for i := range images {
				images[i] = edited(images[i], 100)
			}
			x.e.seg.w = segment.NewWriter(io.Discard, x.e.seg.w.Header())
			x.e.prev.left = left
			for i := range images {
				x.e.prev.note(&x.h, wal.PageNo(i+1), 1)
			}
			clear(x.e.prev.frames)
			b.SetBytes(4096)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				no := wal.PageNo(i%pages + 1)
				if err := x.e.frame(wal.Frame{Page: no, Image: images[no-1]}, &x.h); err != nil {
					b.Fatal(err)
				}
				x.e.table.Set(no, state.SumPage(no, x.pages[no-1])) // it goes back
				x.e.seg.touched = x.e.seg.touched[:0]
			}
		})
	}
}
