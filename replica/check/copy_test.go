package check_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"tidemark/replica/check"
)

// What a view shows is the state after some commit, also if the application commits as
// fast as it can and its WAL restarts again and again: the accounts' sum is 0, and each
// view is as new as the one before it at least. A page of another commit would change
// the sum. In place a view is given only if nobody wrote.
func TestViewIsOneCommit(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"writing", "checkpointing"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			a := start(t, role, path)
			const query = "SELECT sum(v), sum(abs(v)), count(*), (SELECT group_concat(integrity_check) = 'ok' FROM pragma_integrity_check) FROM a"
			views := map[bool]int{}
			for i := range 24 {
				copied := i%2 == 0
				var sum, turnover, rows int
				var whole bool
				err := check.Query(t.Context(), path, 4096, copied, t.TempDir(), query, &sum, &turnover, &rows, &whole)
				if errors.Is(err, check.ErrMoved) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				views[copied]++
				if sum != 0 || rows != accounts || !whole {
					t.Errorf("copied %t: sum %d of %d accounts, whole %t", copied, sum, rows, whole)
				}
			}
			n := a.end(t)
			t.Logf("%d copies and %d views in place beside %d commits", views[true], views[false], n)
			if views[true] < 8 {
				t.Errorf("%d of 12 copies only", views[true])
			}
		})
	}
}

// The view has the commits that are in the WAL only.
func TestViewHasTheWAL(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.db")
	run(t, "killed", path)
	for _, copied := range []bool{false, true} {
		var turnover int
		err := check.Query(t.Context(), path, 4096, copied, t.TempDir(), "SELECT sum(abs(v)) FROM a", &turnover)
		for errors.Is(err, check.ErrMoved) { // it was written a moment ago
			err = check.Query(t.Context(), path, 4096, copied, t.TempDir(), "SELECT sum(abs(v)) FROM a", &turnover)
		}
		if err != nil || turnover == 0 {
			t.Errorf("copied %t: turnover %d (%v)", copied, turnover, err)
		}
	}
}

// The fix is in 3.51.3, and in two older lines.
func TestResetBug(t *testing.T) {
	t.Parallel()
	for version, want := range map[uint32]bool{
		0: false, 3_006_023: false, 3_007_000: true, 3_040_001: true, 3_044_005: true, 3_044_006: false, 3_045_000: true,
		3_050_006: true, 3_050_007: false, 3_051_002: true, 3_051_003: false, 3_053_000: false,
	} {
		if got := check.HasResetBug(version); got != want {
			t.Errorf("%d: %t, want %t", version, got, want)
		}
	}
}

// A view in place counts if only the WAL has grown meanwhile, and not if a checkpoint has
// written to the file. That is noticed while it lasts.
func TestStill(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]error{"killed": nil, "closed": check.ErrMoved} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "app.db")
			run(t, "killed", path)
			err, called := check.ErrMoved, false
			for errors.Is(err, check.ErrMoved) && !called { // it was written a moment ago
				err = check.Still(t.Context(), path, 4096, func(ctx context.Context) {
					called = true
					run(t, role, path) //nolint:contextcheck // that is the test's
					if want != nil {
						<-ctx.Done()
					}
				})
			}
			if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		})
	}
}
