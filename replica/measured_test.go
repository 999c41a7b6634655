package replica_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/storage"
	"tidemark/storage/mem"
)

// measuredUntil gives what is measured of the one replication that there is, when it
// is what is waited for.
func measuredUntil(t *testing.T, p *replica.Process, what string, is func(replica.Measured) bool) replica.Measured {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var m replica.Measured
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if all := p.Metrics().Replications; len(all) == 1 {
			if m = all[0]; is(m) {
				return m
			}
		}
	}
	t.Fatalf("it is not %s, but %+v", what, m)
	return m
}

// TestMeasured watches one replication from its start to its end.
func TestMeasured(t *testing.T) {
	t.Parallel()
	p := replica.NewProcess()
	a := newApp(t)
	bucket := storage.Count(mem.New())
	parked := make(chan struct{}, 100)
	opts := replica.Options{Path: a.path, Bucket: bucket, Name: "mem", Process: p, CheckpointPages: 10}.Parking(func() { parked <- struct{}{} })
	e := launch(t, opts)
	a.insert(30)
	shipped(t, bucket, 31)
	m := measuredUntil(t, p, "handed off and shipped", func(m replica.Measured) bool {
		return m.Status.Shipped.TXID >= 31 && m.Complete > 0 && m.FullSnapshots == 1
	})
	if m.WALFrames == 0 || m.WALBytes < int64(m.WALFrames)*512 {
		t.Errorf("the WAL has %d frames, %d bytes", m.WALFrames, m.WALBytes)
	}
	if m.Database != a.path || m.Replica != "mem" || m.Status.State != replica.StatusFollowing {
		t.Errorf("%s to %s is %s", m.Database, m.Replica, m.Status.State)
	}
	if m.Commits != 30 || m.SegmentBytes < 30*500 || m.SnapshotBytes == 0 || m.Status.LastSnapshot.TXID != 1 || m.MaxLocked == 0 {
		t.Errorf("counts %+v, the last snapshot %+v", m.Counts, m.Status.LastSnapshot)
	}
	if !m.Counted || m.Requests != bucket.Requests() || m.Requests.Put == 0 {
		t.Errorf("requests %+v, the bucket has counted %+v", m.Requests, bucket.Requests())
	}
	var locks uint64
	for _, n := range p.Metrics().Locked.Counts {
		locks += n
	}
	if locks < m.Complete {
		t.Errorf("%d write locks for %d hand-offs", locks, m.Complete)
	}
	<-parked
	measuredUntil(t, p, "parked", func(m replica.Measured) bool { return m.Parked })
	m = measuredUntil(t, p, "awake", func(m replica.Measured) bool {
		a.insert(1)
		return !m.Parked && m.Status.Shipped.TXID > 31
	})
	if lag, known := m.Lag(time.Now()); !known || lag > time.Minute {
		t.Errorf("lag %v (known: %t)", lag, known)
	}
	e.stop()
	if n := len(p.Metrics().Replications); n != 0 {
		t.Errorf("%d are left", n)
	}
	// One that can't begin counts as failed, until it is forgotten.
	opts.Path += "-that-is-not-there"
	if _, err := replica.Run(t.Context(), opts); err == nil {
		t.Error("it began")
	}
	m = measuredUntil(t, p, "failed", func(m replica.Measured) bool { return m.Status.State == replica.StatusFailed })
	p.Forget(opts.Path, opts.Name)
	if n := len(p.Metrics().Replications); n != 0 || m.Status.Error == "" {
		t.Errorf("%d are left of %+v", n, m.Status)
	}
	// One that is told to end before it has begun does not.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("never mind"))
	if _, err := replica.Run(ctx, opts); err == nil || len(p.Metrics().Replications) != 0 {
		t.Errorf("Run = %v, %d are left", err, len(p.Metrics().Replications))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
