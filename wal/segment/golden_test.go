package segment_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// text is a page that begins with s.
func text(s string) []byte { return append([]byte(s), make([]byte, 512-len(s))...) }

// small is the history of the golden file: a database of two pages, a change
// of the second, and a resync that adds a third.
func small() history {
	start := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC)
	h := history{hdr: segment.Header{PageSize: 512, First: 1, Time: start, Writer: "gauge-7 pid 4242"}}
	for i := range h.hdr.Replica {
		h.hdr.Replica[i] = 0xa0 + byte(i)
	}
	one, low, high, three := text("SQLite format 3\x00"), text("low tide"), text("high tide"), text("mark")
	h.commits = []commit{
		{
			frames: []frame{{no: 1, image: one}, {no: 2, image: low}},
			given:  segment.Commit{Time: start, Flags: segment.Complete},
			after:  [][]byte{one, low},
		},
		{
			frames: []frame{{no: 2, image: high, prev: low}},
			given:  segment.Commit{Time: start.Add(10 * time.Millisecond)},
			after:  [][]byte{one, high},
		},
		{
			frames: []frame{{no: 3, image: three}},
			given:  segment.Commit{Time: start.Add(time.Second), Flags: segment.Resync},
			after:  [][]byte{one, high, three},
		},
	}
	for i := range h.commits {
		c := &h.commits[i]
		c.given.Pages, c.given.After = uint32(len(c.after)), table(512, c.after).Checksum()
		c.want = c.given
		c.want.TXID, c.want.Frames = h.hdr.First+state.TXID(i), uint32(len(c.frames))
	}
	return h
}

func golden(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/v1.seg")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// update, as in "go test ./wal/segment -update", rewrites the golden file and
// the fuzz seeds. The dump in doc.go is corrected by hand, by what
// TestGoldenIsDocumented says.
var update = flag.Bool("update", false, "rewrite testdata")

func TestGoldenIsWritten(t *testing.T) {
	if *update {
		if err := os.WriteFile("testdata/v1.seg", small().closed(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Parallel() // Only now: others read the file.
	if want, got := golden(t), small().closed(t); !bytes.Equal(want, got) {
		t.Errorf("-want +got:\n%s", cmp.Diff(hex.Dump(want), hex.Dump(got)))
	}
}

func TestGoldenIsRead(t *testing.T) {
	t.Parallel()
	b, h := golden(t), small()
	hdr, got, err := read(bytes.NewReader(b), int64(len(b)))
	if err != io.EOF { //nolint:errorlint // bare by contract
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.hdr, hdr); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if diff := differ(h.records(), got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	hdr, x, err := segment.ReadIndex(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	sums := state.NewTable(512)
	if err := x.Apply(hdr, sums); err != nil || sums.At(3) != state.SumPage(3, h.pages()[2]) {
		t.Errorf("error %v, page 3 has sum %x", err, sums.At(3))
	}
	want := contents{
		Header:  h.hdr,
		Trailer: segment.Trailer{Commits: 3, Last: 3, After: h.commits[2].want.After, PagesAfter: 3, Time: h.commits[2].want.Time},
		Sums:    map[wal.PageNo]state.Sum{1: sums.At(1), 2: sums.At(2), 3: sums.At(3)},
		Errs:    []error{nil, nil},
	}
	for _, c := range h.commits {
		c.want.After, c.want.Bytes = 0, 0
		want.Commits = append(want.Commits, c.want)
	}
	all := everything(hdr, x)
	for i := range all.Commits {
		all.Commits[i].Bytes = 0
	}
	if diff := cmp.Diff(want, all, cmp.Comparer(sameTrailer)); diff != "" {
		t.Errorf("index (-want +got):\n%s", diff)
	}
}

// TestGoldenIsDocumented decodes the hex dump in the package's documentation.
func TestGoldenIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^//\t([0-9a-f]{4})  ((?:[0-9a-f]{2}(?: |$))+)`)
	var b []byte
	for _, m := range line.FindAllStringSubmatch(string(doc), -1) {
		off, err := hex.DecodeString(m[1])
		if err != nil || int(off[0])<<8|int(off[1]) != len(b) {
			t.Fatalf("line %q comes at offset %#x", m[0], len(b))
		}
		part, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, part...)
	}
	if diff := cmp.Diff(hex.Dump(golden(t)), hex.Dump(b)); diff != "" {
		t.Errorf("-file +doc.go:\n%s", diff)
	}
}
