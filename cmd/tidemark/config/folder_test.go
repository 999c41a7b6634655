package config_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidemark/cmd/tidemark/config"
)

const several = `
state-dir: st
sync-interval: 2s
spool-limit: 1MB
max-uploads: 7
max-request-rate: 2.5
metrics-addr: ":9000"
dbs:
  - path: a.db
    sync-interval: 3s
    checkpoint-pages: 7
    spool-limit: 2MB
    retention: {history: 2d}
    replicas:
      - url: file://r/a
      - {name: far-1, url: "s3://far/a", sync-interval: 4s, snapshot-interval: 0, unfenced: true, retention: {history: 3d}}
  - path: b.db
    url: file://r/b
  - dir: in
    pattern: "*.db"
    recursive: yes
    checkpoint-pages: 9
    state-dir: own
    replicas:
      - {name: near, url: "file://near"}
      - {url: "s3://far/in?region=x", sync-interval: 0}
  - {dir: flat, url: "file://flat-replica"}
snapshot-rate: 50MB
`

// A replica's own settings go before its database's, and these before the file's.
func TestReplicas(t *testing.T) {
	s, err := config.Load(flagSet(t), writeFile(t, several), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Process{MetricsAddr: ":9000", MaxUploads: 7, MaxRequestRate: 2.5, SnapshotRate: 50_000_000}, s.Process); diff != "" {
		t.Error(diff)
	}
	if len(s.Databases) != 3 || len(s.Folders) != 2 {
		t.Fatalf("%+v", s)
	}
	a, far, b := s.Databases[0], s.Databases[1], s.Databases[2]
	if a.Path != "a.db" || a.URL != "file://r/a" || a.Replica != "" || a.SyncInterval != 3*time.Second || a.SpoolLimit != 2_000_000 ||
		a.Retention.Policy.History != 2*day || a.CheckpointPages != 7 || a.Unfenced || a.SnapshotInterval != time.Hour {
		t.Errorf("%+v", a)
	}
	if far.Path != "a.db" || far.URL != "s3://far/a" || far.Replica != "far-1" || far.SyncInterval != 4*time.Second || far.SpoolLimit != 2_000_000 ||
		far.Retention.Policy.History != 3*day || far.CheckpointPages != 7 || !far.Unfenced || far.SnapshotInterval != 0 {
		t.Errorf("%+v", far)
	}
	if a.StateDir != far.StateDir || a.StateDir == b.StateDir || b.SyncInterval != 2*time.Second {
		t.Errorf("%+v %+v %+v", a, far, b)
	}
	if !strings.HasSuffix(far.Origin, ":16: dbs[0].replicas[1]") {
		t.Errorf("it stands at %s", far.Origin)
	}
	t.Setenv("TIDEMARK_SYNC_INTERVAL", "5s")
	t.Setenv("TIDEMARK_MAX_UPLOADS", "8")
	s, err = config.Load(flagSet(t), writeFile(t, several), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Databases[1].SyncInterval != 5*time.Second || s.Folders[0].Replicas[1].SyncInterval != 5*time.Second || s.Process.MaxUploads != 8 {
		t.Errorf("the environment does not go before: %+v", s)
	}
}

// Each database of a folder has a replica and local state of its own.
func TestFolders(t *testing.T) {
	t.Parallel()
	s, err := config.Load(flagSet(t), writeFile(t, several), nil)
	if err != nil {
		t.Fatal(err)
	}
	in, flat := s.Folders[0], s.Folders[1]
	if in.Dir != "in" || in.Pattern != "*.db" || !in.Recursive || flat.Dir != "flat" || flat.Pattern != "" || flat.Recursive {
		t.Errorf("%+v %+v", in, flat)
	}
	urls, dirs := map[string]bool{}, map[string]bool{}
	for _, rel := range []string{"x.db", "t/x.db", "u/x.db", "t%2Fx.db", "a@b.db"} {
		dbs, err := in.Databases(rel)
		if err != nil || len(dbs) != 2 {
			t.Fatal(rel, dbs, err)
		}
		near, far := dbs[0], dbs[1]
		if near.Replica != "near" || far.Replica != "" || near.CheckpointPages != 9 || far.SyncInterval != 0 || near.SyncInterval != 2*time.Second {
			t.Errorf("%+v", dbs)
		}
		if want := filepath.Join("in", filepath.FromSlash(rel)); near.Path != want || far.Path != want {
			t.Errorf("%s and %s, want %s", near.Path, far.Path, want)
		}
		if near.StateDir != far.StateDir || filepath.Dir(near.StateDir) != "own" {
			t.Errorf("%s: state in %s and %s", rel, near.StateDir, far.StateDir)
		}
		urls[near.URL], urls[far.URL], dirs[near.StateDir] = true, true, true
	}
	if !urls["file://near/t/x.db"] || !urls["s3://far/in/t/x.db?region=x"] || !urls["file://near/t%252Fx.db"] || len(urls) != 10 || len(dirs) != 5 {
		t.Errorf("%v %v", urls, dirs)
	}
	// What a folder holds itself has its state where an entry of its own would.
	dbs, err := flat.Databases("x.db")
	if err != nil {
		t.Fatal(err)
	}
	one, err := config.Load(flagSet(t), writeFile(t, "state-dir: st\ndbs:\n  - {path: flat/x.db, url: \"file://x\"}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if dbs[0].StateDir != one.Databases[0].StateDir {
		t.Errorf("state in %s, and with an entry of its own in %s", dbs[0].StateDir, one.Databases[0].StateDir)
	}
	a := config.Database{StateDir: "a-state", URL: "file://r"}
	if diff := cmp.Diff([]string{"a-state", "r", "own", "near", "own"}, config.Private([]config.Database{a, {URL: "s3://b"}}, []config.Folder{in})); diff != "" {
		t.Error(diff)
	}
	text := strings.Replace(several, "recursive: yes", "retention: {history: 5d}", 1)
	_, kept, err := config.LoadRetention(pruneFlags(t), writeFile(t, text), "s3://far/in/t/x.db?region=x")
	if err != nil || kept.Policy.History != 5*day {
		t.Errorf("retention of a database of a folder: %+v %v", kept, err)
	}
}

func TestFoldersRefuse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ dbs, msg, hint string }{
		"path and dir":      {`{path: a, dir: b, url: "file://c"}`, "yml:2: dbs[0]: both path and dir", "two entries"},
		"neither":           {`{url: "file://c"}`, "dbs[0]: path is missing", "dir in place of path"},
		"url and replicas":  {`{path: a, url: "file://c", replicas: [{url: "file://d"}]}`, "dbs[0]: both url and replicas", "without a name"},
		"no url":            {`{dir: a}`, "dbs[0]: url is missing", "replicas"},
		"no replica's url":  {`{path: a, replicas: [{name: b}]}`, "dbs[0].replicas[0]: url is missing", ""},
		"no replicas":       {`{path: a, replicas: []}`, "dbs[0].replicas: a list is expected here", "with a dash"},
		"not a list":        {`{path: a, replicas: {url: "file://d"}}`, "dbs[0].replicas: a list is expected here", ""},
		"not a replica":     {`{path: a, replicas: ["file://d"]}`, "yml:2: keys with values are expected", ""},
		"unknown key":       {`{path: a, replicas: [{url: "file://d", checkpoint-pages: 3}]}`, `yml:2: unknown key "checkpoint-pages"`, "known here: name, retention"},
		"two without names": {`{path: a, replicas: [{url: "file://d"}, {url: "file://e"}]}`, "dbs[0].replicas[1]: name is missing, as it is at ", "give each other a name"},
		"a name twice":      {`{path: a, replicas: [{name: b, url: "file://d"}, {name: b, url: "file://e"}]}`, "the name b is used already, at ", ""},
		"not a name":        {`{path: a, replicas: [{name: B/c, url: "file://d"}]}`, `name: "B/c" is no name for a replica`, "a-z"},
		"a long name":       {`{path: a, replicas: [{name: ` + strings.Repeat("a", 33) + `, url: "file://d"}]}`, "is no name", "32"},
		"one url":           {`{path: a, replicas: [{url: "file://d"}, {name: b, url: "file://./d/"}]}`, "dbs[0].replicas[1]: url file://./d/ is listed already, at ", "prefixes"},
		"one url for two":   {"{path: a, replicas: [{url: \"file://d\"}]}\n  - {path: b, url: \"file://d\"}", "yml:3: dbs[1]: url file://d is listed already, at ", ""},
		"a bad url":         {`{path: a, replicas: [{url: d}]}`, `yml:2: url: "d" is not a URL`, "file://d"},
		"within":            {"{dir: a, url: \"s3://b/c\"}\n  - {path: b, url: \"s3://b/c/d\"}", "yml:3: dbs[1]: url s3://b/c/d and s3://b/c, at ", "prefixes"},
		"around":            {"{path: a, url: \"file://b/c\"}\n  - {dir: b, url: \"file://b\"}", "lie within one another", ""},
		"a dir twice":       {"{dir: a, url: \"file://b\"}\n  - {dir: ./a, url: \"file://c\"}", "yml:3: dbs[1]: dir ./a is listed already, at ", ""},
		"pattern, no dir":   {`{path: a, url: "file://b", pattern: "*"}`, "yml:2: pattern: this is for a folder", "dir in place of path"},
		"recursive, no dir": {`{path: a, url: "file://b", recursive: true}`, "yml:2: recursive: this is for a folder", ""},
		"a slash":           {`{dir: a, url: "file://b", pattern: "x/*.db"}`, `pattern: "x/*.db" has a slash`, "recursive"},
		"no pattern":        {`{dir: a, url: "file://b", pattern: "["}`, `pattern: "[" is no pattern`, "*.db"},
		"no truth":          {`{dir: a, url: "file://b", recursive: maybe}`, `yml:2: recursive: "maybe" is neither true nor false`, ""},
		"own bad interval":  {`{path: a, replicas: [{url: "file://d", sync-interval: x}]}`, `yml:2: sync-interval: "x" is not a duration`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Load(flagSet(t), writeFile(t, "dbs:\n  - "+tc.dbs+"\n"), nil)
			var bad *config.Error
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a *config.Error", err)
			}
			if !strings.Contains(bad.Error(), tc.msg) || !strings.Contains(bad.Hint(), tc.hint) {
				t.Errorf("%q, hint %q; want %q and %q", bad, bad.Hint(), tc.msg, tc.hint)
			}
		})
	}
	// Two patterns in one folder are two entries.
	_, err := config.Load(flagSet(t), writeFile(t, "dbs:\n  - {dir: a, pattern: \"*.db\", url: \"file://b\"}\n  - {dir: a, pattern: \"*.sq3\", url: \"file://c\"}\n"), nil)
	if err != nil {
		t.Error(err)
	}
}
