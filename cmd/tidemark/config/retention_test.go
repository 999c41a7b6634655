package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/replica/retain"
)

// pruneFlags gives the flags of prune, parsed from args.
func pruneFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	f := pflag.NewFlagSet("prune", pflag.ContinueOnError)
	config.RetentionFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f
}

const retained = `
retention:
  history: 3d
  snapshots: {daily: 2w, weekly: 0}
  enabled: false
dbs:
  - {path: a.db, url: "file://a"}
  - path: b.db
    url: file://b
    retention:
      enabled: true
      snapshots:
        hourly: 1h30m
        weekly: 1w
`

const day = 24 * time.Hour

func TestRetention(t *testing.T) {
	file := writeFile(t, retained)
	grace := retain.Default().Grace
	top := config.Retention{Policy: retain.Policy{History: 3 * day, Hourly: 2 * day, Daily: 14 * day, Grace: grace}}
	own := config.Retention{
		Policy:  retain.Policy{History: 3 * day, Hourly: 90 * time.Minute, Daily: 14 * day, Weekly: 7 * day, Grace: grace},
		Enabled: true,
	}
	check := func(args ...string) {
		t.Helper()
		s, err := config.Load(flagSet(t), file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]config.Retention{top, own}, []config.Retention{s.Databases[0].Retention, s.Databases[1].Retention}); diff != "" {
			t.Errorf("of the databases: %s", diff)
		}
		for url, want := range map[string]config.Retention{"file://elsewhere": top, "file://a": top, "file://./b/": own, "nonsense": top} {
			_, got, err := config.LoadRetention(pruneFlags(t, args...), file, url)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("of %s: %v %s", url, err, diff)
			}
		}
	}
	check()
	t.Setenv("TIDEMARK_RETENTION_SNAPSHOTS_WEEKLY", "4w")
	top.Policy.Weekly, own.Policy.Weekly = 28*day, 28*day
	check()
	t.Setenv("TIDEMARK_RETENTION_ENABLED", "true")
	top.Enabled = true
	check()

	_, got, err := config.LoadRetention(pruneFlags(t, "--retention-history", "1h", "--retention-snapshots-weekly", "0"), file, "file://b")
	own.Policy.History, own.Policy.Weekly = time.Hour, 0
	if diff := cmp.Diff(own, got); diff != "" || err != nil {
		t.Errorf("with flags: %v %s", err, diff)
	}
}

func TestRetentionDefault(t *testing.T) {
	t.Parallel()
	_, got, err := config.LoadRetention(pruneFlags(t), "", "file://a")
	if diff := cmp.Diff(config.Retention{Policy: retain.Default(), Enabled: true}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestRetentionRefuses(t *testing.T) {
	t.Parallel()
	const db = "dbs:\n  - {path: a.db, url: \"file://a\"}\n"
	for name, tc := range map[string]struct {
		file, flag, msg, hint string
	}{
		"unknown key":          {file: "retention:\n  histori: 7d\n", msg: `yml:2: unknown key "histori"; did you mean "history"?`, hint: "known here: enabled, history, snapshots"},
		"unknown kind":         {file: "retention:\n  snapshots: {yearly: 7d}\n", msg: `yml:2: unknown key "yearly"`, hint: "daily, hourly, weekly"},
		"flat":                 {file: "retention-history: 7d\n", msg: `yml:1: unknown key "retention-history"`},
		"not a mapping":        {file: "retention: 7d\n", msg: "yml:1: keys with values"},
		"snapshots no mapping": {file: "retention:\n  snapshots: 7d\n", msg: "yml:2: keys with values"},
		"a list":               {file: "retention:\n  history: [7d]\n", msg: "yml:2: retention.history: one value is expected"},
		"no unit":              {file: "retention:\n  history: 7\n", msg: `yml:2: retention.history: "7" is not a duration`, hint: "7d or 7h"},
		"no duration":          {file: "retention:\n  snapshots:\n    daily: long\n", msg: `yml:3: retention.snapshots.daily: "long" is not a duration`, hint: "write 7d"},
		"too long":             {file: "retention:\n  history: 20000w\n", msg: `"20000w" is not a duration`},
		"negative":             {file: "retention:\n  snapshots: {hourly: -1h}\n", msg: "yml:2: retention.snapshots.hourly: the duration -1h is negative"},
		"no history":           {file: "retention:\n  history: 0\n", msg: "yml:2: retention.history: no time leaves nothing but snapshots", hint: "set retention.enabled to false"},
		"truth":                {file: "retention:\n  enabled: maybe\n", msg: `yml:2: retention.enabled: "maybe" is neither`},
		"own":                  {file: "dbs:\n  - {path: b, url: \"file://b\", retention: {history: x}}\n", msg: `yml:2: retention.history: "x" is not`},
		"own unknown":          {file: "dbs:\n  - path: b\n    url: file://b\n    retention:\n      keep: 7d\n", msg: `yml:5: unknown key "keep"`},
		"flag":                 {flag: "--retention-history=0", msg: "--retention-history: no time"},
		"flag, no duration":    {flag: "--retention-snapshots-daily=x", msg: `--retention-snapshots-daily: "x" is not a duration`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, flags := "", pruneFlags(t)
			if tc.flag != "" {
				flags = pruneFlags(t, tc.flag)
			}
			if tc.file != "" {
				if file = tc.file; !strings.Contains(file, "dbs:") {
					file += db
				}
				file = writeFile(t, file)
				_, err := config.Load(flagSet(t), file, nil)
				says(t, err, tc.msg, tc.hint)
			}
			_, _, err := config.LoadRetention(flags, file, "file://a")
			says(t, err, tc.msg, tc.hint)
		})
	}
}

func says(t *testing.T, err error, msg, hint string) {
	t.Helper()
	var bad *config.Error
	if !errors.As(err, &bad) || !strings.Contains(bad.Error(), msg) || !strings.Contains(bad.Hint(), hint) {
		t.Errorf("%v, want %q and %q", err, msg, hint)
	}
}

// The sample shows the defaults, and all keys.
func TestRetentionSample(t *testing.T) {
	t.Parallel()
	sample := filepath.Join("..", "..", "..", "etc", "tidemark.yml")
	_, got, err := config.LoadRetention(pruneFlags(t), sample, "file://elsewhere")
	if diff := cmp.Diff(config.Retention{Policy: retain.Default(), Enabled: true}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	text, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"  enabled:", "  history:", "  snapshots:", "    hourly:", "    daily:", "    weekly:"} {
		if !strings.Contains(string(text), "\n"+line) {
			t.Errorf("the sample does not show %s", line)
		}
	}
}
