package block_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"tidemark/snapshot/block"
)

func object(raws ...[]byte) []byte {
	var b []byte
	for _, raw := range raws {
		b = block.Append(b, 1, raw)
	}
	return b
}

// isEOF reports whether err is io.EOF as it is.
func isEOF(err error) bool {
	return err == io.EOF //nolint:errorlint // not unwrapped, as callers of a reader compare it
}

// TestReaderTruncation cuts an object of two blocks at every byte.
func TestReaderTruncation(t *testing.T) {
	t.Parallel()
	first, second := object(noise(30)), object(make([]byte, 300))
	whole := append(bytes.Clone(first), second...)
	for n := range whole {
		r := block.NewReader(iotest.HalfReader(bytes.NewReader(whole[:n])), 0)
		var err error
		var blocks int64
		for err == nil {
			if _, _, err = r.Next(); err == nil {
				blocks++
			}
		}
		want := blocks * int64(len(first))
		var place *block.Error
		if !errors.As(err, &place) || place.Offset != want || r.Offset() != want {
			t.Errorf("cut at %d: error %v, want one at offset %d", n, err, want)
		}
		if !errors.Is(err, block.ErrCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: error %v is not a truncation", n, err)
		}
	}
}

func TestNextOrEOF(t *testing.T) {
	t.Parallel()
	one := object(noise(30))
	tests := []struct {
		name  string
		b     []byte
		clean bool
	}{
		{"nothing", nil, true},
		{"one block", one, true},
		{"part of a header", one[:10], false},
		{"a header alone", one[:block.HeaderSize], false},
		{"part of a payload", one[:len(one)-1], false},
		{"one block and a byte", append(bytes.Clone(one), 0), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := block.NewReader(bytes.NewReader(tt.b), 0)
			var err error
			for err == nil {
				_, _, err = r.NextOrEOF()
			}
			if clean := isEOF(err); clean != tt.clean || clean == errors.Is(err, block.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestSourceErrorsAreNotCorruption breaks the source at every byte, also with
// an error that wraps io.EOF.
func TestSourceErrorsAreNotCorruption(t *testing.T) {
	t.Parallel()
	b := object(noise(30))
	for _, cause := range []error{errors.New("connection reset"), fmt.Errorf("get object: %w", io.EOF)} {
		for n := range b {
			src := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(cause))
			_, _, err := block.NewReader(src, 0).NextOrEOF()
			if !errors.Is(err, cause) || errors.Is(err, block.ErrCorrupt) || isEOF(err) {
				t.Errorf("broken at %d: error %v, want %v", n, err, cause)
			}
		}
	}
}

func TestReaderLeavesWhatFollows(t *testing.T) {
	t.Parallel()
	src := bytes.NewReader(append(object(noise(30)), "trailer"...))
	if _, _, err := block.NewReader(src, 0).Next(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(src)
	if diff := cmp.Diff("trailer", string(rest)); diff != "" || err != nil {
		t.Errorf("error %v, rest (-want +got):\n%s", err, diff)
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	err := error(&block.Error{Offset: 4711, Err: block.ErrVersion})
	if diff := cmp.Diff("at offset 4711: unknown format version", err.Error()); diff != "" {
		t.Error(diff)
	}
	if !errors.Is(err, block.ErrVersion) {
		t.Error("the cause is not to be had by errors.Is")
	}
}

// FuzzReader feeds anything: what is accepted must encode to a block that
// decodes to the same, and nothing may need more memory than the limit.
func FuzzReader(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(object(noise(30)))
	f.Add(object(make([]byte, 300), nil, noise(3)))
	f.Add(craft(block.LZ4, 0, block.Limit, 11, []byte{0x1f, 0, 1, 0, 10, 0x50, 0, 0, 0, 0, 0}))
	f.Add(craft(block.Stored, 0, 1<<32-1, 1<<32-1, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := block.NewReader(bytes.NewReader(b), 0)
		for {
			h, raw, err := r.NextOrEOF()
			if isEOF(err) {
				return
			}
			if err != nil {
				if !errors.Is(err, block.ErrCorrupt) {
					t.Fatalf("error %v is not ErrCorrupt", err)
				}
				return
			}
			if cap(raw) > block.Limit || len(raw) != int(h.Raw) {
				t.Fatalf("%d bytes (capacity %d) for %+v", len(raw), cap(raw), h)
			}
			again := block.Append(nil, h.Kind, raw)
			if _, back, _, err := block.Cut(nil, again); err != nil || !bytes.Equal(back, raw) {
				t.Fatalf("encoded again: error %v", err)
			}
		}
	})
}

// TestNextStored copies blocks, and finds each flipped byte in them.
func TestNextStored(t *testing.T) {
	t.Parallel()
	whole := object(noise(30), make([]byte, 300), noise(1))
	copied := func(b []byte) (got []byte, err error) {
		r := block.NewReader(bytes.NewReader(b), 7)
		for range 3 {
			h, header, stored, err := r.NextStored()
			if err != nil {
				return got, err
			}
			if int64(len(header)+len(stored)) != h.Size() {
				t.Errorf("%d and %d bytes of a block of %d", len(header), len(stored), h.Size())
			}
			got = append(append(got, header...), stored...)
			if r.Offset() != 7+int64(len(got)) {
				t.Errorf("at offset %d after %d bytes", r.Offset(), len(got))
			}
		}
		return got, nil
	}
	if got, err := copied(whole); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("copied %x, error %v, want %x", got, err, whole)
	}
	for i := range whole {
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		var place *block.Error
		if _, err := copied(flipped); !errors.Is(err, block.ErrCorrupt) || !errors.As(err, &place) {
			t.Errorf("byte %d flipped: error %v", i, err)
		}
	}
}
