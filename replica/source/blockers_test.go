package source_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidemark/replica/source"
)

const readerPath = "TIDEMARK_TEST_READER"

// TestReaderProcess is the other process of TestReaders: it reads until its
// input ends.
func TestReaderProcess(t *testing.T) {
	path := os.Getenv(readerPath)
	if path == "" {
		t.Skip("only as another test's process")
	}
	c := connect(t, path)
	c.read()
	if _, err := os.Stdout.WriteString("reading\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	c.end()
}

// reader begins a read transaction in another process, and gives what ends it.
func reader(t *testing.T, path string) (pid int, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReaderProcess$")
	cmd.Env = append(os.Environ(), readerPath+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "reading\n" {
		t.Fatalf("the reader says %q (%v)", line, err)
	}
	return cmd.Process.Pid, func() {
		t.Helper()
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// Who holds a read transaction open is told, and nobody else: not our own
// process, which has several, and not those that read other databases.
func TestReaders(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	path, app := database(t)
	elsewhere, _ := database(t)
	d := open(t, path)
	attach(t, d)
	app.read()
	defer app.end()
	if got := d.Readers(); len(got) != 0 {
		t.Errorf("nobody else reads, but %v", got)
	}
	_, endOther := reader(t, elsewhere)
	defer endOther()
	var want []source.Reader
	var ends []func()
	for range 2 {
		pid, end := reader(t, path)
		want = append(want, source.Reader{PID: pid, Command: filepath.Base(os.Args[0])})
		ends = append(ends, end)
	}
	byPID := cmpopts.SortSlices(func(a, b source.Reader) bool { return a.PID < b.PID })
	if diff := cmp.Diff(want, d.Readers(), byPID); diff != "" {
		t.Errorf("two processes read (-want +got):\n%s", diff)
	}
	for _, end := range ends {
		end()
	}
	if got := d.Readers(); len(got) != 0 {
		t.Errorf("they have ended, but %v", got)
	}
	if got := want[0].String(); !strings.Contains(got, want[0].Command) || !strings.Contains(got, strconv.Itoa(want[0].PID)) {
		t.Errorf("%+v is shown as %q", want[0], got)
	}
	assertLocked(t, path)
}

// assertLocked checks that our own locks on the -shm file are there still.
func assertLocked(t *testing.T, path string) {
	t.Helper()
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	inode := reflect.ValueOf(info.Sys()).Elem().FieldByName("Ino").Uint()
	if want := fmt.Sprintf(" %d ", os.Getpid()); !strings.Contains(string(locks), want) || !strings.Contains(string(locks), fmt.Sprintf(":%d ", inode)) {
		t.Errorf("no lock of ours on inode %d among\n%s", inode, locks)
	}
}
