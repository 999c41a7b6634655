package main

import (
	"strings"
	"testing"
)

func TestReplicated(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key, want string
	}{
		{"00/00007.db/snapshot/0000000000000001-0000000000000000.snap", "00/00007.db"},
		{"00007.db/ltx/0/0000000000000001-0000000000000001.ltx", "00007.db"},
		{"00/00007.db/tidemark.json", ""},
		{"00/00007.db/log/0000000000000002.seg", ""},
	}
	for _, tt := range tests {
		if got, ok := replicated(tt.key); got != tt.want && ok || ok != (tt.want != "") {
			t.Errorf("replicated(%s) = %q, %v, want %q", tt.key, got, ok, tt.want)
		}
	}
}

// TestIdleSizes says so if the system cuts the number of databases.
func TestIdleSizes(t *testing.T) {
	t.Parallel()
	i := &idle{wanted: openLimit() + 1, count: func(profile) int { return openLimit() }}
	if text := i.work("idle", false).Sizes(full); !strings.Contains(text, "since a process may have") {
		t.Errorf("it says %q of fewer databases than wanted", text)
	}
	i.wanted--
	if text := i.work("idle", false).Sizes(full); strings.Contains(text, "since") {
		t.Errorf("it says %q of as many databases as wanted", text)
	}
}
