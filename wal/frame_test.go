package wal_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/wal"
)

func TestFrameRoundTrip(t *testing.T) {
	t.Parallel()
	for _, order := range orders() {
		for _, size := range pageSizes() {
			t.Run(fmt.Sprintf("order=%d/size=%d", order, size), func(t *testing.T) {
				t.Parallel()
				w := newTape(order, size)
				from, image := w.end, w.image()
				b, end := w.h.AppendFrame([]byte("kept"), from, 1<<31, 77, image)
				if string(b[:4]) != "kept" || len(b) != 4+wal.FrameHeaderSize+int(size) {
					t.Fatalf("AppendFrame gave %d bytes", len(b))
				}
				b = b[4:]
				sum := naiveSum(order, naiveSum(order, w.h.Sum, b[:8]), image)
				want := wal.FrameHeader{Page: 1 << 31, Commit: 77, Salts: w.h.Salts, Sum: sum}
				if diff := cmp.Diff(want, wal.ParseFrameHeader(b)); diff != "" {
					t.Errorf("ParseFrameHeader (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(wal.Position{Salts: w.h.Salts, Frame: 1, Sum: sum}, end); diff != "" {
					t.Errorf("position after it (-want +got):\n%s", diff)
				}
				if !bytes.Equal(b[wal.FrameHeaderSize:], image) {
					t.Error("image differs")
				}
			})
		}
	}
}

func TestFrameHeaderByHand(t *testing.T) {
	t.Parallel()
	b := []byte{0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6}
	want := wal.FrameHeader{
		Page: 1, Commit: 2,
		Salts: wal.Salts{Salt1: 3, Salt2: 4}, Sum: wal.Checksum{S0: 5, S1: 6},
	}
	if diff := cmp.Diff(want, wal.ParseFrameHeader(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFrameOffset(t *testing.T) {
	t.Parallel()
	tests := []struct {
		size  wal.PageSize
		frame uint32
		want  int64
	}{
		{512, 1, 32},
		{512, 2, 568},
		{4096, 1, 32},
		{4096, 1000, 4115912},
		{4096, 1 << 20, 32 + (1<<20-1)*4120},     // past 4 GiB
		{65536, 1<<32 - 1, 32 + (1<<32-2)*65560}, // past 2^47
	}
	for _, tt := range tests {
		if got := (wal.Header{PageSize: tt.size}).Offset(tt.frame); got != tt.want {
			t.Errorf("page size %d, frame %d: offset %d, want %d", tt.size, tt.frame, got, tt.want)
		}
	}
}

func TestPositionString(t *testing.T) {
	t.Parallel()
	p := wal.Position{Salts: wal.Salts{Salt1: 1, Salt2: 2}, Frame: 33}
	if got, want := p.String(), "00000001-00000002 frame 33"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
