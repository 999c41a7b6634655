package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/semaphore"
)

// Process is what the replications of one process share, so that thousands of them
// cost no more than they must. It is safe for concurrent use.
type Process struct {
	watch hub
	// starts bounds how many begin at once.
	starts *semaphore.Weighted
	// turns bounds how many archives are packed and pruned at a time.
	turns *semaphore.Weighted
	// meters has what is measured of them.
	meters roster
	// images is what page images may take.
	images memory
	// reading bounds how fast whole databases are read.
	reading pace

	mu sync.Mutex
	// databases are those that are followed, by path.
	databases map[string]*database
}

// maxStarts is how many replications of a process begin at once, startTurn for how
// long one counts at most. To begin takes connections and memory that an idle
// database does not need.
const (
	maxStarts = 16
	startTurn = 3 * time.Second
)

// NewProcess gives one with DefaultCacheMemory. It must be closed when all
// replications that use it have ended.
func NewProcess() *Process {
	return &Process{
		images: memory{size: DefaultCacheMemory},

		watch: hub{files: map[string][]chan struct{}{}}, databases: map[string]*database{},
		starts: semaphore.NewWeighted(maxStarts), turns: semaphore.NewWeighted(maxTurns),
	}
}

// SetCacheMemory bounds, in bytes, the page images that all databases together keep
// to make deltas from. Those that it has no room for are read again where the
// database has them. It must be called before the first replication begins.
func (p *Process) SetCacheMemory(n int64) { p.images.size = n }

// SetSnapshotRate bounds how many bytes of the databases are read in a second, all of
// them together, for snapshots and where all pages are compared; 0 or less is no limit.
// It never holds up what the application may come to wait for. It must be called before
// the first replication begins.
func (p *Process) SetSnapshotRate(perSecond int64) { p.reading = paceOf(perSecond) }

// begin waits for a turn to start, and gives what ends the turn. It ends by itself
// after a while: who waits for storage, or copies a large database, must not keep
// the others from starting.
func (p *Process) begin(ctx context.Context) (end func(), err error) {
	if err := p.starts.Acquire(ctx, 1); err != nil {
		return nil, context.Cause(ctx)
	}
	end = sync.OnceFunc(func() { p.starts.Release(1) })
	time.AfterFunc(startTurn, end)
	return end, nil
}

// Close gives back what it has open.
func (p *Process) Close() error { return p.watch.close() }

// Metrics measures all replications of the process. It waits for nothing: no storage,
// no database and no disk.
func (p *Process) Metrics() Metrics { return p.meters.metrics() }

// Forget removes a replication that an error has ended from what is measured, by the
// Path and the Name of its Options: somebody has decided that it is no more.
func (p *Process) Forget(database, replica string) { p.meters.forget(database, replica) }

// Failed has a replication measured that could not even begin to run, as one that an
// error has ended. It changes nothing if there is one already.
func (p *Process) Failed(database, replica string, err error) { p.meters.fail(database, replica, err) }

// hub watches files with one watcher of the system's. Files are watched only while
// somebody waits for a change: under load, events would cost more than looking.
type hub struct {
	mu    sync.Mutex
	w     *fsnotify.Watcher
	files map[string][]chan struct{}
	ended chan struct{}
}

// add begins to watch a file. What it gives tells of a change, and of more than one
// once.
func (h *hub) add(path string) (chan struct{}, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.w == nil {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
		h.w, h.ended = w, make(chan struct{})
		go h.forward(w)
	}
	if err := h.w.Add(path); err != nil { // once more is as good as once
		return nil, fmt.Errorf("watch: %w", err)
	}
	changed := make(chan struct{}, 1)
	h.files[path] = append(h.files[path], changed)
	return changed, nil
}

// remove ends that.
func (h *hub) remove(path string, changed chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := slices.DeleteFunc(h.files[path], func(c chan struct{}) bool { return c == changed })
	if h.files[path] = rest; len(rest) == 0 {
		delete(h.files, path)
		_ = h.w.Remove(path) // one that is gone needs no removing
	}
}

// forward hands events on, and ends with the watcher.
func (h *hub) forward(w *fsnotify.Watcher) {
	defer close(h.ended)
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			h.mu.Lock()
			for _, changed := range h.files[e.Name] {
				poke(changed)
			}
			h.mu.Unlock()
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			if err != nil {
				h.wakeAll() // whatever was missed, look
			}
		}
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, all := range h.files {
		for _, changed := range all {
			poke(changed)
		}
	}
}

func (h *hub) close() error {
	h.mu.Lock()
	w := h.w
	h.w = nil
	h.mu.Unlock()
	if w == nil {
		return nil
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("end watching: %w", err)
	}
	<-h.ended
	return nil
}

// watcher tells of a change of one file. It is not safe for concurrent use.
type watcher struct {
	hub   *hub
	armed string
	// blind tells that the system gives no events for the file.
	blind   bool
	changed chan struct{}
}

// arm begins to watch a file. It gives nil when it has just begun, since changes
// before that go untold, and then a channel that tells of one.
func (w *watcher) arm(path string) <-chan struct{} {
	if w.armed == path || w.blind {
		return w.changed
	}
	w.disarm()
	changed, err := w.hub.add(path)
	if err != nil {
		w.blind = true
		w.changed = make(chan struct{}) // never tells
		return w.changed
	}
	w.armed, w.changed = path, changed
	return nil
}

// disarm ends watching.
func (w *watcher) disarm() {
	if w.armed != "" {
		w.hub.remove(w.armed, w.changed)
		w.armed = ""
	}
}
