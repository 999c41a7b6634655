package salvage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"tidemark/replica/restore"
	"tidemark/replica/salvage/rebuild"
	"tidemark/wal"
	"tidemark/wal/scan"
)

// errUnlike says that a candidate is not what it was when it was looked at.
var errUnlike = errors.New("the private copies have changed while they were read")

// emit writes the best candidate, and the others if they are asked for.
func (w *work) emit(ctx context.Context, all []*trial) error {
	if err := w.emitOne(ctx, all[0], w.opts.Output); err != nil {
		return err
	}
	w.rep.Output = w.opts.Output
	w.rep.Candidates[0] = all[0].Candidate
	if w.opts.All == "" {
		return nil
	}
	if err := os.MkdirAll(w.opts.All, 0o700); err != nil {
		return fmt.Errorf("make the folder for all candidates: %w", err)
	}
	for i, t := range all[1:] {
		err := w.emitOne(ctx, t, filepath.Join(w.opts.All, string(t.Kind)+".db"))
		if err != nil && t.Rebuilt && ctx.Err() == nil {
			w.note("%s could not be written: %v", t.Kind, err)
			continue // the best one is there, and this one is damaged
		}
		if err != nil {
			return err
		}
		w.rep.Candidates[i+1] = t.Candidate
	}
	return nil
}

// emitOne writes one candidate under its name.
func (w *work) emitOne(ctx context.Context, t *trial, path string) error {
	p := t.build()
	w.expect(int64(p.count()) * int64(p.size))
	fill := func(f *os.File) error {
		sum, err := w.write(ctx, p, f)
		if err == nil && sum != t.checksum {
			err = errUnlike
		}
		return err
	}
	if t.Rebuilt {
		made, err := w.rebuild(ctx, p, t)
		if err != nil {
			return err
		}
		fill = func(f *os.File) error { return moveInto(f, made) }
	}
	if err := restore.Place(path, fill); err != nil {
		return err
	}
	t.Output = path
	return nil
}

// rebuild makes a new database of the rows that can be read of a damaged candidate, in the
// private folder.
func (w *work) rebuild(ctx context.Context, p *plan, t *trial) (path string, err error) {
	w.opts.Logger.Debug("rebuilding from what can be read", slog.String("kind", string(t.Kind)))
	path = w.path("rebuilt-" + string(t.Kind))
	made, err := rebuild.Database(ctx, &readable{w, p, make([]byte, p.size)}, path, rebuild.Options{Check: true})
	if err != nil {
		return "", fmt.Errorf("rebuild a damaged candidate: %w", err)
	}
	if made.Integrity != fine {
		return "", fmt.Errorf("rebuild a damaged candidate: SQLite finds the result damaged, too: %s", made.Integrity)
	}
	rows := map[string]int64{}
	for _, table := range made.Tables {
		rows[table.Name] = table.Rows
	}
	t.LostAndFound, t.Rows = made.LostAndFound.Rows, made.LostAndFound.Rows
	for i := range t.Tables {
		t.Tables[i].Rows = rows[t.Tables[i].Name]
		t.Rows += t.Tables[i].Rows
	}
	for _, f := range made.Failed {
		w.note("%s: the %s %s could not be made again: %s", t.Kind, f.Type, f.Name, f.Why)
	}
	w.advance(int64(p.count()) * int64(p.size))
	return path, nil
}

// moveInto copies a private file into another and removes it.
func moveInto(f *os.File, path string) (err error) {
	src, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open what was rebuilt: %w", err)
	}
	defer func() { err = errors.Join(err, src.Close(), os.Remove(path)) }()
	if _, err := io.Copy(f, src); err != nil {
		return fmt.Errorf("copy what was rebuilt: %w", err)
	}
	return nil
}

// settleMatch decides, now that SQLite has seen the database with the WAL's commits and
// without them, whether the two belong together: if nothing is lost of a prefix of the
// commits, and the database is whole without them and damaged with them, they don't.
func (w *work) settleMatch(all []*trial) (settled bool) {
	find := func(kind Kind) *trial {
		for _, t := range all {
			if t.Kind == kind {
				return t
			}
		}
		return nil
	}
	with, without := find(KindProven), find(KindDatabase)
	if with == nil || without == nil || w.foreign() {
		return false
	}
	if with.Integrity == fine || without.Integrity != fine || w.at.reached > w.history.proven() {
		return false
	}
	m := w.rep.Match
	m.Fit = Foreign
	m.Evidence = append(m.Evidence, "SQLite finds nothing wrong with the database alone, and damage in it with the commits of the WAL, of which none is lost up to there")
	p := w.database()
	without.Proof, without.Why = p.proof, p.why
	return true
}

// verdict is the whole in a word.
func (w *work) verdict(best *trial) Verdict {
	h := w.history
	switch {
	case best.Proof != Proven:
		return Lost
	case best.newer, h == nil:
		return Whole
	case best.Through < len(h.commits), w.foreign() && best.Kind != KindReplica, len(h.tail) > 0, w.uncounted:
		return Lost
	}
	return Whole
}

// tellTail notes what comes after the last commit: it may be nothing, and it may be a commit.
func (w *work) tellTail() {
	h := w.history
	n, left := 0, []string(nil)
	for v := scan.Unknown; v <= scan.Orphan; v++ {
		if h.tail[v] > 0 {
			n += h.tail[v]
			left = append(left, fmt.Sprintf("%d %s", h.tail[v], v))
		}
	}
	if n > 0 {
		w.note("after the last commit the WAL has %d places that are not used (%s): a transaction that was not finished or was rolled back, or a commit that is lost",
			n, strings.Join(left, ", "))
	}
}

// compareIndex looks into the wal-index beside the database, if it is there: it counts the frames of
// the WAL up to the last commit, so that it shows if some are gone from the end.
func (w *work) compareIndex(path string) {
	h := w.history
	b := make([]byte, wal.IndexSize)
	f, err := os.Open(path)
	if err != nil {
		return // it is no evidence that must be there
	}
	n, _ := f.ReadAt(b, 0) // what is too short is no index
	_ = f.Close()          // only read from
	x, err := wal.ParseIndex(b[:n])
	if n < len(b) || err != nil || h.gen < 0 || x.Salts != h.Generations[h.gen].Salts {
		return
	}
	have := uint32(0)
	if k := len(h.commits); k > 0 {
		have = h.Number(h.commits[k-1].Last)
	}
	if x.Frames > have {
		w.uncounted = true
		w.note("the wal-index %s counts %d frames up to the last commit, and the WAL has %d: what came after these is lost", path, x.Frames, have)
	}
}
