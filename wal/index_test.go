package wal_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"tidemark/wal"
)

// indexOf makes a wal-index's header.
func indexOf(order wal.ByteOrder, h wal.Index) []byte {
	var native binary.AppendByteOrder = binary.LittleEndian
	if order == wal.BigEndian {
		native = binary.BigEndian
	}
	b := native.AppendUint32(nil, 3007000)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint32(b, h.Changes)
	b = append(b, 1, byte(order), 0, 16)
	b = native.AppendUint32(b, h.Frames)
	b = native.AppendUint32(b, h.Pages)
	b = append(b, make([]byte, 8)...) // the last frame's checksum
	b = binary.BigEndian.AppendUint32(b, h.Salts.Salt1)
	b = binary.BigEndian.AppendUint32(b, h.Salts.Salt2)
	sum := wal.Checksum{}.Extend(order, b)
	b = native.AppendUint32(b, sum.S0)
	b = native.AppendUint32(b, sum.S1)
	return append(b, b...)
}

func TestParseIndex(t *testing.T) {
	t.Parallel()
	want := wal.Index{Changes: 7, Frames: 9, Pages: 11, Salts: wal.Salts{Salt1: 0x01020304, Salt2: 0x05060708}}
	for _, order := range []wal.ByteOrder{wal.LittleEndian, wal.BigEndian} {
		good := indexOf(order, want)
		if got, err := wal.ParseIndex(good); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		for n := range good {
			if _, err := wal.ParseIndex(good[:n]); !errors.Is(err, wal.ErrIndex) {
				t.Errorf("%d bytes: %v", n, err)
			}
			bad := append([]byte{}, good...)
			bad[n] ^= 1
			if _, err := wal.ParseIndex(bad); !errors.Is(err, wal.ErrIndex) {
				t.Errorf("byte %d flipped: %v", n, err)
			}
			if n >= len(good)/2 {
				continue
			}
			if bad[n+len(good)/2] ^= 1; n < 40 {
				if _, err := wal.ParseIndex(bad); !errors.Is(err, wal.ErrIndex) {
					t.Errorf("byte %d flipped in both copies: %v", n, err)
				}
			}
		}
	}
}
