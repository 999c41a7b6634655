// Package metrics tells Prometheus how the replications of a process stand.
//
// Everything is read when it is asked for, from what the engine keeps anyway: see
// [replica.Metrics]. So a database that comes or goes appears and disappears, nobody
// has to count along, and an idle process does nothing. To ask takes no request to
// storage, no look at a database and no disk.
//
// Each metric of a replication has the labels db and replica: the database's path and
// the replica's URL, as they are set. An idle one has 20 values, a busy one up to 36.
// What is left out until it happens says so in its help text; failures, resyncs and
// overflows never are, so that the first one shows. To tell of ten thousand idle
// databases takes most of a second of one core, so ask for so many once a minute.
package metrics

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"tidemark/replica"
)

// Source is what is measured. [*replica.Process] is one. It is safe for concurrent
// use.
type Source interface {
	// Metrics gives what is known now.
	Metrics() replica.Metrics
}

// metric is one of a replication.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	// each gives its values.
	each func(replica.Measured, time.Time, emit)
}

// emit tells one value; label is that of the metric's own label, if it has one.
type emit func(value float64, label ...string)

// sample is a value as it is collected. Those of one replication share their labels,
// which are of the same length for each: with ten thousand that saves most of the
// memory that a scrape takes.
type sample struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	value  float64
	labels []*dto.LabelPair // in order of their names, and not to be changed
}

// Desc implements [prometheus.Metric].
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements [prometheus.Metric].
func (s *sample) Write(out *dto.Metric) error {
	out.Label = s.labels
	if s.kind == prometheus.CounterValue {
		out.Counter = &dto.Counter{Value: &s.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &s.value}
	}
	return nil
}

// Collector gives the metrics of a process to a [prometheus.Registry]. It is safe for
// concurrent use.
type Collector struct {
	source Source

	each   []metric
	plain  *prometheus.Desc // of each that has no label of its own
	states *prometheus.Desc
	parked *prometheus.Desc
	locks  *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector gives a collector of what source measures.
func NewCollector(source Source) *Collector {
	return &Collector{
		source: source, each: replications(), plain: desc("plain", "It has the labels of all."),
		states: prometheus.NewDesc("tidemark_replications",
			"Replications of this process, by how they stand.", []string{"state"}, nil),
		parked: prometheus.NewDesc("tidemark_parked_replications",
			"Replications of databases that are idle, of which nothing is open but the pin.", nil, nil),
		locks: prometheus.NewDesc("tidemark_write_lock_seconds",
			"For how long the databases' write locks were held to hand their WALs off, the longest time of each hand-off.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range c.each {
		descs <- m.desc
	}
	descs <- c.states
	descs <- c.parked
	descs <- c.locks
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	all, now := c.source.Metrics(), time.Now()
	count, parked := map[replica.StatusState]int{}, 0
	for _, s := range states() {
		count[s] = 0
	}
	for _, r := range all.Replications {
		count[r.Status.State]++
		if r.Parked {
			parked++
		}
		c.collect(r, now, metrics)
	}
	for state, n := range count {
		metrics <- prometheus.MustNewConstMetric(c.states, prometheus.GaugeValue, float64(n), string(state))
	}
	metrics <- prometheus.MustNewConstMetric(c.parked, prometheus.GaugeValue, float64(parked))
	metrics <- histogram(c.locks, all.Locked)
}

// collect gives those of one replication.
func (c *Collector) collect(r replica.Measured, now time.Time, metrics chan<- prometheus.Metric) {
	db, name := text(r.Database), text(r.Replica)
	labels := prometheus.MakeLabelPairs(c.plain, []string{db, name})
	var m metric
	tell := func(value float64, label ...string) {
		s := &sample{desc: m.desc, kind: m.kind, value: value, labels: labels}
		if len(label) > 0 {
			s.labels = prometheus.MakeLabelPairs(m.desc, []string{db, name, label[0]})
		}
		metrics <- s
	}
	for _, m = range c.each {
		m.each(r, now, tell)
	}
}

// text makes a label of a path, which can have any bytes, while a label that is no
// UTF-8 would be the end of all metrics.
func text(path string) string {
	if utf8.ValidString(path) {
		return path
	}
	return strconv.Quote(path)
}

// histogram gives durations as a histogram in seconds.
func histogram(desc *prometheus.Desc, d replica.Durations) prometheus.Metric {
	buckets, n := make(map[float64]uint64, len(d.Bounds)), uint64(0)
	for i, bound := range d.Bounds {
		n += d.Counts[i]
		buckets[bound.Seconds()] = n
	}
	n += d.Counts[len(d.Bounds)]
	return prometheus.MustNewConstHistogram(desc, n, d.Sum.Seconds(), buckets)
}

// states are the states that a replication which is measured can be in.
func states() []replica.StatusState {
	return []replica.StatusState{
		replica.StatusStarting, replica.StatusFollowing, replica.StatusRetrying, replica.StatusOverflowed, replica.StatusFailed,
	}
}
