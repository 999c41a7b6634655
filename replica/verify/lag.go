package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/replica"
	"tidemark/replica/current"
	"tidemark/snapshot/state"
)

// Limit is a lag that a replica is held to.
type Limit struct {
	// Path is the database file, StateDir the replicator's state directory, or ""
	// for the one beside the database.
	Path, StateDir string
	// MaxLag is for how long a commit may be in the database and not in the replica.
	MaxLag time.Duration
	// Timeout is how long to wait for the replicator at most, if MaxLag is longer;
	// then its own word counts.
	Timeout time.Duration
}

// Lag is how far a replica is behind its database.
type Lag struct {
	// OK tells that it is within the limit.
	OK bool
	// TXID is the newest commit of the replica, Time its time.
	TXID state.TXID
	Time time.Time
	// Shipped tells that everything that was committed when this began was found in
	// the replica.
	Shipped bool
	// Behind is for how long the oldest commit had waited that was not in the replica
	// when this began, or when the waiting was over; 0 if there was none. Where nobody
	// can tell, it is at least that long.
	Behind time.Duration
	// Why says what is missing, "" if nothing is.
	Why string
}

// lag looks for how long a commit of the database has not been in the replica. A
// database at rest is not behind, however old its newest commit is. So that is not
// compared with the clock: everything that the database holds when lag begins must
// be in the replica before the limit is over, and nothing that was committed before
// may have waited for longer then.
func (v *verifier) lag(ctx context.Context) error {
	limit, began := *v.opts.MaxLag, v.opts.Now()
	l := &Lag{}
	v.report.Lag = l
	known, err := l.tell(limit, began)
	if err != nil {
		return err
	}
	if known && l.Behind > limit.MaxLag {
		l.Why = fmt.Sprintf("commits had waited for %s when this began", l.Behind.Round(time.Millisecond))
	}
	wait, cancel := context.WithTimeout(ctx, max(min(limit.MaxLag, limit.Timeout), time.Second))
	defer cancel()
	_, err = current.Find(wait, current.Options{Path: limit.Path, StateDir: limit.StateDir, Bucket: v.bucket, Logger: v.opts.Logger})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, current.ErrBehind):
		why := err.Error()
		l.Behind = max(l.Behind, v.opts.Now().Sub(began))
		if known, err = l.tell(limit, v.opts.Now()); err != nil {
			return err
		}
		if !known || l.Behind > limit.MaxLag {
			l.Why = why
		}
	case err != nil:
		return err
	default:
		if l.Shipped = true; !known {
			l.Behind = 0 // times of files tell nothing more
		}
	}
	if err := v.list(ctx); err != nil {
		return err
	}
	v.judge(limit, l)
	return nil
}

// tell takes what the replicator tells of itself into account, and what the files'
// times tell of it. Nothing is known if nobody replicates.
func (l *Lag) tell(limit Limit, now time.Time) (known bool, err error) {
	st, err := replica.ReadStatus(limit.Path, limit.StateDir)
	if err != nil {
		return false, err
	}
	behind, known := st.Lag(now)
	if since := st.Unseen(now); !since.IsZero() {
		behind = max(behind, now.Sub(since))
	}
	l.Behind = max(l.Behind, behind)
	return known, nil
}

// judge says what came of it.
func (v *verifier) judge(limit Limit, l *Lag) {
	all := v.inv.spans(reachable(v.inv.read(), v.inv.snaps, v.bad))
	if n := len(all); n > 0 {
		l.TXID, l.Time = all[n-1].Last, all[n-1].LastTime
	}
	if l.OK = l.Why == ""; l.OK {
		return
	}
	v.found(Finding{
		Check: CheckLag, Class: Database, Key: limit.Path, Severity: Error,
		Problem: fmt.Sprintf("not everything that is committed is known to have been in the replica within %s: %s", limit.MaxLag, l.Why),
		Means:   fmt.Sprintf("what was committed after TXID %v may be in the database only, by now for %s", l.TXID, l.Behind.Round(time.Millisecond)),
		Do:      "tidemark status " + limit.Path + " says how the replicator stands; start it if none runs",
	})
}
