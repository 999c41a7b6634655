package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"tidemark/wal"
)

const (
	// pressureTime is how long each rate is measured with tidemark, and a third of it
	// without. loadVariable makes it longer.
	pressureTime = 10 * time.Second
	// pressurePages is checkpoint-pages where nothing else is set.
	pressurePages = 1000
	// pageInWAL is what a page takes in a WAL.
	pageInWAL = 4096 + wal.FrameHeaderSize

	// What is allowed is generous: the machine may be busy with other things. The WAL
	// may be so many times longer than it should be, or be what is written in
	// walSeconds if that is more: without hand-offs it is all. No commit may take stall
	// longer than the longest one does without tidemark, and no hand-off may have the
	// write lock for longer.
	walFactor  = 30
	walSeconds = 4
	stall      = 2 * time.Second
)

// pressure is a rate of commits.
type pressure struct {
	name string
	// pages is checkpoint-pages.
	pages int
	// drive has the application commit for a time, with pass to let time pass.
	drive func(t *testing.T, app *writer, d time.Duration, pass func(time.Duration))
	// rare tells that so little is written that every hand-off must be complete.
	rare bool
}

// TestPressure measures what tidemark costs an application and its WAL: at as many
// commits a second as the machine gives (some 10,000 if it has nothing else to do),
// at ten, and at one a minute. The WAL stays within bounds, and so does the time that
// a commit takes.
//
// In a minute between two commits three things happen: after a second the WAL is
// handed off; after five the database is parked, with all connections closed but
// one; and after that nothing. So seconds are enough: of 3 s or 7 s between two
// commits, the first leave time for the one, the second for both.
//
//nolint:paralleltest // It takes the whole machine.
func TestPressure(t *testing.T) {
	d := loadDuration(t, pressureTime)
	t.Run("as fast as can be", func(t *testing.T) {
		pressure{pages: pressurePages, drive: pressing("start")}.measure(t, d)
	})
	t.Run("rarely", func(t *testing.T) {
		for _, p := range []pressure{
			// Fewer pages, so that they make several hand-offs in ten seconds.
			{name: "ten a second", pages: pressurePages / 10, drive: pressing("start 100000"), rare: true},
			{name: "one a minute", pages: pressurePages, drive: dripping, rare: true},
		} {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.measure(t, d)
			})
		}
	})
}

// pressing commits at a rate.
func pressing(command string) func(*testing.T, *writer, time.Duration, func(time.Duration)) {
	return func(t *testing.T, app *writer, d time.Duration, pass func(time.Duration)) {
		t.Helper()
		app.do(t, command)
		pass(d)
		app.do(t, "stop")
	}
}

// dripping commits once, and then hardly ever.
func dripping(t *testing.T, app *writer, d time.Duration, pass func(time.Duration)) {
	t.Helper()
	pauses := []time.Duration{3 * time.Second, 7 * time.Second}
	for n, start := 0, time.Now(); n == 0 || time.Since(start) < d; n++ {
		app.write(t, 1)
		pass(pauses[n%len(pauses)])
	}
	app.write(t, 1)
}

// measure measures an application alone and with tidemark.
func (p pressure) measure(t *testing.T, d time.Duration) {
	t.Helper()
	alone := p.run(t, d/3, nil)
	at := folderPlace(t)
	with := p.run(t, d, &at)
	t.Logf("\nalone:         %v\nwith tidemark: %v", alone, with)

	written := int64(walSeconds * float64(with.commits) / with.time.Seconds() * float64(with.commit))
	if most := max(walFactor*int64(p.pages)*pageInWAL, written); with.wal > most {
		t.Errorf("the WAL came to %d bytes, more than %d", with.wal, most)
	}
	if with.longest > alone.longest+stall {
		t.Errorf("a commit took %v, alone %v", with.longest, alone.longest)
	}
	if with.locked > stall {
		t.Errorf("the write lock was held for %v", with.locked)
	}
	if with.complete == 0 || p.rare && with.complete != with.handOffs {
		t.Errorf("%d of %d hand-offs were complete", with.complete, with.handOffs)
	}
	h := readHistory(t, at)
	if int64(h.last()) != with.commits+1 || len(h.resyncs()) > 0 {
		t.Errorf("after %d commits the last TXID is %v, with repairs at %v", with.commits, h.last(), h.resyncs())
	}
}

// pressureFigures are what was measured.
type pressureFigures struct {
	time    time.Duration
	commits int64
	commit  int64 // what one takes in the WAL, about
	wal     int64 // what the WAL came to
	p99     time.Duration
	longest time.Duration

	handOffs, complete int
	locked             time.Duration // at most
}

func (f pressureFigures) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	text := fmt.Sprintf("%d commits in %.1f s (%.1f a second); p99 %.2f ms, longest %.2f ms; WAL at most %.2f MB",
		f.commits, f.time.Seconds(), float64(f.commits)/f.time.Seconds(), ms(f.p99), ms(f.longest), float64(f.wal)/1e6)
	if f.handOffs > 0 {
		text += fmt.Sprintf("; %d hand-offs, %d complete, write lock held for %.2f ms at most", f.handOffs, f.complete, ms(f.locked))
	}
	return text
}

// run measures an application, next to a tidemark that replicates to a place if one
// is given.
func (p pressure) run(t *testing.T, d time.Duration, at *place) (f pressureFigures) {
	t.Helper()
	db := filepath.Join(t.TempDir(), "app.db")
	makeLedger(t, db)
	app := goWriter(t, db)
	const warm = 50
	app.write(t, warm)
	f.commit = fileSize(t, db+"-wal") / warm
	app.checkpoint(t)
	pass, replicator := app.pass, (*process)(nil)
	if at != nil {
		replicator = replicate(t, db, *at, "--checkpoint-pages", strconv.Itoa(p.pages))
		replicator.attached(t, *at)
		pass = replicator.pass
	}
	app.do(t, "longest")
	app.do(t, "p99") // from here on it counts
	size := watchSize(t, db+"-wal")
	start := time.Now()
	p.drive(t, app, d, func(d time.Duration) { pass(t, d) })
	f.time = time.Since(start)
	f.wal = size()
	f.commits = app.write(t, 0) - warm
	f.longest = time.Duration(app.do(t, "longest")) * time.Microsecond
	f.p99 = time.Duration(app.do(t, "p99")) * time.Microsecond
	if replicator != nil {
		replicator.stop(t)
		f.handOffs, f.complete, f.locked = replicator.handOffs(t)
	}
	app.close(t)
	return f
}

// pass lets time pass. The writer must not end meanwhile.
func (w *writer) pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-w.Exited():
		t.Fatalf("the writer ended: %v\n%s", w.Err(), w.stderr.String())
	}
}

// watchSize looks at a file's size all the time, until the function is called that it
// gives: that tells the largest. There need be no file.
func watchSize(t *testing.T, path string) (largest func() int64) {
	t.Helper()
	done, result := make(chan struct{}), make(chan int64, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var most int64
		for running := true; running; {
			select {
			case <-tick.C:
			case <-done:
				running = false
			}
			info, err := os.Stat(path)
			if err == nil {
				most = max(most, info.Size())
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
				running = false
			}
		}
		result <- most
	}()
	return func() int64 {
		close(done)
		return <-result
	}
}

// handOffs tells of the hand-offs that a process has logged: how many there were, how
// many of them were complete, and for how long one had the write lock at most.
func (p *process) handOffs(t *testing.T) (n, complete int, locked time.Duration) {
	t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for text := range bytes.Lines(b) {
		var line struct {
			Msg      string
			Complete bool
			Locked   time.Duration
		}
		if json.Unmarshal(text, &line) != nil || line.Msg != "handed off the WAL" {
			continue
		}
		if n++; line.Complete {
			complete++
		}
		locked = max(locked, line.Locked)
	}
	return n, complete, locked
}
