package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"

	_ "modernc.org/sqlite" // the driver
)

// content is what the rows of a database hold.
type content string

const (
	// records are orders as JSON text, with numbers and names that repeat: they
	// compress to less than a half.
	records content = "rows"
	// blobs are random bytes, as of images or archives: they don't compress.
	blobs content = "blobs"
)

const (
	// blobSize is the length of one of the blobs.
	blobSize = 48 << 10
	// pageSize is SQLite's own choice for a database's pages.
	pageSize = 4096
)

// makeDatabase makes a database of about size bytes at a path that must be free: in
// large transactions, without a journal, which only who throws it away on a crash may
// do. It is in WAL mode when it is done.
func makeDatabase(ctx context.Context, path string, what content, size int64) (err error) {
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)&_pragma=locking_mode(EXCLUSIVE)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "CREATE TABLE orders(id INTEGER PRIMARY KEY, account INTEGER, body)"); err != nil {
		return err
	}
	if err := fillDatabase(ctx, db, what, size); err != nil {
		return fmt.Errorf("fill %s: %w", path, err)
	}
	for _, pragma := range []string{"locking_mode=NORMAL", "journal_mode=WAL"} {
		if _, err := db.ExecContext(ctx, "PRAGMA "+pragma); err != nil {
			return fmt.Errorf("%s: PRAGMA %s: %w", path, pragma, err)
		}
	}
	return nil
}

// fillDatabase inserts rows until the pages have size bytes.
func fillDatabase(ctx context.Context, db *sql.DB, what content, size int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it fails if all went well
	insert, err := tx.PrepareContext(ctx, "INSERT INTO orders(account, body) VALUES(?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close() //nolint:errcheck // the transaction's end counts
	random := rand.New(rand.NewPCG(1, 2026))
	noise := rand.NewChaCha8([32]byte{1})
	var row []byte
	for n, pages := 0, int64(0); pages*pageSize < size; n++ {
		if n%100 == 0 {
			if err := tx.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
				return err
			}
		}
		var body any
		if what == blobs {
			row = append(row[:0], make([]byte, blobSize)...)
			_, _ = noise.Read(row) // never fails
			body = row
		} else {
			row = appendOrder(row[:0], random)
			body = string(row)
		}
		if _, err := insert.ExecContext(ctx, random.IntN(5000), body); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// appendOrder appends one order and its executions, about 900 bytes of JSON.
func appendOrder(b []byte, random *rand.Rand) []byte {
	symbols := [...]string{"EURUSD", "GBPUSD", "USDJPY", "AUDNZD", "XAUUSD", "BTCUSDT", "ES-2603", "CL-2604"}
	at := int64(1_767_225_600_000) + random.Int64N(86_400_000)
	price := 10_000 + random.IntN(90_000)
	b = append(b, `{"order":"ord-`...)
	b = strconv.AppendUint(b, random.Uint64(), 36)
	b = append(b, `","symbol":"`...)
	b = append(b, symbols[random.IntN(len(symbols))]...)
	b = append(b, `","side":"`...)
	b = append(b, [...]string{"buy", "sell"}[random.IntN(2)]...)
	b = append(b, `","state":"filled","executions":[`...)
	for i := range 10 {
		if i > 0 {
			b = append(b, ',')
		}
		at += random.Int64N(5000)
		price += random.IntN(41) - 20
		b = append(b, `{"at":`...)
		b = strconv.AppendInt(b, at, 10)
		b = append(b, `,"price":`...)
		b = strconv.AppendInt(b, int64(price/1000), 10)
		b = append(b, '.')
		b = strconv.AppendInt(b, int64(1000+price%1000), 10)
		b = append(b, `,"quantity":`...)
		b = strconv.AppendInt(b, int64(1+random.IntN(500)), 10)
		b = append(b, `,"venue":"X`...)
		b = strconv.AppendInt(b, int64(random.IntN(12)), 10)
		b = append(b, `","trade":`...)
		b = strconv.AppendUint(b, uint64(random.Uint32()), 10)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// fileSize is the length of a file in bytes.
func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
