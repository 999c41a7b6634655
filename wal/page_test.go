package wal_test

import (
	"slices"
	"testing"

	"tidemark/wal"
)

func TestPageSizeValid(t *testing.T) {
	t.Parallel()
	for s := range wal.PageSize(1<<17 + 1) {
		if got, want := s.Valid(), slices.Contains(pageSizes(), s); got != want {
			t.Errorf("%d: %v, want %v", s, got, want)
		}
	}
}

func TestLockPage(t *testing.T) {
	t.Parallel()
	for _, s := range pageSizes() {
		no := s.LockPage()
		if s.Offset(no) != 1<<30 {
			t.Errorf("page size %d: page %v is at %d, want 2^30", s, no, s.Offset(no))
		}
	}
	if got := wal.PageSize(4096).LockPage(); got != 262145 {
		t.Errorf("page size 4096: %v", got)
	}
}

func TestPageOffset(t *testing.T) {
	t.Parallel()
	tests := []struct {
		size wal.PageSize
		no   wal.PageNo
		want int64
	}{
		{512, 1, 0},
		{512, 2, 512},
		{65536, 65537, 1 << 32},
		{65536, 1<<32 - 2, (1<<32 - 3) << 16}, // SQLite's largest page number
	}
	for _, tt := range tests {
		if got := tt.size.Offset(tt.no); got != tt.want {
			t.Errorf("page size %d, page %v: %d, want %d", tt.size, tt.no, got, tt.want)
		}
	}
}

func TestPageNoString(t *testing.T) {
	t.Parallel()
	if got := wal.PageNo(1<<32 - 1).String(); got != "4294967295" {
		t.Errorf("got %s", got)
	}
}

// TestStatedPageSize reads what SQLite writes: two bytes, in which the largest size is 1.
func TestStatedPageSize(t *testing.T) {
	t.Parallel()
	for stated, want := range map[[2]byte]wal.PageSize{{2, 0}: 512, {16, 0}: 4096, {128, 0}: 32768, {0, 1}: 65536, {0, 0}: 0, {3, 232}: 1000} {
		header := append(make([]byte, 16), stated[:]...)
		if got := wal.StatedPageSize(header); got != want {
			t.Errorf("%v: %d, want %d", stated, got, want)
		}
	}
}
