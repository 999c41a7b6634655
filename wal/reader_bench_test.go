package wal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"tidemark/wal"
)

// BenchmarkReader reads 64 MiB of WAL, in commits of several lengths, with and
// without the frames.
func BenchmarkReader(b *testing.B) {
	ways := []struct {
		name string
		read func(*testing.B, *wal.Reader) int
	}{{"Next", scanAll}, {"Next+Frames", readAll}}
	for _, frames := range []int{1, 10, 1000} {
		w := newTape(wal.LittleEndian, 4096)
		for len(w.b) < 64<<20 {
			w.commit(frames)
		}
		for _, way := range ways {
			b.Run(fmt.Sprintf("frames=%d/%s", frames, way.name), func(b *testing.B) {
				b.SetBytes(int64(len(w.b)))
				b.ReportAllocs()
				for b.Loop() {
					r := wal.NewReader(bytes.NewReader(w.b), w.h, w.h.Start())
					n := way.read(b, r)
					if n != int(w.end.Frame) {
						b.Fatalf("%d frames, want %d", n, w.end.Frame)
					}
				}
				b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/float64(w.end.Frame), "ns/frame")
			})
		}
	}
}

// scanAll finds all commits and gives the number of their frames.
func scanAll(b *testing.B, r *wal.Reader) int {
	b.Helper()
	n := 0
	for {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
		n += int(c.Frames())
	}
}

// readAll is scanAll, and has every frame given too.
func readAll(b *testing.B, r *wal.Reader) int {
	b.Helper()
	n := 0
	for {
		_, err := r.Next()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range r.Frames() {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
}

// BenchmarkWakeUp is what one small commit costs a reader that waits for it.
func BenchmarkWakeUp(b *testing.B) {
	w := newTape(wal.LittleEndian, 4096)
	for range 1000 {
		w.commit(3)
	}
	d := &wire{}
	var r *wal.Reader
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		landed := 3 * (i%1000 + 1)
		if landed == 3 {
			r = wal.NewReader(d, w.h, w.h.Start())
		}
		d.b = w.b[:w.offset(landed)]
		if n := readAll(b, r); n != 3 {
			b.Fatalf("%d frames, want 3", n)
		}
	}
}
