//go:build linux

package main

import (
	"os"
	"testing"
)

func TestStatusValue(t *testing.T) {
	t.Parallel()
	status := []byte("Name:\tVmRSS: 7\nVmRSS:\t   351584 kB\nRssAnon:\t12 kB\nThreads:\t24\nOdd:\tno number\n")
	for name, want := range map[string]int64{"VmRSS": 351584, "RssAnon": 12, "Threads": 24, "Odd": 0, "Missing": 0} {
		if got := statusValue(status, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

func TestHeld(t *testing.T) {
	t.Parallel()
	h, ok := held(os.Getpid())
	if !ok || h.resident < 1<<20 || h.private < 1<<20 || h.private > h.resident || h.descriptors < 3 || h.threads < 1 {
		t.Errorf("this process holds %+v, %v", h, ok)
	}
	if _, ok := held(-1); ok {
		t.Error("a process that there is none of holds something")
	}
}
