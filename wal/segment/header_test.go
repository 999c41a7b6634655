package segment_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"tidemark/wal/segment"
)

// TestWriterName writes names of every kind and reads what is left of them.
func TestWriterName(t *testing.T) {
	t.Parallel()
	fits := strings.Repeat("x", segment.MaxWriterLen)
	tests := []struct{ name, give, want string }{
		{"none", "", ""},
		{"plain", "gauge-7 pid 4242", "gauge-7 pid 4242"},
		{"as long as may be", fits, fits},
		{"a byte longer", fits + "y", fits},
		{"cut in a character of two bytes", fits[1:] + "é", fits[1:]},
		{"cut in a character of four bytes", fits[3:] + "🌊", fits[3:]},
		{"a character that just fits", fits[4:] + "🌊🌊", fits[4:] + "🌊"},
		{"not UTF-8", "a\xffb", "a\ufffdb"},
		{"longer once it is UTF-8", fits[1:] + "\xff", fits[1:]},
		{"a zero byte", "host\x00rest", "host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			segment.NewWriter(&b, segment.Header{PageSize: 512, First: 1, Writer: tt.give})
			h, err := segment.ParseHeader(b.Bytes())
			if err != nil || h.Writer != tt.want {
				t.Errorf("%q is read back as %q, error %v; want %q", tt.give, h.Writer, err, tt.want)
			}
		})
	}
}

// TestSum wants the sum that identifies a segment from the writer and from the
// index, and another one for other bytes.
func TestSum(t *testing.T) {
	t.Parallel()
	seen := map[uint64]string{}
	for _, name := range []string{"one", "two"} {
		h := small()
		h.hdr.Writer = name
		var b bytes.Buffer
		w, _ := h.write(t, &b)
		written, err := w.Close(table(512, h.pages()).At)
		if err != nil {
			t.Fatal(err)
		}
		_, x, err := segment.ReadIndex(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := read(bytes.NewReader(b.Bytes()), int64(b.Len())); err != io.EOF { //nolint:errorlint // bare by contract
			t.Fatal(err) // It proves the sum.
		}
		sum := written.Sum()
		if sum == 0 || x.Trailer.Sum() != sum {
			t.Errorf("%s: Close gives the sum %x, the index %x", name, sum, x.Trailer.Sum())
		}
		if other := seen[sum]; other != "" {
			t.Errorf("%s has the sum of %s", name, other)
		}
		seen[sum] = name
	}
}
