package salvage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"tidemark/replica/restore"
	"tidemark/wal"
)

// run is Run.
func run(ctx context.Context, opts Options) (_ *Report, err error) {
	w := &work{opts: opts, rep: &Report{Verdict: Nothing, Candidates: []Candidate{}}}
	p, err := opts.resolve()
	if err != nil {
		return nil, err
	}
	if err := w.checkOutputs(p); err != nil {
		return nil, err
	}
	if err := w.begin(p); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	if err := w.load(ctx, p); err != nil {
		return nil, err
	}
	if err := w.compareReplica(ctx); err != nil {
		return nil, err
	}
	all, err := w.evaluate(ctx)
	if err != nil {
		return w.rep, err
	}
	for _, t := range all {
		w.rep.Candidates = append(w.rep.Candidates, t.Candidate)
	}
	if err := w.nothing(all); err != nil {
		return w.rep, err
	}
	if err := w.emit(ctx, all); err != nil {
		return w.rep, err
	}
	w.rep.Verdict = w.verdict(all[0])
	if w.opts.Progress != nil {
		w.opts.Progress(w.total, w.total)
	}
	return w.rep, nil
}

// nothing says that the best candidate is not worth to be written.
func (w *work) nothing(all []*trial) error {
	switch best := w.rep.Best(); {
	case len(all) > 0 && all[0].stranger && w.opts.Take == "":
		return fmt.Errorf("%w: %s; the replica looks like that of another database, see its candidate", ErrNothing, w.opts.Path)
	case best == nil, best.Proof == Damaged && best.Rows == 0 && len(best.Tables) == 0:
		return fmt.Errorf("%w: %s", ErrNothing, w.opts.Path)
	}
	return nil
}

// checkOutputs looks whether the places of what is to be written are free.
func (w *work) checkOutputs(p paths) error {
	if err := restore.CheckFree(w.opts.Output); err != nil {
		return err
	}
	for _, suffix := range []string{walSuffix, journalSuffix, "-shm"} {
		for _, path := range []string{p.database, w.opts.Path} {
			if path != "" && filepath.Clean(w.opts.Output) == filepath.Clean(path)+suffix {
				return fmt.Errorf("%w: SQLite would take %s for a part of %s", restore.ErrStray, w.opts.Output, path)
			}
		}
	}
	if w.opts.Take != "" && w.opts.Take.order() < 0 {
		return fmt.Errorf("%w: there is no kind of candidate named %q", ErrInput, w.opts.Take)
	}
	if w.opts.All == "" {
		return nil
	}
	for _, path := range []string{p.database, p.wal} {
		if path != "" && same(filepath.Dir(path), w.opts.All) {
			return fmt.Errorf("%w: %s holds an original", ErrInput, w.opts.All)
		}
	}
	names, err := os.ReadDir(w.opts.All)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at the folder for all candidates: %w", err)
	case len(names) > 0:
		return fmt.Errorf("%w: the folder %s is not empty", restore.ErrExists, w.opts.All)
	}
	return nil
}

// load copies and reads the inputs.
func (w *work) load(ctx context.Context, p paths) (err error) {
	log := w.opts.Logger
	if p.database != "" {
		log.Debug("copying", slog.String("file", p.database))
		if w.db, err = w.copyInput(ctx, p.database, "database"); err != nil {
			return err
		}
		w.rep.Database = w.db.input
		w.rep.Database.Header = w.readHead()
	}
	if p.journal != "" {
		w.rep.Journal = lookAtJournal(p.journal, p.database)
	}
	if p.wal != "" {
		log.Debug("copying", slog.String("file", p.wal))
		if w.wal, err = w.copyInput(ctx, p.wal, "wal"); err != nil {
			return err
		}
		w.rep.WAL = w.wal.input
		log.Debug("scanning", slog.String("file", p.wal))
		if w.history, err = readHistory(ctx, w.wal, cmp.Or(w.opts.PageSize, w.head.pageSize)); err != nil {
			return err
		}
	}
	w.describeWAL()
	if err := w.loadDatabase(ctx); err != nil {
		return err
	}
	if w.history == nil {
		return nil
	}
	if err := w.compareDatabase(); err != nil {
		return err
	}
	w.rep.Log = w.history.report()
	w.tellTail()
	if p.database != "" {
		w.compareIndex(p.database + "-shm")
	}
	return nil
}

// compareDatabase finds out how the database stands to the WAL, and takes from it what is
// lost there.
func (w *work) compareDatabase() (err error) {
	h := w.history
	if w.base == nil || h.gen < 0 {
		return nil
	}
	if err := h.heal(w.base); err != nil {
		return err
	}
	if w.base.size == h.size {
		w.at = h.alignDatabase(w.base)
	}
	w.rep.Match, err = w.match()
	return err
}

// describeWAL says what the WAL's header is worth.
func (w *work) describeWAL() {
	switch h := w.history; {
	case w.wal == nil:
	case h == nil && w.wal.size > 0:
		w.wal.input.Header = "it does not look like a WAL at all"
	case h != nil:
		w.wal.input.PageSize = h.size
		if h.Header.Err != nil {
			w.wal.input.Header = h.Header.Err.Error()
		}
	}
}

// loadDatabase reads the database's pages, in the page size that the files speak for.
func (w *work) loadDatabase(ctx context.Context) (err error) {
	var logged wal.PageSize
	if w.history != nil {
		logged = w.history.size
	}
	w.size = logged
	if w.db == nil || w.db.size == 0 {
		return nil
	}
	size := w.head.pageSize
	if size != 0 && logged != 0 && size != logged && !w.saysItsLength() && !w.isOf(size) && w.isOf(logged) {
		w.note("the database's header gives a page size of %d, and its pages are of %d bytes", size, logged)
		size = logged
	}
	if size == 0 {
		size = cmp.Or(w.opts.PageSize, logged, guessPageSize(w.db.File, w.db.size))
	}
	if size == 0 {
		w.note("the database holds nothing that can be told from noise")
		return nil
	}
	w.db.input.PageSize, w.size = size, size
	if w.base, err = newPages(ctx, w.db.File, w.db.size, size); err != nil {
		return err
	}
	w.base.without(w.db.unreadable)
	if w.headWrong == "" && w.head.pages < w.base.count {
		w.base.length = w.head.pages // the rest is what a transaction left that was rolled back
	}
	return nil
}

// saysItsLength tells whether the database's header and its length agree, which no header does
// whose page size is wrong: it is the database's word, whatever a WAL beside it says.
func (w *work) saysItsLength() bool {
	return w.headWrong == "" && w.head.pages != 0 && int64(w.head.pages)*int64(w.head.pageSize) == w.db.size
}

// isOf tells whether the database looks as if it had a page size.
func (w *work) isOf(size wal.PageSize) bool { return guessPageSize(w.db.File, w.db.size) == size }

// evaluate judges all candidates. The best comes first.
func (w *work) evaluate(ctx context.Context) ([]*trial, error) {
	all, err := w.tryAll(ctx, nil, w.builders())
	if err != nil {
		return nil, err
	}
	if w.settleMatch(all) {
		if all, err = w.tryAll(ctx, all, []func() *plan{w.walAlone}); err != nil {
			return nil, err
		}
	}
	w.baseline(all)
	slices.SortStableFunc(all, func(a, b *trial) int { return compare(a.standing(), b.standing()) })
	if take := w.opts.Take; take != "" {
		i := slices.IndexFunc(all, func(t *trial) bool { return t.Kind == take })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no candidate %q here", ErrInput, take)
		}
		all = slices.Insert(slices.Delete(slices.Clone(all), i, i+1), 0, all[i])
	}
	return all, nil
}

// tryAll adds candidates to those that are known. What is the same as one of these is not
// added again.
func (w *work) tryAll(ctx context.Context, all []*trial, builders []func() *plan) ([]*trial, error) {
	for _, build := range builders {
		p := build()
		if p == nil || p.count() == 0 {
			continue
		}
		w.opts.Logger.Debug("trying a candidate", slog.String("kind", string(p.kind)))
		t, err := w.try(ctx, p, build, all)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all, nil
}

// baseline gives each table its rows in the database file alone.
func (w *work) baseline(all []*trial) {
	i := slices.IndexFunc(all, func(t *trial) bool { return t.Kind == KindDatabase })
	if i < 0 {
		i = slices.IndexFunc(all, func(t *trial) bool { return t.alone })
	}
	if i < 0 {
		return
	}
	rows := map[string]int64{}
	for _, t := range all[i].Tables {
		rows[t.Name] = t.Rows
	}
	for _, t := range all {
		for k := range t.Tables {
			if n, ok := rows[t.Tables[k].Name]; ok {
				t.Tables[k].InDatabase = n
			}
		}
	}
}
