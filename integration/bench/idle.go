package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidemark/integration/minio"
	"tidemark/storage"
)

// idle follows many databases in which nothing happens.
type idle struct {
	// count is how many there are in a profile.
	count func(p profile) int
	// wanted is how many there would be if the system allowed it.
	wanted int
	dir    string
	dbs    []string
}

// idleFigures are what a process holds, as the system tells it.
type idleFigures struct {
	// resident is its memory, and private what of that is not shared with others, in
	// bytes.
	resident, private    int64
	descriptors, threads int
}

const (
	// idleDescriptors is how many descriptors a database may need before it is found to
	// be idle, with a connection to MinIO, and idleShared how many all need together.
	idleDescriptors = 7
	idleShared      = 200
	// idlePatience is how long all databases may take to be followed.
	idlePatience = 5 * time.Minute
	// idleCPU is a part of a core, in %, and idleMemory bytes, for 500 databases.
	idleCPU    = 1
	idleMemory = 120e6
)

// idleWorks are 500 idle databases and 5,000, or as many as the system lets a process
// open.
func idleWorks() []work {
	some := &idle{wanted: 500, count: func(p profile) int { return pick(p, 3, 100, 500) }}
	many := &idle{wanted: 5000, count: func(profile) int { return min(5000, openLimit()) }}
	w := some.work("idle-500", true)
	w.Targets = []target{
		{Figure: "CPU of a core", Relation: atMost, Factor: idleCPU, Text: "500 idle databases: under 1 % of a core"},
		{Figure: "memory", Relation: atMost, Factor: idleMemory, Text: "under 120 MB"},
		{Figure: "requests a minute", Relation: atMost, Factor: 0, Text: "no requests"},
	}
	return []work{w, many.work("idle-5000", false)}
}

// openLimit is how many databases the limit of descriptors leaves room for.
func openLimit() int { return max(1, (descriptorLimit()-idleShared)/idleDescriptors) }

func (i *idle) work(name string, inShort bool) work {
	return work{
		Name: name, Title: "idle databases", Short: inShort, Full: true,
		Sizes: func(p profile) string {
			n := i.count(p)
			text := strconv.Itoa(n)
			if limit := descriptorLimit(); n < i.wanted && n == openLimit() {
				text += fmt.Sprintf(" of %d, since a process may have %d descriptors", i.wanted, limit)
			}
			return text + fmt.Sprintf(", %v", idleWindow(p))
		},
		Rounds:  func(profile) int { return 1 },
		Sides:   []side{tidemark, litestream},
		Prepare: i.prepare, Run: i.run, Clean: i.clean,
	}
}

// idleWindow is how long they are watched, and idleSettle how long they are left alone
// before: tidemark takes a database for idle, and parks it, when nothing was committed
// for a while.
func idleWindow(p profile) time.Duration { return pick(p, time.Second, 15*time.Second, 20*time.Second) }

func idleSettle(p profile) time.Duration { return pick(p, 0, 25*time.Second, 35*time.Second) }

// prepare makes the databases, of which all are alike.
func (i *idle) prepare(ctx context.Context, b *bench, p profile) (err error) {
	if i.dir, err = b.scratch("idle"); err != nil {
		return err
	}
	template := filepath.Join(i.dir, "template")
	if err := makeDatabase(ctx, template, records, 40<<10); err != nil {
		return err
	}
	data, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	i.dbs = nil
	for n := range i.count(p) {
		dir := filepath.Join(i.dir, "dbs", fmt.Sprintf("%02d", n/100))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		path := filepath.Join(dir, fmt.Sprintf("%05d.db", n))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		i.dbs = append(i.dbs, path)
	}
	return nil
}

func (i *idle) clean(*bench) error { return os.RemoveAll(i.dir) }

// run follows the databases, waits until each has a replica and a while more, and then
// looks what the process does.
func (i *idle) run(ctx context.Context, b *bench, s side, _ int) (figures []figure, err error) {
	if _, ok := held(os.Getpid()); !ok {
		return nil, fmt.Errorf("%w: this system does not tell what a process holds", errUnmeasured)
	}
	at, err := b.bucket(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.empty(context.WithoutCancel(ctx), at)) }()
	proxy, err := startLatencyProxy(ctx, b.minio.Endpoint, 0) // it counts
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, proxy.close()) }()
	began := time.Now()
	p, err := i.follow(ctx, b, s, at, proxy)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	if err := i.followed(ctx, p, at); err != nil {
		return nil, err
	}
	first := time.Since(began)
	starting, _ := p.cpu()
	if err := pass(ctx, p, idleSettle(b.profile)); err != nil {
		return nil, err
	}
	figures, err = i.watch(ctx, p, proxy, idleWindow(b.profile))
	if err != nil {
		return nil, err
	}
	// Every database is shipped once more at the end, so peak memory is not that of
	// idle ones; it is told nevertheless.
	if err := p.stop(); err != nil {
		return nil, err
	}
	if size, ok := p.memory(); ok {
		figures = append(figures, figure{memoryFigure, "B", float64(size)})
	}
	return append(figures,
		seconds("until all are followed", first),
		figure{"CPU until then", "CPU-s", starting.Seconds()}), nil
}

// follow starts the process.
func (i *idle) follow(ctx context.Context, b *bench, s side, at place, proxy *latencyProxy) (*proc, error) {
	if s == litestream {
		var dbs []litestreamDB
		for _, path := range i.dbs {
			dbs = append(dbs, litestreamAt(path, proxy.Endpoint, at.bucket, bucketPrefix+"/"+filepath.Base(path)))
		}
		config, err := writeLitestream(i.dir, dbs...)
		if err != nil {
			return nil, err
		}
		return b.start(ctx, b.litestream, replicateCommand, "-config", config)
	}
	near := minio.Server{Endpoint: proxy.Endpoint}
	config := filepath.Join(i.dir, "tidemark.yml")
	text := fmt.Sprintf("dbs:\n  - dir: %s\n    pattern: \"*.db\"\n    recursive: true\n    url: %q\n",
		filepath.Join(i.dir, "dbs"), near.URL(at.bucket, bucketPrefix))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return b.start(ctx, b.tidemark, replicateCommand, "--config", config)
}

// followed waits until each database has something in storage that can be restored.
func (i *idle) followed(ctx context.Context, p *proc, at place) error {
	ctx, cancel := context.WithTimeout(ctx, idlePatience)
	defer cancel()
	for {
		names := map[string]bool{}
		err := at.store.List(ctx, "", "", func(o storage.Info) error {
			if name, ok := replicated(o.Key); ok {
				names[name] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(names) >= len(i.dbs) {
			return nil
		}
		if err := pass(ctx, p, time.Second); err != nil {
			return fmt.Errorf("%d of %d databases are followed: %w", len(names), len(i.dbs), err)
		}
	}
}

// replicated tells which database an object holds a copy of: a snapshot of tidemark's
// ("00/00007.db/snapshot/…") or a first LTX file of Litestream's ("00007.db/ltx/0/…").
func replicated(key string) (name string, ok bool) {
	for _, kind := range []string{"/snapshot/", "/ltx/"} {
		if name, _, ok = strings.Cut(key, kind); ok {
			return name, true
		}
	}
	return "", false
}

// pass lets time pass while a process runs.
func pass(ctx context.Context, p *proc, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.Exited():
		return fmt.Errorf("%s has ended: %w: %s", p.name, p.Err(), p.said())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watch tells what the process does in a stretch of time.
func (i *idle) watch(ctx context.Context, p *proc, proxy *latencyProxy, window time.Duration) ([]figure, error) {
	proxy.take()
	before, ok := p.cpu()
	began := time.Now()
	if err := pass(ctx, p, window); err != nil {
		return nil, err
	}
	spent, also := p.cpu()
	h, holds := held(p.cmd.Process.Pid)
	if !ok || !also || !holds {
		return nil, fmt.Errorf("%w: this system does not tell what a process holds", errUnmeasured)
	}
	minutes := time.Since(began).Minutes()
	return []figure{
		{"CPU of a core", "%", (spent - before).Seconds() / time.Since(began).Seconds() * 100},
		{"memory", "B", float64(h.resident)},
		{"memory, private", "B", float64(h.private)},
		{"descriptors", "count", float64(h.descriptors)},
		{"threads", "count", float64(h.threads)},
		{"requests a minute", "count", float64(len(proxy.take())) / minutes},
	}, nil
}
