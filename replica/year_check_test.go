package replica_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// How the year's archive is checked: what must be restorable is, with the content
// that it had; what is not is refused, and the error names all that is.

// yearTally is what was done in a year.
type yearTally struct {
	starts, onces, kills, checks int
	// byTXID, byTime, byMark and live are restores: live ones ran beside the
	// replicator. Refused are those that were refused as they should, gone those of
	// them that nothing keeps, and unmarked marks that are no more.
	byTXID, byTime, byMark, live, refused, gone, unmarked int
}

// yearSize is what an archive has come to at a time.
type yearSize struct {
	at      time.Time
	txid    state.TXID
	objects map[string]int
	total   int
	bytes   int64
}

func (s yearSize) String() string {
	return fmt.Sprintf("%s: TXID %v, %d objects %v, %d bytes", s.at.Format("2006-01-02"), s.txid, s.total, s.objects, s.bytes)
}

// size lists the archive.
func (y *year) size() yearSize {
	y.t.Helper()
	s := yearSize{at: y.clock.Now(), txid: y.truth.shipped(), objects: map[string]int{}}
	err := y.bucket.Bucket.List(y.t.Context(), "", "", func(o storage.Info) error {
		kind, _, _ := strings.Cut(o.Key, "/")
		s.objects[kind]++
		s.total++
		s.bytes += o.Size
		return nil
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return s
}

// ranges are what can be restored. What is pruned meanwhile has it looked at again.
func (y *year) ranges() archive.Ranges {
	y.t.Helper()
	const most = 20
	var r archive.Ranges
	err := storage.ErrNotExist
	for n := 0; n < most && errors.Is(err, storage.ErrNotExist); n++ {
		r, err = y.open().Ranges(y.t.Context())
	}
	if err != nil {
		y.t.Fatalf("%v: %v", y.clock.Now(), err)
	}
	return r
}

// checkKept checks that all that must be restorable is said to be, and that the
// ranges are what the history was.
func (y *year) checkKept() archive.Ranges {
	y.t.Helper()
	y.tally.checks++
	ranges, now := y.ranges(), y.clock.Now().Format(time.DateTime)
	var end state.TXID
	for _, r := range ranges {
		if r.FirstTXID <= end+1 && end > 0 || r.LastTXID < r.FirstTXID {
			y.t.Fatalf("%s: ranges that are none, or one: %v", now, ranges)
		}
		end = r.LastTXID
		if !r.FirstTime.Equal(y.truth.at(r.FirstTXID)) || !r.LastTime.Equal(y.truth.at(r.LastTXID)) {
			y.t.Fatalf("%s: wrong times in the range %v", now, r)
		}
	}
	if end != y.truth.shipped() {
		y.t.Fatalf("%s: the last range ends at TXID %v, not %v", now, end, y.truth.shipped())
	}
	if from, r := y.truth.window(), ranges[len(ranges)-1]; r.FirstTXID > from {
		y.t.Fatalf("%s: every commit since TXID %v must be restorable, and it is since %v", now, from, r)
	}
	for _, id := range y.truth.thinned() {
		if !ranges.Holds(id) {
			y.t.Fatalf("%s: the snapshot of TXID %v of %v must be restorable: %v", now, id, y.truth.at(id), ranges)
		}
	}
	for name, id := range y.truth.marks {
		if !ranges.Holds(id) {
			y.t.Fatalf("%s: TXID %v, marked %s, must be restorable: %v", now, id, name, ranges)
		}
	}
	return ranges
}

// checkGone waits until nothing is left of what nothing keeps, and tells how much
// that was.
func (y *year) checkGone() (commits int) {
	y.t.Helper()
	gone := y.truth.gone()
	for id := range y.truth.shipped() {
		if gone(id + 1) {
			commits++
		}
	}
	left := func() state.TXID {
		for _, r := range y.ranges() {
			for id := r.FirstTXID; id <= r.LastTXID; id++ {
				if gone(id) {
					return id
				}
			}
		}
		return 0
	}
	waitFor(y.t, func() bool { return left() == 0 })
	return commits
}

// restore restores a target, checks that the result is the commit that it should
// be, and removes it.
func (y *year) restore(target restore.Target, want state.TXID) {
	y.t.Helper()
	out, check := filepath.Join(y.out, "restored.db"), restore.None
	if y.pick.IntN(4) == 0 {
		check = restore.Full
	}
	res, err := restore.Run(y.t.Context(), restore.Options{
		Bucket: y.bucket.Bucket, Output: out, Target: target, Integrity: check, Logger: discard(),
	})
	if err != nil {
		y.t.Errorf("%v: restore %+v: %v", y.clock.Now(), target, err)
		return
	}
	got := y.contentOf(out)
	if err := os.Remove(out); err != nil {
		y.t.Fatal(err)
	}
	if m := y.truth.commits[want-1]; res.TXID != want || got != m.content || !res.Time.Equal(m.at) {
		y.t.Errorf("%v: restore %+v: TXID %v of %v with %+v, want %v of %v with %+v",
			y.clock.Now(), target, res.TXID, res.Time, got, want, m.at, m.content)
	}
}

// contentOf reads what a database holds.
func (y *year) contentOf(path string) (c content) {
	y.t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1&mode=ro")
	if err != nil {
		y.t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // only read
	rows, err := db.QueryContext(y.t.Context(), "SELECT id, v FROM t")
	if err != nil {
		y.t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // only read
	for rows.Next() {
		var id int64
		var v sql.RawBytes
		if err := rows.Scan(&id, &v); err != nil {
			y.t.Fatal(err)
		}
		c.rows++
		c.sum += sumRow(id, v)
	}
	if err := rows.Err(); err != nil {
		y.t.Fatal(err)
	}
	return c
}

// refuse checks that a target is refused, and what the error says: id is the commit
// that it is or was current then, 0 if it is before all.
func (y *year) refuse(target restore.Target, id state.TXID, ranges archive.Ranges) {
	y.t.Helper()
	out := filepath.Join(y.out, "refused.db")
	_, err := restore.Run(y.t.Context(), restore.Options{Bucket: y.bucket.Bucket, Output: out, Target: target, Logger: discard()})
	var r *archive.RangeError
	if !errors.As(err, &r) || !errors.Is(err, archive.ErrOutOfRange) {
		y.t.Errorf("%v: restore %+v, which is outside of %v: %v", y.clock.Now(), target, ranges, err)
		_ = os.Remove(out)
		return
	}
	if diff := cmp.Diff(ranges, r.Ranges); diff != "" || !strings.Contains(err.Error(), ranges.String()) {
		y.t.Errorf("%v: restore %+v: the error does not name what is restorable (-is +named): %s\n%v", y.clock.Now(), target, diff, err)
	}
	before := r.Before != nil && (r.Before.TXID > id || !ranges.Holds(r.Before.TXID))
	after := r.After != nil && (r.After.TXID <= id || !ranges.Holds(r.After.TXID))
	if before || after || (r.Before == nil) != (id < ranges[0].FirstTXID) || r.After == nil {
		y.t.Errorf("%v: restore %+v, TXID %v: the nearest are not %v and %v", y.clock.Now(), target, id, r.Before, r.After)
	}
	if left, err := os.ReadDir(y.out); err != nil || len(left) > 0 {
		y.t.Fatalf("what was refused has left %v, error %v", left, err)
	}
	y.tally.refused++
	if id > 0 && y.truth.gone()(id) {
		y.tally.gone++
	}
}

// checkRestores restores what it may and tries to restore what it may not, at
// random. Nobody must be writing to the archive.
func (y *year) checkRestores(tries int) {
	y.t.Helper()
	ranges := y.checkKept()
	if y.engine != nil {
		y.t.Fatal("the replicator runs")
	}
	for range tries {
		y.restoreInside(ranges)
		y.refuseOutside(ranges)
	}
}

// restoreInside restores something that can be.
func (y *year) restoreInside(ranges archive.Ranges) {
	y.t.Helper()
	r := ranges[y.pick.IntN(len(ranges))]
	if y.pick.IntN(2) == 0 {
		r = ranges[len(ranges)-1]
	}
	id := r.FirstTXID + state.TXID(y.pick.IntN(int(r.LastTXID-r.FirstTXID)+1))
	switch names := y.truth.names(); y.pick.IntN(10) {
	case 0, 1, 2:
		y.restoreAt(id, r)
	case 3:
		if len(names) > 0 {
			name := names[y.pick.IntN(len(names))]
			y.restore(restore.Target{Mark: name}, y.truth.marks[name])
			y.tally.byMark++
		}
	case 4:
		id = r.FirstTXID
		fallthrough
	default:
		y.restore(restore.Target{TXID: id}, id)
		y.tally.byTXID++
	}
}

// restoreAt restores a commit of a range by a time at which it was current.
func (y *year) restoreAt(id state.TXID, r archive.Range) {
	y.t.Helper()
	at := y.truth.at(id)
	id = y.truth.current(at) // the last one of those at the same time
	if id > r.LastTXID {
		return // it is in none of the ranges
	}
	if id < r.LastTXID || id == y.truth.shipped() {
		next := y.clock.Now()
		if id < r.LastTXID {
			next = y.truth.at(id + 1)
		}
		if span := next.Sub(at); span > time.Millisecond && y.pick.IntN(3) > 0 {
			at = at.Add(time.Duration(y.pick.Int64N(int64(span/time.Millisecond))) * time.Millisecond)
		}
	}
	y.restore(restore.Target{Time: at}, id)
	y.tally.byTime++
}

// refuseOutside asks for something that can't be restored.
func (y *year) refuseOutside(ranges archive.Ranges) {
	y.t.Helper()
	id := y.outside(ranges)
	names := y.truth.unmarked
	switch n := y.pick.IntN(8); {
	case n == 0 && len(names) > 0:
		y.refuseMark(names[y.pick.IntN(len(names))])
	case id == 0: // there is nothing
	case n < 4:
		y.refuseAt(id, ranges)
	default:
		y.refuse(restore.Target{TXID: id}, id, ranges)
	}
}

// outside is a commit in none of the ranges: any, or one beside a range. It is 0 if
// there is none.
func (y *year) outside(ranges archive.Ranges) state.TXID {
	r := ranges[y.pick.IntN(len(ranges))]
	id := []state.TXID{r.FirstTXID - 1, r.LastTXID + 1}[y.pick.IntN(2)]
	if n := int(ranges[len(ranges)-1].FirstTXID); y.pick.IntN(3) > 0 {
		id = state.TXID(y.pick.IntN(n))
	}
	if id == 0 || id > y.truth.shipped() || ranges.Holds(id) {
		return 0
	}
	return id
}

// refuseAt asks for a commit that can't be restored by a time at which it was
// current.
func (y *year) refuseAt(id state.TXID, ranges archive.Ranges) {
	y.t.Helper()
	at := y.truth.at(id)
	id = y.truth.current(at)
	for same := id; same > 0 && y.truth.at(same).Equal(at); same-- {
		if ranges.Holds(same) {
			return // one of those at exactly that time will do
		}
	}
	if span := y.truth.at(id + 1).Sub(at); span > 0 && y.pick.IntN(2) == 0 {
		at = at.Add(time.Duration(y.pick.Int64N(int64(span/time.Millisecond))) * time.Millisecond)
	}
	y.refuse(restore.Target{Time: at}, id, ranges)
}

// refuseMark asks for a mark that was deleted.
func (y *year) refuseMark(name string) {
	y.t.Helper()
	_, err := restore.Run(y.t.Context(), restore.Options{
		Bucket: y.bucket.Bucket, Output: filepath.Join(y.out, "refused.db"), Target: restore.Target{Mark: name}, Logger: discard(),
	})
	if !errors.Is(err, archive.ErrNoMark) {
		y.t.Errorf("%v: restore the mark %s, which is deleted: %v", y.clock.Now(), name, err)
	}
	y.tally.unmarked++
}

// restoreLive restores beside the replicator what must be restorable.
func (y *year) restoreLive() {
	y.t.Helper()
	ids := slices.Concat(y.truth.thinned(), []state.TXID{y.truth.shipped()})
	id := ids[y.pick.IntN(len(ids))]
	if from := y.truth.window(); y.pick.IntN(2) == 0 {
		id = from + state.TXID(y.pick.IntN(int(y.truth.shipped()-from)+1))
	}
	y.restore(restore.Target{TXID: id}, id)
	y.tally.live++
}
