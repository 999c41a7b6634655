package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/storage"
	"tidemark/storage/mem"
)

// at is so many milliseconds after some moment.
func at(ms int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(ms)) }

func TestLags(t *testing.T) {
	t.Parallel()
	commits := []time.Time{at(10), at(20), at(30)} // TXIDs 2, 3 and 4
	for _, test := range []struct {
		name string
		segs []stored
		want []float64
	}{
		{"one segment", []stored{{first: 2, put: at(100)}}, []float64{70, 80, 90}},
		{"two", []stored{{first: 2, put: at(25)}, {first: 4, put: at(130)}}, []float64{5, 15, 100}},
		{"one before", []stored{{first: 1, put: at(0)}, {first: 2, put: at(40)}}, []float64{10, 20, 30}},
		{"a clock in whole milliseconds", []stored{{first: 2, put: at(9)}, {first: 3, put: at(40)}}, []float64{0, 10, 20}},
		{"none", nil, nil},
		{"begins too late", []stored{{first: 3, put: at(40)}}, nil},
	} {
		got, ok := lags(commits, 1, test.segs)
		if diff := cmp.Diff(test.want, got); diff != "" || ok != (test.want != nil) {
			t.Errorf("%s: %v: %s", test.name, ok, diff)
		}
	}
}

func TestLagsByTime(t *testing.T) {
	t.Parallel()
	commits := []time.Time{at(10), at(20), at(30)}
	for _, test := range []struct {
		name  string
		files []stored
		want  []float64
	}{
		{"one file", []stored{{until: at(30), put: at(50)}}, []float64{20, 30, 40}},
		{"two", []stored{{until: at(20), put: at(24)}, {until: at(40), put: at(50)}}, []float64{4, 14, 20}},
		{"old ones", []stored{{until: at(1), put: at(2)}, {until: at(40), put: at(50)}}, []float64{20, 30, 40}},
		{"the last one is missing", []stored{{until: at(25), put: at(50)}}, nil},
	} {
		got, ok := lagsByTime(commits, test.files)
		if diff := cmp.Diff(test.want, got); diff != "" || ok != (test.want != nil) {
			t.Errorf("%s: %v: %s", test.name, ok, diff)
		}
	}
}

// TestDuring counts what was said while there were commits.
func TestDuring(t *testing.T) {
	t.Parallel()
	said := []saidLag{{at(0), 1}, {at(10), 5}, {at(20), 4}, {at(31), 9}}
	if diff := cmp.Diff([]float64{4, 5}, during([]time.Time{at(10), at(30)}, said)); diff != "" {
		t.Error(diff)
	}
	if got := during(nil, said); got != nil {
		t.Errorf("without commits there is %v", got)
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	here := place{store: mem.New()}
	for _, key := range []string{"log/0000000000000002.seg", "log/00000000000000ff.seg", "pack/0000000000000002-00000000000000ff.seg", "tidemark.json"} {
		if err := here.store.Put(t.Context(), key, strings.NewReader("x"), storage.PutOptions{Size: 1}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := segments(t.Context(), here)
	if err != nil || len(got) != 2 || got[0].first != 2 || got[1].first != 255 {
		t.Errorf("got %+v: %v", got, err)
	}
}

// TestLTX reads what putLTX puts, and nothing else.
func TestLTX(t *testing.T) {
	t.Parallel()
	here := place{store: mem.New()}
	for id, ms := range map[uint64]int{1: 10, 2: 30} {
		if err := putLTX(t.Context(), here.store, id, at(ms)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(key, body string) {
		if err := here.store.Put(t.Context(), key, strings.NewReader(body), storage.PutOptions{Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
	}
	put("0001/0000000000000001-0000000000000002.ltx", "another layout, and another level")
	put("ltx/0/readme", "x")
	files, err := ltxFiles(t.Context(), here)
	if err != nil || len(files) != 3 || points(files) != 2 {
		t.Fatalf("got %+v: %v", files, err)
	}
	got, err := ltxStored(t.Context(), here, files)
	if err != nil || len(got) != 2 || !got[0].until.Equal(at(10)) || !got[1].until.Equal(at(30)) {
		t.Errorf("got %+v: %v", got, err)
	}
	numbers := "\x00\x00\x00\x00\x00\x00\x00\x03"
	zeros := strings.Repeat("\x00", 12)
	for _, body := range []string{
		"short", strings.Repeat("no header ", 10),
		"XTL1" + zeros + numbers + numbers + numbers, "LTX1" + zeros + numbers + zeros + numbers, "LTX1" + zeros + zeros + numbers + numbers,
	} {
		put("ltx/0/0000000000000003-0000000000000003.ltx", body)
		if files, err = ltxFiles(t.Context(), here); err != nil {
			t.Fatal(err)
		}
		if _, err := ltxStored(t.Context(), here, files); !errors.Is(err, errHeader) {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestReadValues(t *testing.T) {
	t.Parallel()
	const text = `# HELP tidemark_requests_total Requests.
# TYPE tidemark_requests_total counter
tidemark_requests_total{db="a b.db",kind="put"} 3
tidemark_requests_total{db="a b.db",kind="list"} 1

tidemark_uploaded_bytes_total{db="a b.db",kind="segment"} 1.5e+06
tidemark_uploaded_bytes_total{db="a b.db",kind="snapshot"} 500
tidemark_parked_replications 0
`
	v, err := readValues(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(traffic{puts: 3, others: 1, sent: 1_500_500}, folderTraffic(v), cmp.AllowUnexported(traffic{})); diff != "" {
		t.Error(diff)
	}
	if n, ok := v.sum("tidemark_parked_replications", nil); n != 0 || !ok {
		t.Errorf("got %v, %v", n, ok)
	}
	if n, ok := v.sum("tidemark_requests", nil); ok {
		t.Errorf("a part of a name has %v", n)
	}
	for _, bad := range []string{"name", "name value"} {
		if v, err := readValues(strings.NewReader(bad)); err == nil {
			t.Errorf("%q gives %v", bad, v)
		}
	}
}

// TestApplication does each load for a moment, one process for all.
func TestApplication(t *testing.T) {
	t.Parallel()
	db, times := filepath.Join(t.TempDir(), "app.db"), filepath.Join(t.TempDir(), "times")
	for _, test := range []struct {
		load load
		want func(done) bool
	}{
		{load{create: 1}, func(d done) bool { return d == done{} }},
		{load{create: -1, do: "insert", seconds: 0.05}, func(d done) bool { return d.Commits > 0 && d.Bytes == int64(d.Commits*smallRow) && d.Seconds >= 0.05 }},
		{load{create: -1, do: "insert", seconds: 0.1, rate: 50}, func(d done) bool { return d.Commits > 0 && d.Commits <= 6 }},
		{load{create: -1, do: "update", seconds: 0.05}, func(d done) bool { return d.Commits > 0 && d.P50 > 0 && d.P50 <= d.P99 && d.P99 <= d.Max }},
		{load{create: -1, do: "bulk", bytes: 1}, func(d done) bool { return d.Commits == 1 && d.Bytes == bulkRows*largeRow }},
	} {
		test.load.db, test.load.times = db, times
		began := time.Now()
		d, err := test.load.run(t.Context())
		if err != nil || !test.want(d) {
			t.Fatalf("%+v gives %+v: %v", test.load, d, err)
		}
		if d.Commits == 0 {
			continue
		}
		at, err := readTimes(times)
		if err != nil || len(at) != d.Commits || at[0].Before(began) || at[len(at)-1].After(time.Now()) {
			t.Errorf("%+v: %d commits, the times of %d: %v", test.load, d.Commits, len(at), err)
		}
	}
}
