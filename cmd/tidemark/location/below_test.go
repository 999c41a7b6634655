package location_test

import (
	"strings"
	"testing"

	"tidemark/cmd/tidemark/location"
)

func TestBelow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, rel, want string }{
		{"file:///backups", "a.db", "file:///backups/a.db"},
		{"file:///backups/", "t/a.db", "file:///backups/t/a.db"},
		{"file:///", "a.db", "file:///a.db"},
		{"file://backups", "50% off?#1 @home.db", "file://backups/50%25%20off%3F%231%20%40home.db"},
		{"s3://bucket", "a.db", "s3://bucket/a.db"},
		{"s3://bucket/", "a.db", "s3://bucket/a.db"},
		{"s3://bucket/p/q?endpoint=http://127.0.0.1:9000&region=us-east-1", "t/ü.db", "s3://bucket/p/q/t/%C3%BC.db?endpoint=http://127.0.0.1:9000&region=us-east-1"},
		{"s3://bucket/p", "me@home/a+b%2F.db", "s3://bucket/p/me%40home/a+b%252F.db"},
	} {
		l, err := location.Parse(tc.url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Below(tc.rel)
		if err != nil || got.String() != tc.want {
			t.Errorf("%s below %s: %q, %v, want %q", tc.rel, tc.url, got, err, tc.want)
			continue
		}
		if !got.Within(l) || l.Within(got) || got.Same(l) {
			t.Errorf("%s is to lie within %s", got, l)
		}
		if f := location.FolderOf(got); strings.HasPrefix(tc.url, "file:") && !strings.HasSuffix(f, "/"+tc.rel) {
			t.Errorf("%s is the folder %s", got, f)
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"file:///a/b", "file:///a", true},
		{"file:///a/./b/..", "file:///a/", true},
		{"file:///ab", "file:///a", false},
		{"file:///a", "file:///a/b", false},
		{"file:///..a", "file:///", true},
		{"s3://b/a/b", "s3://b/a", true},
		{"s3://b/a", "s3://b/a/", true},
		{"s3://b/a", "s3://b", true},
		{"s3://b/ab", "s3://b/a", false},
		{"s3://b/a", "s3://c", false},
		{"s3://b/a?endpoint=http://x", "s3://b", false},
		{"s3://b/a", "file:///", false},
		{"file:///b/a", "s3://b", false},
	} {
		a, errA := location.Parse(tc.a)
		b, errB := location.Parse(tc.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if got := a.Within(b); got != tc.want {
			t.Errorf("%s within %s: %t", a, b, got)
		}
	}
}
