// Package demo tells the story of two lost sessions on real machinery. A
// trading desk's recorder died with its last two sessions, S49 and S50, only
// in a write-ahead log, the log was damaged, and the backup was older. The
// demo does all of that to a database of its own while tidemark follows it,
// and then restores every session.
//
// [Run] is the story. Two of its parts run in processes of their own, started
// from the same binary with [Help]: the recorder, since it is killed, and the
// copying of the live database's files, since opening and closing them in the
// process that holds tidemark's pin would drop the pin's locks.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// ErrNotEmpty says that the demo was told to work in a folder that holds
// something.
var ErrNotEmpty = errors.New("the folder is not empty")

// QuietLevel is the level of log lines at which the story stays readable.
const QuietLevel = slog.LevelWarn

// How the story goes.
const (
	sessions = 50
	lost     = 2                     // the last sessions, which the damage takes
	pause    = 25 * time.Millisecond // between two sessions
	limit    = time.Minute           // for everything, so that a demo never hangs
)

// Options are the choices of [Run].
type Options struct {
	// Dir is the folder to work in, absent or empty; "" makes a temporary one.
	Dir string
	// Keep keeps what was made.
	Keep bool
	// Out is told the story.
	Out io.Writer
	// Logger gets the engine's log.
	Logger *slog.Logger
	// OpenFolder opens a bucket in a folder and makes it if need be.
	OpenFolder func(ctx context.Context, dir string) (storage.Bucket, error)
	// Helper prepares a process in which [Help] runs with the arguments.
	Helper func(ctx context.Context, args ...string) (*exec.Cmd, error)
}

// Run tells the story. Its error says what did not hold; the folder is kept
// then.
func Run(ctx context.Context, opts Options) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &story{opts: opts, digests: map[string]string{}}
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.tell(ctx); err != nil {
		return fmt.Errorf("%w (everything is kept in %s)", err, s.dir)
	}
	return s.end()
}

// story is one run of the demo.
type story struct {
	opts    Options
	dir     string
	madeDir bool
	steps   int

	bucket  storage.Bucket
	base    state.TXID        // the replica's last commit before S1
	digests map[string]string // what the recorder acknowledged, by session
	said    error             // the first error of writing to Out
}

// say tells one step.
func (s *story) say(format string, args ...any) {
	s.steps++
	s.line(fmt.Sprintf("%2d. ", s.steps)+format, args...)
}

// line tells what belongs to the step before.
func (s *story) line(format string, args ...any) {
	if _, err := fmt.Fprintf(s.opts.Out, format+"\n", args...); err != nil && s.said == nil {
		s.said = fmt.Errorf("tell the story: %w", err)
	}
}

func (s *story) path(name string) string { return filepath.Join(s.dir, name) }

func (s *story) makeDir() error {
	if s.opts.Dir == "" {
		dir, err := os.MkdirTemp("", "tidemark-demo-")
		if err != nil {
			return fmt.Errorf("make a temporary folder: %w", err)
		}
		s.dir, s.madeDir = dir, true
		return nil
	}
	dir, err := filepath.Abs(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", s.opts.Dir, err)
	}
	found, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		s.madeDir = true
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the folder: %w", err)
		}
	case err != nil:
		return fmt.Errorf("look into the folder: %w", err)
	case len(found) > 0:
		return fmt.Errorf("%s: %w: give one that is empty or does not exist", s.opts.Dir, ErrNotEmpty)
	}
	s.dir = dir
	return nil
}

// end removes what was made.
func (s *story) end() error {
	if s.opts.Keep {
		s.line("Everything is kept in %s", s.dir)
		return s.said
	}
	names, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	for _, n := range names {
		if err := os.RemoveAll(s.path(n.Name())); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	if s.madeDir {
		if err := os.Remove(s.dir); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return s.said
}

func (s *story) tell(ctx context.Context) error {
	var err error
	if s.bucket, err = s.opts.OpenFolder(ctx, s.path("replica")); err != nil {
		return err
	}
	if err := s.crash(ctx); err != nil {
		return err
	}
	if err := s.damage(ctx); err != nil {
		return err
	}
	if err := s.restoreAll(ctx); err != nil {
		return err
	}
	if err := s.restoreBefore(ctx); err != nil {
		return err
	}
	s.line("Proven: %d sessions were acknowledged, SQLite lost %d of them, tidemark lost none.", sessions, lost)
	return s.said
}

// crash lets the recorder work while tidemark follows it, kills it, and takes
// a copy of the database and its WAL as the crash left them.
func (s *story) crash(ctx context.Context) error {
	rec, err := s.startRecorder(ctx)
	if err != nil {
		return err
	}
	defer rec.kill()
	s.say("A recorder, process %d, made %s in WAL mode.", rec.pid(), databaseName)

	f, err := s.follow(ctx)
	if err != nil {
		return err
	}
	defer func() { _, _ = f.stop() }() // after the stop below it does nothing
	s.say("tidemark follows it and ships every commit to the folder replica.")

	if err := s.record(ctx, rec); err != nil {
		return err
	}
	s.say("The recorder committed and acknowledged S1 to S%d, each in a transaction of its own.", sessions)

	if err := rec.ask("open", session(sessions+1)); err != nil {
		return err
	}
	rec.kill()
	s.say("It was killed (SIGKILL) in the middle of S%d.", sessions+1)

	if err := s.copyDatabase(ctx, "crash"); err != nil {
		return err
	}
	report, err := f.stop()
	if err != nil {
		return fmt.Errorf("stop replicating: %w", err)
	}
	if want := s.base + sessions; report.TXID != want {
		return fmt.Errorf("the replica ends with TXID %s, and %d sessions after TXID %s should give %s", report.TXID, sessions, s.base, want)
	}
	s.say("tidemark stopped cleanly at TXID %s: %s for the tables, %d for the sessions, none for S%d.", report.TXID, s.base, sessions, sessions+1)
	return nil
}

// record has all sessions written. Before the last ones it waits until what
// came before has been shipped, so that a moment lies between them in the log.
func (s *story) record(ctx context.Context, rec *recorder) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 1; n <= sessions; n++ {
		name := session(n)
		digest, err := rec.write(name)
		if err != nil {
			return err
		}
		s.digests[name] = digest
		if n == sessions-lost {
			if err := s.awaitShipped(ctx, s.base+state.TXID(n)); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// awaitShipped waits until the replica holds a commit.
func (s *story) awaitShipped(ctx context.Context, want state.TXID) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		r, err := s.shipped(ctx)
		if err != nil {
			return err
		}
		if r.LastTXID >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for TXID %s to be shipped, the replica has %s: %w", want, r.LastTXID, ctx.Err())
		}
	}
}

func (s *story) shipped(ctx context.Context) (archive.Range, error) {
	a, err := archive.Open(ctx, s.bucket)
	if err != nil {
		return archive.Range{}, fmt.Errorf("open the replica: %w", err)
	}
	return a.Range(ctx)
}

// restoreAll restores the latest commit and compares it with everything that
// the recorder acknowledged.
func (s *story) restoreAll(ctx context.Context) error {
	res, err := s.restore(ctx, "restored.db", restore.Target{})
	if err != nil {
		return err
	}
	s.say("tidemark restore -o restored.db: TXID %s, state checksum %s, integrity_check %s.", res.TXID, res.Checksum, res.Integrity)
	if err := s.compare(ctx, "restored.db", sessions); err != nil {
		return err
	}
	s.line("    All %d sessions are there, S%d and S%d too, with the contents that were acknowledged.", sessions, sessions-1, sessions)
	return nil
}

// restoreBefore restores the moment at which the last session was committed
// that the damage spared.
func (s *story) restoreBefore(ctx context.Context) error {
	const last = sessions - lost
	commit, err := s.commit(ctx, s.base+last)
	if err != nil {
		return err
	}
	moment := commit.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	res, err := s.restore(ctx, "before.db", restore.Target{Time: commit.Time})
	if err != nil {
		return err
	}
	s.say("tidemark restore -o before.db --timestamp %s: TXID %s, integrity_check %s.", moment, res.TXID, res.Integrity)
	if err := s.compare(ctx, "before.db", last); err != nil {
		return err
	}
	s.line("    S%d is the last session, as it was a moment before S%d.", last, last+1)
	return nil
}

func (s *story) restore(ctx context.Context, name string, target restore.Target) (restore.Result, error) {
	res, err := restore.Run(ctx, restore.Options{
		Bucket: s.bucket, Output: s.path(name), Target: target, Integrity: restore.Full, Logger: s.opts.Logger,
	})
	if err != nil {
		return res, fmt.Errorf("restore %s: %w", name, err)
	}
	return res, nil
}

// errFound ends a listing that has what it looked for.
var errFound = errors.New("found")

// commit finds a commit in the replica's log.
func (s *story) commit(ctx context.Context, id state.TXID) (archive.Commit, error) {
	var found archive.Commit
	a, err := archive.Open(ctx, s.bucket)
	if err != nil {
		return found, fmt.Errorf("open the replica: %w", err)
	}
	err = a.Commits(ctx, archive.Query{}, func(c archive.Commit) error {
		if c.TXID != id {
			return nil
		}
		found = c
		return errFound
	})
	if errors.Is(err, errFound) {
		return found, nil
	}
	return found, errors.Join(fmt.Errorf("TXID %s is not in the replica's log", id), err)
}

// follower is tidemark at work, on a goroutine of its own.
type follower struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed at the end; report and err are set then
	report replica.Report
	err    error
}

// follow starts tidemark on the recorder's database and returns when it holds
// its pin and has shipped what was there.
func (s *story) follow(ctx context.Context) (*follower, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{cancel: cancel, ended: make(chan struct{})}
	ready := make(chan struct{})
	opts := replica.Options{
		Path: s.path(databaseName), Bucket: s.bucket, Name: "replica", SyncInterval: pause,
		// The story needs the sessions in the WAL: nothing may move them out.
		CheckpointPages: 1 << 20,
		Logger:          s.opts.Logger, Ready: func() { close(ready) },
	}
	go func() { // owned by the follower: stop waits for it
		defer close(f.ended)
		f.report, f.err = replica.Run(ctx, opts)
	}()
	select {
	case <-ready:
	case <-f.ended:
		return nil, fmt.Errorf("start replicating: %w", errors.Join(f.err, ctx.Err()))
	}
	r, err := s.shipped(ctx)
	if err != nil {
		_, stopErr := f.stop()
		return nil, errors.Join(err, stopErr)
	}
	s.base = r.LastTXID
	return f, nil
}

// stop ends the following cleanly and waits for it. It can be called again.
func (f *follower) stop() (replica.Report, error) {
	f.cancel()
	<-f.ended
	return f.report, f.err
}
