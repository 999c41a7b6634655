package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"tidemark/replica"
)

// session is a command that runs while databases are replicated. It is started when
// every one of them is followed, which means that it is pinned and its first copy is
// in storage, and when it has ended, all that it has committed is shipped.
type session struct {
	args   []string
	p      process
	logger *slog.Logger
	cmd    *exec.Cmd

	// over is closed when the command has ended.
	over chan struct{}

	mu sync.Mutex
	// changed is closed, and replaced, at each change of what follows.
	changed chan struct{}
	// stages are those of all jobs that have begun.
	stages map[*job]stage
	// expected are databases of folders of which no job has begun yet: their paths by
	// path and URL.
	expected map[string]string
	// births are databases that are waited for, by path.
	births map[string]*birth
	// moved is when a first copy went on last.
	moved time.Time
}

// stage is how far a job has come.
type stage int

const (
	coming   stage = iota // it does not follow its database yet
	unborn                // its database is not there yet
	followed              // it does
	finished              // it has ended, by itself
)

// errNotBorn says that the command has not made a database.
var errNotBorn = errors.New("the command has ended, and has not made the database")

func newSession(p process, args []string, logger *slog.Logger) (*session, error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return nil, usagef("--exec: %w", err)
	}
	return &session{
		args: args, p: p, logger: logger, over: make(chan struct{}), changed: make(chan struct{}),
		stages: map[*job]stage{}, expected: map[string]string{}, births: map[string]*birth{}, moved: time.Now(),
	}, nil
}

// commandError is the end of a command that did not end well.
type commandError struct {
	name string
	code int
	why  string
}

// Error implements error.
func (e commandError) Error() string { return fmt.Sprintf("%s ended: %s", e.name, e.why) }

// Hint says what tidemark has to do with it.
func (commandError) Hint() string {
	return "everything that it committed before is in the replica, unless the log above says something else"
}

// exitWith implements [coded].
func (e commandError) exitWith() int { return e.code }

// run replicates, runs the command meanwhile, and returns when both are over. Its error
// is the command's, or why it was not started; those of the jobs are with them.
func (s *session) run(ctx context.Context, r *roster) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	outliveReaders()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, j := range r.jobs {
		s.set(j, coming)
	}
	done := make(chan error, 1)
	go func() { done <- r.run(ctx) }()
	var births sync.WaitGroup
	births.Go(func() { s.awaitBirths(ctx) })
	defer births.Wait()
	left := &leaving{session: s, signals: signals, done: done}
	err := s.start(ctx, left)
	if err == nil {
		err = s.attend(signals)
		close(s.over)
		left.settle()
	}
	cancel()
	if errors.Is(err, errNotStarted) {
		s.logger.Error(errNotStarted.Error())
	}
	return cmp.Or(left.wait(), err)
}

// outliveReaders has a write to an output whose reader is gone fail, and no more, from now
// on: by default the system ends the process, and what the command commits after that
// would not be replicated, since nobody reads the log any more. The command has the
// default: a signal that is caught, unlike one that is ignored, is not passed on to it.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// start waits until every database is followed, and starts the command.
func (s *session) start(ctx context.Context, l *leaving) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed, open, failed := s.look()
		switch {
		case failed:
			return errNotStarted
		case !open:
			return s.launch()
		}
		select {
		case <-changed:
		case <-tick.C:
		case err := <-l.done:
			l.ended = true
			return errors.Join(errNotStarted, err)
		case <-l.signals:
			return interruptedError{err: context.Canceled, text: "interrupted before the command was started", hint: "run it again"}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errNotStarted says that there was nothing to run the command for.
var errNotStarted = errors.New("the command was not started")

// look tells whether a job has yet to follow its database, and whether one has failed.
func (s *session) look() (changed <-chan struct{}, open, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, path := range s.expected {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			delete(s.expected, key)
		}
	}
	open = len(s.expected) > 0
	for _, at := range s.stages {
		open = open || at == coming
		failed = failed || at == finished
	}
	return s.changed, open, failed
}

// launch starts the command, with this process's own input and output.
func (s *session) launch() error {
	cmd := exec.Command(s.args[0], s.args[1:]...) //nolint:gosec,noctx // It is what the user wants to run, and it ends by itself.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.p.in, s.p.out, s.p.err
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
	s.logger.Info("started the command", slog.String("command", s.args[0]), slog.Int("pid", cmd.Process.Pid))
	return nil
}

// attend passes signals on to the command until it has ended, and gives its error.
func (s *session) attend(signals <-chan os.Signal) error {
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if err := forward(s.cmd.Process, sig); err != nil {
				s.logger.Warn("a signal could not be passed on to the command", slog.String("signal", sig.String()), slog.Any("err", err))
			}
		case err := <-ended:
			s.logger.Info("the command has ended; shipping what is left", slog.String("state", s.cmd.ProcessState.String()))
			if code := codeOf(s.cmd.ProcessState); code != 0 {
				return commandError{name: s.args[0], code: code, why: s.cmd.ProcessState.String()}
			}
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return fmt.Errorf("run the command: %w", err)
			}
			return nil
		}
	}
}

// running tells whether the command runs.
func (s *session) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
		return false
	default:
		return s.cmd != nil
	}
}

// expect has the command wait for a database that is in a folder.
func (s *session) expect(path, url string) { s.expected[path+"\x00"+url] = path }

// set notes how far a job has come.
func (s *session) set(j *job, at stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.expected, j.db.Path+"\x00"+j.db.URL)
	s.stages[j] = at
	s.moved = time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
}

// progressed notes that there is progress, as with a first copy.
func (s *session) progressed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = time.Now()
}

// around makes a run of a job part of the session.
func (s *session) around(j *job, run func(context.Context) error) func(context.Context) error {
	s.set(j, coming)
	return func(ctx context.Context) error {
		err := s.born(ctx, j)
		if err == nil {
			s.set(j, coming)
			err = run(ctx)
		} else {
			j.err = err
		}
		s.set(j, finished)
		return err
	}
}

// leaving is the end of a session.
type leaving struct {
	session *session
	signals <-chan os.Signal
	done    chan error
	// ended tells that done was read. told counts the signals since the command ended.
	ended bool
	err   error
	told  int
}

// settle waits for those that have yet to follow their database, which may be as young
// as the command that made it: a run that is stopped before would ship nothing. That
// must go on, or it is left.
func (l *leaving) settle() {
	l.session.progressed()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !l.ended {
		changed, open := l.session.unsettled()
		if !open {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case l.err = <-l.done:
			l.ended = true
		case <-l.signals:
			l.signalled()
		}
	}
}

// unsettled tells whether there is somebody to wait for.
func (s *session) unsettled() (changed <-chan struct{}, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.moved) > replica.DefaultStopPatience {
		return s.changed, false
	}
	for _, at := range s.stages {
		open = open || at == coming || at == unborn
	}
	return s.changed, open
}

// wait waits for the replication's end.
func (l *leaving) wait() error {
	for !l.ended {
		select {
		case l.err = <-l.done:
			l.ended = true
		case <-l.signals:
			l.signalled()
		}
	}
	return l.err
}

// signalled is told of a signal when the command has ended: one may be what has ended
// it, as a terminal's that goes to both.
func (l *leaving) signalled() {
	l.told++
	if l.told == 1 {
		l.session.logger.Info("shipping what is left; press Ctrl-C again to stop at once")
		return
	}
	l.session.logger.Warn("stopped at once; what was not uploaded waits in the state directory")
	l.session.p.abort(exitFailed)
}
