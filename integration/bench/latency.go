package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tidemark/integration/minio"
)

// latencyDelay is what the service is away.
const latencyDelay = 30 * time.Millisecond

// roundTripTarget is how many round trips a small restore may take.
const roundTripTarget = 8

// latent restores a small database from a service that is far away.
type latent struct {
	// tail is what tidemark restores.
	tail
	at    place
	proxy *latencyProxy
	// other is the database that Litestream has replicated, to foreign.
	other   string
	foreign place
	dir     string
}

// latencyWorks are restores of a small database: of its first copy alone, and with a
// log of as many small segments as are left before they are packed.
func latencyWorks() []work {
	const size = 300 << 10
	return []work{
		(&latent{tail: tail{size: size, commits: 3}}).work("restore-small", "restore with 30 ms to the service, 300 kB", "nothing was committed since the first copy"),
		(&latent{tail: tail{size: size, segments: 100, commits: 3}}).work("restore-small-log", "restore with 30 ms to the service, 300 kB", "and 100 segments of 3 commits"),
	}
}

func (l *latent) work(name, title, sizes string) work {
	w := work{
		Name: name, Title: title, Sizes: func(profile) string { return sizes }, Short: true, Full: true,
		Rounds: func(p profile) int { return pick(p, 1, 3, 5) },
		Sides:  []side{tidemark},
		Targets: []target{
			{Figure: roundTripFigure, Relation: atMost, Factor: roundTripTarget, Text: "at most 8 round trips"},
			{Figure: memoryFigure, Relation: atMost, Factor: memoryLimit, Text: memoryText},
		},
		Prepare: l.prepare, Run: l.run, Clean: l.clean,
	}
	if l.segments == 0 {
		w.Sides = append(w.Sides, litestream) // which can't be given a log without waiting for it
	}
	return w
}

// prepare makes the replicas.
func (l *latent) prepare(ctx context.Context, b *bench, _ profile) (err error) {
	if l.at, err = b.bucket(ctx); err != nil {
		return err
	}
	made, err := l.make(ctx, b)
	if err != nil {
		return err
	}
	if err := putAll(ctx, made, l.at.store); err != nil {
		return err
	}
	if l.dir, err = b.scratch("latency"); err != nil {
		return err
	}
	if b.litestream != "" && l.segments == 0 {
		if err := l.prepareLitestream(ctx, b); err != nil {
			return err
		}
	}
	l.proxy, err = startLatencyProxy(ctx, b.minio.Endpoint, latencyDelay)
	return err
}

func (l *latent) prepareLitestream(ctx context.Context, b *bench) (err error) {
	l.other = filepath.Join(l.dir, "other.db")
	if err := makeDatabase(ctx, l.other, records, int64(l.size)); err != nil {
		return err
	}
	if l.foreign, err = b.bucket(ctx); err != nil {
		return err
	}
	_, err = b.litestreamCopy(ctx, l.other, l.foreign, l.dir)
	return err
}

func (l *latent) run(ctx context.Context, b *bench, s side, round int) (figures []figure, err error) {
	dir, err := b.scratch(restoreCommand)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := filepath.Join(dir, "out.db")
	l.proxy.take()
	if s == litestream {
		figures, err = b.litestreamRestore(ctx, l.proxy.Endpoint, l.other, l.foreign, dir, out)
	} else {
		far := minio.Server{Endpoint: l.proxy.Endpoint}
		figures, err = b.measured(ctx, b.tidemark, restoreCommand, far.URL(l.at.bucket, bucketPrefix), "-o", out)
	}
	if err != nil {
		return nil, err
	}
	all := l.proxy.take()
	if len(all) == 0 {
		return nil, fmt.Errorf("%s restored without a request", s)
	}
	if b.profile != smoke && round == 0 {
		b.explain(s, all)
	}
	opened := 0
	for _, x := range all {
		if x.Opened {
			opened++
		}
	}
	return append(figures,
		figure{roundTripFigure, "count", float64(roundTrips(all))},
		figure{requestsFigure, "count", float64(len(all))},
		figure{"connections", "count", float64(opened)}), nil
}

func (l *latent) clean(b *bench) error {
	var err error
	if l.proxy != nil {
		err = l.proxy.close()
	}
	for _, at := range []place{l.at, l.foreign} {
		if at.bucket != "" {
			err = errors.Join(err, b.empty(context.Background(), at))
		}
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}
