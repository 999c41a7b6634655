package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/replica/disk"
	"tidemark/replica/local"
)

func TestReplicas(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	check := func(want ...string) {
		t.Helper()
		got, err := local.Replicas(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	check()
	for _, name := range []string{"far", "a-2"} {
		d, err := local.Open(disk.OS{}, local.ReplicaPath(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Save(sample(), local.Process), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "replicas", "a file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("a-2", "far")
	if got := local.ReplicaPath(dir, ""); got != dir {
		t.Errorf("the one without a name has %s", got)
	}
	d, err := local.Open(disk.OS{}, local.ReplicaPath(dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	check("a-2", "far")
	if err := d.SaveStatus([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	check("", "a-2", "far")
	if err := errors.Join(d.Save(sample(), local.Process), d.Close()); err != nil {
		t.Fatal(err)
	}
	check("", "a-2", "far")

	file := filepath.Join(dir, "replicas", "a file")
	if names, err := local.Replicas(file); err == nil {
		t.Errorf("of a file: %v", names)
	}
}
