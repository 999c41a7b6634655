package corpus

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the writer

	"tidemark/wal"
)

// Spec says what database to write.
type Spec struct {
	// Seed decides about the rows. The WAL's salts are SQLite's own, and differ each time.
	Seed uint64
	// PageSize is the database's page size.
	PageSize wal.PageSize
	// Generations are the numbers of commits between two restarts of the WAL. If
	// the last of them has fewer frames than one before it, older frames lie behind it.
	Generations []int
	// Tail is whether a transaction is open when the files are copied, of which
	// frames are in the WAL. It is the size of that transaction in rows.
	Tail int
}

// Write has SQLite write a database into a folder, which must be empty, and copies it
// while it is open.
func Write(ctx context.Context, dir string, spec Spec) (*Original, error) {
	w := &writer{ctx: ctx, path: filepath.Join(dir, "engine.db"), spec: spec, engine: newEngine(spec.Seed, int(spec.PageSize)), ledger: &Ledger{}}
	db, err := sql.Open("sqlite", "file:"+w.path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", w.path, err)
	}
	db.SetMaxOpenConns(1)
	w.db = db
	o, err := w.run()
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("write a database into %s: %w", dir, err)
	}
	return o, nil
}

type writer struct {
	ctx    context.Context //nolint:containedctx // lives as long as one Write
	path   string
	spec   Spec
	db     *sql.DB
	engine *engine
	ledger *Ledger
}

func (w *writer) exec(text string) error {
	_, err := w.db.ExecContext(w.ctx, text)
	return err
}

func (w *writer) run() (*Original, error) {
	for _, text := range []string{
		fmt.Sprintf("PRAGMA page_size=%d", w.spec.PageSize),
		"PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "PRAGMA synchronous=OFF",
	} {
		if err := w.exec(text); err != nil {
			return nil, err
		}
	}
	o := &Original{Ledger: w.ledger}
	for g, commits := range w.spec.Generations {
		if g > 0 {
			o.Earlier = append(o.Earlier, &Original{
				Files: o.Files, Ledger: o.Ledger, Base: o.Base, Header: o.Header, Frames: o.Frames, Earlier: o.Earlier,
			})
			if err := w.checkpoint(); err != nil {
				return nil, err
			}
			o.Base, o.Frames = o.Committed(), nil
		}
		if err := w.generation(o, commits); err != nil {
			return nil, err
		}
	}
	return o, w.tail(o)
}

// checkpoint brings all into the file, and lets the WAL restart.
func (w *writer) checkpoint() error {
	var busy, frames, done int
	if err := w.db.QueryRowContext(w.ctx, "PRAGMA wal_checkpoint(RESTART)").Scan(&busy, &frames, &done); err != nil {
		return err
	}
	if busy != 0 || frames != done {
		return fmt.Errorf("checkpoint: busy %d, %d of %d frames", busy, done, frames)
	}
	return nil
}

// generation commits a number of times.
func (w *writer) generation(o *Original, commits int) error {
	for range commits {
		text := ""
		if w.ledger.Commits() == 0 {
			text = schema
		}
		w.engine.transaction()
		more, changes := w.engine.take()
		if err := w.exec("BEGIN;\n" + text + more + "COMMIT;"); err != nil {
			return err
		}
		w.ledger.commits = append(w.ledger.commits, changes)
		if err := o.count(w.path + "-wal"); err != nil {
			return err
		}
	}
	return w.copy(o)
}

// copy takes the files as they are.
func (w *writer) copy(o *Original) (err error) {
	if o.DB, err = os.ReadFile(w.path); err == nil {
		o.WAL, err = os.ReadFile(w.path + "-wal")
	}
	return err
}

// count finds the frames of the commit that was written last: those of the header's
// generation after the ones that are known.
func (o *Original) count(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	if o.Header, err = wal.ReadHeader(f); err != nil {
		return err
	}
	b := make([]byte, wal.FrameHeaderSize)
	for first, n := o.Last(len(o.Frames)), 1; ; n++ {
		if _, err := f.ReadAt(b, int64(o.Offset(first+n))); err != nil {
			return fmt.Errorf("look for the last commit's frames: %w", err)
		}
		h := wal.ParseFrameHeader(b)
		if h.Salts != o.Header.Salts {
			return errors.New("the last commit has no frame that ends it")
		}
		if h.Commit != 0 {
			o.Frames = append(o.Frames, n)
			return nil
		}
	}
}

// tail writes a transaction so large that pages of it are in the WAL, and copies
// the files before it ends.
func (w *writer) tail(o *Original) error {
	if w.spec.Tail == 0 {
		return nil
	}
	for range w.spec.Tail {
		w.engine.place(1)
		w.engine.record()
	}
	text, changes := w.engine.take()
	if err := w.exec("PRAGMA cache_size=4;\nBEGIN;\n" + text); err != nil {
		return err
	}
	w.ledger.open = changes
	if err := w.copy(o); err != nil {
		return err
	}
	for n := o.Last(len(o.Frames)) + 1; o.Offset(n+1) <= len(o.WAL); n++ {
		if h, _ := o.frame(o.WAL, n); h.Salts != o.Header.Salts && h.Salts != (wal.Salts{}) {
			break
		}
		o.Tail++
	}
	return w.exec("ROLLBACK")
}
