package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"tidemark/storage"
)

// pollInterval is how often a replicator is asked whether it has its first copy, and
// lagInterval how often for its lag.
const (
	pollInterval = 20 * time.Millisecond
	lagInterval  = 100 * time.Millisecond
)

// costs are what a replicator has cost up to some moment.
type costs struct {
	cpu time.Duration
	traffic
}

// tidemarkRun is a tidemark that replicates.
type tidemarkRun struct {
	*proc
	b   *bench
	at  place
	url string // of its metrics
	// before is what the first copy has cost, base is its TXID.
	before costs
	base   uint64
	// lags are what it has said itself, complete when asked is closed.
	lags       []saidLag
	stopAsking context.CancelFunc
	asked      chan struct{}
}

// attachTidemark starts tidemark and waits until the first copy is in storage.
func (b *bench) attachTidemark(ctx context.Context, db string, at place, interval string) (replicator, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"replicate", "--json", "--log-level=warn", "--metrics-addr=" + addr}
	if interval != "" {
		args = append(args, "--sync-interval="+interval)
	}
	t := &tidemarkRun{b: b, at: at, url: "http://" + addr + "/metrics", asked: make(chan struct{})}
	if t.proc, err = b.start(ctx, b.tidemark, append(args, db, at.url)...); err != nil {
		return nil, err
	}
	if err := t.begun(ctx); err != nil {
		t.proc.kill()
		return nil, err
	}
	asking, stop := context.WithCancel(ctx)
	t.stopAsking = stop
	go t.ask(asking)
	return t, nil
}

// begun waits for the first copy, and notes what that has cost.
func (t *tidemarkRun) begun(ctx context.Context) error {
	err := t.until(ctx, func() bool {
		v, err := scrape(ctx, t.url)
		if err != nil {
			return false // it has yet to listen
		}
		shipped, _ := v.sum("tidemark_shipped_txid", nil)
		snapshots, _ := v.sum("tidemark_snapshots_total", nil)
		t.base = uint64(shipped)
		return shipped > 0 && snapshots > 0 // the second is told later
	})
	if err != nil {
		return err
	}
	t.before, err = t.costs(ctx)
	return err
}

// costs are those up to now.
func (t *tidemarkRun) costs(ctx context.Context) (c costs, err error) {
	c.cpu, _ = t.cpu()
	if t.at.bucket != "" {
		c.traffic, err = t.b.minioTraffic(ctx)
		return c, err
	}
	v, err := scrape(ctx, t.url)
	if err != nil {
		return c, err
	}
	return costs{cpu: c.cpu, traffic: folderTraffic(v)}, nil
}

// folderTraffic is what tidemark has counted itself.
func folderTraffic(v values) (t traffic) {
	all, _ := v.sum("tidemark_requests_total", nil)
	t.puts, _ = v.sum("tidemark_requests_total", func(labels string) bool { return strings.Contains(labels, `kind="put"`) })
	t.others = all - t.puts
	t.sent, _ = v.sum("tidemark_uploaded_bytes_total", nil)
	return t
}

// ask asks it for its lag now and then.
func (t *tidemarkRun) ask(ctx context.Context) {
	defer close(t.asked)
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if v, err := scrape(ctx, t.url); err == nil {
			if lag, ok := v.sum("tidemark_lag_seconds", nil); ok {
				t.lags = append(t.lags, saidLag{time.Now(), lag * 1000})
			}
		}
	}
}

// kill implements replicator.
func (t *tidemarkRun) kill() {
	t.stopAsking()
	<-t.asked
	t.proc.kill()
}

// figures implements replicator.
func (t *tidemarkRun) figures(ctx context.Context, commits []time.Time) (all []figure, err error) {
	t.stopAsking()
	<-t.asked
	v, err := scrape(ctx, t.url)
	if err != nil {
		return nil, err
	}
	if err := t.stop(); err != nil {
		return nil, err
	}
	spent, err := t.spent(ctx)
	if err != nil {
		return nil, err
	}
	all = expenses(t.proc, t.before.cpu, spent.since(t.before.traffic), len(commits))
	restorable, newest, err := t.restorable(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all,
		figure{"restorable points", "count", float64(restorable)},
		figure{"commits not restorable", "count", float64(len(commits)) - (float64(restorable) - float64(t.base))})
	if newest == t.base+uint64(len(commits)) { // else it isn't known which commit has which TXID
		stored, err := segments(ctx, t.at)
		if err != nil {
			return nil, err
		}
		if found, ok := lags(commits, t.base, stored); ok {
			all = append(all, lagFigures("lag", found)...)
		}
	}
	if said := during(commits, t.lags); len(said) > 0 {
		all = append(all, lagFigures("lag by status", said)...)
	}
	if locked, ok := v.sum("tidemark_write_lock_max_seconds", nil); ok {
		all = append(all, figure{"write lock max", "ms", locked * 1000})
	}
	return all, nil
}

// spent is the traffic up to its end: what MinIO has counted, or what tidemark has
// printed.
func (t *tidemarkRun) spent(ctx context.Context) (traffic, error) {
	if t.at.bucket != "" {
		return t.b.minioTraffic(ctx)
	}
	var printed struct {
		Databases []struct {
			Uploaded int64 `json:"uploaded_bytes"`
			Requests storage.Requests
		}
	}
	if err := t.answer(&printed); err != nil {
		return traffic{}, err
	}
	var all traffic
	for _, d := range printed.Databases {
		all.puts += float64(d.Requests.Put)
		all.others += float64(d.Requests.List + d.Requests.Get + d.Requests.Delete)
		all.sent += float64(d.Uploaded)
	}
	return all, nil
}

// saidLag is what tidemark has said of its lag, in milliseconds.
type saidLag struct {
	at  time.Time
	lag float64
}

// during are the lags that were asked for while there were commits, in order.
func during(commits []time.Time, said []saidLag) (all []float64) {
	for _, s := range said {
		if len(commits) > 0 && !s.at.Before(commits[0]) && !s.at.After(commits[len(commits)-1]) {
			all = append(all, s.lag)
		}
	}
	slices.Sort(all)
	return all
}

// lagFigures are those of sorted times in milliseconds, of which there is at least one.
func lagFigures(name string, sorted []float64) []figure {
	return []figure{
		{name + " p50", "ms", percentile(sorted, 50)},
		{name + " p99", "ms", percentile(sorted, 99)},
		{name + " max", "ms", sorted[len(sorted)-1]},
	}
}

// expenses are what a replicator that has ended has cost since its first copy.
func expenses(p *proc, before time.Duration, spent traffic, commits int) (all []figure) {
	if cpu, ok := p.cpu(); ok {
		seconds := (cpu - before).Seconds()
		all = append(all,
			figure{"replicator CPU", "CPU-s", seconds},
			figure{"replicator CPU for 1,000 commits", "CPU-s", seconds * 1000 / float64(max(commits, 1))})
	}
	if size, ok := p.memory(); ok {
		all = append(all, figure{"replicator peak RSS", "B", float64(size)})
	}
	return append(all,
		figure{"PUTs", "count", spent.puts},
		figure{"other requests", "count", spent.others},
		figure{"bytes sent", "B", spent.sent},
		figure{"bytes sent a commit", "B", spent.sent / float64(max(commits, 1))})
}

// restorable asks for what can be restored: how many commits, and the newest.
func (t *tidemarkRun) restorable(ctx context.Context) (commits, newest uint64, err error) {
	p, err := t.b.start(ctx, t.b.tidemark, "log", t.at.url, "--ranges", "--json")
	if err != nil {
		return 0, 0, err
	}
	if err := p.wait(); err != nil {
		return 0, 0, err
	}
	var log struct {
		Newest uint64 `json:"newest_txid"`
		Ranges []struct {
			First uint64 `json:"first_txid"`
			Last  uint64 `json:"last_txid"`
		} `json:"ranges"`
	}
	if err := p.answer(&log); err != nil {
		return 0, 0, err
	}
	for _, r := range log.Ranges {
		commits += r.Last - r.First + 1
	}
	return commits, log.Newest, nil
}

// answer decodes what a process has printed that has ended.
func (p *proc) answer(v any) error {
	if err := json.Unmarshal(p.stdout.Bytes(), v); err != nil {
		return fmt.Errorf("%s printed %q: %w", p.name, p.stdout.Bytes(), err)
	}
	return nil
}

// until waits until something holds, while the process runs.
func (p *proc) until(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-p.Exited():
			err := p.wait()
			var exit *exec.ExitError
			if err == nil || !errors.As(err, &exit) {
				err = errors.Join(fmt.Errorf("%s ended by itself: %s", p.name, p.said()), err)
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
