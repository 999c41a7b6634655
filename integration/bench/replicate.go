package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// replication is a work in which an application writes and is, or is not, replicated.
type replication struct {
	name, title string
	// load is what the application does, base how many bytes of rows the database has
	// before; nil is none.
	load func(p profile) load
	base func(p profile) int64
	// what says that in words.
	what   func(p profile) string
	rounds func(p profile) int
	// interval is tidemark's --sync-interval; "" is the default.
	interval string
	sides    []side
	targets  []target
}

// replicateWorks are all about the application's commits.
func replicateWorks() []work {
	return []work{small().work(), paced().work(), prompt().work(), loading().work(), updating().work()}
}

// everyone is who can replicate, and nobody.
func everyone() []side { return []side{alone, tidemark, folder, litestream} }

// small is the DESIGN's load.
func small() replication {
	return replication{
		name: "replicate-small", title: "small commits as fast as the application can",
		load: func(p profile) load { return load{do: "insert", seconds: pick(p, 0.5, 3, 20)} },
		what: func(p profile) string {
			return fmt.Sprintf("%v s, a row of %d B each", small().load(p).seconds, smallRow)
		},
		rounds: func(p profile) int { return pick(p, 1, 3, 5) },
		sides:  everyone(),
		targets: append(undisturbed(), []target{
			{Figure: "replicator CPU", Against: litestream, Relation: atMost, Factor: 0.5, Text: "replicator CPU at most half of Litestream's"},
			{Figure: "bytes sent", Against: litestream, Relation: atMost, Factor: 1.0 / 3, Text: "bytes at most a third of Litestream's"},
			{Figure: "commits not restorable", Relation: atMost, Factor: 0, Every: true, Text: "every commit can be restored"},
		}...),
	}
}

// undisturbed are the targets that the application has, and how much memory may be used.
func undisturbed() []target {
	return []target{
		{Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.85, Text: "throughput at least 85 % of that alone"},
		{Side: folder, Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.95, Text: "with a folder at least 95 %"},
		{Figure: "latency p99", Against: alone, Relation: atMost, Factor: 1.5, Text: "p99 of latency at most 1.5 × that alone"},
		longestTarget(), memoryTarget(tidemark), memoryTarget(folder),
	}
}

// longestTarget is of transactions of a row.
func longestTarget() target {
	return target{Figure: "latency max", Relation: atMost, Factor: 100, Every: true, Text: "longest commit under 100 ms"}
}

// memoryTarget holds in every case.
func memoryTarget(s side) target {
	t := target{Side: s, Figure: "replicator peak RSS", Relation: atMost, Factor: 128e6, Every: true, Text: "peak RSS at most 128 MB"}
	if s == folder {
		t.Text += " with a folder"
	}
	return t
}

// paced is an application that does not hurry.
func paced() replication {
	return replication{
		name: "replicate-paced", title: "100 commits a second",
		load:   func(p profile) load { return load{do: "insert", rate: 100, seconds: pick(p, 0.5, 4, 60)} },
		what:   func(p profile) string { return fmt.Sprintf("%v s, --sync-interval 1s", paced().load(p).seconds) },
		rounds: func(p profile) int { return pick(p, 1, 1, 2) },
		sides:  everyone(),
		targets: []target{
			{Figure: "lag p99", Relation: atMost, Factor: 1100, Text: "p99 of lag at most the sync interval and 100 ms"},
			longestTarget(), memoryTarget(tidemark), memoryTarget(folder),
		},
	}
}

// prompt ships each commit at once, which Litestream can't.
func prompt() replication {
	r := paced()
	r.name, r.title, r.interval = "replicate-prompt", "100 commits a second, each shipped at once", "0"
	r.what = func(p profile) string { return fmt.Sprintf("%v s, --sync-interval 0", paced().load(p).seconds) }
	r.sides = []side{alone, tidemark, folder}
	r.targets[0] = target{Figure: "lag p99", Relation: atMost, Factor: 50, Text: "p99 of lag at most 50 ms"}
	return r
}

// loading is a bulk load.
func loading() replication {
	return replication{
		name: "replicate-bulk", title: "a bulk load",
		load: func(p profile) load { return load{do: "bulk", bytes: pick(p, int64(10e6), 40e6, 500e6)} },
		what: func(p profile) string {
			return fmt.Sprintf("%d MB, transactions of %d rows of %d B", loading().load(p).bytes/1e6, bulkRows, largeRow)
		},
		rounds: func(p profile) int { return pick(p, 1, 2, 3) },
		sides:  everyone(),
		targets: []target{
			{Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.85, Text: "throughput at least 85 % of that alone"},
			{Side: folder, Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.95, Text: "with a folder at least 95 %"},
			memoryTarget(tidemark), memoryTarget(folder),
		},
	}
}

// updating writes all over a database.
func updating() replication {
	return replication{
		name: "replicate-updates", title: "random updates as fast as the application can",
		load: func(p profile) load { return load{do: "update", seconds: pick(p, 0.5, 3, 20)} },
		base: func(p profile) int64 { return pick(p, int64(10e6), 64<<20, 1<<30) },
		what: func(p profile) string {
			return fmt.Sprintf("%v s, a row of %d B each, in a database of %s", updating().load(p).seconds, largeRow, show(float64(updating().base(p)), "B"))
		},
		rounds:  func(p profile) int { return pick(p, 1, 2, 3) },
		sides:   everyone(),
		targets: undisturbed(),
	}
}

// work makes a work of it.
func (r replication) work() work {
	return work{
		Name: r.name, Title: r.title, Sizes: r.what, Short: true, Full: true, Rounds: r.rounds, Sides: r.sides, Targets: r.targets,
		Prepare: r.prepare,
		Run:     r.run,
		Clean:   func(b *bench) error { return os.RemoveAll(r.template(b)) },
	}
}

// template is the folder of the database that each side begins with.
func (r replication) template(b *bench) string { return filepath.Join(b.dir, r.name) }

// databaseName is that of the file in its folder.
const databaseName = "app.db"

func (r replication) prepare(ctx context.Context, b *bench, p profile) error {
	if err := os.Mkdir(r.template(b), 0o700); err != nil {
		return err
	}
	l := load{db: filepath.Join(r.template(b), databaseName)}
	if r.base != nil {
		l.create = r.base(p)
	}
	app, err := b.start(ctx, b.self, l.args()...)
	if err != nil {
		return err
	}
	return app.wait()
}

// settling is how long a replicator runs on after the application's end, so that it
// ships the rest by its own interval and not since it is told to end.
func (r replication) settling() time.Duration {
	if r.interval == "0" {
		return 200 * time.Millisecond
	}
	return 1200 * time.Millisecond
}

// replicator is one that runs beside an application.
type replicator interface {
	// figures ends it and tells what it has cost. The application's commits are at
	// these times.
	figures(ctx context.Context, commits []time.Time) ([]figure, error)
	// kill ends it in no order, if it runs.
	kill()
}

// run is one round of one side.
func (r replication) run(ctx context.Context, b *bench, s side, _ int) (all []figure, err error) {
	dir, err := b.scratch(r.name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l := r.load(b.profile)
	l.db, l.create, l.times = filepath.Join(dir, databaseName), -1, filepath.Join(dir, "times")
	if err := copyFile(l.db, filepath.Join(r.template(b), databaseName)); err != nil {
		return nil, err
	}
	if s == alone {
		d, err := b.apply(ctx, l)
		return l.figures(d), err
	}
	at, err := b.place(ctx, s, dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if ctx.Err() == nil { // else all of it goes
			err = errors.Join(err, b.empty(ctx, at))
		}
	}()
	rep, err := r.attach(ctx, b, s, l.db, at)
	if err != nil {
		return nil, err
	}
	defer rep.kill()
	d, err := b.apply(ctx, l)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, r.settling()); err != nil {
		return nil, err
	}
	commits, err := readTimes(l.times)
	if err != nil {
		return nil, err
	}
	costs, err := rep.figures(ctx, commits)
	return append(l.figures(d), costs...), err
}

// attach starts a replicator, and waits for its first copy.
func (r replication) attach(ctx context.Context, b *bench, s side, db string, at place) (replicator, error) {
	if s == litestream {
		return b.attachLitestream(ctx, db, at)
	}
	return b.attachTidemark(ctx, db, at, r.interval)
}

// apply runs the application.
func (b *bench) apply(ctx context.Context, l load) (d done, err error) {
	app, err := b.start(ctx, b.self, l.args()...)
	if err != nil {
		return d, err
	}
	if err := app.wait(); err != nil {
		return d, err
	}
	return d, app.answer(&d)
}

// figures are what the application says of a load.
func (l load) figures(d done) []figure {
	throughput := figure{"throughput", "commits/s", float64(d.Commits) / d.Seconds}
	if l.bytes > 0 {
		throughput = figure{"throughput", "B/s", float64(d.Bytes) / d.Seconds}
	}
	return []figure{
		throughput,
		{commitsFigure, "count", float64(d.Commits)},
		{"latency p50", "ms", d.P50},
		{"latency p99", "ms", d.P99},
		{"latency max", "ms", d.Max},
	}
}
