package config_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/replica/retain"
)

// flagSet gives the flags of replicate, parsed from args.
func flagSet(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("replicate", pflag.ContinueOnError)
	f.String(config.KeySyncInterval, "1s", "")
	f.String(config.KeyCheckpointPages, "1000", "")
	f.String(config.KeyStateDir, "", "")
	f.String(config.KeySpoolLimit, "1GiB", "")
	f.Bool(config.KeyKeepJournalMode, false, "")
	f.Bool(config.KeyAllowNetworkFS, false, "")
	f.Bool(config.KeyUnfenced, false, "")
	f.String(config.KeyLogLevel, "info", "")
	f.String(config.KeyLogFormat, "text", "")
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tidemark.yml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoadArguments(t *testing.T) {
	t.Parallel()
	got, err := config.Load(flagSet(t, "--sync-interval", "250ms", "--state-dir", "st"), "", []string{"app.db", "file://r"})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Settings{
		Logging: config.Logging{Level: slog.LevelInfo, Format: "text"},
		Process: config.Process{MaxUploads: config.DefaultMaxUploads},
		Databases: []config.Database{{
			Path: "app.db", URL: "file://r", StateDir: "st", SyncInterval: 250 * time.Millisecond, SnapshotInterval: time.Hour, CheckpointPages: 1000,
			SpoolLimit: 1 << 30, Retention: config.Retention{Policy: retain.Default(), Enabled: true},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

const layered = `
sync-interval: 2s
checkpoint-pages: 500
keep-journal-mode: true
spool-limit: 2MB
unfenced: true
log-level: warn
dbs:
  - {path: a.db, url: "file://a"}
  - {path: b.db, url: "file://b", sync-interval: 0, checkpoint-pages: 7, state-dir: own,
     spool-limit: 3MiB, allow-network-fs: yes, unfenced: false}
`

func TestLoadLayers(t *testing.T) {
	file := writeFile(t, layered)
	load := func(args ...string) config.Settings {
		t.Helper()
		s, err := config.Load(flagSet(t, args...), file, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := load()
	a, b := s.Databases[0], s.Databases[1]
	if a.SyncInterval != 2*time.Second || a.CheckpointPages != 500 || !a.KeepJournalMode || s.Logging.Level != slog.LevelWarn {
		t.Errorf("the file's top level does not hold: %+v %+v", s.Logging, a)
	}
	if b.SyncInterval != 0 || b.CheckpointPages != 7 || b.StateDir != "own" {
		t.Errorf("the database's own settings do not hold: %+v", b)
	}

	if a.SpoolLimit != 2_000_000 || a.AllowNetworkFS || !a.Unfenced {
		t.Errorf("the file's top level does not hold: %+v", a)
	}
	if b.SpoolLimit != 3<<20 || !b.AllowNetworkFS || b.Unfenced {
		t.Errorf("the database's own settings do not hold: %+v", b)
	}

	t.Setenv("TIDEMARK_SPOOL_LIMIT", "4kB")
	t.Setenv("TIDEMARK_ALLOW_NETWORK_FS", "true")
	t.Setenv("TIDEMARK_UNFENCED", "1")
	t.Setenv("TIDEMARK_SYNC_INTERVAL", "3s")
	t.Setenv("TIDEMARK_LOG_LEVEL", "error")
	s = load()
	for _, db := range s.Databases {
		if db.SyncInterval != 3*time.Second || db.SpoolLimit != 4000 || !db.AllowNetworkFS || !db.Unfenced {
			t.Errorf("%s: the environment does not go before the file: %+v", db.Path, db)
		}
	}
	if s.Logging.Level != slog.LevelError {
		t.Errorf("level %v, want the environment's", s.Logging.Level)
	}

	s = load("--sync-interval", "4s", "--log-level", "debug", "--keep-journal-mode=false",
		"--spool-limit", "5", "--allow-network-fs=false", "--unfenced=false")
	for _, db := range s.Databases {
		if db.SyncInterval != 4*time.Second || db.KeepJournalMode || db.SpoolLimit != 5 || db.AllowNetworkFS || db.Unfenced {
			t.Errorf("%s: the flag does not go before the environment: %+v", db.Path, db)
		}
	}
	if s.Logging.Level != slog.LevelDebug {
		t.Errorf("level %v, want the flag's", s.Logging.Level)
	}
}

// Sizes mean what they say.
func TestLoadSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1": 1, "1073741824": 1 << 30, "9223372036854775807": 1<<63 - 1, "17b": 17, "17 B": 17,
		"1kB": 1000, "1KB": 1000, "1KiB": 1024, "500MB": 500_000_000, "500MiB": 500 << 20, "500 mib": 500 << 20,
		"1GB": 1_000_000_000, "1GiB": 1 << 30, "1gib": 1 << 30, "1.5GiB": 3 << 29, "2TB": 2_000_000_000_000, "2TiB": 2 << 40,
	} {
		s, err := config.Load(flagSet(t, "--spool-limit", text), "", []string{"a", "file://b"})
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := s.Databases[0].SpoolLimit; got != want {
			t.Errorf("%s: %d bytes, want %d", text, got, want)
		}
	}
	for text, says := range map[string]string{
		"abc": `"abc" is not a size`, "1,5GiB": "not a size", "1G": "not a size", "1m": "not a size", "1.GB": "not a size",
		"1e9": "not a size", "0x10": "not a size", "ib": "not a size", "1 ib": "not a size", " 1GiB": "not a size", "GiB": "not a size", "--1": "not a size",
		"-1": "the size -1 is negative", "-2GiB": "negative", "-x": "not a size",
		"0": "the size 0 leaves no room", "0GiB": "no room", "0.4": "no room",
		"8EiB": "the size 8EiB is too large", "99999999999999999999EB": "too large", "9223372036854775808": "too large",
	} {
		_, err := config.Load(flagSet(t, "--spool-limit", text), "", []string{"a", "file://b"})
		var bad *config.Error
		if !errors.As(err, &bad) || !strings.Contains(bad.Error(), "--spool-limit: ") || !strings.Contains(bad.Error(), says) ||
			!strings.Contains(bad.Hint(), "1GiB, 500MB, or a number of bytes") {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

// Each database has a state folder of its own below the common one, and keeps
// it when another database joins the list or a path is spelled differently.
func TestLoadStateDirs(t *testing.T) {
	t.Parallel()
	load := func(dbs string) []config.Database {
		t.Helper()
		s, err := config.Load(flagSet(t), writeFile(t, "state-dir: st\ndbs:\n"+dbs), nil)
		if err != nil {
			t.Fatal(err)
		}
		return s.Databases
	}
	one := load("  - {path: x/app.db, url: \"file://a\"}\n")
	two := load("  - {path: ./x/app.db, url: \"file://a\"}\n  - {path: y/app.db, url: \"file://b\"}\n")
	if one[0].StateDir != two[0].StateDir {
		t.Errorf("the state moved from %s to %s", one[0].StateDir, two[0].StateDir)
	}
	if two[0].StateDir == two[1].StateDir {
		t.Errorf("two databases share %s", two[0].StateDir)
	}
	if dir := filepath.ToSlash(one[0].StateDir); !strings.HasPrefix(dir, "st/app.db-") {
		t.Errorf("state folder %s, want one below st named after the database", dir)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	const db = "dbs:\n  - {path: a.db, url: \"file://a\"}\n"
	for name, tc := range map[string]struct {
		file  string
		flags []string
		args  []string
		msg   string
		hint  string
	}{
		"nothing at all":     {msg: "no database to replicate", hint: "DB URL"},
		"one argument":       {args: []string{"a.db"}, msg: "a database and a URL"},
		"args and dbs":       {file: db, args: []string{"a", "b"}, msg: "both on the command line"},
		"no dbs":             {file: "log-level: info\n", msg: "dbs is missing"},
		"empty file":         {file: "# nothing\n", msg: "dbs is missing"},
		"unknown key":        {file: "sync-intervall: 1s\n" + db, msg: `yml:1: unknown key "sync-intervall"; did you mean "sync-interval"?`},
		"unknown empty key":  {file: db + "polar:\n", msg: `yml:3: unknown key "polar"`, hint: "known here: allow-network-fs, check, checkpoint-pages, dbs"},
		"unknown nested key": {file: "dbs:\n  - path: a\n    urll: b\n", msg: `yml:3: unknown key "urll"; did you mean "url"?`},
		"wrong case":         {file: "Log-Level: info\n" + db, msg: `did you mean "log-level"?`},
		"key twice":          {file: "log-level: info\nlog-level: warn\n" + db, msg: "log-level"},
		"bad duration":       {file: "sync-interval: soon\n" + db, msg: `yml:1: sync-interval: "soon" is not a duration`},
		"no unit":            {file: "sync-interval: 5\n" + db, msg: "not a duration", hint: "5s or 5ms"},
		"negative":           {file: "sync-interval: -1s\n" + db, msg: "negative"},
		"own bad duration":   {file: "dbs:\n  - {path: a, url: \"file://b\", sync-interval: x}\n", msg: `yml:2: sync-interval: "x" is not`},
		"own empty":          {file: "dbs:\n  - {path: a, url: \"file://b\", sync-interval: \"\"}\n", msg: "one value is expected"},
		"bad pages":          {file: "checkpoint-pages: 0\n" + db, msg: "not a number of pages"},
		"half a page":        {file: "checkpoint-pages: 1.5\n" + db, msg: "not a number of pages"},
		"bad size":           {file: "spool-limit: lots\n" + db, msg: `yml:1: spool-limit: "lots" is not a size`, hint: "1GiB"},
		"size 0":             {file: "spool-limit: 0\n" + db, msg: "yml:1: spool-limit: the size 0 leaves no room"},
		"own bad size":       {file: "dbs:\n  - {path: a, url: \"file://b\", spool-limit: -1MB}\n", msg: `yml:2: spool-limit: the size -1MB is negative`},
		"own bad truth":      {file: "dbs:\n  - {path: a, url: \"file://b\",\n     unfenced: maybe}\n", msg: `yml:3: unfenced: "maybe" is neither true nor false`},
		"not for one":        {file: "dbs:\n  - {path: a, url: \"file://b\", keep-journal-mode: true}\n", msg: `yml:2: unknown key "keep-journal-mode"`},
		"bad truth":          {file: "keep-journal-mode: perhaps\n" + db, msg: "neither true nor false"},
		"bad level":          {file: "log-level: debu\n" + db, msg: `did you mean "debug"?`},
		"bad format":         {file: "log-format: xml\n" + db, msg: `unknown format "xml"`},
		"not a list":         {file: "dbs: {path: a}\n", msg: "a list is expected"},
		"not a mapping":      {file: "- a\n", msg: "keys with values"},
		"a list for a value": {file: "log-level: [a]\n" + db, msg: "one value is expected"},
		"not YAML":           {file: "a: [\n", msg: "tidemark.yml"},
		"two documents":      {file: db + "---\n" + db, msg: "more than one"},
		"no url":             {file: "dbs:\n  - path: a.db\n", msg: "dbs[0]: url is missing"},
		"no path":            {file: "dbs:\n  - url: a\n", msg: "dbs[0]: path is missing"},
		"path twice":         {file: "dbs:\n  - {path: a, url: \"file://x\"}\n  - {path: ./a, url: \"file://y\"}\n", msg: "yml:3: dbs[1]: path ./a is listed already"},
		"url twice":          {file: "dbs:\n  - {path: a, url: \"file://x\"}\n  - {path: b, url: \"file://x\"}\n", msg: "listed already", hint: "prefixes"},
		"url twice, cleaned": {
			file: "dbs:\n  - {path: a, url: \"file://r1\"}\n  - {path: b, url: \"file://./r1/\"}\n",
			msg:  "yml:3: dbs[1]: url file://./r1/ is listed already", hint: "prefixes",
		},
		"bad url":                 {file: "dbs:\n  - path: a\n    url: b\n", msg: `yml:3: url: "b" is not a URL`, hint: "file://b"},
		"not YAML, with its line": {file: "log-level: info\na: [\nb: c\n", msg: "yml:1: did not find"},
		"first line first": {
			file: "dbs:\n  - path: a\n    sync-interval: x\n    url: b\n    polar: 1\nlog-level: loud\nlog-leve: info\n",
			msg:  `yml:3: sync-interval: "x" is not a duration`,
		},
		"the line of a value before that of a key": {file: "log-level: loud\nlog-fromat: text\n" + db, msg: `yml:1: log-level: unknown level`},
		"address":     {file: "metrics-addr: here\n" + db, msg: `yml:1: metrics-addr: "here" is not an address`, hint: "127.0.0.1:"},
		"no port":     {file: "metrics-addr: \"127.0.0.1:\"\n" + db, msg: `"127.0.0.1:" is not an address`},
		"no uploads":  {file: "max-uploads: 0\n" + db, msg: `yml:1: max-uploads: "0" is not a number of uploads`},
		"no rate":     {file: "max-request-rate: fast\n" + db, msg: `yml:1: max-request-rate: "fast" is not a number of requests`, hint: "0 for any"},
		"infinite":    {file: "max-request-rate: inf\n" + db, msg: `"inf" is not a number`},
		"unsized":     {file: "snapshot-rate: slow\n" + db, msg: `yml:1: snapshot-rate: "slow" is not a size`, hint: "500MB"},
		"shrinking":   {file: "snapshot-rate: -1MB\n" + db, msg: "the size -1MB is negative"},
		"own rate":    {file: "dbs:\n  - {path: a, url: \"file://b\", snapshot-rate: 1MB}\n", msg: `yml:2: unknown key "snapshot-rate"`},
		"backwards":   {file: "max-request-rate: -1\n" + db, msg: "the rate -1 is negative"},
		"own for all": {file: "dbs:\n  - {path: a, url: \"file://b\", max-uploads: 3}\n", msg: `yml:2: unknown key "max-uploads"`},
		"flag":        {flags: []string{"--sync-interval", "x"}, args: []string{"a", "b"}, msg: "--sync-interval: "},
		"flag pages":  {flags: []string{"--checkpoint-pages", "-3"}, args: []string{"a", "b"}, msg: "--checkpoint-pages: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := ""
			if tc.file != "" {
				file = writeFile(t, tc.file)
			}
			_, err := config.Load(flagSet(t, tc.flags...), file, tc.args)
			var bad *config.Error
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a *config.Error", err)
			}
			if !strings.Contains(bad.Error(), tc.msg) || !strings.Contains(bad.Hint(), tc.hint) {
				t.Errorf("%q, hint %q; want %q and %q", bad, bad.Hint(), tc.msg, tc.hint)
			}
		})
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	_, err := config.Load(flagSet(t), filepath.Join(t.TempDir(), "no.yml"), nil)
	var bad *config.Error
	if !errors.As(err, &bad) || !strings.Contains(bad.Error(), "no.yml") {
		t.Errorf("got %v", err)
	}
}

// Local state is found where a replication of the same settings puts it.
func TestLoadStateDirsOnly(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "state-dir: st\ndbs:\n  - {path: a.db, url: \"file://a\"}\n  - {path: b.db, url: \"file://b\", state-dir: own}\n")
	of := func(flags *pflag.FlagSet, file string, paths ...string) (dirs []string) {
		t.Helper()
		dbs, _, err := config.LoadStateDirs(flags, file, paths)
		if err != nil {
			t.Fatal(err)
		}
		for _, db := range dbs {
			dirs = append(dirs, db.Path+" "+db.StateDir)
		}
		return dirs
	}
	listed := of(flagSet(t), file)
	if len(listed) != 2 || !strings.HasPrefix(listed[0], "a.db "+filepath.Join("st", "a.db-")) || listed[1] != "b.db own" {
		t.Errorf("of a file: %q", listed)
	}
	if got := of(flagSet(t, "--state-dir", "st"), "", "a.db", "b.db"); len(got) != 2 || got[0] != listed[0] {
		t.Errorf("of two paths: %q, in the file %q", got, listed)
	}
	if diff := cmp.Diff([]string{"a.db st"}, of(flagSet(t, "--state-dir", "st"), "", "a.db")); diff != "" {
		t.Errorf("of one path (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a.db ", "b.db "}, of(flagSet(t), "", "a.db", "b.db")); diff != "" {
		t.Errorf("without a setting (-want +got):\n%s", diff)
	}
	if _, _, err := config.LoadStateDirs(flagSet(t), file, []string{"a.db"}); err == nil {
		t.Error("a file and a path are no error")
	}
	if _, _, err := config.LoadStateDirs(flagSet(t, "--log-level", "loud"), "", []string{"a.db"}); err == nil {
		t.Error("an unknown log level is no error")
	}
}

func TestEnvironmentIsNamed(t *testing.T) {
	t.Setenv("TIDEMARK_CHECKPOINT_PAGES", "many")
	_, err := config.Load(flagSet(t), "", []string{"a", "b"})
	if err == nil || !strings.Contains(err.Error(), "TIDEMARK_CHECKPOINT_PAGES") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

// The sample is read by the real code, and every value that it documents
// arrives.
func TestSample(t *testing.T) {
	t.Parallel()
	got, err := config.Load(flagSet(t), filepath.Join("..", "..", "..", "etc", "tidemark.yml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	standard := config.Retention{Policy: retain.Default(), Enabled: true}
	longer := standard
	longer.Policy.History, longer.Policy.Weekly = 30*24*time.Hour, 10*52*7*24*time.Hour
	office := standard
	office.Policy.History = 24 * time.Hour
	orders := config.Database{
		Path: "/srv/app/orders.db", URL: "s3://acme-backups/app/orders?region=eu-central-1", SyncInterval: time.Second,
		SnapshotInterval: time.Hour, CheckpointPages: 1000, StateDir: "/var/lib/tidemark/orders.db-", SpoolLimit: 1 << 30, Retention: standard,
	}
	atOffice := orders
	atOffice.URL, atOffice.Replica, atOffice.SyncInterval, atOffice.Retention = "file:///mnt/office/tidemark/orders", "office", time.Minute, office
	tenants := config.Database{
		Path: "/srv/tenants", URL: "s3://acme-backups/tenants?region=eu-central-1", SyncInterval: time.Second,
		SnapshotInterval: time.Hour, CheckpointPages: 1000, StateDir: "/var/lib/tidemark/tenants", SpoolLimit: 1 << 30, Retention: standard,
	}
	want := config.Settings{
		Logging: config.Logging{Level: slog.LevelInfo, Format: "text"},
		Process: config.Process{MaxUploads: config.DefaultMaxUploads, MetricsAddr: "127.0.0.1:9464"},
		Databases: []config.Database{
			{
				Path: "/srv/app/main.db", URL: "s3://acme-backups/app/main?region=eu-central-1",
				SyncInterval: time.Second, SnapshotInterval: time.Hour, CheckpointPages: 1000, StateDir: "/var/lib/tidemark/main.db-", SpoolLimit: 1 << 30, Retention: standard,
			},
			{
				Path: "/srv/app/audit.db", URL: "s3://backups/app/audit?endpoint=http://127.0.0.1:9000&region=us-east-1&path-style=true",
				SyncInterval: 0, SnapshotInterval: 15 * time.Minute, CheckpointPages: 4000, StateDir: "/var/lib/tidemark/audit.db-", SpoolLimit: 500_000_000, Retention: longer,
			},
			{
				Path: "/srv/app/sessions.db", URL: "file:///mnt/backup/tidemark/sessions",
				SyncInterval: time.Second, SnapshotInterval: time.Hour, CheckpointPages: 1000, StateDir: "/var/lib/tidemark-sessions", SpoolLimit: 1 << 30, Retention: standard,
			},
			orders, atOffice,
		},
		Folders: []config.Folder{{Dir: "/srv/tenants", Pattern: "*.db", Recursive: true, Replicas: []config.Database{tenants}}},
	}
	ignore := cmpopts.IgnoreFields(config.Database{}, "Origin", "StateDir")
	if diff := cmp.Diff(want, got, ignore, cmpopts.IgnoreFields(config.Folder{}, "Origin")); diff != "" {
		t.Error(diff)
	}
	for i, db := range append(got.Databases, got.Folders[0].Replicas...) {
		if prefix := append(want.Databases, want.Folders[0].Replicas...)[i].StateDir; !strings.HasPrefix(filepath.ToSlash(db.StateDir), prefix) {
			t.Errorf("%s: state in %s, want %s…", db.Path, db.StateDir, prefix)
		}
	}
}

// Every key that can be set stands in the sample.
func TestSampleIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "etc", "tidemark.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range config.FileKeys() {
		if !strings.Contains(string(text), "\n"+key+":") {
			t.Errorf("the sample does not show %s", key)
		}
	}
}

// A mistyped variable is refused, and the tests' own are not.
func TestUnknownVariable(t *testing.T) {
	t.Setenv("TIDEMARK_TEST_ANYTHING", "1")
	t.Setenv("TIDEMARK_S3_ACCESS_KEY_ID", "x")
	if _, err := config.LoadLogging(flagSet(t)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"TIDEMARK_SYNC_INTERVALL":   `did you mean "TIDEMARK_SYNC_INTERVAL"?`,
		"TIDEMARK_S3_ACCESS_KEY":    `did you mean "TIDEMARK_S3_ACCESS_KEY_ID"?`,
		"TIDEMARK_COMPLETELY_OTHER": "unknown environment variable TIDEMARK_COMPLETELY_OTHER",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "1")
			_, err := config.LoadLogging(flagSet(t))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
			if _, err := config.Load(flagSet(t), "", []string{"a", "b"}); err == nil {
				t.Error("Load takes it")
			}
		})
	}
}
