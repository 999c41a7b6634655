package replica_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"tidemark/replica"
	"tidemark/replica/disk/disktest"
	"tidemark/storage"
)

// A pair is a failure and a crash after it. Operations are counted that change
// something, and those that fail.
type pair struct {
	// fail is the first operation that may fail, length how many of them may.
	fail, length int
	kind         kind
	// crash is the operation that is the last.
	crash  int
	losses []disktest.Loss
}

func (p pair) String() string {
	return fmt.Sprintf("%d %s for %d, %d %s", p.fail, p.kind, p.length, p.crash, p.losses[0])
}

// kind is what fails.
type kind int

const (
	anything kind = iota
	// full is a disk without room: nothing new can be written, and all else goes
	// on, uploads and removals above all.
	full
	// away is storage that does not answer.
	away
	kinds
)

func (k kind) String() string {
	return [...]string{"fails", "disk full", "storage away"}[k]
}

// hits tells whether an operation is one that fails.
func (k kind) hits(op string) bool {
	if k == away {
		return request(op)
	}
	verb, _, _ := strings.Cut(op, " ")
	return changes(op) && (k == anything || verb == "write" || verb == "open")
}

// request tells whether an operation is one on storage.
func request(op string) bool {
	verb, _, _ := strings.Cut(op, " ")
	return verb == "put" || verb == "get" || op == "list"
}

// errInjected is in all that fails.
var errInjected = errors.New("injected")

// plan gives what becomes of each operation; what lists those that failed, and the
// last one.
func (p pair) plan(what *[]string) disktest.Plan {
	errs := []error{syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.EACCES}
	n := 1
	return func(_ int, op string) disktest.Verdict {
		fails := n >= p.fail && n < p.fail+p.length && p.kind.hits(op)
		if !changes(op) && !fails {
			return disktest.Verdict{}
		}
		at := n
		n++
		switch {
		case at >= p.crash:
			*what = append(*what, "last: "+op)
			return disktest.Verdict{Crash: true}
		case !fails:
			return disktest.Verdict{}
		}
		*what = append(*what, strconv.Itoa(at)+": "+op)
		switch {
		case request(op):
			return disktest.Verdict{Err: fmt.Errorf("%w: %w", storage.ErrUnreachable, errInjected), Late: at%2 == 0}
		case p.kind == full:
			return disktest.Verdict{Err: fmt.Errorf("%w: %w", syscall.ENOSPC, errInjected)}
		default:
			return disktest.Verdict{Err: fmt.Errorf("%w: %w", errs[p.fail%len(errs)], errInjected)}
		}
	}
}

// run tells the story with a failure and a crash in it, starts again, and wants
// the whole history.
func (p pair) run(t *testing.T) {
	t.Helper()
	var what []string
	tr := newTrial(t, p.plan(&what))
	tr.pardons = pardonsInjected
	defer func() {
		if t.Failed() {
			t.Logf("what failed: %q", what)
		}
	}()
	tr.tell()
	if !tr.disk.Crashed() {
		tr.traced()
		return
	}
	for _, loss := range p.losses {
		t.Run(loss.String(), func(t *testing.T) {
			tr.leave(t, loss).recover()
		})
	}
}

// pardonsInjected tells of an error of Run or Once whether a supervisor's restart
// is what it needs, and not a person.
func pardonsInjected(err error) bool {
	return errors.Is(err, errInjected) && !errors.Is(err, replica.ErrFenced) && !strings.Contains(err.Error(), "--takeover")
}

// near are the pairs of a crash soon after a failure, where what the one has left
// undone meets the other. In CI it is one of 30, and other ones the next time, so
// that an operation has one or two; with the race detector half of these.
func near(ops int, seed uint64) (ps []pair) {
	long := os.Getenv("TIDEMARK_TEST_LONG") != ""
	of := uint64(30)
	if slowly {
		of = 60
	}
	for j := 1; j <= ops; j++ {
		for d := 1; d <= 6; d++ {
			for k := range kinds {
				for i, length := range []int{1, 4} {
					if turn := j + 7*d + 11*int(k) + 3*i; long || uint64(turn)%of == seed%of {
						ps = append(ps, pair{fail: j, length: length, kind: k, crash: j + d, losses: losses(d + j)})
					}
				}
			}
		}
	}
	return ps
}

// far are pairs of any distance.
func far(ops, n int, rng *rand.Rand) (ps []pair) {
	for range n {
		j := 1 + rng.IntN(ops)
		ps = append(ps, pair{
			fail: j, length: 1 + rng.IntN(12), kind: kind(rng.IntN(int(kinds))), crash: j + 1 + rng.IntN(ops-j+20),
			losses: losses(rng.IntN(4)),
		})
	}
	return ps
}

// Whichever operation fails, for a while, and whichever comes last before a kill or
// a power cut after that, the next start goes on rightly, and nobody need tell it
// to.
func TestCrashAfterFailure(t *testing.T) {
	t.Parallel()
	ops := 0
	whole := newTrial(t, func(_ int, op string) disktest.Verdict {
		if changes(op) {
			ops++
		}
		return disktest.Verdict{}
	})
	whole.tell()
	seed := seedOf(t)
	n := 50
	if slowly {
		n = 20
	}
	if os.Getenv("TIDEMARK_TEST_LONG") != "" {
		n = 1000
	}
	ps := append(near(ops, seed), far(ops, n, rand.New(rand.NewPCG(seed, 0)))...)
	t.Logf("%d pairs of a failure and a crash in a story of %d operations; TIDEMARK_TEST_SEED=%d gives the same again", len(ps), ops, seed)
	for i, p := range ps {
		t.Run(fmt.Sprintf("%d/%s", i, p), func(t *testing.T) {
			t.Parallel()
			p.run(t)
		})
	}
}

// seedOf gives the seed that is wanted, or another each time.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("TIDEMARK_TEST_SEED")
	if s == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal("TIDEMARK_TEST_SEED: ", err)
	}
	return seed
}
