package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"tidemark/integration/minio"
)

// TestMain makes the test program also what the bench starts: an application, or a
// Litestream.
func TestMain(m *testing.M) {
	if isFakeLitestream(os.Args[0]) {
		os.Exit(fakeLitestream(os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == applicationCommand {
		main()
		os.Exit(0)
	}
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// built is the tidemark program, built once for all tests.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func builtTidemark(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "tidemark-bench-test-"); built.err != nil { //nolint:usetesting // it outlives the test
			return
		}
		b := &bench{dir: built.dir, log: slog.New(slog.DiscardHandler)}
		built.err = b.build(context.WithoutCancel(t.Context()))
		built.path = b.tidemark
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// runBench runs the whole program in a folder of its own, which must be empty afterwards.
func runBench(t *testing.T, ctx context.Context, diagnostics io.Writer, args ...string) (out string, err error) { //nolint:revive // t comes first in a helper
	t.Helper()
	dir := t.TempDir()
	var stdout bytes.Buffer
	args = append([]string{"--profile", "smoke", "--dir", dir, "--tidemark", builtTidemark(t)}, args...) //nolint:contextcheck // it has the test's
	cmd := newCommand(args)                                                                              //nolint:contextcheck // it gets it from ExecuteContext
	cmd.SetOut(&stdout)
	cmd.SetErr(diagnostics)
	err = cmd.ExecuteContext(ctx)
	if left, readErr := os.ReadDir(dir); readErr != nil || len(left) > 0 {
		t.Errorf("it has left %v in its folder: %v", left, readErr)
	}
	return stdout.String(), err
}

// TestBench runs one work, as tiny as it gets, with all sides, and a Litestream that
// isn't one. Without MinIO only those remain that need none.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	if runtime.GOOS == "windows" {
		t.Skip("nothing can be interrupted there")
	}
	t.Parallel()
	readme := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(readme, []byte("above\n"+readmeBegin+"\nold\n"+readmeEnd+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := runBench(t, t.Context(), t.Output(), "--only", "^replicate-small$", "--json", "--readme", readme, "--litestream", linkLitestream(t))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(r.Works) != 1 || len(r.Works[0].Sides) != 4 || r.Head.Litestream != fakeVersion || r.Head.CPUs == 0 || r.Head.SQLite == "" {
		t.Fatalf("want one work with four sides, and a whole head: %s", out)
	}
	for _, s := range r.Works[0].Sides {
		wantSide(t, s)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"above\n" + readmeBegin + "\n- Command: ", "| throughput, commits/s |", "\n" + readmeEnd + "\nbelow\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the README has no %q:\n%s", want, text)
		}
	}
}

// wantSide looks for all figures that a side has to have.
func wantSide(t *testing.T, s sideResult) {
	t.Helper()
	if strings.Contains(s.Note, errUnmeasured.Error()) && os.Getenv(minio.Variable) != "require" {
		t.Logf("%s: %s", s.Side, s.Note)
		return
	}
	if s.Note != "" {
		t.Errorf("%s: %s", s.Side, s.Note)
	}
	want := []string{"throughput", "commits", "latency p50", "latency p99", "latency max"}
	if s.Side != alone {
		want = append(want, "replicator CPU", "replicator CPU for 1,000 commits", "PUTs", "other requests", "bytes sent",
			"bytes sent a commit", "restorable points", "commits not restorable", "lag p50", "lag p99", "lag max")
	}
	if s.Side == tidemark || s.Side == folder {
		want = append(want, "write lock max")
	}
	got := map[string]measured{}
	for _, m := range s.Figures {
		got[m.Name] = m
	}
	for _, name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s has no %q: %+v", s.Side, name, s.Figures)
		}
	}
	if got["commits"].Median < 1 || got["throughput"].Median <= 0 || s.Side != alone && (got["PUTs"].Median < 1 || got["bytes sent"].Median < 1) {
		t.Errorf("%s has done nothing: %+v", s.Side, s.Figures)
	}
	if got["commits not restorable"].Median != 0 && s.Side != litestream {
		t.Errorf("%s has not kept every commit: %+v", s.Side, s.Figures)
	}
}

// interrupter ends a context as soon as something is logged.
type interrupter struct {
	when   string
	cancel context.CancelFunc
	io.Writer
}

func (i interrupter) Write(line []byte) (int, error) {
	if strings.Contains(string(line), i.when) {
		time.AfterFunc(300*time.Millisecond, i.cancel) // while it runs
	}
	return i.Writer.Write(line)
}

// TestInterrupted ends it in the middle. Nothing stays, and nothing is printed.
func TestInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	t.Setenv(minio.Variable, "skip")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := runBench(t, ctx, interrupter{`side="tidemark, folder"`, cancel, t.Output()}, "--only", "^replicate-paced$")
	if err == nil || !strings.Contains(err.Error(), "interrupted") || out != "" {
		t.Errorf("it ended with %v and printed %q", err, out)
	}
}

// TestUsage has mistakes that must be told before anything is started.
func TestUsage(t *testing.T) {
	t.Parallel()
	without := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(without, []byte("# no comments\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"profile", []string{"--profile", "long"}, `not "long"`},
		{"no work", []string{"--only", "nothing like this"}, "--list lists them"},
		{"pattern", []string{"--only", "("}, "--only: "},
		{"rounds", []string{"--rounds", "-1"}, "must not be negative"},
		{"litestream", []string{"--litestream", "/no/such/program"}, "--litestream: "},
		{"tidemark", []string{"--tidemark", "/no/such/program"}, "--tidemark: "},
		{"readme", []string{"--readme", without}, "there must be one " + readmeBegin},
		{"two forms", []string{"--json", "--markdown"}, "[json markdown]"},
		{"arguments", []string{"short"}, "unknown command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := newCommand(append([]string{"--dir", dir}, test.args...))
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it has left %v: %v", left, err)
			}
		})
	}
}

// TestList has each work once, with what it does.
func TestList(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, p := range []profile{smoke, short, full} {
		var out strings.Builder
		cmd := newCommand([]string{"--list", "--profile", string(p)})
		cmd.SetOut(&out)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, w := range works() {
			if strings.Contains(out.String(), "\n"+w.Name+" ") != w.in(p) {
				t.Errorf("%s: is %s listed? want %v:\n%s", p, w.Name, w.in(p), out.String())
			}
			if w.Rounds(p) < 1 || w.Title == "" || names[string(p)+w.Name] {
				t.Errorf("%s: %s has no rounds, no title, or a name that another one has", p, w.Name)
			}
			names[string(p)+w.Name] = true
		}
	}
}

// TestProc has a child tell what it has cost.
func TestProc(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	ballast := bytes.Repeat([]byte{1}, 64<<20) // which the system counts as the child's, too
	b := &bench{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	p, err := b.start(t.Context(), shell, "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo '{\"n\": 7}'; echo trouble >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.wait(); err == nil || !strings.Contains(err.Error(), "exit status 3: trouble") {
		t.Errorf("it ended with %v", err)
	}
	var answer struct{ N int }
	if err := p.answer(&answer); err != nil || answer.N != 7 {
		t.Errorf("it answered %+v: %v", answer, err)
	}
	if spent, ok := p.cpu(); !ok || spent <= 0 {
		t.Errorf("it has cost %v, %v", spent, ok)
	}
	if runtime.GOOS != "linux" {
		return
	}
	if size, ok := p.memory(); !ok || size < 100<<10 || size > int64(len(ballast)/2) {
		t.Errorf("it has taken %d bytes, %v", size, ok)
	}
}
