package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// applicationCommand is the hidden subcommand that is the application: a process of
// its own, since SQLite's locks belong to a process.
const applicationCommand = "application"

// load is what an application does, as the command line has it.
type load struct {
	db string
	// create makes the database first, with rows of so many bytes in all.
	create int64
	// do is what it commits: one row each, "insert" or "update", or "bulk" for many. ""
	// is nothing.
	do string
	// seconds is how long it goes on, or bytes how much it inserts if that is not 0.
	seconds float64
	bytes   int64
	// rate is how many commits it makes a second, 0 for as many as it can.
	rate float64
	// times is a file for the time of each commit.
	times string
}

// done is what an application says at its end, as JSON. Latencies are of transactions,
// from their beginning until COMMIT has returned.
type done struct {
	Commits int     `json:"commits"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

const (
	// smallRow is what a small commit writes, and largeRow what a row of a bulk load or
	// of the database for updates has, in bytes.
	smallRow = 200
	largeRow = 1000
	// bulkRows is how many rows a transaction of the bulk load has.
	bulkRows = 10_000
)

func newApplication() *cobra.Command {
	var l load
	cmd := &cobra.Command{
		Use: applicationCommand, Short: "Be the application that is measured", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := l.run(cmd.Context())
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&l.db, "db", "", "the database")
	flags.Int64Var(&l.create, "create", -1, "make it, with rows of so many bytes")
	flags.StringVar(&l.do, "do", "", "commit insert, update or bulk")
	flags.Float64Var(&l.seconds, "seconds", 0, "for so long")
	flags.Int64Var(&l.bytes, "bytes", 0, "or until so many bytes are inserted")
	flags.Float64Var(&l.rate, "rate", 0, "so many commits a second; 0: as fast as possible")
	flags.StringVar(&l.times, "times", "", "write the time of each commit into this file")
	return cmd
}

// args is the command line of a load.
func (l load) args() []string {
	return []string{
		applicationCommand, "--db=" + l.db, fmt.Sprintf("--create=%d", l.create), "--do=" + l.do,
		fmt.Sprintf("--seconds=%v", l.seconds), fmt.Sprintf("--bytes=%d", l.bytes), fmt.Sprintf("--rate=%v", l.rate), "--times=" + l.times,
	}
}

// application is the process while it runs.
type application struct {
	load
	conn *sql.Conn
	rng  *rand.Rand
	// insert and update are the two statements, rows is how many rows there are.
	insert, update *sql.Stmt
	rows           int64
	// took is how long each transaction has taken, and at when it was committed.
	took []float64
	at   []time.Time
	sent int64
}

func (l load) run(ctx context.Context) (d done, err error) {
	pragmas := []string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(NORMAL)"}
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(l.db)+"?_pragma="+strings.Join(pragmas, "&_pragma="))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	a := application{load: l, conn: conn, rng: rand.New(rand.NewPCG(1, 2))}
	if l.create >= 0 {
		if err := a.fill(ctx); err != nil {
			return d, err
		}
	}
	if l.do == "" {
		return d, nil
	}
	if err := a.prepare(ctx); err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, a.insert.Close(), a.update.Close()) }()
	start := time.Now()
	if err := a.work(ctx, start); err != nil {
		return d, err
	}
	d = a.done(time.Since(start))
	return d, a.writeTimes()
}

// createTable is the table that all loads use.
const createTable = "CREATE TABLE records(id INTEGER PRIMARY KEY, count INTEGER NOT NULL, body TEXT NOT NULL)"

// fill makes the database with its first rows.
func (a *application) fill(ctx context.Context) error {
	if _, err := a.conn.ExecContext(ctx, createTable); err != nil {
		return err
	}
	if err := a.prepare(ctx); err != nil {
		return err
	}
	for a.sent < a.create {
		if err := a.bulk(ctx); err != nil {
			return err
		}
	}
	var busy, frames, moved int
	row := a.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return errors.Join(row.Scan(&busy, &frames, &moved), a.insert.Close(), a.update.Close())
}

func (a *application) prepare(ctx context.Context) (err error) {
	if a.insert, err = a.conn.PrepareContext(ctx, "INSERT INTO records(count, body) VALUES (0, ?)"); err != nil {
		return err
	}
	if a.update, err = a.conn.PrepareContext(ctx, "UPDATE records SET count = count + 1, body = ? WHERE id = ?"); err != nil {
		return err
	}
	return a.conn.QueryRowContext(ctx, "SELECT count(*) FROM records").Scan(&a.rows)
}

// work commits until it is enough.
func (a *application) work(ctx context.Context, start time.Time) error {
	until := start.Add(time.Duration(a.seconds * float64(time.Second)))
	for n := 0; ; n++ {
		if a.bytes > 0 && a.sent >= a.bytes || a.bytes == 0 && !time.Now().Before(until) {
			return nil
		}
		if a.rate > 0 {
			due := start.Add(time.Duration(float64(n) / a.rate * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		began := time.Now()
		if err := a.commit(ctx); err != nil {
			return err
		}
		now := time.Now()
		a.took, a.at = append(a.took, float64(now.Sub(began))/float64(time.Millisecond)), append(a.at, now)
	}
}

// commit is one transaction.
func (a *application) commit(ctx context.Context) (err error) {
	switch a.do {
	case "insert":
		_, err = a.insert.ExecContext(ctx, a.prose(smallRow))
		a.sent += smallRow
	case "update":
		_, err = a.update.ExecContext(ctx, a.prose(largeRow), 1+a.rng.Int64N(a.rows))
		a.sent += largeRow
	case "bulk":
		err = a.bulk(ctx)
	default:
		err = fmt.Errorf("--do=%s is unknown", a.do)
	}
	return err
}

// bulk inserts many rows in one transaction.
func (a *application) bulk(ctx context.Context) error {
	if _, err := a.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for range bulkRows {
		if _, err := a.insert.ExecContext(ctx, a.prose(largeRow)); err != nil {
			return err
		}
		a.sent += largeRow
	}
	_, err := a.conn.ExecContext(ctx, "COMMIT")
	return err
}

// syllables make words, of which texts are made that shrink as texts do: by half or so.
const syllables = "al an ar be ca co da de di el en er es fa ga ha in is ka la le li ma me mi na ne no on or pa pe ra re ri ro sa se si so ta te ti to tu un ur ve vi za"

// prose gives a text of so many bytes, always the same ones in the same order.
func (a *application) prose(size int) string {
	parts := strings.Fields(syllables)
	text := make([]byte, 0, size+16)
	for len(text) < size {
		bits := a.rng.Uint64()
		for range 1 + bits%4 {
			bits >>= 8
			text = append(text, parts[bits%uint64(len(parts))]...)
		}
		text = append(text, ' ')
	}
	return string(text[:size])
}

// done works out what there is to say.
func (a *application) done(took time.Duration) done {
	d := done{Commits: len(a.took), Bytes: a.sent, Seconds: took.Seconds()}
	if len(a.took) > 0 {
		slices.Sort(a.took)
		d.P50, d.P99, d.Max = percentile(a.took, 50), percentile(a.took, 99), a.took[len(a.took)-1]
	}
	return d
}

// writeTimes writes when each commit was, eight bytes of nanoseconds since 1970 each.
func (a *application) writeTimes() (err error) {
	if a.times == "" {
		return nil
	}
	f, err := os.Create(a.times)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	for _, t := range a.at {
		if err := binary.Write(w, binary.BigEndian, t.UnixNano()); err != nil {
			return err
		}
	}
	return w.Flush()
}

// readTimes reads what writeTimes has written.
func readTimes(path string) ([]time.Time, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := make([]time.Time, 0, len(raw)/8)
	for ; len(raw) >= 8; raw = raw[8:] {
		all = append(all, time.Unix(0, int64(binary.BigEndian.Uint64(raw))))
	}
	return all, nil
}
