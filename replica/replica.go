package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"tidemark/replica/archive"
	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/replica/retain"
	"tidemark/replica/source"
	"tidemark/replica/upkeep"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Errors that callers branch on, beside those of package storage.
var (
	// ErrNotDatabase says that the file is no SQLite database, or an encrypted
	// one.
	ErrNotDatabase = source.ErrNotDatabase
	// ErrRefused says that the database can't be followed, or not into this
	// replica.
	ErrRefused = source.ErrRefused
	// ErrDamaged says that the database file does not hold all of it.
	ErrDamaged = source.ErrDamaged
	// ErrReplaced says that the database file was replaced or deleted while it
	// was being followed.
	ErrReplaced = source.ErrReplaced
	// ErrUnfinished says that a new replica was not begun to its end.
	ErrUnfinished = errors.New("stopped before the first snapshot was complete: nothing can be restored yet")
	// ErrLocked says that another tidemark follows the database.
	ErrLocked = local.ErrLocked
	// ErrFenced says that another writer has advanced the replica.
	ErrFenced = archive.ErrFenced
	// ErrUnfenceable says that the storage ignores conditional writes.
	ErrUnfenceable = archive.ErrUnfenceable
	// ErrOverwritten says that something else than SQLite has written to the
	// database file while it was being followed.
	ErrOverwritten = errors.New("the database file was overwritten while it was being followed")
)

// The defaults of Options.
const (
	DefaultSyncInterval    = time.Second
	DefaultCheckpointPages = 1000
	DefaultSpoolLimit      = 1 << 30
	// DefaultStopPatience bounds the wait; what is not uploaded then stays in
	// the spool, and goes first at the next start.
	DefaultStopPatience = 30 * time.Second
)

// The pauses between attempts, of uploads and of all else, grow from the one to
// the other, with jitter.
const (
	defaultRetryAfter = 250 * time.Millisecond
	maxRetryAfter     = 30 * time.Second
)

// SnapshotKind is which snapshot is asked for.
type SnapshotKind int

// The kinds: none, one that adds to an earlier one where that is possible, and one
// of all pages.
const (
	NoSnapshot SnapshotKind = iota
	AnySnapshot
	FullSnapshot
)

// Options say what to replicate, where to, and how.
type Options struct {
	// Path is the database file. It must exist.
	Path string
	// Bucket is where the replica lives.
	Bucket storage.Bucket
	// Name is the replica's URL, for messages.
	Name string
	// StateDir is the directory for local state; empty is one beside the
	// database, local.DefaultPath.
	StateDir string
	// Replica names this one of several replicas of the database, whose local state
	// is in StateDir/replicas/Replica; empty: it is in StateDir itself. Replications
	// of one database in one process must share their Process: they share its
	// connections and its pin, and have all else for themselves.
	Replica string
	// Replicas is how many there are, if there are several. Each waits a little for
	// all to begin before it changes anything by which another could see that it has
	// missed nothing.
	Replicas int
	// SyncInterval is the time between uploads while there are commits; 0
	// uploads each commit at once.
	SyncInterval time.Duration
	// SnapshotInterval is the time from one snapshot to the next while there are
	// commits; 0 makes none but the first.
	SnapshotInterval time.Duration
	// Snapshot asks Once for a snapshot although none is due.
	Snapshot SnapshotKind
	// CheckpointPages is the WAL's length, in frames, at which it is handed
	// off. Less than 1 is the default.
	CheckpointPages int
	// KeepJournalMode refuses a database that is not in WAL mode. Without it
	// such a database is switched.
	KeepJournalMode bool
	// Takeover continues a replica although nothing proves that this database
	// descends from it: the difference is shipped as one commit.
	Takeover bool
	// AllowNetworkFS follows a database on a network file system, where
	// SQLite's locks can't be relied on.
	AllowNetworkFS bool
	// Unfenced goes on although the storage ignores conditional writes, without
	// which of two writers on one replica neither notices the other for sure.
	Unfenced bool
	// SpoolLimit bounds, in bytes, what waits on disk to be uploaded. Less than
	// 1 is the default.
	SpoolLimit int64
	// NoPacks leaves small segments as they are, instead of joining them into
	// packs.
	NoPacks bool
	// CacheSize bounds the local copies of segments that packs are made of, in
	// bytes. 0 is the default, and less than that keeps none.
	CacheSize int64
	// Retain deletes what Retention does not keep.
	Retain    bool
	Retention retain.Policy
	// packing is how segments are joined.
	packing upkeep.Packing
	// StopPatience is how long a stop waits for storage; 0 is the default.
	StopPatience time.Duration
	// fs is where local state and the WAL are; nil is the operating system's.
	fs disk.FS
	// retryAfter is the pause after a first failure; 0 is the default.
	retryAfter time.Duration
	// parkAfter is how long nothing is committed before a database is parked; 0 is
	// the default. parked, if not nil, is called when it is.
	parkAfter time.Duration
	parked    func()
	// Writer names this process in what it writes, for those who find it there;
	// empty is the host's name and the process's id.
	Writer string
	// Now is the clock that commit times are read from; nil is the system's.
	Now func() time.Time
	// Process is what it shares with others; nil: nothing.
	Process *Process
	// Logger is told what happens; nil discards it.
	Logger *slog.Logger
	// Progress, if not nil, is told how much of the database the first
	// snapshot has read. It is called from several goroutines.
	Progress func(done, total int64)
	// Ready, if not nil, is called once, when the database is pinned and its
	// first snapshot is in the bucket.
	Ready func()
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CheckpointPages < 1 {
		o.CheckpointPages = DefaultCheckpointPages
	}
	if o.SpoolLimit < 1 {
		o.SpoolLimit = DefaultSpoolLimit
	}
	if o.CacheSize == 0 {
		o.CacheSize = upkeep.DefaultCacheSize
	}
	if o.StopPatience == 0 {
		o.StopPatience = DefaultStopPatience
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Name == "" {
		o.Name = "replica"
	}
	if o.retryAfter == 0 {
		o.retryAfter = defaultRetryAfter
	}
	if o.parkAfter == 0 {
		o.parkAfter = defaultParkAfter
	}
	if o.fs == nil {
		o.fs = disk.OS{}
	}
	if o.Writer == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		o.Writer = fmt.Sprintf("%s, process %d", host, os.Getpid())
	}
	o.Logger = o.Logger.With(slog.String("db", o.Path), slog.String("replica", o.Name))
	return o
}

// Report is what a run has shipped.
type Report struct {
	// TXID is the newest commit in the archive.
	TXID state.TXID
	// Commits is the number of commits that this run has shipped, the state
	// that a new replica begins with included.
	Commits uint64
	// UploadedBytes is what that took, with snapshots and packs.
	UploadedBytes int64
}

// Run follows a database until ctx ends. Then it ships everything that was
// committed until then, ends the pin, and returns nil. An error says why it
// stopped by itself. What may pass, such as storage that does not answer or a
// full disk, does not stop it once it has begun to follow: it is logged, and
// tried again.
func Run(ctx context.Context, opts Options) (Report, error) {
	return run(ctx, opts, false)
}

// Once ships everything that is committed now, and returns.
func Once(ctx context.Context, opts Options) (Report, error) {
	return run(ctx, opts, true)
}

func run(ctx context.Context, opts Options, once bool) (rep Report, err error) {
	opts = opts.withDefaults()
	if opts.Process == nil {
		opts.Process = NewProcess()
		defer func() { err = errors.Join(err, opts.Process.Close()) }()
	}
	// Those that are to follow the database wait for each other from here on.
	db, place, leave := opts.Process.database(opts.Path, opts.Replicas)
	defer leave()
	measured := opts.Process.meters.enter(ctx, opts)
	defer func() { measured(err) }()
	end, err := opts.Process.begin(ctx)
	if err != nil {
		return Report{}, err
	}
	defer end()
	r, err := open(ctx, opts, db, place, once)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, r.close(ctx, err)) }()
	r.started = end
	err = r.run(ctx)
	return r.report.get(), err
}
