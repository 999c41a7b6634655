package integration_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// frame is what an application puts into the WAL, without salts and checksums,
// which are chance.
type frame struct {
	page  wal.PageNo
	pages uint32 // of the database, in the last frame of a commit
	image []byte
}

// TestFramesAreTheApplications compares the WAL that an application leaves with
// and without tidemark: frame by frame the same, so tidemark wrote nothing.
func TestFramesAreTheApplications(t *testing.T) {
	t.Parallel()
	const commits = 150
	alone, followed := filepath.Join(t.TempDir(), "app.db"), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, alone)
	makeLedger(t, followed)
	app := goWriter(t, alone, "wal_autocheckpoint(0)")
	app.write(t, commits)
	want := framesOf(t, alone)
	app.close(t)

	at := folderPlace(t)
	app = goWriter(t, followed, "wal_autocheckpoint(0)")
	p := replicate(t, followed, at, "--checkpoint-pages", "100000")
	p.attached(t, at)
	app.write(t, commits)
	p.reached(t, at, commits+1)
	p.stop(t)
	got := framesOf(t, followed)
	app.close(t)

	if len(got) != len(want) {
		t.Errorf("the WAL has %d frames, %d without tidemark", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if g, w := got[i], want[i]; g.page != w.page || g.pages != w.pages || !bytes.Equal(g.image, w.image) {
			t.Fatalf("frame %d is page %v (%d pages), without tidemark page %v (%d), or the images differ", i+1, g.page, g.pages, w.page, w.pages)
		}
	}
}

// TestFramesOfEachCommit goes over many restarts of the WAL: each TXID must have
// the frames that the application writes for the commit when it is alone.
func TestFramesOfEachCommit(t *testing.T) {
	t.Parallel()
	const commits = 3000
	alone, followed := filepath.Join(t.TempDir(), "app.db"), filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, alone)
	makeLedger(t, followed)
	app := goWriter(t, alone, "wal_autocheckpoint(0)")
	app.write(t, commits)
	want := framesPerCommit(framesOf(t, alone))
	app.close(t)
	if len(want) != commits {
		t.Fatalf("the WAL has %d commits, want %d", len(want), commits)
	}

	at := folderPlace(t)
	app = goWriter(t, followed)
	p := replicate(t, followed, at, "--checkpoint-pages", "200")
	p.attached(t, at)
	app.write(t, commits)
	resets := walHeader(t, followed).Sequence
	p.stop(t)
	app.close(t)

	h := readHistory(t, at)
	if h.last() != commits+1 {
		t.Fatalf("the last TXID is %v, want %d", h.last(), commits+1)
	}
	for i, n := range want {
		if c := h[i+1]; int(c.Pages) != n {
			t.Fatalf("TXID %v has %d pages, the application's commit %d frames", c.TXID, c.Pages, n)
		}
	}
	if resets == 0 {
		t.Error("the WAL has never restarted: that was no test")
	}
	if first, last := schemaOf(t, at, 1), schemaOf(t, at, state.TXID(commits+1)); first != last {
		t.Errorf("the schema has changed from\n%s\nto\n%s", first, last)
	}
	wantSameFile(t, alone, followed)
}

// framesOf reads all committed frames of a live database's WAL.
func framesOf(t *testing.T, db string) (frames []frame) {
	t.Helper()
	f, err := os.Open(db + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	h, err := wal.ReadHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := wal.NewReader(f, h, h.Start()); ; {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			t.Fatal(err)
		}
		for fr, err := range r.Frames() {
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, frame{page: fr.Page, image: bytes.Clone(fr.Image)})
		}
		frames[len(frames)-1].pages = c.Pages
	}
}

func framesPerCommit(frames []frame) (counts []int) {
	n := 0
	for _, f := range frames {
		n++
		if f.pages != 0 {
			counts, n = append(counts, n), 0
		}
	}
	return counts
}
