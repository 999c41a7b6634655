package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"tidemark/cmd/tidemark/location"
	"tidemark/cmd/tidemark/span"
	"tidemark/replica/retain"
)

// The keys of retention, as flags and, in upper case, the environment spell them.
// In a file they are nested:
//
//	retention:
//	  enabled: true
//	  history: 7d
//	  snapshots: {hourly: 48h, daily: 30d, weekly: 52w}
const (
	KeyRetentionEnabled = "retention-enabled"
	KeyRetentionHistory = "retention-history"
	KeyRetentionHourly  = "retention-snapshots-hourly"
	KeyRetentionDaily   = "retention-snapshots-daily"
	KeyRetentionWeekly  = "retention-snapshots-weekly"
)

const (
	keyRetention = "retention"
	keySnapshots = "snapshots"
	// spanAdvice says how long durations are written.
	spanAdvice = "write 7d, 48h, 52w or the like"
)

func retentionKeys() []string {
	return []string{KeyRetentionEnabled, KeyRetentionHistory, KeyRetentionHourly, KeyRetentionDaily, KeyRetentionWeekly}
}

// Retention is what is kept of a replica.
type Retention struct {
	// Policy says what, and for how long.
	Policy retain.Policy
	// Enabled lets the replicator delete the rest by itself.
	Enabled bool
}

// retentionDefaults are the values where nothing is set.
func retentionDefaults() map[string]string {
	p := retain.Default()
	return map[string]string{
		KeyRetentionEnabled: "true", KeyRetentionHistory: span.Format(p.History),
		KeyRetentionHourly: span.Format(p.Hourly), KeyRetentionDaily: span.Format(p.Daily), KeyRetentionWeekly: span.Format(p.Weekly),
	}
}

// RetentionFlags adds the flags of the policy to a command's.
func RetentionFlags(flags *pflag.FlagSet) {
	d := retentionDefaults()
	flags.String(KeyRetentionHistory, d[KeyRetentionHistory], "keep every commit for this `time`, such as 7d")
	flags.String(KeyRetentionHourly, d[KeyRetentionHourly], "and the first snapshot of each hour for this `time`")
	flags.String(KeyRetentionDaily, d[KeyRetentionDaily], "of each day for this `time`")
	flags.String(KeyRetentionWeekly, d[KeyRetentionWeekly], "of each week for this `time`")
}

// LoadRetention gives what is kept of the replica at a URL: by flags, environment,
// the entry of the file (none if empty) that has the URL, or a folder of databases
// whose replicas lie around it, and its top level.
func LoadRetention(flags *pflag.FlagSet, file, url string) (Logging, Retention, error) {
	l, entries, err := load(flags, file)
	if err != nil {
		return Logging{}, Retention{}, err
	}
	how, kept := l.logging(), l.retention(nil)
	place, err := location.Parse(url)
	consider := func(dbs []Database, has func(listed location.Location) bool) {
		for _, db := range dbs {
			if listed, perr := location.Parse(db.URL); err == nil && perr == nil && has(listed) {
				kept = db.Retention
			}
		}
	}
	dbs, folders := l.resolve(entries)
	consider(dbs, place.Same)
	for _, f := range folders {
		consider(f.Replicas, place.Within)
	}
	return how, kept, l.bad.first()
}

// retention resolves what is kept of one replica.
func (l *layers) retention(e *entry) Retention {
	p := retain.Default()
	p.History, p.Hourly = l.span(KeyRetentionHistory, e), l.span(KeyRetentionHourly, e)
	p.Daily, p.Weekly = l.span(KeyRetentionDaily, e), l.span(KeyRetentionWeekly, e)
	if v := l.get(KeyRetentionHistory, e); p.History == 0 {
		l.refuse(v, "no time leaves nothing but snapshots", spanAdvice+"; to delete nothing, set "+fileKey(KeyRetentionEnabled)+" to false")
	}
	return Retention{Policy: p, Enabled: l.boolean(KeyRetentionEnabled, e)}
}

// span reads a duration of days or weeks.
func (l *layers) span(key string, e *entry) time.Duration {
	v := l.get(key, e)
	d, err := span.Parse(v.text)
	switch _, plain := strconv.ParseFloat(v.text, 64); {
	case err != nil && plain == nil:
		l.refuse(v, fmt.Sprintf("%q is not a duration", v.text), "give a unit: "+v.text+"d or "+v.text+"h")
	case err != nil:
		l.refuse(v, fmt.Sprintf("%q is not a duration", v.text), spanAdvice)
	case d < 0:
		l.refuse(v, fmt.Sprintf("the duration %s is negative", v.text), spanAdvice)
	default:
		return d
	}
	return -1
}

// fileKey is how a file spells a key, for messages.
func fileKey(key string) string {
	if !strings.HasPrefix(key, keyRetention+"-") {
		return key
	}
	return strings.ReplaceAll(key, "-", ".")
}

// retention gives the settings under the key retention, by their keys.
func (d *document) retention(node *yaml.Node) map[string]setting {
	out := map[string]setting{}
	if node == nil {
		return out
	}
	top := d.mapping(node, []string{"enabled", "history", keySnapshots})
	snaps := map[string]*yaml.Node{}
	if n := top[keySnapshots]; n != nil {
		snaps = d.mapping(n, []string{"hourly", "daily", "weekly"})
	}
	for _, key := range retentionKeys() {
		name := key[strings.LastIndexByte(key, '-')+1:]
		n := top[name]
		if n == nil {
			n = snaps[name]
		}
		if n == nil {
			continue
		}
		if s, ok := d.scalar(fileKey(key), n); ok {
			out[key] = s
		}
	}
	return out
}
