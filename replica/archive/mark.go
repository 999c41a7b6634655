package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// Errors about marks that callers branch on.
var (
	// ErrNoMark says that no mark has the name.
	ErrNoMark = errors.New("no such mark")
	// ErrMarked says that another mark has the name already.
	ErrMarked = errors.New("the name marks a commit already")
	// ErrMarkName says that a mark can't have such a name.
	ErrMarkName = errors.New("not a name for a mark")
)

const (
	// maxMarkName is how long a mark's name can be.
	maxMarkName = 100
	maxMarkSize = 64 << 10
	markReaders = 16
)

// Mark is a name for a commit, which retention keeps restorable for as long as
// the mark exists. Its object mark/<name>.json holds the rest.
type Mark struct {
	// Name is unique in the replica; see [CheckMarkName].
	Name string
	// TXID is the commit, Time its time.
	TXID state.TXID
	Time time.Time
	// Created is when the mark was made.
	Created time.Time
}

type markFile struct {
	Format  int       `json:"format"`
	TXID    uint64    `json:"txid"`
	Time    time.Time `json:"time"`
	Created time.Time `json:"created"`
}

func markKey(name string) string { return markPrefix + name + markSuffix }

// CheckMarkName gives nil for a name that a mark can have: letters, digits, dots,
// underscores and hyphens, with a letter or a digit first, 100 at most. Such a name
// means the same in every kind of storage and on a command line. Else it is
// ErrMarkName.
func CheckMarkName(name string) error {
	const how = "use letters, digits, dots, underscores and hyphens, and begin with a letter or a digit"
	foreign := func(r rune) bool { return r > 'z' || !storage.ValidKey(string(r)+"x") }
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty; %s", ErrMarkName, how)
	case len(name) > maxMarkName:
		return fmt.Errorf("%w: %.20q… has %d characters, %d are the most", ErrMarkName, name, len(name), maxMarkName)
	case strings.ContainsFunc(name, foreign), strings.ContainsAny(name[:1], "._-"):
		return fmt.Errorf("%w: %q; %s", ErrMarkName, name, how)
	}
	return nil
}

// PutMark makes a mark. That its name is in use is ErrMarked, and says for what.
// It may run beside anything else. That the commit exists is up to the caller.
func (a *Archive) PutMark(ctx context.Context, m Mark) error {
	if err := CheckMarkName(m.Name); err != nil {
		return err
	}
	m.Time, m.Created = m.Time.UTC().Truncate(time.Millisecond), m.Created.UTC().Truncate(time.Millisecond)
	raw, err := json.Marshal(markFile{Format: formatVersion, TXID: uint64(m.TXID), Time: m.Time, Created: m.Created})
	if err != nil {
		return fmt.Errorf("put mark %s: %w", m.Name, err)
	}
	body := bytesBody(append(raw, '\n'))
	// First, for storage that ignores the condition of a Put.
	err = a.unmarked(ctx, m)
	if err == nil {
		err = a.putOnce(ctx, markKey(m.Name), body)
	}
	if errors.Is(err, ErrFenced) {
		err = a.unmarked(ctx, m) // somebody was quicker
	}
	if errors.Is(err, storage.ErrUnconditional) {
		r, _ := body.Open() // of bytes
		err = a.bucket.Put(ctx, markKey(m.Name), r, storage.PutOptions{Size: body.Size})
	}
	return err
}

// CommitTime reads when a commit was made. That the commit can't be restored, as far as
// the listing shows it, is ErrOutOfRange.
func (a *Archive) CommitTime(ctx context.Context, id state.TXID) (time.Time, error) {
	_, after, err := a.Plan(ctx, id)
	if err == nil && (after || id == 0) {
		err = fmt.Errorf("%w: TXID %v is after the newest commit", ErrOutOfRange, id)
	}
	if err != nil {
		return time.Time{}, err
	}
	log := a.listing.Segments
	for _, s := range slices.Backward(log) {
		if s.First > id {
			continue
		}
		_, x, err := a.Index(ctx, s)
		if err != nil {
			return time.Time{}, err
		}
		commits, err := x.Commits()
		if err != nil {
			return time.Time{}, fmt.Errorf("read index of %s: %w", s.Key(), err)
		}
		for _, c := range commits {
			if c.TXID == id {
				return c.Time, nil
			}
		}
		break
	}
	for _, s := range a.listing.Snapshots {
		if s.TXID == id {
			h, err := a.SnapshotHeader(ctx, s)
			return time.UnixMilli(h.Time).UTC(), err
		}
	}
	return time.Time{}, fmt.Errorf("%w: no object holds TXID %v", ErrOutOfRange, id)
}

// unmarked gives nil if there is no other mark of a name.
func (a *Archive) unmarked(ctx context.Context, m Mark) error {
	switch other, err := a.Mark(ctx, m.Name); {
	case errors.Is(err, ErrNoMark):
		return nil
	case err != nil:
		return err
	case other == m:
		return nil
	default:
		return fmt.Errorf("%w: %s is TXID %v of %s, marked %s", ErrMarked, m.Name, other.TXID, stamp(other.Time), stamp(other.Created))
	}
}

// Mark reads a mark as it is now. That there is none of the name is ErrNoMark.
func (a *Archive) Mark(ctx context.Context, name string) (Mark, error) {
	if err := CheckMarkName(name); err != nil {
		return Mark{}, err
	}
	key := markKey(name)
	r, err := a.bucket.Get(ctx, key, 0, maxMarkSize)
	if errors.Is(err, storage.ErrNotExist) {
		return Mark{}, fmt.Errorf("%w: %s", ErrNoMark, name)
	}
	if err != nil {
		return Mark{}, fmt.Errorf("read %s: %w", key, err)
	}
	raw, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return Mark{}, fmt.Errorf("read %s: %w", key, err)
	}
	m, err := parseMark(raw)
	if err != nil {
		return Mark{}, fmt.Errorf("read %s: %w", key, err)
	}
	m.Name = name
	return m, nil
}

func parseMark(raw []byte) (Mark, error) {
	var v struct{ Format int }
	if err := json.Unmarshal(raw, &v); err != nil {
		return Mark{}, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	if v.Format > formatVersion {
		return Mark{}, fmt.Errorf("%w %d, this program reads %d", block.ErrVersion, v.Format, formatVersion)
	}
	var f markFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return Mark{}, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	if f.Format < 1 || f.TXID == 0 {
		return Mark{}, fmt.Errorf("%w: it names no commit", block.ErrCorrupt)
	}
	return Mark{TXID: state.TXID(f.TXID), Time: f.Time, Created: f.Created}, nil
}

// Marks reads the marks as they are now, by TXID and name. One that can't be read
// is an error: what it stands for is not known.
func (a *Archive) Marks(ctx context.Context) ([]Mark, error) {
	var names []string
	err := a.bucket.List(ctx, markPrefix, "", func(o storage.Info) error {
		if name, ok := cut(o.Key, markPrefix, markSuffix); ok && CheckMarkName(name) == nil {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list marks: %w", err)
	}
	marks := make([]Mark, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(markReaders)
	for i, name := range names {
		g.Go(func() (err error) {
			marks[i], err = a.Mark(ctx, name)
			if errors.Is(err, ErrNoMark) {
				err = nil // deleted meanwhile
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	marks = slices.DeleteFunc(marks, func(m Mark) bool { return m.Name == "" })
	slices.SortFunc(marks, func(a, b Mark) int {
		return cmp.Or(cmp.Compare(a.TXID, b.TXID), cmp.Compare(a.Name, b.Name))
	})
	return marks, nil
}

// DeleteMark takes a mark away. The commit stays, until retention lets it go. That
// there is none of the name is ErrNoMark.
func (a *Archive) DeleteMark(ctx context.Context, name string) error {
	_, err := a.Mark(ctx, name)
	if err != nil && !errors.Is(err, block.ErrCorrupt) && !errors.Is(err, block.ErrVersion) {
		return err
	}
	if err := a.bucket.Delete(ctx, markKey(name)); err != nil {
		return fmt.Errorf("delete mark %s: %w", name, err)
	}
	return nil
}
