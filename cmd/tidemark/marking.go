package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/current"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// marking is one run of the command on one replica.
type marking struct {
	*markFlags
	name  string
	place location.Location
	// path and stateDir are the database's, path "" for a replica's URL. told says
	// that the place is what its replicator told. label names it among several.
	path, stateDir string
	told           bool
	label          string
	logger         *slog.Logger

	// archive is there once it is opened.
	archive *archive.Archive
}

// open opens the archive.
func (m *marking) open(ctx context.Context) error {
	bucket, err := m.place.Open(ctx, location.Options{})
	if err != nil {
		return err
	}
	m.archive, err = archive.Open(ctx, bucket)
	return err
}

// free checks that the name is not in use.
func (m *marking) free(ctx context.Context) error {
	other, err := m.archive.Mark(ctx, m.name)
	if err == nil {
		return fmt.Errorf("%w: %s is TXID %s of %s", archive.ErrMarked, m.name, other.TXID, formatTime(other.Time))
	}
	if !errors.Is(err, archive.ErrNoMark) {
		return err
	}
	return nil
}

// mark makes the mark.
func (m *marking) mark(ctx context.Context) (mark archive.Mark, err error) {
	mark.Name = m.name
	if m.byTXID || m.byTime || m.path == "" {
		mark.TXID, mark.Time, err = m.chosen(ctx, m.archive)
	} else {
		mark.TXID, mark.Time, err = m.current(ctx, m.archive)
	}
	if err != nil {
		return mark, err
	}
	mark.Created = time.Now()
	return mark, m.archive.PutMark(ctx, mark)
}

// chosen is the commit of the replica that the flags name, or its newest. It is one
// that can be restored.
func (m *marking) chosen(ctx context.Context, a *archive.Archive) (id state.TXID, at time.Time, err error) {
	switch {
	case m.byTXID:
		id = state.TXID(m.txid)
	case m.byTime:
		t, err := parseMoment(m.timestamp, time.Now())
		if err != nil {
			return 0, at, usagef("--timestamp: %w", err)
		}
		if id, _, err = a.At(ctx, t); err != nil {
			return 0, at, err
		}
	default:
		r, err := a.Range(ctx)
		if err != nil {
			return 0, at, err
		}
		id = r.LastTXID
	}
	// The listing alone does not show every gap that it may lie behind.
	if err := a.Check(ctx, id); err != nil {
		return 0, at, err
	}
	at, err = a.CommitTime(ctx, id)
	return id, at, err
}

// current is the commit that the database is at, once it is in the replica.
func (m *marking) current(ctx context.Context, a *archive.Archive) (state.TXID, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	c, err := current.Find(ctx, current.Options{Path: m.path, StateDir: m.stateDir, Bucket: a.Bucket(), Logger: m.logger})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		if st, serr := replica.ReadStatus(m.path, m.stateDir); serr == nil && st.Error != "" {
			err = fmt.Errorf("%w; the replicator says: %s", err, oneLine(st.Error))
		}
		err = advisedError{err: err, hint: "tidemark status " + m.path + " says more; --timeout waits longer than " + m.timeout.String()}
	case errors.Is(err, current.ErrBehind):
		err = advisedError{err: err, hint: "start tidemark replicate, or mark what the replica holds: tidemark mark " + m.place.String() + " " + m.name}
	case errors.Is(err, current.ErrOther):
		err = advisedError{err: err, hint: "give the URL that the database is replicated to with --replica"}
	}
	return c.TXID, c.Time, err
}

// atPlace says where an error happened.
func (m *marking) atPlace(err error) error {
	if m.told && m.place.IsFolder() && isAny(err, storage.ErrNoBucket, archive.ErrNoReplica) {
		return advisedError{
			err: atPlace(m.place, err),
			hint: "that is where the replicator says that it ships to; if it was started in another folder than this one, " +
				"give the URL, as seen from here, with --replica",
		}
	}
	return atPlace(m.place, err)
}
