package location_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"tidemark/cmd/tidemark/location"
	"tidemark/storage"
)

// Locations in one bucket share connections, and each sees its own prefix only. One
// whose prefix is too long is refused as without sharing.
func TestClients(t *testing.T) {
	t.Setenv(location.VarAccessKeyID, "key")
	t.Setenv(location.VarSecretAccessKey, "secret")
	var mu sync.Mutex
	conns, prefixes := map[string]bool{}, []string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		conns[r.RemoteAddr] = true
		prefixes = append(prefixes, r.URL.Query().Get("prefix"))
		_, _ = w.Write([]byte(`<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`))
	}))
	defer srv.Close()
	var clients location.Clients
	open := func(prefix string) (storage.Bucket, error) {
		l, err := location.Parse("s3://bucket/" + prefix + "?endpoint=" + srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		return l.Open(t.Context(), location.Options{Clients: &clients})
	}
	for _, prefix := range []string{"a", "b/c"} {
		b, err := open(prefix)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.List(t.Context(), "", "", func(storage.Info) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(prefixes, " "); got != "a/ b/c/" || len(conns) != 1 {
		t.Errorf("prefixes %q over %d connections", got, len(conns))
	}
	if _, err := open(strings.Repeat("x", 600)); err == nil {
		t.Error("a prefix that is too long is taken")
	}
}
