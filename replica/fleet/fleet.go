package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrTwice says that a database is followed already, under another name.
var ErrTwice = errors.New("the same file is replicated already")

// DefaultRescan is the time between two looks at everything. What the system tells of
// is noticed at once.
const DefaultRescan = 30 * time.Second

// Replication is one replication of a database, of which there may be several.
type Replication struct {
	// Name tells it from the others of the database, for who is told of it.
	Name string
	// Run replicates until ctx ends, and returns nil then. It has nothing of the
	// database open when it returns. Else its error is why it has ended by itself:
	// one that wraps source.ErrReplaced or fs.ErrNotExist where the file is gone. It
	// is not called again before it has returned.
	Run func(ctx context.Context) error
}

// Database is a database that is listed.
type Database struct {
	// Path is the file. No two databases may have the same.
	Path string
	// Replications are run side by side.
	Replications []Replication
	// Retry tells, if not nil, whether one is tried again after a failure, as found
	// ones are.
	Retry func(error) bool
}

// Failure is told of a replication that has failed.
type Failure struct {
	// Path is the database, Replication the name of what has failed.
	Path, Replication string
	// Err is what it ended with.
	Err error
	// Closed tells that nothing in this process has the database open, until the
	// call that tells of the failure returns.
	Closed bool
	// Again is the pause before it is tried again, 0 if it is not.
	Again time.Duration
}

// Options say what to run. The functions are called by one goroutine.
type Options struct {
	// Databases are those that are listed, in any order.
	Databases []Database
	// Folders are looked into, the first one that has a database has it for itself.
	Folders []Folder
	// Rescan is the time between two looks at everything; 0 is DefaultRescan.
	Rescan time.Duration
	// Final tells of an error that trying again does not mend, nor a change of the
	// file: only another file does. nil: there is none.
	Final func(error) bool
	// Failed is told of each failure of a listed database; of a found one once for
	// each message until it runs well for a minute. nil: nobody is told.
	Failed func(Failure)
	// Gone is told that a found database is gone, and its replications are over.
	// nil: nobody is told.
	Gone func(path string)
	// Logger is told of what is no failure of a replication; nil discards it.
	Logger *slog.Logger

	// watch begins to watch; nil is the system's watcher.
	watch func() (watcher, error)
}

// Run runs the replications until ctx ends, and then until all of them have ended.
// Without folders it returns when all have ended by themselves. An error is that of
// a folder that could not be read at the start; then nothing was begun.
func Run(ctx context.Context, opts Options) error {
	f, err := newFleet(opts)
	if err != nil {
		return err
	}
	if len(opts.Folders) > 0 {
		defer f.watchAll()()
	}
	return f.run(ctx)
}

// Once scans the folders, runs each replication once, and returns when all have
// ended. Its error is as with Run.
func Once(ctx context.Context, opts Options) error {
	f, err := newFleet(opts)
	if err != nil {
		return err
	}
	f.last = true
	return f.run(ctx)
}

// fleet is a run. All of it belongs to one goroutine.
type fleet struct {
	opts    Options
	log     *slog.Logger
	folders []*folder
	// last tells that nothing that has ended is begun again.
	last bool

	// members are the databases, by absolute path.
	members map[string]*member
	// inUse has the files that replications have open, or are about to open.
	inUse map[identity]*member
	// dismissed has the facts of files that are no databases, by absolute path.
	dismissed map[string]dismissal
	// waiting has the found files that can't be looked at, since another member has
	// the very file open, by absolute path.
	waiting map[string]sighting
	// fresh has the databases that seem to be unfinished, by absolute path.
	fresh map[string]newcomer
	// said has what was logged of a path that is no member.
	said map[string]string
	// look is the number of the look at everything that is under way; scanned tells
	// that the first one is over.
	look    int
	scanned bool

	active int
	ends   chan end
	wg     sync.WaitGroup
	watch  watcher // nil: none
	rescan time.Time
	// failing are those that are due again at some time. soon is when to look for the
	// first of them, and for what is fresh; zero: there is none.
	failing map[*attempts]*member
	soon    time.Time
}

// end tells that a replication has ended.
type end struct {
	m   *member
	r   *attempts
	err error
}

func newFleet(opts Options) (*fleet, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Rescan <= 0 {
		opts.Rescan = DefaultRescan
	}
	if opts.watch == nil {
		opts.watch = watchSystem
	}
	f := &fleet{
		opts: opts, log: opts.Logger, ends: make(chan end),
		members: map[string]*member{}, inUse: map[identity]*member{}, dismissed: map[string]dismissal{},
		waiting: map[string]sighting{}, said: map[string]string{}, failing: map[*attempts]*member{}, fresh: map[string]newcomer{},
	}
	for _, folder := range opts.Folders {
		opened, err := openFolder(folder)
		if err != nil {
			return nil, err
		}
		f.folders = append(f.folders, opened)
	}
	return f, nil
}

// watchAll begins to watch, and gives what ends it.
func (f *fleet) watchAll() (end func()) {
	w, err := f.opts.watch()
	if err != nil {
		f.log.Warn("folders can't be watched: new databases are noticed late", slog.Any("err", err), slog.Duration("after", f.opts.Rescan))
		return func() {}
	}
	f.watch = w
	return func() {
		if err := w.Close(); err != nil {
			f.log.Warn("folders are still watched", slog.Any("err", err))
		}
	}
}

// run is the life of a fleet.
func (f *fleet) run(ctx context.Context) error {
	defer f.wg.Wait()
	for _, db := range f.opts.Databases {
		f.list(ctx, db)
	}
	f.scan(ctx)
	var changes <-chan changes
	if f.watch != nil {
		changes = f.watch.Changes()
	}
	for f.active > 0 || len(f.folders)+len(f.failing) > 0 && !f.last && ctx.Err() == nil {
		timer := time.NewTimer(time.Until(f.next()))
		select {
		case <-ctx.Done():
			f.drain(ctx)
		case e := <-f.ends:
			f.ended(ctx, e)
		case c := <-changes:
			f.changed(ctx, c)
		case <-timer.C:
			f.tick(ctx)
		}
		timer.Stop()
	}
	return nil
}

// drain waits for all that is active, when the run's context has ended.
func (f *fleet) drain(ctx context.Context) {
	f.last = true
	for f.active > 0 {
		f.ended(ctx, <-f.ends)
	}
}

// next is when there is something to do by the clock.
func (f *fleet) next() time.Time {
	if f.last {
		return time.Now().Add(time.Hour)
	}
	if f.soon.IsZero() || f.rescan.Before(f.soon) {
		return f.rescan
	}
	return f.soon
}

// wake has tick called at a time, or before.
func (f *fleet) wake(at time.Time) {
	if f.soon.IsZero() || at.Before(f.soon) {
		f.soon = at
	}
}

// tick does what is due.
func (f *fleet) tick(ctx context.Context) {
	now := time.Now()
	if f.last {
		return
	}
	if !f.soon.IsZero() && !now.Before(f.soon) {
		f.soon = time.Time{}
		f.retryDue(ctx, now)
		for key := range f.fresh {
			f.lookAt(ctx, key)
		}
	}
	if !now.Before(f.rescan) {
		f.scan(ctx)
	}
}

// list begins with a database that is listed.
func (f *fleet) list(ctx context.Context, db Database) {
	m := &member{path: db.Path, retry: db.Retry}
	key, err := absolute(db.Path)
	if err == nil && f.members[key] != nil {
		err = fmt.Errorf("%w: %s is listed twice", ErrTwice, db.Path)
	}
	if err == nil {
		f.members[key], m.key = m, key
	}
	for _, r := range db.Replications {
		r := &attempts{Replication: r}
		m.runs = append(m.runs, r)
		if err != nil {
			f.tell(m, r, err, 0)
			continue
		}
		f.start(ctx, m, r)
	}
}
