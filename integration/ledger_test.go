package integration_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	_ "modernc.org/sqlite"
)

// A ledger is the oracle of the load tests. Each transaction of a writer
// changes a few rows of the table data and records in the table oracle, with
// them, its number and a digest of all of data as it is then. Whoever reads the
// database at any commit can compute the digest again from the rows and
// compare. The digest is the number of rows and the sum of their hashes, so the
// writer need not read anything to keep it.
//
// testdata/writer.py keeps the same ledger.
type ledger struct {
	source *rand.ChaCha8
	rng    *rand.Rand // of source
	n      int64      // transactions so far
	// hashes holds the hash of the row with id i+1, 0 for none.
	hashes []uint64
	rows   int
	sum    uint64
}

// ledgerSchema is what a ledger's database begins with.
const ledgerSchema = `
CREATE TABLE data(id INTEGER PRIMARY KEY, k TEXT NOT NULL, v BLOB NOT NULL);
CREATE INDEX data_k ON data(k);
CREATE TABLE oracle(n INTEGER PRIMARY KEY, digest TEXT NOT NULL);`

// ledgerSlots is how many rows data has at most.
const ledgerSlots = 2000

// The statements of a transaction. Each takes what change.args gives.
const (
	insertRow    = "INSERT INTO data(id, k, v) VALUES(?1, ?2, ?3)"
	updateRow    = "UPDATE data SET k = ?2, v = ?3 WHERE id = ?1"
	deleteRow    = "DELETE FROM data WHERE id = ?1"
	insertOracle = "INSERT INTO oracle(n, digest) VALUES(?1, ?2)"
)

// change is what a transaction does to one row.
type change struct {
	query string // one of the above
	id    int64
	k     string
	v     []byte
}

func (c change) args() []any {
	if c.query == deleteRow {
		return []any{c.id}
	}
	return []any{c.id, c.k, c.v}
}

// newLedger gives the ledger of an empty database. Equal seeds give equal
// transactions.
func newLedger(seed uint64) *ledger {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	source := rand.NewChaCha8(key)
	return &ledger{source: source, rng: rand.New(source), hashes: make([]uint64, ledgerSlots)}
}

// resumeLedger gives the ledger of a database that holds one already, or of an
// empty one. What it makes up next is not what another process would have: that
// one's last transaction may have been lost with it.
func resumeLedger(ctx context.Context, conn *sql.Conn) (*ledger, error) {
	var n int64
	if err := conn.QueryRowContext(ctx, "SELECT ifnull(max(n), 0) FROM oracle").Scan(&n); err != nil {
		return nil, err
	}
	if n == 0 {
		return newLedger(1), nil
	}
	l := newLedger(rand.Uint64())
	l.n = n
	rows, err := conn.QueryContext(ctx, "SELECT id, k, v FROM data")
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	for rows.Next() {
		var c change
		if err := rows.Scan(&c.id, &c.k, &c.v); err != nil {
			return nil, err
		}
		l.set(int(c.id)-1, hashRow(c.id, c.k, c.v))
	}
	return l, rows.Err()
}

// next makes up a transaction.
func (l *ledger) next() (n int64, changes []change, digest string) {
	l.n++
	for range 1 + l.rng.IntN(3) {
		changes = append(changes, l.change())
	}
	return l.n, changes, digestOf(l.rows, l.sum)
}

func (l *ledger) change() change {
	i := l.rng.IntN(len(l.hashes))
	c := change{query: insertRow, id: int64(i + 1)}
	switch {
	case l.hashes[i] != 0 && l.rng.IntN(5) == 0:
		c.query = deleteRow
		l.set(i, 0)
		return c
	case l.hashes[i] != 0:
		c.query = updateRow
	}
	c.k = fmt.Sprintf("%016x", l.rng.Uint64())
	c.v = make([]byte, 20+l.rng.IntN(200))
	if l.rng.IntN(200) == 0 {
		c.v = make([]byte, 5000+l.rng.IntN(15000)) // over several pages
	}
	_, _ = l.source.Read(c.v) // never fails
	l.set(i, hashRow(c.id, c.k, c.v))
	return c
}

func (l *ledger) set(i int, hash uint64) {
	if l.hashes[i] != 0 {
		l.rows--
	}
	if hash != 0 {
		l.rows++
	}
	l.sum += hash - l.hashes[i]
	l.hashes[i] = hash
}

// hashRow is the first eight bytes of SHA-256 over "id|k|v".
func hashRow(id int64, k string, v []byte) uint64 {
	b := strconv.AppendInt(nil, id, 10)
	b = append(append(b, '|'), k...)
	b = append(append(b, '|'), v...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

func digestOf(rows int, sum uint64) string { return fmt.Sprintf("%d:%016x", rows, sum) }

// readLedger reads which transaction a database file ends with, and proves that
// it is whole: every earlier one is there, and the rows have the digest that was
// recorded with it. The file must have no WAL.
func readLedger(ctx context.Context, path string) (n int64, err error) {
	db, err := openReadOnly(path)
	if err != nil {
		return 0, err
	}
	defer db.Close() //nolint:errcheck // only read
	var count int64
	if err := db.QueryRowContext(ctx, "SELECT ifnull(max(n), 0), count(*) FROM oracle").Scan(&n, &count); err != nil {
		return 0, err
	}
	if n != count {
		return n, fmt.Errorf("the newest transaction is %d, but there are %d", n, count)
	}
	recorded := digestOf(0, 0)
	if n > 0 {
		if err := db.QueryRowContext(ctx, "SELECT digest FROM oracle WHERE n = ?", n).Scan(&recorded); err != nil {
			return n, err
		}
	}
	digest, err := digestRows(ctx, db)
	if err == nil && digest != recorded {
		err = fmt.Errorf("transaction %d recorded digest %s, the rows have %s", n, recorded, digest)
	}
	return n, err
}

func digestRows(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, k, v FROM data")
	if err != nil {
		return "", err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var (
		count, id int64
		sum       uint64
		k         string
		v         []byte
	)
	for ; rows.Next(); count++ {
		if err := rows.Scan(&id, &k, &v); err != nil {
			return "", err
		}
		sum += hashRow(id, k, v)
	}
	return digestOf(int(count), sum), rows.Err()
}

// openReadOnly opens a database file that nobody writes to, and leaves nothing
// beside it.
func openReadOnly(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?mode=ro&immutable=1")
}

// openLive opens a database that other processes write to, with one connection
// that never waits for locks.
func openLive(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?mode=rw")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// makeLedger makes the database that a writer will fill, in WAL mode and closed.
func makeLedger(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), ledgerSchema); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
