package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		values []float64
		want   float64
		ok     bool
	}{
		{nil, 0, false},
		{[]float64{7}, 7, true},
		{[]float64{9, 1, 5}, 5, true},
		{[]float64{9, 1, 5, 6}, 5.5, true},
	} {
		before := append([]float64(nil), test.values...)
		if got, ok := median(test.values); got != test.want || ok != test.ok {
			t.Errorf("median of %v is %v, %v, want %v, %v", test.values, got, ok, test.want, test.ok)
		}
		if diff := cmp.Diff(before, test.values); diff != "" {
			t.Errorf("it has changed its values: %s", diff)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for _, test := range []struct {
		values  []float64
		p, want float64
	}{
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{[]float64{3}, 99, 3},
		{[]float64{3, 4}, 50, 3},
		{[]float64{3, 4}, 99, 4},
		{[]float64{3, 4}, 0, 3},
	} {
		if got := percentile(test.values, test.p); got != test.want {
			t.Errorf("p%v of %v is %v, want %v", test.p, test.values, got, test.want)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value    float64
		relation relation
		limit    float64
		met      bool
		missedBy float64
	}{
		{0.85, atLeast, 0.85, true, 0},
		{0.425, atLeast, 0.85, false, 2},
		{1.5, atMost, 1.5, true, 0},
		{3, atMost, 1.5, false, 2},
		{0, atMost, 0, true, 0},
	} {
		if met, missedBy := judge(test.value, test.relation, test.limit); met != test.met || missedBy != test.missedBy {
			t.Errorf("%v %s %v is %v, missed by %v; want %v, %v", test.value, test.relation, test.limit, met, missedBy, test.met, test.missedBy)
		}
	}
	if met, missedBy := judge(1, atMost, 0); met || missedBy <= 1 {
		t.Errorf("1 <= 0 is %v, missed by %v", met, missedBy)
	}
}

// rounds makes what a side has taken of values of one figure.
func rounds(s side, name, unit string, values ...float64) *taken {
	t := &taken{side: s, rounds: make([]map[string]figure, len(values))}
	for i, v := range values {
		t.add(i, []figure{{name, unit, v}})
	}
	return t
}

// TestVerdict takes ratios of rounds, not of medians: in each round of the first case
// tidemark has nine tenths, though the machine grew slower.
func TestVerdict(t *testing.T) {
	t.Parallel()
	half := rounds(tidemark, "throughput", "commits/s", 90, 45, 9)
	for _, test := range []struct {
		name   string
		target target
		all    []*taken
		want   verdict
	}{
		{
			"against a side",
			target{Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.85},
			[]*taken{rounds(alone, "throughput", "commits/s", 100, 50, 10), half},
			verdict{Side: tidemark, Figure: "throughput", Against: alone, Relation: atLeast, Limit: 0.85, Measured: true, Value: 0.9, Met: true},
		},
		{
			"against a constant",
			target{Figure: "throughput", Relation: atLeast, Factor: 90},
			[]*taken{half},
			verdict{Side: tidemark, Figure: "throughput", Relation: atLeast, Limit: 90, Unit: "commits/s", Measured: true, Value: 45, MissedBy: 2},
		},
		{
			"every round",
			target{Figure: "throughput", Relation: atLeast, Factor: 18, Every: true},
			[]*taken{half},
			verdict{Side: tidemark, Figure: "throughput", Relation: atLeast, Limit: 18, Unit: "commits/s", Measured: true, Value: 9, MissedBy: 2},
		},
		{
			"every round at most",
			target{Figure: "throughput", Relation: atMost, Factor: 45, Every: true},
			[]*taken{half},
			verdict{Side: tidemark, Figure: "throughput", Relation: atMost, Limit: 45, Unit: "commits/s", Measured: true, Value: 90, MissedBy: 2},
		},
		{
			"another figure",
			target{Figure: "throughput", Against: plain, Of: "copies", Relation: atMost, Factor: 1},
			[]*taken{rounds(plain, "copies", "commits/s", 180, 90, 18), half},
			verdict{Side: tidemark, Figure: "throughput", Against: plain, Relation: atMost, Limit: 1, Measured: true, Value: 0.5, Met: true},
		},
		{
			"a side that is not there",
			target{Figure: "throughput", Against: litestream, Relation: atMost, Factor: 1},
			[]*taken{half},
			verdict{Side: tidemark, Figure: "throughput", Against: litestream, Relation: atMost, Limit: 1},
		},
		{
			"not measured itself",
			target{Side: folder, Figure: "throughput", Relation: atMost, Factor: 1},
			[]*taken{half},
			verdict{Side: folder, Figure: "throughput", Relation: atMost, Limit: 1},
		},
	} {
		if diff := cmp.Diff(test.want, newVerdict(test.target, test.all)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "ms", "0"},
		{0.0001, "ms", "0"},
		{0.0123, "ms", "0.012"},
		{0.91234, "", "0.912"},
		{1, "", "1"},
		{1.556, "ms", "1.56"},
		{9.994, "s", "9.99"},
		{9.999, "s", "10"},
		{12.345, "s", "12.3"},
		{99.96, "ms", "100"},
		{100, "count", "100"},
		{77409.4, "commits/s", "77,409"},
		{128 << 20, "B", "128 MiB"},
		{1 << 30, "B/s", "1.0 GiB/s"},
		{-3, "count", "-3"},
	} {
		if got := show(test.value, test.unit); got != test.want {
			t.Errorf("%v %s is shown as %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}

// sample is a report with all there can be in one.
func sample() report {
	w := work{
		Name: "replicate-small", Title: "small commits", Sizes: func(p profile) string { return string(p) + ", 3 s" },
		Targets: []target{
			{Figure: "throughput", Against: alone, Relation: atLeast, Factor: 0.85, Text: "throughput at least 85 % of that alone"},
			{Figure: "latency max", Relation: atMost, Factor: 100, Every: true, Text: "longest commit under 100 ms"},
			{Figure: "bytes sent", Against: litestream, Relation: atMost, Factor: 1.0 / 3, Text: "bytes at most a third of Litestream's"},
		},
	}
	ours := rounds(tidemark, "throughput", "commits/s", 3000, 3200, 2900)
	for i, ms := range []float64{80, 250, 90} {
		ours.rounds[i]["latency max"] = figure{"latency max", "ms", ms}
		ours.rounds[i]["bytes sent"] = figure{"bytes sent", "B", 3 << 20}
	}
	ours.order = append(ours.order, "latency max", "bytes sent")
	broken := &taken{side: folder, rounds: make([]map[string]figure, 3), note: "tidemark: exit status 1: no space left |\nhint"}
	return report{
		Head: head{
			Command: commandLine([]string{"--only", "^replicate"}), Date: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Machine: "linux/amd64", CPUs: 2,
			Tidemark: "v1.0.0", Go: "go1.26.0", SQLite: "3.51.3", MinIO: "v0.0.1", Litestream: none,
		},
		Works: []result{
			newResult(w, short, []*taken{rounds(alone, "throughput", "commits/s", 3300, 3300, 3300), ours, broken}),
			newResult(work{Name: "restore", Title: "restore"}, short, []*taken{rounds(tidemark, "time", "s", 1.5), rounds(plain, "time", "s", 1)}),
		},
	}
}

// TestGolden renders a report as text and as Markdown. To accept what it gives, delete
// the files and run it twice.
func TestGolden(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := sample().writeText(&text); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"report.txt": text.String(), "report.md": sample().markdown()} {
		path := filepath.Join("testdata", name)
		want, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			err = os.WriteFile(path, []byte(got), 0o600)
			t.Errorf("%s was written: %v", path, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"empty", "a\n" + readmeBegin + "\n" + readmeEnd + "\nb", "a\n" + readmeBegin + "\nnew\n" + readmeEnd + "\nb"},
		{"old", "a\n" + readmeBegin + "\nold\n\nolder\n" + readmeEnd, "a\n" + readmeBegin + "\nnew\n" + readmeEnd},
		{"one line", readmeBegin + readmeEnd, readmeBegin + "\nnew\n" + readmeEnd},
		{"none", "a", ""},
		{"no end", readmeBegin, ""},
		{"no begin", readmeEnd, ""},
		{"wrong order", readmeEnd + "\n" + readmeBegin, ""},
		{"two", readmeBegin + readmeEnd + readmeBegin + readmeEnd, ""},
	} {
		got, err := replaceTable(test.text, "\nnew\n")
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s: got %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "go run ./integration/bench"},
		{[]string{"--profile", "full"}, "go run ./integration/bench --profile full"},
		{[]string{"--only", "^replicate", "--dir=/a b"}, "go run ./integration/bench --only ^replicate '--dir=/a b'"},
		{[]string{"--only", "a|b", "it's", ""}, `go run ./integration/bench --only 'a|b' 'it'\''s' ''`},
		{[]string{"restore.*$", "a;b", "$HOME"}, `go run ./integration/bench 'restore.*$' 'a;b' '$HOME'`},
	} {
		if got := commandLine(test.args); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
