package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tidemark/replica/source"
)

// The pauses before a replication that has failed is tried again grow from the one to
// the other, with jitter.
const (
	minPause = time.Second
	maxPause = time.Minute
)

// manyMessages bounds what is remembered of what was told: some messages are never the
// same twice.
const manyMessages = 20

// wellAfter is how long a replication runs before its next failure counts as the
// first one.
const wellAfter = maxPause

// member is a database of the fleet.
type member struct {
	path, key string // as its user writes it, and absolute
	runs      []*attempts
	// folder is where it was found, nil if it is listed; rel is its path there.
	folder *folder
	rel    string
	// retry is a listed database's.
	retry func(error) bool
	// file is what was found. look is the last look at everything that has met it.
	file identity
	look int

	// active is how many of its replications run. While there are any, files are
	// what its path has led to, and held are descriptors that were opened by
	// mistake: to close them would end locks.
	active int
	files  []identity
	held   []*os.File
}

// attempts are those of one replication.
type attempts struct {
	Replication
	active       bool
	began, ended time.Time
	// again is when it is due after a failure, zero: it is not. final tells that it
	// never is, for this file. facts are what the file looked like at the failure.
	again  time.Time
	final  bool
	facts  facts
	policy *backoff.ExponentialBackOff // nil before the first failure
	said   map[string]bool
}

// start starts a replication, unless its file is in use.
func (f *fleet) start(ctx context.Context, m *member, r *attempts) {
	r.began, r.again = time.Now(), time.Time{}
	if info, err := os.Stat(m.path); err == nil {
		if other := f.user(identify(info)); other != nil && other != m {
			f.failed(m, r, fmt.Errorf("%w, as %s: %s is another name of it", ErrTwice, other.path, m.path))
			return
		}
		f.use(m, info)
	}
	r.active = true
	m.active++
	f.active++
	f.wg.Go(func() { f.ends <- end{m, r, r.Run(ctx)} })
}

// user gives who has a file open, nil if nobody has.
func (f *fleet) user(id identity) *member {
	if id == (identity{}) {
		return nil
	}
	return f.inUse[id]
}

// use notes that a replication may have a file open.
func (f *fleet) use(m *member, info fs.FileInfo) {
	id := identify(info)
	if id == (identity{}) || f.inUse[id] != nil {
		return
	}
	f.inUse[id] = m
	m.files = append(m.files, id)
}

// over notes that a replication has ended.
func (f *fleet) over(e end) {
	e.r.active, e.r.ended = false, time.Now()
	f.active--
	if e.m.active--; e.m.active > 0 {
		return
	}
	for _, id := range e.m.files {
		delete(f.inUse, id)
	}
	for _, file := range e.m.held {
		_ = file.Close() // only read from
	}
	e.m.files, e.m.held = nil, nil
}

// ended decides what is next after a replication.
func (f *fleet) ended(ctx context.Context, e end) {
	f.over(e)
	m := e.m
	moved := m.moved()
	noticed := moved && (errors.Is(e.err, source.ErrReplaced) || errors.Is(e.err, fs.ErrNotExist))
	if e.err != nil && !noticed {
		f.failed(m, e.r, e.err)
	}
	if moved && m.active == 0 {
		f.forget(ctx, m)
	}
	if m.active == 0 {
		f.lookAgain(ctx)
	}
}

// failed has a replication tried again, of a listed database if that says so, and
// tells of the failure.
func (f *fleet) failed(m *member, r *attempts, err error) {
	if f.last || m.folder == nil && (m.retry == nil || !m.retry(err)) {
		f.tell(m, r, err, 0)
		return
	}
	if r.policy == nil {
		r.policy = backoff.NewExponentialBackOff()
		r.policy.InitialInterval, r.policy.MaxInterval = minPause, maxPause
		r.policy.Reset()
	}
	if time.Since(r.began) >= wellAfter {
		r.policy.Reset()
		r.said = nil
	}
	if info, err := os.Lstat(m.key); err == nil {
		r.facts = factsOf(info)
	}
	if r.final = f.opts.Final != nil && f.opts.Final(err); r.final {
		f.tell(m, r, err, 0)
		return
	}
	pause := r.policy.NextBackOff()
	f.schedule(m, r, time.Now().Add(pause))
	f.tell(m, r, err, pause)
}

// tell tells of a failure, once for each message.
func (f *fleet) tell(m *member, r *attempts, err error, again time.Duration) {
	if f.opts.Failed == nil || r.said[err.Error()] {
		return
	}
	if len(r.said) >= manyMessages || r.said == nil {
		r.said = map[string]bool{}
	}
	r.said[err.Error()] = true
	f.opts.Failed(Failure{
		Path: m.path, Replication: r.Name, Err: err, Again: again,
		Closed: m.active == 0 && !errors.Is(err, ErrTwice),
	})
}

// schedule has a replication tried again at a time.
func (f *fleet) schedule(m *member, r *attempts, at time.Time) {
	r.again = at
	f.failing[r] = m
	f.wake(at)
}

// retryDue tries what is due.
func (f *fleet) retryDue(ctx context.Context, now time.Time) {
	due := map[*attempts]*member{}
	for r, m := range f.failing {
		if r.again.After(now) {
			f.schedule(m, r, r.again)
			continue
		}
		due[r] = m
		delete(f.failing, r)
	}
	for r, m := range due {
		switch {
		case f.members[m.key] != m: // forgotten, with one of its others
		case !m.moved():
			f.start(ctx, m, r)
		case m.active > 0: // the others have yet to notice
			f.schedule(m, r, now.Add(minPause))
		default:
			f.forget(ctx, m)
		}
	}
}

// moved tells whether the path of a found database leads to another file, or to
// none.
func (m *member) moved() bool {
	if m.folder == nil {
		return false
	}
	info, err := os.Lstat(m.key)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !info.Mode().IsRegular() || identify(info) != m.file
}

// forget forgets a found database that is gone, and begins with what is in its place.
func (f *fleet) forget(ctx context.Context, m *member) {
	delete(f.members, m.key)
	for _, r := range m.runs {
		delete(f.failing, r)
	}
	f.log.Info("the database is gone", slog.String("db", m.path))
	if f.opts.Gone != nil {
		f.opts.Gone(m.path)
	}
	if !f.last {
		f.lookAt(ctx, m.key)
	}
}

// revisit looks at a database that is known.
func (f *fleet) revisit(ctx context.Context, m *member, info fs.FileInfo) {
	m.look = f.look
	if m.active > 0 {
		f.use(m, info)
	}
	if m.folder == nil {
		return
	}
	now := factsOf(info)
	if m.active == 0 && now.file != m.file {
		f.forget(ctx, m)
		return
	}
	for _, r := range m.runs {
		if r.active || r.final || r.again.IsZero() || r.facts == now {
			continue
		}
		r.facts = now
		if soon := r.ended.Add(minPause); soon.Before(r.again) {
			f.schedule(m, r, soon)
		}
	}
}
