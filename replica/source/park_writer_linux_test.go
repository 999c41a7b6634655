package source_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Nothing is missed that is committed, checkpointed and overwritten while the
// database is being opened again.
func TestParkedBesideWriter(t *testing.T) {
	t.Parallel()
	p := following(t)
	app := startApp(t, p.path)
	const rounds, burst = 15, 60
	for n := range rounds {
		p.park()
		app.begin(strings.Repeat("INSERT INTO t(v) VALUES(randomblob(300));PRAGMA wal_checkpoint(PASSIVE);", burst) + "SELECT 1")
		p.unpark()
		if _, err := app.end(); err != nil {
			t.Fatal(err)
		}
		p.f.mustRead((n + 1) * burst)
	}
	p.same()
}

// Whatever applications do, in this process and in others, while the database is
// parked and is not: every commit is found, one by one, and nobody is locked out.
func TestParkedProperty(t *testing.T) {
	t.Parallel()
	p := following(t)
	there := startApp(t, p.path)
	var here *conn
	commits := 0
	rapid.Check(t, func(r *rapid.T) {
		parked, reading := false, false
		stop := func() {
			if reading {
				there.must("ROLLBACK")
				reading = false
			}
		}
		unpark := func() {
			if parked {
				parked = false
				p.unpark()
			}
			p.f.mustRead(commits)
		}
		r.Repeat(map[string]func(*rapid.T){
			"park": func(*rapid.T) {
				if parked {
					return
				}
				p.f.mustRead(commits)
				if _, err := p.db.HandOff(p.Context(), p.f); err != nil {
					t.Fatal(err)
				}
				p.parkNow()
				parked = true
			},
			"unpark": func(*rapid.T) { unpark() },
			"commit there": func(r *rapid.T) {
				stop()
				n := rapid.IntRange(1, 5).Draw(r, "n")
				there.insert(n)
				commits += n
			},
			"read there": func(*rapid.T) {
				if !reading {
					there.must("BEGIN")
					there.must("SELECT count(*) FROM t")
					reading = true
				}
			},
			"checkpoint there": func(r *rapid.T) {
				stop()
				there.checkpoint(rapid.SampledFrom(checkpointModes()).Draw(r, "mode"))
			},
			"roll back there": func(*rapid.T) {
				stop()
				there.must("BEGIN IMMEDIATE")
				there.must("INSERT INTO t(v) VALUES(1)")
				there.must("ROLLBACK")
			},
			"close and open there": func(*rapid.T) {
				stop()
				there.must("close")
				there.must("open")
			},
			"kill there": func(r *rapid.T) {
				if rapid.IntRange(0, 3).Draw(r, "seldom") > 0 {
					return
				}
				reading = false
				there.kill()
				there = startApp(t, p.path)
			},
			"commit here": func(*rapid.T) {
				if here == nil {
					here = connect(t, p.path)
				}
				here.insert(1)
				commits++
			},
			"checkpoint here": func(r *rapid.T) {
				if here != nil {
					here.checkpoint(rapid.SampledFrom(checkpointModes()).Draw(r, "mode"))
				}
			},
			"close here": func(*rapid.T) {
				if here != nil {
					if err := here.Close(); err != nil {
						t.Fatal(err)
					}
					here = nil
				}
			},
		})
		unpark()
		stop()
		p.same()
	})
}
