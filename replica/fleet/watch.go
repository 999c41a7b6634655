package fleet

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher tells of changes in folders. Add and Close are called by one goroutine.
type watcher interface {
	// Add begins to watch a folder by its absolute path. Once more is as good as
	// once, and better if another folder has taken its place.
	Add(dir string) error
	// Changes gives what has changed. It is not closed.
	Changes() <-chan changes
	// Close ends it.
	Close() error
}

// changes are files and folders in which something has changed.
type changes struct {
	paths map[string]bool // absolute
	// all tells that some may be missing.
	all bool
}

// Events come in bursts, and those of a busy WAL never end. So they are gathered for
// a moment, and after it nobody asks for more for a while: the system makes one
// event of many that follow one another for the same file.
const (
	gather = 20 * time.Millisecond
	rest   = 100 * time.Millisecond
)

// systemWatcher is the system's.
type systemWatcher struct {
	w    *fsnotify.Watcher
	out  chan changes
	done chan struct{}
	wg   sync.WaitGroup
}

func watchSystem() (watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch folders: %w", err)
	}
	s := &systemWatcher{w: w, out: make(chan changes), done: make(chan struct{})}
	s.wg.Go(s.forward)
	return s, nil
}

// Add implements watcher.
func (s *systemWatcher) Add(dir string) error {
	if err := s.w.Add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	return nil
}

// Changes implements watcher.
func (s *systemWatcher) Changes() <-chan changes { return s.out }

// Close implements watcher.
func (s *systemWatcher) Close() error {
	close(s.done)
	err := s.w.Close()
	s.wg.Wait()
	if err != nil {
		return fmt.Errorf("end watching folders: %w", err)
	}
	return nil
}

// forward hands on what the system tells.
func (s *systemWatcher) forward() {
	for {
		c, ok := s.gather()
		if !ok {
			return
		}
		if c.all || len(c.paths) > 0 {
			select {
			case s.out <- c:
			case <-s.done:
				return
			}
		}
		select {
		case <-time.After(rest):
		case <-s.done:
			return
		}
	}
}

// gather waits for an event, and takes what comes soon after it.
func (s *systemWatcher) gather() (c changes, ok bool) {
	c.paths = map[string]bool{}
	var enough <-chan time.Time
	for {
		select {
		case e, ok := <-s.w.Events:
			if !ok {
				return c, false
			}
			if !besideDatabase(filepath.Base(e.Name)) {
				c.paths[e.Name] = true
			}
		case err, ok := <-s.w.Errors:
			if !ok {
				return c, false
			}
			c.all = c.all || !errors.Is(err, fsnotify.ErrClosed)
		case <-enough:
			return c, true
		case <-s.done:
			return c, false
		}
		if enough == nil {
			enough = time.After(gather)
		}
	}
}
