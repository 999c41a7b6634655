package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"

	"tidemark/snapshot/state"
	"tidemark/wal"
)

// ErrNotWAL says that the live database is not in WAL mode: to read it would block
// its writers.
var ErrNotWAL = errors.New("the database is not in WAL mode")

// snapshotOfLive is a read transaction of the live database: its state at one
// moment. It keeps checkpoints from the WAL's end as any reader does, and blocks
// nobody.
type snapshotOfLive struct {
	db *sql.DB
	tx *sql.Tx
}

// readLive begins one. Nothing is written, nor is anything checkpointed: where there
// is a WAL with commits in it, the database is opened so that SQLite can't.
func readLive(ctx context.Context, path string) (_ *snapshotOfLive, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	query := "mode=rw" // SQLite tidies up behind the last connection: here that is nothing but its own files
	if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
		query = "mode=ro"
	}
	db, err := openSQLite(path, query+"&_pragma=busy_timeout(5000)&_pragma=query_only(1)&_pragma=wal_autocheckpoint(0)")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if mode != "wal" {
		return nil, fmt.Errorf("%w: %s has journal_mode=%s, in which to read it would block its writers", ErrNotWAL, path, mode)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	l := &snapshotOfLive{db, tx}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil { // the snapshot is taken here
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), tx.Rollback())
	}
	return l, nil
}

// close ends the transaction.
func (l *snapshotOfLive) close() error { return errors.Join(l.tx.Rollback(), l.db.Close()) }

// table reads all pages and gives their sums.
func (l *snapshotOfLive) table(ctx context.Context) (*state.Table, error) {
	var size uint32
	if err := l.tx.QueryRowContext(ctx, "PRAGMA page_size").Scan(&size); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	t := state.NewTable(wal.PageSize(size))
	rows, err := l.tx.QueryContext(ctx, "SELECT pgno, data FROM sqlite_dbpage")
	if err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	defer rows.Close() //nolint:errcheck // only read
	for rows.Next() {
		var no uint32
		var page sql.RawBytes
		if err := rows.Scan(&no, &page); err != nil {
			return nil, fmt.Errorf("read database: %w", err)
		}
		t.Set(pageNo(no), sumPage(pageNo(no), page))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	return t, nil
}

// tablesOf gives the names of the tables that pages belong to, indexes by their
// tables. Pages of none are free ones, or SQLite's own. What can't be read of a
// database that is damaged is left out.
func tablesOf(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, pages *bitmap,
) []string {
	rows, err := db.QueryContext(ctx, `SELECT d.pageno, coalesce(s.tbl_name, d.name) FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name`)
	if err != nil {
		return nil
	}
	defer rows.Close() //nolint:errcheck // only read
	seen := map[string]bool{}
	for rows.Next() {
		var no uint32
		var name string
		if rows.Scan(&no, &name) == nil && pages.has(pageNo(no)) {
			seen[name] = true
		}
	}
	_ = rows.Err() // documented
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// bitmap is a set of pages, with a bit for each.
type bitmap struct {
	bits []uint64
	n    int
}

// add puts a page in.
func (b *bitmap) add(no pageNo) {
	if b.has(no) {
		return
	}
	i := int(no) / 64
	if i >= len(b.bits) {
		b.bits = append(b.bits, make([]uint64, i+1-len(b.bits))...)
	}
	b.bits[i] |= 1 << (no % 64)
	b.n++
}

// remove takes a page out.
func (b *bitmap) remove(no pageNo) {
	if b.has(no) {
		b.bits[int(no)/64] &^= 1 << (no % 64)
		b.n--
	}
}

func (b *bitmap) has(no pageNo) bool {
	i := int(no) / 64
	return i < len(b.bits) && b.bits[i]&(1<<(no%64)) != 0
}

// first gives the first pages of the set.
func (b *bitmap) first(most int) (out []uint32) {
	for i, word := range b.bits {
		for bit := 0; bit < 64 && word>>bit != 0; bit++ {
			if word>>bit&1 != 0 {
				if len(out) == most {
					return out
				}
				out = append(out, uint32(i*64+bit))
			}
		}
	}
	return out
}
