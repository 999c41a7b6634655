package source_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"tidemark/wal"
)

// Whatever happens in a moment without a pin, afterwards either all commits have
// been read and no other, or it is an error. It is one only if commits were made
// that are no longer in the WAL.
func TestAside(t *testing.T) {
	t.Parallel()
	try := func(ops ...string) {
		t.Run(strings.Join(ops, ", "), func(t *testing.T) { t.Parallel(); testAside(t, ops) })
	}
	try()
	for _, a := range asideOps {
		try(a)
		for _, b := range asideOps {
			try(a, b)
		}
	}
	for range 100 {
		ops := make([]string, 3+rand.IntN(4))
		for i := range ops {
			ops[i] = asideOps[rand.IntN(len(asideOps))]
		}
		try(ops...)
	}
}

// testAside has things happen without a pin, and half of them again behind the new
// one.
func testAside(t *testing.T, ops []string) {
	t.Helper()
	path, app := database(t)
	other := connect(t, path)
	app.insert(2)
	d := open(t, path)
	f := follow(t, d, attach(t, d))
	w := asideWorld{path: path, app: app, other: other, look: index(t, path)}
	w.generation = w.look().Salts
	var lost bool
	err := d.Aside(t.Context(), f, func() {
		for _, op := range ops {
			w.do(op)
		}
		lost = w.lost
	})
	if lost != (err != nil) {
		t.Fatalf("commits were overwritten: %v; error: %v", lost, err)
	}
	if err != nil {
		return
	}
	for _, op := range ops[:len(ops)/2] {
		w.do(op)
	}
	f.mustRead(w.commits)
	w.end()
	if digestOf(t, f.copy) != app.digest() {
		t.Error("the copy is not the database")
	}
}

var asideOps = []string{"commit", "commit of another", "commits", "rollback", "reader", "PASSIVE", "FULL", "RESTART", "TRUNCATE"}

type asideWorld struct {
	path       string
	app, other *conn
	look       func() wal.Index
	reading    bool

	generation wal.Salts
	commits    int
	lost       bool
}

func (w *asideWorld) do(op string) {
	n := 0
	switch op {
	case "commit":
		w.app.insert(1)
		n = 1
	case "commits":
		w.app.insert(5)
		n = 5
	case "commit of another":
		w.end()
		w.other.insert(1)
		n = 1
	case "rollback":
		w.app.exec("BEGIN")
		w.app.insert(1)
		w.app.end()
	case "reader":
		w.end()
		w.other.read()
		w.reading = true
	default:
		w.app.checkpoint(op)
	}
	if now := w.look().Salts; now != w.generation {
		w.generation = now
		// What this step committed is in the new generation: one step makes no
		// commits in two.
		w.lost = w.lost || w.commits > 0
	}
	w.commits += n
}

// end ends the other connection's read transaction.
func (w *asideWorld) end() {
	if w.reading {
		w.other.end()
		w.reading = false
	}
}
