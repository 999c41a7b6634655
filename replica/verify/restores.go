package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// restores rebuilds the newest commit, and others that are drawn, each in a file of
// its own that is gone afterwards.
func (v *verifier) restores(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp(v.opts.TempDir, "tidemark-verify-*")
	if err != nil {
		return fmt.Errorf("make a folder to restore in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	todo := v.points()
	for range tries {
		var again []state.TXID
		if again, err = v.rebuildAll(ctx, dir, todo); err != nil || len(again) == 0 {
			return err
		}
		todo = again
		v.opts.Logger.Info("objects are gone that were to be read; listing the replica again")
		if err := v.list(ctx); err != nil {
			return err
		}
	}
	return ErrRestless
}

// points are the newest commit that can be restored, and as many others as are asked
// for, all different.
func (v *verifier) points() []state.TXID {
	all := reachable(v.inv.read(), v.inv.snaps, v.bad)
	n := all.commits()
	if n == 0 {
		return nil
	}
	points := []state.TXID{all.last()}
	if uint64(v.opts.Points) >= n {
		for i := range n - 1 {
			points = append(points, all.at(i))
		}
		return points
	}
	rng := rand.New(rand.NewPCG(v.opts.Seed, v.opts.Seed)) //nolint:gosec // to be repeated, no secret
	for len(points) <= v.opts.Points && uint64(len(points)) < n {
		if id := all.at(rng.Uint64N(n)); !slices.Contains(points, id) {
			points = append(points, id)
		}
	}
	return points
}

// rebuildAll rebuilds commits, some at a time, and gives those of which objects have
// vanished.
func (v *verifier) rebuildAll(ctx context.Context, dir string, todo []state.TXID) (again []state.TXID, err error) {
	var mu sync.Mutex // guards the report, bad, and again
	recipes := make([]recipe, 0, len(todo))
	var total int64
	for _, id := range todo {
		if r, ok := v.inv.recipe(id, v.bad); ok {
			recipes, total = append(recipes, r), total+r.bytes()
		}
	}
	v.total.Add(total)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.opts.Parallel)
	for _, r := range recipes {
		g.Go(func() error {
			res, f, err := v.rebuild(gctx, dir, r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, storage.ErrNotExist):
				v.opts.Logger.Debug("an object is gone", slog.Any("err", err))
				again = append(again, r.target)
				return nil
			case err != nil:
				return err
			}
			for _, x := range f {
				v.found(x)
				if x.Severity == Error && x.Class != Database {
					v.bad[x.Key] = true
				}
			}
			v.report.Restores = append(v.report.Restores, res)
			return nil
		})
	}
	err = g.Wait()
	slices.SortFunc(v.report.Restores, func(a, b Restored) int { return int(min(1, max(-1, int64(b.TXID)-int64(a.TXID)))) })
	return again, err
}

// rebuild rebuilds one commit, proves it, and has SQLite check it.
func (v *verifier) rebuild(ctx context.Context, dir string, r recipe) (res Restored, found []Finding, err error) {
	path := filepath.Join(dir, r.target.Hex()+".db")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return res, nil, fmt.Errorf("make a file to restore to: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	b := &rebuilt{v: v, file: file}
	res.TXID = r.target
	var bad *wrong
	switch err := b.run(ctx, r); {
	case errors.As(err, &bad):
		f := damage(v.inv, CheckRestore, bad.class, bad.key, fmt.Sprintf("TXID %v can't be rebuilt from it: %s", r.target, bad.problem))
		return res, []Finding{f}, nil
	case err != nil:
		return res, nil, err
	}
	res.Pages, res.Checksum, res.Commits, res.Time = b.at.pages, b.at.checksum, b.commits, b.at.time
	if res.Time.IsZero() {
		res.Time = r.chain[len(r.chain)-1].time
	}
	problem, err := prove(ctx, file, int(v.meta.size), b.at)
	if err != nil {
		return res, nil, err
	}
	if problem != "" {
		return res, append(found, v.unproven(r, "the restored database is not what was committed: "+problem)), nil
	}
	found, err = v.ask(ctx, r, path)
	res.OK = err == nil && !slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == Error })
	return res, found, err
}

// key is the object that a recipe ends with.
func (r recipe) key() string {
	if n := len(r.log); n > 0 {
		return r.log[n-1].key
	}
	return r.chain[len(r.chain)-1].key
}

// unproven is the finding about a database that was rebuilt and is not right.
func (v *verifier) unproven(r recipe, problem string) Finding {
	lost := v.inv.spans(intervals{{r.target, r.target}})
	return Finding{
		Check: CheckRestore, Class: Database, Key: r.key(), Severity: Error, Problem: fmt.Sprintf("TXID %v: %s", r.target, problem),
		Means: means(lost), Lost: lost,
		Do: "restore other commits (tidemark log URL), keep the replica as it is, and report this: the objects themselves are sound",
	}
}
