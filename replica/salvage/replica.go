package salvage

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/wal"
)

// compareReplica restores the replica's newest commit into the private folder and finds out
// how it stands to the files.
func (w *work) compareReplica(ctx context.Context) error {
	if w.opts.Replica == nil {
		return nil
	}
	w.opts.Logger.Debug("restoring the replica's newest commit")
	path := w.path("replica")
	res, err := restore.Run(ctx, restore.Options{
		Bucket: w.opts.Replica, Output: path, WithoutDamaged: true, Logger: w.opts.Logger.With(slog.String("for", "salvage")),
	})
	if err != nil {
		return fmt.Errorf("restore the replica's newest commit: %w", err)
	}
	w.rep.Replica = &Replica{TXID: uint64(res.TXID), Time: res.Time.UTC().Format(time.RFC3339Nano)}
	size := wal.PageSize(res.Bytes / int64(max(res.Pages, 1)))
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the restored replica: %w", err)
	}
	w.files = append(w.files, f)
	if w.size != 0 && size != w.size {
		w.rep.Replica.Relation = fmt.Sprintf("it is of another database: its pages are of %d bytes, those of the files of %d", size, w.size)
		return nil
	}
	w.size = size
	if w.remote, err = newPages(ctx, f, res.Bytes, size); err != nil {
		return err
	}
	return w.placeReplica()
}

// placeReplica finds the commit of the WAL after which the replica stands.
func (w *work) placeReplica() error {
	h, r := w.history, w.rep.Replica
	if h == nil || len(h.commits) == 0 || h.size != w.remote.size {
		w.relateAlone()
		return nil
	}
	if err := h.heal(w.remote); err != nil {
		return err
	}
	if w.base != nil && w.base.size == h.size {
		w.at = h.alignDatabase(w.base)
	}
	w.rep.Log = h.report()
	w.there = h.align(w.remote, h.lostCommits())
	a := &w.there
	switch {
	case a.matches == 0 && w.remote.equals(w.base):
		w.aligned, a.least, a.commits = true, 0, 0
		r.Relation = "it is exactly the database without the WAL"
	case a.matches > 0 && a.against == 0:
		w.aligned = true
		a.commits = w.between(*a)
		r.Commit = a.commits
		r.Relation = fmt.Sprintf("it stands after commit %d of the WAL, as %d pages show", r.Commit, a.matches)
	case a.matches > 0 && w.isNewer():
		r.Newer = true
		r.Relation = fmt.Sprintf("it has commits after the last one that the WAL has: of the pages in the WAL %d are as that left them, and %d are newer", a.matches, a.against)
	default:
		r.Relation = "it is older than the WAL's first commit, or of another history: no page shows where it stands"
	}
	return nil
}

// relateAlone says how the replica stands to a database without commits in a WAL.
func (w *work) relateAlone() {
	r := w.rep.Replica
	same := 0
	if w.base != nil {
		for i, s := range w.remote.sums {
			if w.base.at(wal.PageNo(i+1)) == s {
				same++
			}
		}
	}
	r.Relation = fmt.Sprintf("%d of its %d pages are the same as the database's", same, w.remote.count)
	if w.remote.equals(w.base) {
		r.Relation = "it is exactly the database"
	}
}

// unknown is the number of lost frames among the first commits: that many pages can differ
// from what is known of the WAL.
func (h *history) unknown(commits int) (n int) {
	for _, i := range h.lost {
		if i <= h.end(commits) {
			n++
		}
	}
	return n
}

// between decides after which commit the replica stands, if the frames that are known leave
// more than one: after the last of these if it has pages that no frame explains, since
// those must be of lost frames; else after the first.
func (w *work) between(a alignment) int {
	differ, ok := w.differs(a.least)
	if !ok {
		return a.least
	}
	w.ahead = differ > 0 && differ <= w.history.unknown(a.commits)+w.history.lostAfter(a.commits)
	if w.ahead {
		return a.commits
	}
	return a.least
}

// differs counts the pages in which the replica differs from the database with the first
// commits, as far as their frames are known. It can't if there is no database.
func (w *work) differs(commits int) (n int, ok bool) {
	h := w.history
	if w.base == nil || w.headWrong != "" {
		return 0, false
	}
	p := h.plan(KindReplica, overlay{base: w.base, commits: commits, partial: true})
	for i, from := range p.from {
		no := wal.PageNo(i + 1)
		have := w.base.at(no)
		if from != noFrame {
			have = h.sums[from]
		}
		if have != w.remote.at(no) {
			n++
		}
	}
	return n + int(max(w.remote.count, p.count())-p.count()), true
}

// lostAfter is the number of lost frames right after the first commits, before the next one ends.
func (h *history) lostAfter(commits int) int {
	if commits >= len(h.commits) {
		return 0
	}
	return h.unknown(commits+1) - h.unknown(commits)
}

// isNewer tells whether the replica can only be later than the WAL: each page of it is as
// the WAL's last commit left it, or is known neither to the WAL nor to the database.
func (w *work) isNewer() bool {
	h := w.history
	last := map[wal.PageNo]int{}
	for i := range h.committed() {
		last[h.Frames[i].Page] = i
	}
	for i := range h.committed() {
		no := h.Frames[i].Page
		if w.remote.at(no) == h.sums[i] && h.sums[last[no]] != h.sums[i] {
			return false // an older image
		}
	}
	for no, i := range last {
		if w.remote.at(no) != h.sums[i] && w.remote.at(no) == w.base.at(no) {
			return false // the image of before
		}
	}
	return true
}

// replica is the replica's state and what comes after it.
func (w *work) replica() *plan {
	h := w.history
	if w.remote == nil {
		return nil
	}
	if !w.aligned {
		return w.replicaAlone()
	}
	k := w.there.commits
	o := overlay{base: w.remote, remote: true, skip: k, commits: h.contiguous(k)}
	p := h.plan(KindReplica, o)
	if w.ahead && o.commits == k {
		p.commits++ // the one whose frames are lost
		return w.judged(p, Proven, "the replica's newest commit, which stands after commit %d of %d and what is lost behind that", k, len(h.commits))
	}
	if o.commits == k {
		return w.judged(p, Proven, "the replica's newest commit, which stands after commit %d of %d", k, len(h.commits))
	}
	return w.judged(p, Proven, "the replica's newest commit, which stands after commit %d of %d, and the %d commits after it, which follow without a gap",
		k, len(h.commits), o.commits-k)
}

// replicaAlone is the replica's state where it is not known how it stands to the files, or
// where it is newer.
func (w *work) replicaAlone() *plan {
	if w.remote == nil {
		return nil
	}
	p := planAlone(KindReplica, w.remote, Proven)
	p.remote = true
	if !w.rep.Replica.Newer && w.unrelated() {
		p.stranger = true
		return w.judged(p, Probable, "the replica's newest commit, which looks like that of another database: almost nothing of what is in the files is in it")
	}
	if w.rep.Replica.Newer {
		p.newer = true
		p.commits, p.through = len(w.history.commits), len(w.history.commits)
		return w.judged(p, Proven, "the replica's newest commit, which is newer than all that the files have")
	}
	return w.judged(p, Probable, "the replica's newest commit; how it stands to the files is not known")
}

// fewPages are too few to tell whether a replica is of the database: those that are in it
// may all have changed since.
const fewPages = 8

// unrelated tells whether the replica looks like that of another database: of what the
// files hold, zeros aside, less than a tenth is in it.
func (w *work) unrelated() bool {
	held, same := 0, 0
	compare := func(no wal.PageNo, sum state.Sum) {
		held++
		if w.remote.at(no) == sum {
			same++
		}
	}
	zeros := make([]byte, w.remote.size)
	if w.base != nil && w.base.size == w.remote.size {
		for i, sum := range w.base.sums {
			if no := wal.PageNo(i + 1); sum != state.SumPage(no, zeros) {
				compare(no, sum)
			}
		}
	}
	if h := w.history; h != nil && h.size == w.remote.size {
		for i := range h.committed() {
			compare(h.Frames[i].Page, h.sums[i])
		}
	}
	return held >= fewPages && same*10 < min(held, int(w.remote.count))
}
