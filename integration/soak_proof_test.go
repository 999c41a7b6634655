package integration_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidemark/integration/minio"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// soakReport is what the program prints of one database in the end.
type soakReport struct {
	Path     string
	TXID     state.TXID       `json:"txid"`
	Commits  uint64           `json:"commits"`
	Uploaded int64            `json:"uploaded_bytes"`
	Requests storage.Requests `json:"requests"`
	Error    string           `json:"error"`
}

func soakReports(t *testing.T, p *process) []soakReport {
	t.Helper()
	var out struct{ Databases []soakReport }
	if err := json.Unmarshal(p.stdout.Bytes(), &out); err != nil {
		t.Fatalf("tidemark printed %q: %v", p.stdout, err)
	}
	return out.Databases
}

// soakRange is a range of tidemark log --ranges --json.
type soakRange struct {
	First     state.TXID `json:"first_txid"`
	Last      state.TXID `json:"last_txid"`
	FirstTime time.Time  `json:"first_time"`
	LastTime  time.Time  `json:"last_time"`
}

// verify restores points inside of what can be restored, and tries some outside of it.
func (s *soaked) verify(t *testing.T, r soakReport, points int) {
	t.Helper()
	total := s.app.write(t, 0) + int64(len(s.extras))
	h := readHistory(t, s.at)
	if r.Path != s.path || r.Error != "" || int64(r.TXID) != total+1 || int64(h.last()) != total+1 || len(h.resyncs()) > 0 {
		t.Errorf("%d commits were made; tidemark reports %+v, the history has %v and repairs at %v", total, r, h.last(), h.resyncs())
	}
	kinds := s.objects(t)
	t.Logf("%d commits, %d of them bulk; %d bytes up for %d bytes of database; requests %+v; in the bucket: %s",
		total, len(s.extras), r.Uploaded, fileSize(t, s.path), r.Requests, kinds)

	ranges := s.ranges(t)
	var ids []state.TXID
	for range points {
		in := ranges[rand.IntN(len(ranges))]
		ids = append(ids, in.First+state.TXID(rand.Uint64N(uint64(in.Last-in.First)+1)))
	}
	ids = append(ids, ranges[0].First, ranges[len(ranges)-1].Last)
	for _, e := range s.extras[:min(len(s.extras), points/4)] { // bulk commits, too
		ids = append(ids, state.TXID(e.after)+state.TXID(slices.Index(s.extras, e))+2)
	}
	eachRestored(t, s.at, ids, func(id state.TXID, path string) error { return s.matches(t.Context(), id, path) })
	times := s.restoreTimes(t, ranges, h, points/2)
	refused := s.refuses(t, ranges)
	t.Logf("ranges %+v: %d TXIDs and %d times restored are what was committed, %d points outside refused", ranges, len(ids), times, refused)
	s.app.close(t)
}

// matches tells why a restored file is not the state of a commit.
func (s *soaked) matches(ctx context.Context, id state.TXID, path string) error {
	wantN, wantDigest := s.want(id)
	n, err := readLedger(ctx, path)
	if err != nil {
		return err
	}
	db, err := openReadOnly(path)
	if err != nil {
		return err
	}
	defer db.Close() //nolint:errcheck // only read
	digest, err := digestBulk(ctx, db)
	if err == nil && (n != wantN || digest != wantDigest) {
		err = fmt.Errorf("it has %d transactions and bulk %q, want %d and %q", n, digest, wantN, wantDigest)
	}
	return err
}

// objects counts what a replica consists of.
func (s *soaked) objects(t *testing.T) string {
	t.Helper()
	count, bytes := map[string]int{}, map[string]int64{}
	err := s.at.bucket.List(t.Context(), "", "", func(o storage.Info) error {
		kind, _, _ := strings.Cut(o.Key, "/")
		count[kind]++
		bytes[kind] += o.Size
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d segments (%d bytes), %d packs (%d), %d snapshots (%d)",
		count["log"], bytes["log"], count["pack"], bytes["pack"], count["snapshot"], bytes["snapshot"])
}

// ranges asks the program what can be restored.
func (s *soaked) ranges(t *testing.T) []soakRange {
	t.Helper()
	out, err := s.tidemark(t, "log", "--ranges", "--json", s.at.url)
	var l struct {
		Ranges []soakRange
		Newest state.TXID `json:"newest_txid"`
	}
	if err := errors.Join(err, json.Unmarshal(out, &l)); err != nil || len(l.Ranges) == 0 {
		t.Fatalf("tidemark log: %v: %s", err, out)
	}
	if last := l.Ranges[len(l.Ranges)-1].Last; last != l.Newest {
		t.Errorf("the ranges end with TXID %v, the newest is %v", last, l.Newest)
	}
	return l.Ranges
}

// tidemark runs a command.
func (s *soaked) tidemark(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), buildProgram(t), args...)
	cmd.Env = append(os.Environ(), s.at.env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

// restoreTimes restores random times, and tells how many. What it gives must be the
// commit that the history has for that time, and one that had been made by then.
func (s *soaked) restoreTimes(t *testing.T, ranges []soakRange, h history, n int) (restored int) {
	t.Helper()
	for range n {
		in := ranges[rand.IntN(len(ranges))]
		at := in.FirstTime.Add(time.Duration(rand.Int64N(int64(in.LastTime.Sub(in.FirstTime)) + 1)))
		out := filepath.Join(t.TempDir(), "at.db")
		text, err := s.tidemark(t, "restore", s.at.url, "-o", out, "--timestamp", at.Format(time.RFC3339Nano), "--json")
		var got struct {
			TXID state.TXID `json:"txid"`
		}
		if err := errors.Join(err, json.Unmarshal(text, &got)); err != nil {
			t.Errorf("restore of %v: %v", at, err)
			continue
		}
		want := state.TXID(0)
		for want < h.last() && !h[want].Time.After(at) {
			want++
		}
		if got.TXID != want {
			t.Errorf("restore of %v gave TXID %v, want %v", at, got.TXID, want)
		}
		if err := s.matches(t.Context(), got.TXID, out); err != nil {
			t.Errorf("restore of %v: %v", at, err)
		}
		if later := s.madeBy(at); int64(got.TXID) > later+1 {
			t.Errorf("restore of %v gave TXID %v, when %d commits had been made", at, got.TXID, later)
		}
		restored++
	}
	return restored
}

// madeBy gives the least known number of commits that were not fewer at a time.
func (s *soaked) madeBy(at time.Time) int64 {
	for _, now := range s.seen {
		if now.at.After(at.Add(2 * time.Millisecond)) { // times are recorded in milliseconds
			return now.commits
		}
	}
	return s.seen[len(s.seen)-1].commits
}

// refuses tries what lies before and between the ranges, and tells how many points
// were refused.
func (s *soaked) refuses(t *testing.T, ranges []soakRange) (refused int) {
	t.Helper()
	try := func(args ...string) {
		out := filepath.Join(t.TempDir(), "none.db")
		text, err := s.tidemark(t, append([]string{"restore", s.at.url, "-o", out}, args...)...)
		if _, serr := os.Stat(out); err == nil || serr == nil {
			t.Errorf("restore %v, which is outside of %+v, was not refused: %s", args, ranges, text)
			return
		}
		refused++
	}
	try("--timestamp", ranges[0].FirstTime.Add(-time.Millisecond).Format(time.RFC3339Nano))
	try("--timestamp", ranges[0].FirstTime.Add(-time.Hour).Format(time.RFC3339Nano))
	for i, r := range ranges {
		if i == 0 && r.First > 1 {
			try("--txid", (r.First - 1).String())
		}
		if i > 0 && ranges[i-1].Last+1 < r.First {
			try("--txid", (r.First - 1).String())
			try("--timestamp", r.FirstTime.Add(-time.Millisecond).Format(time.RFC3339Nano))
		}
	}
	return refused
}

// countedBy gives MinIO's own counts of requests and bytes, which must be those that
// the program reports.
func countedBy(t *testing.T, server *minio.Server, reports []soakReport) map[string]int64 {
	t.Helper()
	got := minioMetrics(t, server)
	var told, counted storage.Requests
	for _, r := range reports {
		told.List += r.Requests.List
		told.Get += r.Requests.Get
		told.Put += r.Requests.Put
		told.Delete += r.Requests.Delete
	}
	for name, n := range got {
		switch name {
		case "listobjectsv2":
			counted.List += n
		case "getobject", "headobject":
			counted.Get += n
		case "putobject", "putobjectpart", "newmultipartupload", "completemultipartupload":
			counted.Put += n
		case "deleteobject", "deletemultipleobjects", "abortmultipartupload":
			counted.Delete += n
		}
	}
	if told != counted {
		t.Errorf("tidemark reports %+v requests, MinIO has had %+v: %v", told, counted, got)
	}
	return got
}

// minioMetrics asks a MinIO how many requests of each kind it was asked, and how many
// bytes it has sent and received.
func minioMetrics(t *testing.T, server *minio.Server) map[string]int64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.Endpoint+"/minio/v2/metrics/node", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+minioToken(server))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("MinIO's metrics: %s %v", resp.Status, err)
	}
	counts := map[string]int64{}
	for _, m := range minioMetric.FindAllSubmatch(body, -1) {
		n, err := strconv.ParseFloat(string(m[3]), 64)
		if err != nil {
			t.Fatal(err)
		}
		counts[string(m[1])+string(m[2])] += int64(n)
	}
	return counts
}

// minioMetric is a line of interest in what MinIO tells Prometheus.
var minioMetric = regexp.MustCompile(`(?m)^minio_s3_(?:requests_total\{api="(\w+)".*\}|traffic_(sent|received)_bytes\{.*\}) (\S+)$`)

// minioToken lets its bearer read a MinIO's metrics: a JSON web token, as mc admin
// prometheus generate makes it.
func minioToken(server *minio.Server) string {
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS512","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"exp":%d,"sub":%q,"iss":"prometheus"}`, time.Now().Add(time.Hour).Unix(), server.AccessKey))
	mac := hmac.New(sha512.New, []byte(server.SecretKey))
	_, _ = mac.Write([]byte(token)) // never fails
	return token + "." + encode(mac.Sum(nil))
}
