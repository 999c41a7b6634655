package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tidemark/replica"
)

// replications are the metrics that each replication has.
func replications() []metric {
	return append(append(positions(), traffic()...), events()...)
}

// desc names a metric of a replication, by what follows tidemark_.
func desc(name, help string, label ...string) *prometheus.Desc {
	return prometheus.NewDesc("tidemark_"+name, help, append([]string{"db", "replica"}, label...), nil)
}

// gauge has always a value.
func gauge(name, help string, value func(replica.Measured) float64) metric {
	return metric{desc(name, help), prometheus.GaugeValue, func(m replica.Measured, _ time.Time, tell emit) { tell(value(m)) }}
}

// moment is a time, left out if it is not known.
func moment(name, help string, at func(replica.Measured) time.Time) metric {
	return metric{desc(name, help), prometheus.GaugeValue, func(m replica.Measured, _ time.Time, tell emit) {
		if t := at(m); !t.IsZero() {
			tell(float64(t.UnixMilli()) / 1000)
		}
	}}
}

// counter counts something that always happens.
func counter(name, help string, value func(replica.Measured) float64) metric {
	m := gauge(name, help, value)
	m.kind = prometheus.CounterValue
	return m
}

// some is a count with its label.
type some struct {
	label string
	count uint64
}

// byLabel counts several things under one name.
func byLabel(name, help, label string, counts func(replica.Measured) []some) metric {
	return metric{desc(name, help, label), prometheus.CounterValue, func(m replica.Measured, _ time.Time, tell emit) {
		for _, s := range counts(m) {
			tell(float64(s.count), s.label)
		}
	}}
}

// happened leaves out what has not happened.
func happened(counts ...some) []some {
	return slices.DeleteFunc(counts, func(s some) bool { return s.count == 0 })
}

// rare counts what most replications never see, and is left out until it happens.
func rare(name, help string, value func(replica.Measured) uint64) metric {
	return metric{desc(name, help), prometheus.CounterValue, func(m replica.Measured, _ time.Time, tell emit) {
		if n := value(m); n > 0 {
			tell(float64(n))
		}
	}}
}

// positions are how far a replication is.
func positions() []metric {
	return []metric{
		{
			desc("state", "1, with the state as a label: starting, following, retrying, overflowed or failed. All but following need time, storage or somebody's help.", "state"),
			prometheus.GaugeValue,
			func(m replica.Measured, _ time.Time, tell emit) { tell(1, string(m.Status.State)) },
		},
		gauge("last_commit_txid", "TXID of the newest commit that was read.",
			func(m replica.Measured) float64 { return float64(m.Status.Read.TXID) }),
		moment("last_commit_timestamp_seconds", "When the newest commit was seen.",
			func(m replica.Measured) time.Time { return m.Status.Read.Time }),
		gauge("shipped_txid", "TXID of the newest commit that is in storage.",
			func(m replica.Measured) float64 { return float64(m.Status.Shipped.TXID) }),
		moment("last_upload_timestamp_seconds", "When the newest commit that is in storage was uploaded.",
			func(m replica.Measured) time.Time { return m.Status.Uploaded }),
		{
			desc("lag_seconds", "Age of the oldest commit that is not in storage, or the time for which commits may have been made that nobody has read, if that is longer. Absent if nobody replicates."),
			prometheus.GaugeValue,
			func(m replica.Measured, now time.Time, tell emit) {
				if lag, ok := m.Lag(now); ok {
					tell(lag.Seconds())
				}
			},
		},
		gauge("waiting_commits", "Commits that wait for their upload.",
			func(m replica.Measured) float64 { return float64(m.Status.WaitingCommits) }),
		gauge("waiting_bytes", "Bytes in the spool that wait for their upload.",
			func(m replica.Measured) float64 { return float64(m.Status.WaitingBytes) }),
		gauge("wal_frames", "Frames of the WAL up to the newest commit that was read.",
			func(m replica.Measured) float64 { return float64(m.WALFrames) }),
		gauge("wal_bytes", "Bytes of the WAL up to the newest commit that was read.",
			func(m replica.Measured) float64 { return float64(m.WALBytes) }),
		moment("last_snapshot_timestamp_seconds", "When the commit was seen of which the newest snapshot is that was written from here.",
			func(m replica.Measured) time.Time { return m.Status.LastSnapshot.Time }),
	}
}

// traffic is what went to storage.
func traffic() []metric {
	return []metric{
		counter("shipped_commits_total", "Commits uploaded in segments.",
			func(m replica.Measured) float64 { return float64(m.Commits) }),
		byLabel("uploaded_bytes_total", "Bytes uploaded as segments, snapshots and packs. Absent until there are some.", "kind", func(m replica.Measured) []some {
			return happened(some{"segment", uint64(m.SegmentBytes)}, some{"snapshot", uint64(m.SnapshotBytes)}, some{"pack", uint64(m.PackBytes)})
		}),
		byLabel("requests_total", "Requests to storage, each part, page and retry for itself. Absent until there are some.", "kind", func(m replica.Measured) []some {
			r := m.Requests
			return happened(some{"put", uint64(r.Put)}, some{"get", uint64(r.Get)}, some{"list", uint64(r.List)}, some{"delete", uint64(r.Delete)})
		}),
	}
}

// events are what has happened in the run.
func events() []metric {
	return []metric{
		byLabel("failures_total", "What has failed and was tried again: the replication as a whole, an upload, a snapshot.", "kind",
			func(m replica.Measured) []some {
				return []some{{"replication", m.Failures}, {"upload", m.UploadFailures}, {"snapshot", m.SnapshotFailures}}
			}),
		counter("repairs_total", "Resyncs: commits that stand for changes that could not be followed one by one.",
			func(m replica.Measured) float64 { return float64(m.Status.Repairs) }),
		counter("overflows_total", "How often the spool was full, and its commits were given up one by one.",
			func(m replica.Measured) float64 { return float64(m.Overflows) }),
		byLabel("handoffs_total", "Hand-offs of the WAL: complete ones, after which it restarts; incomplete ones, when a reader needs it or a writer is too fast; "+
			"unlocked ones, which did not get the write lock. Absent until there are some.", "outcome", func(m replica.Measured) []some {
			return happened(some{"complete", m.Complete}, some{"incomplete", m.Incomplete}, some{"unlocked", m.Unlocked})
		}),
		{
			desc("write_lock_max_seconds", "For how long the database's write lock was held at worst. Absent until it was."), prometheus.GaugeValue,
			func(m replica.Measured, _ time.Time, tell emit) {
				if m.MaxLocked > 0 {
					tell(m.MaxLocked.Seconds())
				}
			},
		},
		byLabel("snapshots_total", "Snapshots written. Absent until there are some.", "kind", func(m replica.Measured) []some {
			return happened(some{"full", m.FullSnapshots}, some{"incremental", m.Incrementals})
		}),
		rare("packs_total", "Packs made of segments. Absent until there are some.",
			func(m replica.Measured) uint64 { return m.Packs }),
		rare("pruned_objects_total", "Objects deleted since retention does not keep them. Absent until there are some.",
			func(m replica.Measured) uint64 { return m.Pruned }),
	}
}
