package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// birth is a database that the command is to make. It is looked at by one goroutine,
// and by none once it is there: to open and close it then would end locks that the
// replication holds.
type birth struct {
	done chan struct{}
	err  error // readable when done is closed
}

// bornEvery is how often a database that is waited for is looked for.
const bornEvery = 50 * time.Millisecond

// absent tells whether a database is missing.
func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// orphanOf is the name of a WAL that is not empty and lies where a database is missing,
// or "". Who makes a database there has SQLite delete it.
func orphanOf(path string) string {
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		return ""
	}
	return path + "-wal"
}

// mayBeBorn notes, before anything runs, that the command is to make a database.
func (s *session) mayBeBorn(path string) { s.births[path] = &birth{done: make(chan struct{})} }

// born waits for a job's database, if the command is to make it.
func (s *session) born(ctx context.Context, j *job) error {
	s.mu.Lock()
	b := s.births[j.db.Path]
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	s.set(j, unborn)
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %s", errNotBorn, j.db.Path)
	}
}

// awaitBirths looks for the databases that the command is to make, until all are there
// or the command has ended.
func (s *session) awaitBirths(ctx context.Context) {
	waiting := map[string]*birth{}
	s.mu.Lock()
	for path, b := range s.births {
		waiting[path] = b
		s.logger.Info("the database does not exist yet, nor a replica of it: it is followed when the command has made it", slog.String("db", path))
	}
	s.mu.Unlock()
	tick := time.NewTicker(bornEvery)
	defer tick.Stop()
	for len(waiting) > 0 {
		last := false
		select {
		case <-tick.C:
		case <-s.over:
			last = true // it may have made one just now
		case <-ctx.Done():
			last = true
		}
		for path, b := range waiting {
			ok, err := isDatabase(path)
			if !ok && err == nil && last {
				err = fmt.Errorf("%w: %s", errNotBorn, path)
			}
			if ok || err != nil {
				b.err = err
				close(b.done)
				delete(waiting, path)
			}
		}
	}
}

// isDatabase tells whether a file is there and begins as a database does: SQLite writes
// that with the first transaction.
func isDatabase(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the database: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	const header = "SQLite format 3\x00"
	b := make([]byte, 100)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("look for the database: %w", err)
	}
	return n == len(b) && bytes.HasPrefix(b, []byte(header)), nil
}
