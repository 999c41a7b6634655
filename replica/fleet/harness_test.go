package fleet_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tidemark/replica/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const header = "SQLite format 3\x00"

// world is a folder with files, and a fleet over it.
type world struct {
	t    *testing.T
	dir  string
	opts fleet.Options
	told *fleet.Told
	stop context.CancelFunc
	done chan error

	mu       sync.Mutex
	running  map[string]chan error // ends a replication
	starts   map[string]int
	failures []fleet.Failure
	gone     []string
	// fails is what replications of a path fail with at once.
	fails map[string]error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), told: fleet.NewTold(), done: make(chan error, 1),
		running: map[string]chan error{}, starts: map[string]int{}, fails: map[string]error{},
	}
	w.opts = w.told.Watch(fleet.Options{
		Failed: func(f fleet.Failure) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failures = append(w.failures, f)
		},
		Gone: func(path string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gone = append(w.gone, w.rel(path))
		},
	})
	return w
}

func (w *world) path(rel string) string { return filepath.Join(w.dir, filepath.FromSlash(rel)) }

func (w *world) rel(path string) string {
	rel, err := filepath.Rel(w.dir, path)
	if err != nil {
		w.t.Error(err)
	}
	return filepath.ToSlash(rel)
}

// file writes a file that has not changed for a long time.
func (w *world) file(rel, text string) {
	w.t.Helper()
	old := time.Now().Add(-time.Hour)
	err := errors.Join(os.MkdirAll(filepath.Dir(w.path(rel)), 0o700), os.WriteFile(w.path(rel), []byte(text), 0o600), os.Chtimes(w.path(rel), old, old))
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) database(rels ...string) {
	w.t.Helper()
	for _, rel := range rels {
		w.file(rel, header+"and more")
	}
}

// folder is a folder below the world's, each database of which has replications by
// these names.
func (w *world) folder(rel string, names ...string) fleet.Folder {
	if len(names) == 0 {
		names = []string{""}
	}
	return fleet.Folder{Dir: w.path(rel), Recursive: true, Replications: func(path, _ string) ([]fleet.Replication, error) {
		var out []fleet.Replication
		for _, name := range names {
			out = append(out, w.replication(path, name))
		}
		return out, nil
	}}
}

// replication runs until it is stopped, or made to fail.
func (w *world) replication(path, name string) fleet.Replication {
	id := w.rel(path)
	if name != "" {
		id += " " + name
	}
	return fleet.Replication{Name: name, Run: func(ctx context.Context) error {
		end := make(chan error, 1)
		w.mu.Lock()
		w.starts[id]++
		if w.running[id] != nil {
			w.t.Errorf("%s runs twice", id)
		}
		err := w.fails[id]
		if err == nil {
			w.running[id] = end
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.running, id)
		}()
		select {
		case <-ctx.Done():
			return nil
		case err := <-end:
			return err
		}
	}}
}

// start begins to run the fleet, in a bubble of synctest.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.stop = cancel
	go func() { w.done <- fleet.Run(ctx, w.opts) }()
	synctest.Wait()
}

// end stops it, and waits for its end.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Error(err)
	}
	if len(w.running) > 0 {
		w.t.Errorf("still running: %v", slices.Sorted(maps.Keys(w.running)))
	}
}

// fail ends a replication with an error.
func (w *world) fail(id string, err error) {
	w.t.Helper()
	w.mu.Lock()
	end := w.running[id]
	w.mu.Unlock()
	if end == nil {
		w.t.Fatalf("%s does not run", id)
	}
	end <- err
	synctest.Wait()
}

// runs checks which replications run now.
func (w *world) runs(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(w.running))); diff != "" {
		w.t.Errorf("what runs (-want +got):\n%s", diff)
	}
}

// tell tells of changes at relative paths.
func (w *world) tell(rels ...string) {
	w.t.Helper()
	var paths []string
	for _, rel := range rels {
		paths = append(paths, w.path(rel))
	}
	w.told.Tell(paths...)
	synctest.Wait()
}

// tookGone gives what was told to be gone since the last time.
func (w *world) tookGone() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := w.gone
	w.gone = nil
	return gone
}

// started is how often a replication was begun.
func (w *world) started(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts[id]
}

// breaks has replications fail at once, or with nil no more.
func (w *world) breaks(id string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails[id] = err
}

// failure is the n-th that was told.
func (w *world) failure(n int) fleet.Failure {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failures) <= n {
		w.t.Fatalf("%d failures were told", len(w.failures))
	}
	return w.failures[n]
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) remove(rel string) {
	w.t.Helper()
	if err := os.RemoveAll(w.path(rel)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rename(from, to string) {
	w.t.Helper()
	if err := os.Rename(w.path(from), w.path(to)); err != nil {
		w.t.Fatal(err)
	}
}

// messages are what failures were told of.
func (w *world) messages() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, f := range w.failures {
		out = append(out, w.rel(f.Path)+": "+f.Err.Error())
	}
	slices.Sort(out)
	return out
}
