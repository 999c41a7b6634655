package config

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"tidemark/cmd/tidemark/suggest"
)

// layers answers what a setting is and where it was set. viper does the
// layering of flags, environment and file; layers adds a database's own
// entry, types with messages, and the name of the place that set a value.
type layers struct {
	v     *viper.Viper
	flags *pflag.FlagSet
	doc   document       // the file; without a name there is none
	lines map[string]int // its lines by top-level key
	bad   problems       // what is wrong so far
}

// sizeAdvice says how sizes are written.
const sizeAdvice = "write 1GiB, 500MB, or a number of bytes"

// delimiter keeps viper from reading a dot in a key as nesting.
const delimiter = "::"

// keys are those of all settings.
func keys() []string { return append(plainKeys(), retentionKeys()...) }

// plainKeys are those that a file has at its top level as they are.
func plainKeys() []string {
	return []string{
		KeySyncInterval, KeySnapshotInterval, KeyCheckpointPages, KeyStateDir, KeySpoolLimit, KeyKeepJournalMode, KeyAllowNetworkFS, KeyUnfenced,
		KeyMetricsAddr, KeyMaxUploads, KeyMaxRequestRate, KeySnapshotRate, KeyExec, KeyCheck, KeyRestoreIfMissing,
		KeyLogLevel, KeyLogFormat,
	}
}

func newLayers(flags *pflag.FlagSet) *layers {
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	v.SetDefault(KeySyncInterval, DefaultSyncInterval.String())
	v.SetDefault(KeySnapshotInterval, DefaultSnapshotInterval.String())
	v.SetDefault(KeyCheckpointPages, DefaultCheckpointPages)
	v.SetDefault(KeySpoolLimit, DefaultSpoolLimit)
	v.SetDefault(KeyMaxUploads, DefaultMaxUploads)
	v.SetDefault(KeyMaxRequestRate, "0")
	v.SetDefault(KeySnapshotRate, "0")
	v.SetDefault(KeyLogLevel, strings.ToLower(DefaultLogLevel.String()))
	v.SetDefault(KeyLogFormat, DefaultLogFormat)
	for key, value := range retentionDefaults() {
		v.SetDefault(key, value)
	}
	for _, key := range keys() {
		_ = v.BindEnv(key, envName(key)) // fails without a key only
		if f := flags.Lookup(key); f != nil {
			_ = v.BindPFlag(key, f) // fails for a nil flag only
		}
	}
	return &layers{v: v, flags: flags, lines: map[string]int{}}
}

// envName gives the environment variable of a key.
func envName(key string) string {
	return "TIDEMARK_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// overridden says whether a flag or the environment sets the key, which goes
// before everything a file says.
func (l *layers) overridden(key string) bool {
	return l.flags.Changed(key) || os.Getenv(envName(key)) != ""
}

// value is a setting's text and the place that set it.
type value struct {
	text, where string
	line        int // in the file, or 0
}

// get gives a setting.
func (l *layers) get(key string, e *entry) value {
	v := value{text: l.v.GetString(key)}
	switch {
	case l.flags.Changed(key):
		v.where = "--" + key
	case os.Getenv(envName(key)) != "":
		v.where = envName(key)
	case e != nil && e.own[key].text != "":
		s := e.own[key]
		return value{text: s.text, where: l.doc.place(s.line, fileKey(key)), line: s.line}
	case l.lines[key] > 0:
		v.line = l.lines[key]
		v.where = l.doc.place(v.line, fileKey(key))
	}
	return v
}

// refuse notes that a value can't be used.
func (l *layers) refuse(v value, msg, advice string) { l.wrong(v.where, v.line, msg, advice) }

// interval reads a duration, of which zero has a meaning.
func (l *layers) interval(key, zero string, e *entry) time.Duration {
	v := l.get(key, e)
	d, err := time.ParseDuration(v.text)
	switch {
	case err != nil:
		advice := "write 1s, 250ms, 2m, or 0 " + zero
		if _, plain := strconv.ParseFloat(v.text, 64); plain == nil {
			advice = "give a unit: " + v.text + "s or " + v.text + "ms"
		}
		l.refuse(v, fmt.Sprintf("%q is not a duration", v.text), advice)
	case d < 0:
		l.refuse(v, fmt.Sprintf("the interval %s is negative", v.text), "write 0 "+zero)
	}
	return d
}

// count reads a number of things, such as "pages".
func (l *layers) count(key, things string, e *entry) int {
	v := l.get(key, e)
	n, err := strconv.Atoi(v.text)
	if err != nil || n < 1 || n > math.MaxInt32 {
		l.refuse(v, fmt.Sprintf("%q is not a number of %s", v.text, things), "write a whole number from 1 on")
	}
	return n
}

// sizePattern is a number and a unit of bytes. What [humanize.ParseBytes] reads
// beyond it is in doubt: a comma, which it leaves out, and letters alone, which
// are powers of 1000 to it and of 1024 to others.
var sizePattern = regexp.MustCompile(`(?i)^[0-9]+(\.[0-9]+)?\s*(([kmgtpe]i?)?b)?$`)

// size reads a number of bytes, at least 1: kB, MB, GB are powers of 1000, KiB, MiB,
// GiB of 1024.
func (l *layers) size(key string, e *entry) int64 {
	v := l.get(key, e)
	n := l.bytes(v)
	if n == 0 {
		l.refuse(v, fmt.Sprintf("the size %s leaves no room", v.text), sizeAdvice)
	}
	return n
}

// bytes reads a number of bytes, which may be 0; less is a number that is refused.
func (l *layers) bytes(v value) int64 {
	if positive, negative := strings.CutPrefix(v.text, "-"); negative && sizePattern.MatchString(positive) {
		l.refuse(v, fmt.Sprintf("the size %s is negative", v.text), sizeAdvice)
		return -1
	}
	if !sizePattern.MatchString(v.text) {
		l.refuse(v, fmt.Sprintf("%q is not a size", v.text), sizeAdvice)
		return -1
	}
	n, err := humanize.ParseBytes(v.text)
	if err != nil || n > math.MaxInt64 {
		l.refuse(v, fmt.Sprintf("the size %s is too large", v.text), sizeAdvice)
		return -1
	}
	return int64(n)
}

func (l *layers) boolean(key string, e *entry) bool { return l.truth(l.get(key, e)) }

func (l *layers) truth(v value) bool {
	switch strings.ToLower(v.text) {
	case "", "false", "0", "no", "off":
		return false
	case "true", "1", "yes", "on":
		return true
	}
	l.refuse(v, fmt.Sprintf("%q is neither true nor false", v.text), "write true or false")
	return false
}

func (l *layers) logging() Logging {
	var out Logging
	v := l.get(KeyLogLevel, nil)
	if err := out.Level.UnmarshalText([]byte(v.text)); err != nil {
		levels := []string{"debug", "info", "warn", "error"}
		l.refuse(v, fmt.Sprintf("unknown level %q", v.text)+suggest.DidYouMean(v.text, "", levels), "write debug, info, warn or error")
	}
	v = l.get(KeyLogFormat, nil)
	if v.text != "text" && v.text != "json" {
		l.refuse(v, fmt.Sprintf("unknown format %q", v.text)+suggest.DidYouMean(v.text, "", []string{"text", "json"}), "write text or json")
	}
	out.Format = v.text
	return out
}
