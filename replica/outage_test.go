package replica_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/local"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/s3"
	"tidemark/storage/storagetest/faultproxy"
	"tidemark/storage/storagetest/s3fake"
)

// service is an S3 service that is reached through a proxy with faults, and
// past it.
type service struct {
	proxy *faultproxy.Proxy
	clean storage.Bucket
}

func newService(t *testing.T) *service {
	t.Helper()
	server := httptest.NewServer(s3fake.New(t))
	t.Cleanup(server.Close)
	return &service{faultproxy.New(t, server.URL), openS3(t, server.URL, 10*time.Second)}
}

// bucket is a bucket behind the proxy whose requests fail after a silence.
func (s *service) bucket(t *testing.T, timeout time.Duration) storage.Bucket {
	t.Helper()
	return openS3(t, s.proxy.URL(), timeout)
}

func openS3(t *testing.T, endpoint string, timeout time.Duration) storage.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), s3.Config{
		Bucket: s3fake.BucketName, Prefix: "app", Endpoint: endpoint, Region: "us-east-1", PathStyle: true,
		AccessKeyID: "AKIDTEST", SecretAccessKey: "secret",
		PartSize: 32 << 10, Attempts: 2, Backoff: time.Millisecond, Timeout: timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.CloseIdle)
	return b
}

// outages are the ways in which storage can be away.
func outages() map[string][]faultproxy.Rule {
	all := func(f faultproxy.Fault) []faultproxy.Rule { return []faultproxy.Rule{{Fault: f}} }
	lost := faultproxy.Rule{Fault: faultproxy.LoseSuccess(), Methods: []string{http.MethodPut, http.MethodPost}}
	and := func(f faultproxy.Fault) []faultproxy.Rule {
		return []faultproxy.Rule{lost, {Fault: f, Methods: []string{http.MethodGet}}}
	}
	return map[string][]faultproxy.Rule{
		"500":                         all(faultproxy.Status(http.StatusInternalServerError, "InternalError")),
		"503":                         all(faultproxy.Status(http.StatusServiceUnavailable, "")),
		"SlowDown":                    all(faultproxy.Status(http.StatusServiceUnavailable, "SlowDown")),
		"429":                         all(faultproxy.Status(http.StatusTooManyRequests, "TooManyRequests")),
		"denied":                      all(faultproxy.Status(http.StatusForbidden, "AccessDenied")), // as a key that is being changed
		"hangs":                       all(faultproxy.Hang()),
		"hangs after the header":      all(faultproxy.HangBody()),
		"resets requests":             all(faultproxy.ResetRequest()),
		"resets replies":              all(faultproxy.ResetReply()),
		"200 with an error":           all(faultproxy.ErrorIn200("InternalError")),
		"portal":                      all(faultproxy.Reply("portal", "text/html", "<html>Please log in.</html>")),
		"loses replies":               all(faultproxy.LoseReply()),
		"late":                        all(faultproxy.Delay(30 * time.Millisecond)),
		"slow":                        all(faultproxy.Limit(200 << 10)),
		"lost, read back truncated":   and(faultproxy.Truncate()),
		"lost, read back shortened":   and(faultproxy.Shorten()),
		"lost, read back as a portal": and(faultproxy.Reply("portal", "text/html", "<html>Please log in.</html>")),
		"lost, read back hangs":       and(faultproxy.HangBody()),
		"lost, read back 503":         and(faultproxy.Status(http.StatusServiceUnavailable, "SlowDown")),
	}
}

// met is how many requests must have met an outage before it shows anything: the
// loss of a reply shows with the refusal of the next attempt, and then the object
// is read back.
func met(rules []faultproxy.Rule) int {
	if len(rules) > 1 {
		return 3
	}
	return 1
}

// writer notes the digest after each commit of an app; its index is the TXID.
type writer struct {
	*app
	want []string
}

func newWriter(a *app) *writer { return &writer{a, []string{"", a.digest()}} }

// write makes one commit.
func (w *writer) write() {
	w.t.Helper()
	w.insert(1)
	w.want = append(w.want, w.digest())
}

// last is the TXID of the newest commit.
func (w *writer) last() state.TXID { return state.TXID(len(w.want) - 1) }

// writeUntilRestart makes commits until the WAL has restarted, which it only
// does after a hand-off.
func (w *writer) writeUntilRestart() {
	w.t.Helper()
	const most = 400
	before := header(w.t, w.path+"-wal").Salts
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range most {
		w.write()
		if header(w.t, w.path+"-wal").Salts != before {
			return
		}
		<-tick.C // an application that is not always busy
	}
	w.t.Fatalf("the WAL has not restarted in %d commits", most)
}

// verify checks that the archive holds each commit, as a commit of its own and
// exactly.
func (w *writer) verify(b storage.Bucket) {
	w.t.Helper()
	cs := commitsOf(w.t, b)
	if len(cs) != len(w.want)-1 {
		w.t.Errorf("%d commits in the archive, want %d", len(cs), len(w.want)-1)
	}
	for _, c := range cs {
		if c.Resync {
			w.t.Errorf("TXID %v is a resync", c.TXID)
		}
	}
	for id := 1; id < len(w.want) && id <= len(cs); id++ {
		if got := restored(w.t, b, state.TXID(id)); got != w.want[id] {
			w.t.Errorf("TXID %d: digest %s, want %s", id, got, w.want[id])
		}
	}
	assertHealthy(w.t, w.app)
}

// Storage goes away in every way there is, and comes back. Meanwhile the WAL
// keeps restarting; then everything is shipped, without anybody's help.
func TestStorageOutages(t *testing.T) {
	t.Parallel()
	for name, rules := range outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := newService(t), newWriter(newApp(t))
			opts := replica.Options{Path: w.path, Bucket: s.bucket(t, 300*time.Millisecond), SyncInterval: 5 * time.Millisecond, CheckpointPages: 10}
			e := launch(t, opts)
			w.write()
			shipped(t, s.clean, w.last())
			s.proxy.Set(rules...)
			for range 3 {
				w.writeUntilRestart()
			}
			s.proxy.WaitHits(t, met(rules))
			s.proxy.Lift()
			w.write()
			shipped(t, s.clean, w.last())
			if rep := e.stop(); rep.TXID != w.last() {
				t.Errorf("report of TXID %v, want %v", rep.TXID, w.last())
			}
			w.verify(s.clean)
		})
	}
}

// A stop does not wait for storage that is away for longer than it is told to,
// and the next start ships what was left.
func TestStopInOutage(t *testing.T) {
	t.Parallel()
	for name, rules := range outages() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := newService(t), newWriter(newApp(t))
			opts := replica.Options{
				Path: w.path, Bucket: s.bucket(t, time.Hour), SyncInterval: 5 * time.Millisecond, CheckpointPages: 10,
				StopPatience: 300 * time.Millisecond,
			}
			e := launch(t, opts)
			s.proxy.Set(rules...)
			w.writeUntilRestart()
			s.proxy.WaitHits(t, met(rules))
			w.write()
			began := time.Now()
			err := e.end()
			if errors.Is(err, replica.ErrFenced) {
				t.Errorf("it was fenced off by itself: %v", err)
			}
			// Clearing up after an upload in parts has a second of its own.
			if took := time.Since(began); took > opts.StopPatience+5*time.Second {
				t.Errorf("it stopped after %v (%v)", took, err)
			}
			s.proxy.Lift()
			w.write()
			if _, err := replica.Once(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
			w.verify(s.clean)
		})
	}
}

// The reply to one conditional Put is lost, of each object that the fence or the
// start depends on. The object is there then, and is known to be our own.
func TestOwnObjectAfterLostReply(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"/tidemark.json", "/snapshot/", "/log/"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s, w := newService(t), newWriter(newApp(t))
			for range 20 { // the snapshot and the segment are uploads in parts, the rest is not
				w.exec("INSERT INTO t(v) VALUES(randomblob(5000))")
			}
			w.want[1] = w.digest()
			for _, method := range []string{http.MethodPut, http.MethodPost} {
				s.proxy.Set(faultproxy.Rule{Fault: faultproxy.LoseReply(), Times: 1, Match: func(r *http.Request) bool {
					begins := r.URL.Query().Has("uploads") // which makes no object
					return r.Method == method && !begins && strings.Contains(r.URL.Path, part)
				}})
				opts := replica.Options{Path: w.path, Bucket: s.bucket(t, 10*time.Second), SyncInterval: 0, CheckpointPages: 10}
				e := launch(t, opts)
				w.write()
				shipped(t, s.clean, w.last())
				w.exec("INSERT INTO t(v) VALUES(randomblob(100000))")
				w.want = append(w.want, w.digest())
				shipped(t, s.clean, w.last())
				e.stop()
			}
			if s.proxy.Hits() == 0 {
				t.Error("no reply was lost")
			}
			w.verify(s.clean)
		})
	}
}

// twins are one database that was copied together with its local state, and a
// replicator for each. The first one's way to storage is through the proxy.
func twins(t *testing.T, s *service) (one, two *writer, first, second *engine) {
	t.Helper()
	a := newApp(t)
	opts := replica.Options{Path: a.path, Bucket: s.clean, SyncInterval: 0, CheckpointPages: 10}
	launch(t, opts).stop()
	a.close()
	b := &app{t: t, path: filepath.Join(t.TempDir(), "app.db")}
	image, err := os.ReadFile(a.path)
	if err == nil {
		err = os.WriteFile(b.path, image, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	copyState(t, local.DefaultPath(a.path), local.DefaultPath(b.path))
	a.open()
	b.open()
	second = launch(t, replica.Options{Path: b.path, Bucket: s.clean, SyncInterval: 0, CheckpointPages: 10})
	opts.Bucket = s.bucket(t, 300*time.Millisecond)
	return newWriter(a), newWriter(b), launch(t, opts), second
}

// ended waits until replication has stopped by itself.
func (e *engine) ended() error {
	e.t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	select {
	case err := <-e.done:
		return err
	case <-timeout.C:
		e.t.Fatal("replication goes on")
		return nil
	}
}

// Of two writers, the one whose Put was performed goes on, although its reply
// was lost again and again, and the other one stops.
func TestFenceWithLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	one, two, first, second := twins(t, s)
	s.proxy.Break(faultproxy.LoseReply(), http.MethodPut, http.MethodPost)
	one.write()
	shipped(t, s.clean, one.last())
	two.write()
	if err := second.ended(); !errors.Is(err, replica.ErrFenced) {
		t.Errorf("the second writer ended with %v, want ErrFenced", err)
	}
	s.proxy.Lift()
	one.write()
	shipped(t, s.clean, one.last())
	first.stop()
	one.verify(s.clean)
}

// A Put that nobody performed is no Put, whatever became of its reply: the
// writer that was away finds the other one's object and stops.
func TestFenceAfterOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]faultproxy.Fault{
		"hangs": faultproxy.Hang(), "resets": faultproxy.ResetRequest(), "200 with an error": faultproxy.ErrorIn200("InternalError"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			one, two, first, second := twins(t, s)
			s.proxy.Break(fault)
			one.write()
			s.proxy.WaitHits(t, 1)
			two.write()
			shipped(t, s.clean, two.last())
			s.proxy.Lift()
			if err := first.ended(); !errors.Is(err, replica.ErrFenced) {
				t.Errorf("the writer that was away ended with %v, want ErrFenced", err)
			}
			two.write()
			shipped(t, s.clean, two.last())
			second.stop()
			two.verify(s.clean)
		})
	}
}

// A start during an outage ends when it is told to, with an error that is not
// about the database, and harms nothing.
func TestStartInOutage(t *testing.T) {
	t.Parallel()
	for name, rules := range outages() {
		if name == "late" || name == "slow" {
			continue // no reason to fail
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := newService(t), newWriter(newApp(t))
			opts := replica.Options{
				Path: w.path, Bucket: s.bucket(t, time.Hour), CheckpointPages: 10, StopPatience: 300 * time.Millisecond,
			}
			launch(t, opts).stop()
			w.write()
			s.proxy.Set(rules...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := replica.Run(ctx, opts)
				done <- err
			}()
			s.proxy.WaitHits(t, 1)
			began := time.Now()
			cancel()
			err := <-done
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it stopped after %v (%v)", took, err)
			}
			for _, kind := range []error{replica.ErrFenced, replica.ErrRefused, replica.ErrDamaged, replica.ErrNotDatabase} {
				if errors.Is(err, kind) {
					t.Errorf("it ended with %v", err)
				}
			}
			s.proxy.Lift()
			if _, err := replica.Once(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
			w.verify(s.clean)
		})
	}
}
