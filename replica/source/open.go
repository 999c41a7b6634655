package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"tidemark/replica/disk"
	"tidemark/replica/source/netfs"
	"tidemark/wal"
)

// Errors that callers branch on.
var (
	// ErrNotDatabase says that the file is not a SQLite database that can be
	// read: something else, encrypted, or empty.
	ErrNotDatabase = errors.New("not a SQLite database")
	// ErrRefused says that it is one that cannot be followed safely, or not
	// under the options given.
	ErrRefused = errors.New("this database can't be followed")
	// ErrDamaged says that the file does not hold all of the database.
	ErrDamaged = errors.New("the database is damaged")
	// ErrReplaced says that the path no longer leads to the file that was
	// opened.
	ErrReplaced = errors.New("the database file was replaced or deleted")
	// ErrTouched says that the database file has changed, and no checkpoint has
	// changed it.
	ErrTouched = errors.New("the database file has changed without SQLite")
	// ErrNetworkFS says, with ErrRefused, that other machines may have the file
	// open, too.
	ErrNetworkFS = errors.New("on a network file system")
)

// Options are the choices of Open.
type Options struct {
	// KeepJournalMode refuses a database in a rollback-journal mode. Without
	// it, EnsureWAL switches such a database to WAL and logs that.
	KeepJournalMode bool
	// AllowNetworkFS follows a database on a network file system, too, and logs
	// a warning.
	AllowNetworkFS bool
	// FileSystem finds the kind of network file system that an absolute path
	// lies on; nil is [netfs.Of]. It is for tests on machines that have none.
	FileSystem func(path string) (netfs.Kind, error)
	// FS is where the WAL is read from; nil is [disk.OS].
	FS disk.FS
	// Logger is told of what Open and EnsureWAL do on their own. It must not be
	// nil.
	Logger *slog.Logger
}

// DB is a live database that is being followed. It is not safe for concurrent
// use, except that [Image] readers run beside anything but Close.
type DB struct {
	path     string
	given    string // the path as it was given: links may lead elsewhere later
	log      *slog.Logger
	keepMode bool
	fs       disk.FS
	file     *os.File // the one descriptor, see the package comment
	wal      disk.File
	shm      *os.File // nil until it is needed, see the package comment
	db       *sql.DB

	// Two connections take turns to hold the pin.
	pins   [2]*sql.Conn
	pinned int // index of the one that holds it, -1: none
	// seen is what the file looked like last, nil if that is not known.
	seen *sight
	// parked tells that connections are closed, bare that all are, and that there are
	// locks in the pin's place; rest is what the database looked like then.
	parked, bare bool
	rest         rest
	// network tells that it is on a network file system.
	network bool
	// slot0 tells that the pin is likely to be in slot 0; stuck since when a
	// checkpoint of the application's waits, at a moment of the WAL.
	slot0   bool
	stuck   time.Time
	stuckAt moment
	// flushing is a sync that is under way.
	flushing *flush
	// claimed tells that nobody else can checkpoint.
	claimed bool
	ckpt    *sql.Conn
	writer  *sql.Conn
	// gaps is what Gaps tells.
	gaps int

	pageSize wal.PageSize
}

// Open opens a database and makes sure that it can be followed. It takes no
// lock that outlives it. Errors wrap ErrNotDatabase or ErrRefused where the
// database itself is the cause.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if target, err = filepath.Abs(target); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	d := &DB{path: target, given: path, log: opts.Logger, fs: opts.FS, keepMode: opts.KeepJournalMode, pinned: -1}
	if d.fs == nil {
		d.fs = disk.OS{}
	}
	if err := d.open(ctx, opts); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return d, nil
}

func (d *DB) open(ctx context.Context, opts Options) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrRefused, d.path)
	}
	if err := d.checkFileSystem(opts); err != nil {
		return err
	}
	// Never written to, but SQLite gives -wal and -shm the database's mode:
	// where one can't write, one would leave files that others can't either.
	if d.file, err = os.OpenFile(d.path, os.O_RDWR, 0); err != nil {
		return fmt.Errorf("%w: tidemark must be able to write to it, for SQLite's locks: %w", ErrRefused, err)
	}
	if err := checkHeader(d.file, d.path); err != nil {
		return err
	}
	if err := d.connect(ctx); err != nil {
		return d.explain(err)
	}
	var size uint32
	err = retryBusy(ctx, openPatience, func() error {
		return d.writer.QueryRowContext(ctx, "PRAGMA page_size").Scan(&size)
	})
	if err != nil {
		return d.explain(fmt.Errorf("read page size of %s: %w", d.path, err))
	}
	d.pageSize = wal.PageSize(size)
	return nil
}

// checkFileSystem refuses a database on a network file system, or warns of it.
func (d *DB) checkFileSystem(opts Options) error {
	kind, err := networkKind(d.path, opts.FileSystem)
	d.network = err != nil || kind != netfs.Local
	switch {
	case err != nil && !opts.AllowNetworkFS:
		return err
	case kind == netfs.Local:
		return nil
	case opts.AllowNetworkFS:
		d.log.Warn("the database is on a network file system: it can be relied on only as long as no other machine opens it",
			slog.String("kind", string(kind)))
		return nil
	}
	return fmt.Errorf("%w: %s is %w (%s), where SQLite's locks and shared memory don't work across machines: on an SMB share, two sessions of records were lost to a WAL that a Ctrl-C had left malformed", ErrRefused, d.path, ErrNetworkFS, kind)
}

// networkKind gives the kind of network file system that a database lies on, or
// netfs.Local. The folder counts as the file does, since the WAL and the -shm file
// are there: a container may have a file mounted from elsewhere.
func networkKind(path string, find func(string) (netfs.Kind, error)) (netfs.Kind, error) {
	if find == nil {
		find = netfs.Of
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		kind, err := find(p)
		if err != nil {
			return netfs.Local, fmt.Errorf("find the file system of %s: %w", p, err)
		}
		if kind != netfs.Local {
			return kind, nil
		}
	}
	return netfs.Local, nil
}

// checkHeader looks at the first bytes of the file (fileformat2, section 1.3)
// before SQLite does, to give better reasons than it can.
func checkHeader(f io.ReaderAt, path string) error {
	var b [100]byte
	n, err := f.ReadAt(b[:], 0)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %s is empty: start the application first, so that it creates its tables", ErrNotDatabase, path)
	case n < len(b) && errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %s has only %d bytes", ErrNotDatabase, path, n)
	case n < len(b):
		return fmt.Errorf("read database header: %w", err)
	case string(b[:16]) != "SQLite format 3\x00":
		return fmt.Errorf("%w: %s does not begin with SQLite's header; it is another kind of file, or encrypted", ErrNotDatabase, path)
	}
	size := wal.StatedPageSize(b[:])
	if !size.Valid() {
		return fmt.Errorf("%w: %s has an impossible page size, %d", ErrNotDatabase, path, size)
	}
	if b[18] > 2 || b[19] > 2 {
		return fmt.Errorf("%w: %s has file format version %d (WAL2?); only SQLite's own journal modes are supported", ErrRefused, path, max(b[18], b[19]))
	}
	return nil
}

// dsn opens the database for reading and writing, never creating it, with no
// busy handler: the package retries itself, since SQLite's handler starves next
// to a busy writer.
func (d *DB) dsn() string {
	p := filepath.ToSlash(d.path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/…
	}
	u := url.URL{Scheme: "file", Path: p}
	return u.String() + "?mode=rw&_pragma=busy_timeout(0)&_pragma=cache_size(-64)&_pragma=mmap_size(0)"
}

// connect opens the connections that there are not.
func (d *DB) connect(ctx context.Context) error {
	return d.connectAll(ctx, &d.writer, &d.ckpt, &d.pins[0], &d.pins[1])
}

func (d *DB) connectAll(ctx context.Context, conns ...**sql.Conn) error {
	if d.db == nil {
		db, err := sql.Open("sqlite", d.dsn())
		if err != nil {
			return fmt.Errorf("open %s: %w", d.path, err)
		}
		db.SetMaxIdleConns(-1) // one that is given back is closed
		d.db = db
	}
	for _, c := range conns {
		if *c != nil {
			continue
		}
		// The settings of a connection read the schema, and so wait for locks.
		err := retryBusy(ctx, openPatience, func() (err error) {
			*c, err = d.db.Conn(ctx)
			return err
		})
		if err != nil {
			*c = nil
			return fmt.Errorf("open %s: %w", d.path, err)
		}
	}
	return nil
}

// CheckMode refuses a database that EnsureWAL would refuse to switch.
func (d *DB) CheckMode(ctx context.Context) error {
	_, err := d.checkedMode(ctx)
	return err
}

// checkedMode is the journal mode, if it is one that may stay or be switched.
func (d *DB) checkedMode(ctx context.Context) (string, error) {
	mode, err := d.pragma(ctx, "PRAGMA journal_mode")
	if err != nil {
		return "", d.explain(fmt.Errorf("read journal mode of %s: %w", d.path, err))
	}
	if d.keepMode && mode != "wal" {
		return "", fmt.Errorf("%w: %s has journal_mode=%s and only WAL can be followed; run PRAGMA journal_mode=WAL in it, or let tidemark do so", ErrRefused, d.path, mode)
	}
	return mode, nil
}

// EnsureWAL makes sure that the database is in WAL mode, as Attach needs it. It
// is the one thing that tidemark ever changes in a database, so it comes when
// everything else is known to be right. Errors are as with Open.
func (d *DB) EnsureWAL(ctx context.Context) error {
	mode, err := d.checkedMode(ctx)
	if err != nil || mode == "wal" {
		return err
	}
	got, err := d.pragma(ctx, "PRAGMA journal_mode=WAL")
	if err != nil {
		return d.explain(fmt.Errorf("switch %s from journal_mode=%s to WAL: %w", d.path, mode, err))
	}
	if got != "wal" {
		return fmt.Errorf("%w: %s stays in journal_mode=%s", ErrRefused, d.path, got)
	}
	d.log.Info("switched the database to WAL", slog.String("from", mode))
	return nil
}

// pragma runs a statement that gives one value, and waits for locks.
func (d *DB) pragma(ctx context.Context, q string) (string, error) {
	var v string
	err := retryBusy(ctx, openPatience, func() error {
		return d.writer.QueryRowContext(ctx, q).Scan(&v)
	})
	return v, err
}

// explain gives SQLite's errors at opening the meaning that they have here.
func (d *DB) explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %s: %w", ErrNotDatabase, d.path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: another process keeps %s locked (locking_mode=EXCLUSIVE, or a long transaction): %w", ErrRefused, d.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: tidemark must be able to write beside %s, SQLite's -wal and -shm files: %w", ErrRefused, d.path, err)
	default:
		return err
	}
}

// Path is the database's path, absolute and with symbolic links resolved.
func (d *DB) Path() string { return d.path }

// PageSize is the database's page size.
func (d *DB) PageSize() wal.PageSize { return d.pageSize }

// Close ends the pin and closes every connection, and after them the
// descriptors. As the last one to close a database, SQLite checkpoints it and
// deletes its WAL, as it does for any application. It does so whether or not
// ctx has ended.
func (d *DB) Close(ctx context.Context) error {
	var errs []error
	d.closeLast(ctx)
	d.unpin(ctx)
	for _, c := range []*sql.Conn{d.pins[0], d.pins[1], d.ckpt, d.writer} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	if d.wal != nil {
		errs = append(errs, d.wal.Close())
	}
	if d.shm != nil {
		errs = append(errs, d.shm.Close())
	}
	if d.file != nil {
		d.endFlush()
		errs = append(errs, d.file.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}
