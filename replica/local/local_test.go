package local_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/disk"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

func open(t *testing.T) *local.Dir {
	t.Helper()
	d, err := local.Open(disk.OS{}, filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func replicaID() segment.ReplicaID {
	return segment.ReplicaID{0xa0, 0xa1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}
}

func sample() local.State {
	return local.State{
		Replica: replicaID(), TXID: 1<<63 + 5, Checksum: 0xfedcba9876543210, Pages: 1<<32 - 1,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		Position: wal.Position{
			Salts: wal.Salts{Salt1: 1<<32 - 1, Salt2: 7}, Frame: 12345, Sum: wal.Checksum{S0: 1, S1: 1 << 31},
		},
		File: local.Stamp{Size: 1 << 40, Modified: 1<<62 + 1, File: 1<<64 - 1, Changed: -1},
	}
}

func table(size wal.PageSize, n int) *state.Table {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	sums := make([]state.Sum, n)
	for i := range sums {
		sums[i] = state.Sum(rng.Uint64())
	}
	if lock := int(size.LockPage()); lock <= n {
		sums[lock-1] = 0
	}
	return state.TableOf(size, sums)
}

// content is a table's.
func content(t *state.Table) []byte { return t.AppendBinary(nil, 0, t.Len()) }

func TestState(t *testing.T) {
	t.Parallel()
	d := open(t)
	if _, err := d.Load(); !errors.Is(err, local.ErrLost) {
		t.Errorf("before: %v", err)
	}
	for _, want := range []local.State{sample(), {}, {Replica: replicaID(), TXID: 1}} {
		for _, survive := range []local.Durability{local.Process, local.Power} {
			if err := d.Save(want, survive); err != nil {
				t.Fatal(err)
			}
			got, err := d.Load()
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("state (-saved +loaded):\n%s%v", diff, err)
			}
		}
	}
	// A time of another zone or with nanoseconds is the same time.
	s := sample()
	s.Time = time.Now().In(time.FixedZone("", -7200))
	if err := d.Save(s, local.Process); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load(); err != nil || !got.Time.Equal(s.Time) {
		t.Errorf("time %v, saved %v, %v", got.Time, s.Time, err)
	}
}

func TestShipped(t *testing.T) {
	t.Parallel()
	d := open(t)
	id := replicaID()
	if _, err := d.LoadShipped(id); !errors.Is(err, local.ErrLost) {
		t.Errorf("before: %v", err)
	}
	for _, want := range []local.Shipped{
		{Newest: local.Object{Last: 1, Sum: 1}},
		{Newest: local.Object{First: 2, Last: 900, Sum: 7}, Next: local.Object{First: 901, Last: 1000, Sum: 1<<64 - 1}},
		{Newest: local.Object{First: 1<<63 + 1, Last: 1<<64 - 1, Sum: 1 << 63}},
	} {
		want.Replica = id
		if err := d.SaveShipped(want); err != nil {
			t.Fatal(err)
		}
		got, err := d.LoadShipped(id)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := d.LoadShipped(segment.ReplicaID{}); !errors.Is(err, local.ErrLost) {
		t.Errorf("of another replica: %v", err)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	d := open(t)
	id := replicaID()
	if _, _, err := d.LoadSums(id); !errors.Is(err, local.ErrLost) {
		t.Errorf("before: %v", err)
	}
	for _, n := range []int{0, 1, 2, 1<<15 - 1, 1 << 15, 1<<15 + 1, 3 << 15, 20000} {
		for _, size := range []wal.PageSize{512, 65536} { // of the latter, page 16385 is the lock-byte page
			want := table(size, n)
			if err := d.SaveSums(id, state.TXID(n+1), want); err != nil {
				t.Fatal(err)
			}
			tx, got, err := d.LoadSums(id)
			if err != nil {
				t.Fatal(err)
			}
			if tx != state.TXID(n+1) || got.PageSize() != size || got.Len() != uint32(n) || got.Checksum() != want.Checksum() {
				t.Errorf("%d sums of pages of %d: TXID %v, %d sums of %d", n, size, tx, got.Len(), got.PageSize())
			}
			if string(content(got)) != string(content(want)) {
				t.Errorf("%d sums differ", n)
			}
		}
	}
	if _, _, err := d.LoadSums(segment.ReplicaID{1}); !errors.Is(err, local.ErrLost) {
		t.Errorf("of another replica: %v", err)
	}
}

// Whatever happens to a file, what is read is what was saved, or lost.
func TestDamage(t *testing.T) {
	t.Parallel()
	id := replicaID()
	shipped := local.Shipped{Replica: id, Newest: local.Object{First: 17, Last: 1234567890, Sum: 5}}
	sums := table(4096, 40)
	for name, tc := range map[string]struct {
		save  func(d *local.Dir) error
		right func(d *local.Dir) (bool, error) // whether what is read is what was saved
	}{
		"state.json": {
			func(d *local.Dir) error { return d.Save(sample(), local.Power) },
			func(d *local.Dir) (bool, error) { s, err := d.Load(); return cmp.Equal(s, sample()), err },
		},
		"shipped.json": {
			func(d *local.Dir) error { return d.SaveShipped(shipped) },
			func(d *local.Dir) (bool, error) {
				s, err := d.LoadShipped(id)
				return s == shipped, err
			},
		},
		"sums": {
			func(d *local.Dir) error { return d.SaveSums(id, 99, sums) },
			func(d *local.Dir) (bool, error) {
				tx, s, err := d.LoadSums(id)
				return err != nil || tx == 99 && s.PageSize() == 4096 && string(content(s)) == string(content(sums)), err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t)
			if err := tc.save(d); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(d.Path(), name)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			check := func(what string, at int, b []byte) {
				t.Helper()
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				right, err := tc.right(d)
				if err == nil && !right {
					t.Errorf("%s %d: %q is taken for something else than was saved", what, at, b)
				}
				if err != nil && !errors.Is(err, local.ErrLost) {
					t.Errorf("%s %d: %v", what, at, err)
				}
			}
			for n := range good {
				if name == "shipped.json" && good[n] == 0 && n%128 > 0 {
					continue // the rest of a block
				}
				check("cut at", n, good[:n])
				for bit := range 8 {
					bad := append([]byte(nil), good...)
					bad[n] ^= 1 << bit
					check("flipped at", n, bad)
				}
				check("zeros from", n, append(append([]byte(nil), good[:n]...), make([]byte, len(good)-n)...))
			}
			check("longer by", 1, append(append([]byte(nil), good...), 0))
			check("twice", 2, append(append([]byte(nil), good...), good...))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, err := tc.right(d); !errors.Is(err, local.ErrLost) {
				t.Errorf("missing: %v", err)
			}
		})
	}
}

// What a crash left of a file that was being replaced is in nobody's way.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.Save(sample(), local.Power); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"state.json.tmp", "shipped.json.tmp", "sums.tmp"} {
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte("torn, and longer than what comes next"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := d.Load(); err != nil || got != sample() {
		t.Errorf("loaded %+v, %v", got, err)
	}
	later := sample()
	later.TXID++
	if err := errors.Join(d.Save(later, local.Process), d.SaveShipped(local.Shipped{Newest: local.Object{Last: 1}}), d.SaveSums(replicaID(), 1, table(512, 0))); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Load(); err != nil || got != later {
		t.Errorf("loaded %+v, %v", got, err)
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"lock", "shipped.json", "spool", "state.json", "sums"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := local.DefaultPath(filepath.Join(t.TempDir(), "app.db"))
	if filepath.Base(path) != ".app.db-tidemark" {
		t.Errorf("path %s", path)
	}
	d, err := local.Open(disk.OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	if d.Path() != path {
		t.Errorf("path %s, want %s", d.Path(), path)
	}
	for range 2 {
		if _, err := local.Open(disk.OS{}, path); !errors.Is(err, local.ErrLocked) {
			t.Errorf("the second: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = local.Open(disk.OS{}, path); err != nil {
		t.Fatal("after the first has closed: ", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoPlace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(disk.OS{}, path); err == nil || errors.Is(err, local.ErrLocked) {
		t.Errorf("in a file: %v", err)
	}
}

// The spool's listing is in the order of TXIDs, and shows nothing else.
func TestSpooled(t *testing.T) {
	t.Parallel()
	d := open(t)
	if sealed, parts, err := d.Spooled(); err != nil || len(sealed)+len(parts) > 0 {
		t.Errorf("at first: %v %v %v", sealed, parts, err)
	}
	want := []state.TXID{1, 9, 10, 0xff, 0x100, 1 << 40, 1<<64 - 1}
	var paths []string
	for _, id := range want {
		paths = append([]string{d.SpoolPath(id)}, paths...)
	}
	paths = append(paths, d.PartPath(12), d.PartSumsPath(12), d.PartPath(2))
	for _, name := range []string{
		"readme", "1.seg", "000000000000000A.seg", "0000000000000003", "0000000000000003.seg.tmp", "0000000000000003.SEG",
		"00000000000000003.seg", "x000000000000003.part", ".seg", ".part", "0000000000000003.segment",
	} {
		paths = append(paths, filepath.Join(d.Path(), "spool", name))
	}
	for _, path := range paths {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealed, parts, err := d.Spooled()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, sealed); diff != "" {
		t.Errorf("sealed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]state.TXID{2, 12}, parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}
