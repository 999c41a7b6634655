package storage_test

import (
	"errors"
	"strings"
	"testing"

	"tidemark/storage"
)

func TestValidKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key  string
		want bool
	}{
		{"tidemark.json", true},
		{"log/0000000000000001.seg", true},
		{"A-Z_a.z/0-9", true},
		{".hidden/..three", true},
		{"...", true},
		{strings.Repeat("k", storage.MaxKeyLen), true},
		{strings.Repeat("k", storage.MaxKeyLen+1), false},
		{"", false},
		{"/", false},
		{"/leading", false},
		{"trailing/", false},
		{"two//slashes", false},
		{".", false},
		{"..", false},
		{"a/./b", false},
		{"a/../b", false},
		{"../up", false},
		{"a/..", false},
		{"with space", false},
		{"per%cent", false},
		{"plus+", false},
		{"back\\slash", false},
		{"nul\x00", false},
		{"line\nfeed", false},
		{"ünicode", false},
		{"tilde~", false},
	}
	for _, tt := range tests {
		if got := storage.ValidKey(tt.key); got != tt.want {
			t.Errorf("ValidKey(%q) = %v, want %v", tt.key, got, tt.want)
		}
		if got := storage.CheckKey(tt.key); (got == nil) != tt.want || (got != nil && !errors.Is(got, storage.ErrInvalidKey)) {
			t.Errorf("CheckKey(%q) = %v", tt.key, got)
		}
	}
}

func TestValidPrefix(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"": true, "a": true, "a/": true, "a/.": true, "..": true, "a/b": true, strings.Repeat("k", storage.MaxKeyLen): true,
		"/": false, "a//": false, "./": false, "a/../": false, "a b": false, strings.Repeat("k", storage.MaxKeyLen+1): false,
	}
	for prefix, want := range tests {
		if got := storage.ValidPrefix(prefix); got != want {
			t.Errorf("ValidPrefix(%q) = %v, want %v", prefix, got, want)
		}
	}
}

// FuzzValidKey holds the rules against an independent wording of them.
func FuzzValidKey(f *testing.F) {
	for _, seed := range []string{"", "a/b", "/a", "a//b", "..", "a/.", "log/1.seg", "é"} {
		f.Add(seed)
	}
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"
	f.Fuzz(func(t *testing.T, key string) {
		want := len(key) <= storage.MaxKeyLen && strings.Trim(key, allowed) == ""
		for i := range len(key) {
			want = want && strings.IndexByte(allowed, key[i]) >= 0
		}
		for element := range strings.SplitSeq(key, "/") {
			want = want && element != "" && element != "." && element != ".."
		}
		if got := storage.ValidKey(key); got != want {
			t.Fatalf("ValidKey(%q) = %v, want %v", key, got, want)
		}
	})
}
