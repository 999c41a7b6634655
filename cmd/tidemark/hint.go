package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/check"
	"tidemark/replica/restore"
	"tidemark/replica/source"
	"tidemark/replica/verify"
	"tidemark/snapshot/block"
	"tidemark/storage"
)

// placedError is an error of work on one replica. What to do about one of the
// storage depends on what kind of place that is.
type placedError struct {
	place location.Location
	db    *config.Database // what was being replicated, or nil
	// open tells that this process has the database open for something else.
	open bool
	err  error
}

// atPlace says where an error happened; nil stays nil.
func atPlace(place location.Location, err error) error {
	if err == nil {
		return nil
	}
	return placedError{place: place, err: err}
}

// Error names the place where the cause does not.
func (e placedError) Error() string {
	if errors.Is(e.err, archive.ErrNoReplica) {
		return e.place.String() + ": " + e.err.Error()
	}
	return e.err.Error()
}

// Unwrap gives the cause.
func (e placedError) Unwrap() error { return e.err }

// hint says what to do about an error, or "". Of several that apply the most
// telling comes first.
func hint(err error) string {
	var at placedError
	_ = errors.As(err, &at) // without one, what follows knows no place
	switch {
	case errors.Is(err, context.Canceled):
		return "run it again; nothing that was shipped is lost"
	case errors.Is(err, replica.ErrRefused):
		return refusedHint(at, err)
	case at.place.IsFolder() && isAny(err, storage.ErrNoBucket, storage.ErrDenied, syscall.ENOTDIR) && concernsFolder(at, err):
		return folderHint(err)
	case errors.Is(err, storage.ErrDenied):
		return location.CredentialAdvice(os.Getenv)
	case isAny(err, fs.ErrPermission, syscall.EROFS):
		return permissionHint(at.db)
	case errors.Is(err, syscall.ENOTDIR):
		return notFolderHint(at.db)
	}
	for _, h := range hints() {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

// advice is the next step after one class of errors.
type advice struct {
	err  error
	text string
}

func hints() []advice {
	return []advice{
		{storage.ErrNoBucket, "check the name of the bucket in the URL, or create it first"},
		{storage.ErrUnreachable, "check the endpoint in the URL, and that the service runs and can be reached from here"},
		{archive.ErrNoReplica, "check the URL; tidemark replicate DB URL makes a replica"},
		{archive.ErrMarked, "choose another name, or delete that mark first: tidemark mark URL NAME --delete"},
		{storage.ErrNotExist, "the replica is being packed or pruned, or an object is missing: run it again"},
		{archive.ErrNoMark, "tidemark mark URL lists the marks"},
		{archive.ErrOutOfRange, "tidemark log URL --ranges lists what can be restored"},
		{restore.ErrExists, "use --force to move it aside first, or --if-not-exists to leave it as it is"},
		{restore.ErrStray, "it belongs to a database that was here before: move it away, or restore to another name"},
		{block.ErrVersion, "a newer tidemark wrote this: upgrade tidemark on this machine"},
		{restore.ErrIntegrity, "the database was committed so: restore an earlier commit, or take it as it was with --integrity none"},
		{restore.ErrChecksum, badData},
		{archive.ErrBroken, badData},
		{block.ErrCorrupt, badData},
		{replica.ErrDamaged, "check the database with PRAGMA integrity_check; tidemark restore brings back a state that was replicated before"},
		{syscall.EADDRINUSE, "another program listens there, or another tidemark: choose another --" + config.KeyMetricsAddr},
		{replica.ErrUnfinished, "run it again"},
		{replica.ErrReplaced, "stop tidemark before a database is replaced; the next run compares the new file with the replica"},
		{replica.ErrLocked, "look for it with ps or systemctl; to ship to a second place at the same time, list both under replicas in a configuration"},
		{replica.ErrFenced, "two replicators ship to this URL: stop one of the two, and start the one that should own the replica with --takeover; for two databases use two URLs"},
		{replica.ErrUnfenceable, "use storage or an endpoint that honours If-None-Match, such as AWS S3, MinIO or Cloudflare R2; or say --" + config.KeyUnfenced + " if only one tidemark ever writes there"},
		{replica.ErrNotDatabase, "give the path of a SQLite database; an encrypted one can't be replicated"},
		{verify.ErrNotWAL, "tidemark replicates databases in WAL mode: PRAGMA journal_mode=WAL, while nothing else uses it"},
		{verify.ErrRestless, "the replica is being packed or pruned: run it again"},
		{check.ErrNoDatabase, "check the path; tidemark restore brings a database back from its replica"},
		{fs.ErrNotExist, "check the path"},
	}
}

const (
	badData     = "keep the replica as it is; tidemark log URL lists other commits to restore"
	permissions = "check who owns it and its folder, and which user tidemark runs as"
)

// folderHint is about a replica's folder.
func folderHint(err error) string {
	switch {
	case errors.Is(err, storage.ErrDenied):
		return "check the permissions of the replica's folder, and which user tidemark runs as"
	case errors.Is(err, storage.ErrNoBucket):
		return "check the path in the URL; tidemark replicate DB URL makes the folder and the replica"
	default:
		return "a part of the path in the URL is a file: check it"
	}
}

// concernsFolder tells whether an error is about the replica's folder rather
// than a file of this machine that has nothing to do with it.
func concernsFolder(at placedError, err error) bool {
	var p *fs.PathError
	if !errors.As(err, &p) || isAny(err, storage.ErrNoBucket, storage.ErrDenied) {
		return true
	}
	folder, err := filepath.Abs(at.place.Path())
	if err != nil {
		return false
	}
	// The path that failed is the folder, something in it, or what it is in.
	return strings.HasPrefix(folder+"/", p.Path+"/") || strings.HasPrefix(p.Path, folder+"/")
}

// permissionHint is about the database, its folder, the local state, or the
// output; the message names it.
func permissionHint(db *config.Database) string {
	if db == nil {
		return permissions
	}
	return permissions + "; --state-dir puts tidemark's own files into another folder"
}

// notFolderHint is about a path that leads through a file. If the database is
// there, the path is that of the local state.
func notFolderHint(db *config.Database) string {
	if db != nil {
		if _, err := os.Stat(db.Path); err == nil {
			return "the state directory must be a folder, or not exist yet: give another with --state-dir"
		}
	}
	return "a part of the path is a file: check it"
}

// refusedHint looks for what it is about the database that the engine refused.
// It looks only when nothing in this process has the database open any more: to open
// and close a database's file drops the locks that its process holds.
func refusedHint(at placedError, err error) string {
	db := at.db
	var e *sqlite.Error
	switch {
	case errors.Is(err, source.ErrNetworkFS):
		return "move the database to a local disk (the replica may stay on the share), or say --" + config.KeyAllowNetworkFS + " if only this machine ever opens it"
	case isAny(err, fs.ErrPermission, syscall.EROFS):
		return permissions
	case errors.As(err, &e) && slices.Contains([]int{sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}, e.Code()&0xff):
		return "wait for the transaction to end, or have the application leave locking_mode at NORMAL"
	case errors.As(err, &e):
		return permissions
	case db == nil || at.open:
		return ""
	}
	switch version := formatOf(db.Path); {
	case version == 0:
		return "give the path of the database file"
	case version > 2:
		return "switch the database to SQLite's own WAL with PRAGMA journal_mode=WAL"
	case version == 1 && db.KeepJournalMode:
		return "leave out " + config.KeyKeepJournalMode + " (--" + config.KeyKeepJournalMode + "=false) to have it switched"
	case version == 1:
		return "switch it with PRAGMA journal_mode=WAL while nothing else uses it"
	default:
		return "--takeover is for a restored or copied database whose history goes on there; any other needs a URL of its own"
	}
}

// formatOf gives the format version in a database's header (fileformat2, section
// 1.3): 1 for a rollback journal, 2 for WAL, and 0 for what is no regular file.
func formatOf(path string) byte {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // only read from
	var header [20]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return 0
	}
	return max(header[18], header[19])
}
