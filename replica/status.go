package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tidemark/replica/local"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
)

// StatusState says in one word how a replication stands.
type StatusState string

// The states. The first four are of a replication that runs, the next four of
// one that is over.
const (
	// StatusStarting is a run that does not follow the database yet: it asks
	// storage, writes the first snapshot, or compares pages.
	StatusStarting StatusState = "starting"
	// StatusFollowing is a run that reads each commit and ships it.
	StatusFollowing StatusState = "following"
	// StatusRetrying is a run in which something fails that may pass.
	StatusRetrying StatusState = "retrying"
	// StatusOverflowed is a run that has given up commits of the spool one by
	// one. It lasts until what they did is in storage, as one commit.
	StatusOverflowed StatusState = "overflowed"
	// StatusStopped is a run that has ended since it was told to, or since all
	// was done.
	StatusStopped StatusState = "stopped"
	// StatusFailed is a run that an error has ended.
	StatusFailed StatusState = "failed"
	// StatusKilled is a run whose process has ended without a word.
	StatusKilled StatusState = "killed"
	// StatusNone says that nothing has been replicated from here.
	StatusNone StatusState = "none"
	// StatusUnknown says that no status was left that can be read. A
	// replication may run.
	StatusUnknown StatusState = "unknown"
)

// StatusCommit is a commit that a status names. TXID 0 is none.
type StatusCommit struct {
	TXID state.TXID `json:"txid"`
	// Time is the commit's, zero if it is not known.
	Time time.Time `json:"time,omitzero"`
}

// Overflow is about commits of a full spool that were given up one by one.
type Overflow struct {
	// First and Last are their TXIDs, which others get instead. There are none
	// if First is greater.
	First state.TXID `json:"first"`
	Last  state.TXID `json:"last"`
	// Since is when they were given up, Oldest the time of the oldest one.
	Since  time.Time `json:"since"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Repair is the commit that stands for them, 0 until there is one. It may
	// be yet to be uploaded.
	Repair state.TXID `json:"repair,omitempty"`
}

// Commits is how many commits were given up.
func (o Overflow) Commits() uint64 {
	if o.First > o.Last {
		return 0
	}
	return uint64(o.Last-o.First) + 1
}

// Repair is a resync: a commit that stands for changes that could not be followed
// one by one.
type Repair struct {
	StatusCommit
	// Pages is how many pages differed.
	Pages int `json:"pages"`
	// Why says what kept continuity from being proven.
	Why string `json:"why"`
	// Replaced is how many commits of the spool it stands for. Others that
	// nobody has read can't be counted.
	Replaced uint64 `json:"replaced,omitempty"`
}

// Blocked is about a WAL that grows since it can't be checkpointed to its end.
type Blocked struct {
	// Time is when this was found last.
	Time time.Time `json:"time"`
	// Frames and Bytes are the WAL's length then.
	Frames uint32 `json:"frames"`
	Bytes  int64  `json:"bytes"`
	// Why says what kept the checkpoint from its end.
	Why string `json:"why"`
	// Readers are the processes that may be the reason, as far as the system
	// tells.
	Readers []source.Reader `json:"readers,omitempty"`
}

// FileFacts is what the system tells about a file. The zero value is a file that
// is not there.
type FileFacts struct {
	Bytes    int64
	Modified time.Time
}

// StatusSnapshot is what came of making a snapshot.
type StatusSnapshot struct {
	// StatusCommit is the commit that it is of, Base the commit of the snapshot
	// that it adds to, 0 for a full one.
	StatusCommit
	Base state.TXID `json:"base"`
	// Pages is how many pages it holds, Bytes its size in storage.
	Pages int   `json:"pages"`
	Bytes int64 `json:"bytes"`
	// Ended is when it was done, or given up for Error.
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"`
}

// Status is how the replication of a database stands, or has ended. Its times are
// UTC, in milliseconds; a zero time, and an empty pointer, is none. All that the
// replicator tells is as of Updated, which can be one or two seconds ago while
// much changes; Running, Database and WAL are as of now.
type Status struct {
	// Path is the database file, without symbolic links, and StateDir the
	// directory with its local state.
	Path     string `json:"-"`
	StateDir string `json:"-"`
	// Running tells that a process holds the state directory's lock.
	Running bool `json:"-"`
	// Database and WAL are what the system tells about the two files.
	Database FileFacts `json:"-"`
	WAL      FileFacts `json:"-"`

	// State is how it stands, Since when it came to be so.
	State StatusState `json:"state"`
	Since time.Time   `json:"since,omitzero"`
	// PID is the replicator's process, as it knows itself: in a container that
	// is another number than outside.
	PID int `json:"pid"`
	// Replica is the name that Options had, Started the time at which the run
	// began.
	Replica string    `json:"replica,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
	// Error is what fails, or what the run ended with.
	Error string `json:"error,omitempty"`

	// Read is the newest commit that was read, Shipped the newest that is in
	// storage. Uploaded is when it was uploaded, zero if that is not known.
	Read     StatusCommit `json:"read,omitzero"`
	Shipped  StatusCommit `json:"shipped,omitzero"`
	Uploaded time.Time    `json:"uploaded,omitzero"`
	// WaitingCommits is how many commits wait for their upload, in WaitingBytes
	// of the spool. OldestWaiting is the time of the oldest one.
	WaitingCommits uint64    `json:"waiting_commits"`
	WaitingBytes   int64     `json:"waiting_bytes"`
	OldestWaiting  time.Time `json:"oldest_waiting,omitzero"`
	// UnreadSince is since when commits can have been made that were not read:
	// at a start, after a failure, and while pages are compared.
	UnreadSince time.Time `json:"unread_since,omitzero"`

	// Snapshot is what came of the last attempt at a snapshot in this run.
	Snapshot *StatusSnapshot `json:"snapshot,omitempty"`
	// LastSnapshot is the commit of the newest snapshot that was written from here,
	// also by an earlier run.
	LastSnapshot StatusCommit `json:"last_snapshot,omitzero"`

	// Overflow is there in StatusOverflowed, and after a run that ended in it.
	Overflow *Overflow `json:"overflow,omitempty"`
	// Repair is the last one that is known, Repairs how many there were in
	// this run.
	Repair  *Repair `json:"repair,omitempty"`
	Repairs int     `json:"repairs"`
	// Blocked is there while the WAL can't be checkpointed and has grown far
	// beyond its length.
	Blocked *Blocked `json:"blocked,omitempty"`
}

// Lag tells how far the replica may be behind the database at a time: the age of
// the oldest commit that was read and is not in storage, or the time for which
// commits may have been missed that nobody has read yet, whichever is longer. It
// is not known (ok is false) if nobody replicates, or says how far it is. What a
// replicator that hangs does not read, it does not tell.
func (s Status) Lag(now time.Time) (lag time.Duration, ok bool) {
	if !s.Running || s.State == StatusUnknown {
		return 0, false
	}
	oldest := earliest(s.OldestWaiting, s.UnreadSince)
	if s.Overflow != nil {
		oldest = earliest(oldest, s.Overflow.Oldest)
	}
	if oldest.IsZero() {
		return 0, true
	}
	return max(0, now.Sub(oldest)), true
}

// readPatience is how long a WAL may hold something that nobody has read before
// that is told: a commit is read sooner.
const readPatience = 5 * time.Second

// Unseen tells when the database was written to after the replicator told of
// itself last, as the files' times show: by commits that are not shipped, maybe.
// While it runs that is told of the WAL only, and not at once; then it holds a
// transaction that was not committed, or the replicator hangs. The zero time is
// never.
func (s Status) Unseen(now time.Time) time.Time {
	const exact = time.Millisecond // of Updated
	newest := s.WAL.Modified
	if !s.Running && s.Database.Modified.After(newest) {
		newest = s.Database.Modified
	}
	if s.Updated.IsZero() || !newest.After(s.Updated.Add(exact)) || s.Running && now.Sub(newest) < readPatience {
		return time.Time{}
	}
	return newest
}

// earliest gives the earlier of two times of which each may be none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// statusFormat is the version of the stored form.
const statusFormat = 1

// statusFile is the stored form. It has the database's path to tell what belongs
// to another one.
type statusFile struct {
	Format int    `json:"format"`
	Path   string `json:"path"`
	Status
}

// decodeStatus reads the stored form. It is local.ErrLost if it is none, of
// another version, or about another database.
func decodeStatus(b []byte, path string) (Status, error) {
	var f statusFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Status{}, fmt.Errorf("%w: status.json: %w", local.ErrLost, err)
	}
	if f.Format != statusFormat || f.Path != path {
		return Status{}, fmt.Errorf("%w: status.json is of another version or database", local.ErrLost)
	}
	return f.Status, nil
}

// ReadStatus tells how the replication of the database at path stands, whose
// state directory is stateDir, or local.DefaultPath if that is empty. It opens
// neither the database nor any file beside it, asks no storage, and disturbs no
// replicator. It needs the right to read the state directory.
func ReadStatus(path, stateDir string) (Status, error) {
	resolved, missing := filepath.EvalSymlinks(path)
	if missing != nil { // it may be gone, and what was told about it be here
		resolved = path
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			resolved = filepath.Join(dir, filepath.Base(path))
		}
	}
	resolved, err := filepath.Abs(resolved)
	if err != nil {
		return Status{}, fmt.Errorf("find database: %w", err)
	}
	if stateDir == "" {
		stateDir = local.DefaultPath(resolved)
	}
	s := Status{State: StatusNone}
	_, err = os.Stat(stateDir)
	switch {
	case err == nil:
		s, err = lookInto(stateDir, resolved)
	case errors.Is(err, fs.ErrNotExist):
		err = missing
	}
	if err != nil {
		return Status{}, fmt.Errorf("read status: %w", err)
	}
	s.Path, s.StateDir = resolved, stateDir
	s.Database, s.WAL = factsOf(resolved), factsOf(resolved+"-wal")
	return s, nil
}

// How often a state directory is looked into again, and after what pause, when
// what is seen there belongs to two runs.
const (
	maxLooks  = 10
	lookAgain = 2 * time.Millisecond
)

// lookInto reads what was told about the database at path, and finds out whether
// the one who told it is still there. The lock is looked at before and after: else
// a run that begins or ends in between would be taken for one that was killed. A
// run that has the lock while it is told that it has ended is about to give it up,
// or is the next one, which has yet to tell.
func lookInto(dir, path string) (Status, error) {
	for n := 1; ; n++ {
		before, err := local.Held(dir)
		if err != nil {
			return Status{}, err
		}
		s, lost := told(dir, path)
		held, err := local.Held(dir)
		if err != nil {
			return Status{}, err
		}
		over := s.State == StatusStopped || s.State == StatusFailed
		switch ofTwo := held != before || held && over; {
		case ofTwo && n < maxLooks:
			<-time.After(lookAgain)
			continue
		case ofTwo || lost != nil:
			s = Status{State: StatusUnknown}
		case !held && !over:
			s.State, s.Since = StatusKilled, time.Time{} // after Updated; nobody knows when
		}
		s.Running = held
		return s, nil
	}
}

// told reads what a run has told last.
func told(dir, path string) (Status, error) {
	b, err := local.LoadStatus(dir)
	if err != nil {
		return Status{}, err
	}
	return decodeStatus(b, path)
}

// factsOf asks for a file's facts without opening it.
func factsOf(path string) FileFacts {
	info, err := os.Stat(path)
	if err != nil {
		return FileFacts{}
	}
	return FileFacts{Bytes: info.Size(), Modified: info.ModTime().UTC()}
}
