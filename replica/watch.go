package replica

import (
	"fmt"

	"github.com/fsnotify/fsnotify"
)

// watcher tells of a change of one file. It is armed only while the engine
// waits for one: under load, events would cost more than looking. The zero value
// is ready.
type watcher struct {
	w     *fsnotify.Watcher
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
	if err := w.add(path); err != nil {
		w.blind = true
		w.changed = make(chan struct{}) // never tells
		return w.changed
	}
	w.armed = path
	return nil
}

func (w *watcher) add(path string) error {
	if w.w == nil {
		fw, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		w.w, w.changed = fw, make(chan struct{}, 1)
		go forward(fw, w.changed)
	}
	if err := w.w.Add(path); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// forward turns events into one token. It ends with the watcher.
func forward(fw *fsnotify.Watcher, changed chan<- struct{}) {
	for {
		select {
		case _, ok := <-fw.Events:
			if !ok {
				return
			}
			poke(changed)
		case err, ok := <-fw.Errors:
			if !ok {
				return
			}
			if err != nil {
				poke(changed) // whatever was missed, look
			}
		}
	}
}

// disarm ends watching.
func (w *watcher) disarm() {
	if w.armed != "" {
		_ = w.w.Remove(w.armed) // one that is gone needs no removing
		w.armed = ""
	}
}

func (w *watcher) close() error {
	if w.w == nil {
		return nil
	}
	if err := w.w.Close(); err != nil {
		return fmt.Errorf("end watching: %w", err)
	}
	return nil
}
