package config

import (
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
	lines map[string]string // a file's place "name:line" by top-level key
}

// delimiter keeps viper from reading a dot in a key as nesting.
const delimiter = "::"

func keys() []string {
	return []string{
		KeySyncInterval, KeyCheckpointPages, KeyStateDir, KeyKeepJournalMode, KeyLogLevel, KeyLogFormat,
	}
}

func newLayers(flags *pflag.FlagSet) *layers {
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	v.SetDefault(KeySyncInterval, DefaultSyncInterval.String())
	v.SetDefault(KeyCheckpointPages, DefaultCheckpointPages)
	v.SetDefault(KeyLogLevel, strings.ToLower(DefaultLogLevel.String()))
	v.SetDefault(KeyLogFormat, DefaultLogFormat)
	for _, key := range keys() {
		_ = v.BindEnv(key, envName(key)) // fails without a key only
		if f := flags.Lookup(key); f != nil {
			_ = v.BindPFlag(key, f) // fails for a nil flag only
		}
	}
	return &layers{v: v, flags: flags, lines: map[string]string{}}
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

// get gives a setting as text and the place that set it.
func (l *layers) get(key string, e *entry) (value, where string) {
	switch {
	case l.flags.Changed(key):
		where = "--" + key
	case os.Getenv(envName(key)) != "":
		where = envName(key)
	case e != nil && e.own[key].text != "":
		return e.own[key].text, e.own[key].where + ": " + key
	default:
		where = l.lines[key] + ": " + key
	}
	return l.v.GetString(key), where
}

func (l *layers) interval(key string, e *entry) (time.Duration, error) {
	text, where := l.get(key, e)
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		advice := "write 1s, 250ms, 2m, or 0 to ship at once"
		if _, plain := strconv.ParseFloat(text, 64); plain == nil {
			advice = "give a unit: " + text + "s or " + text + "ms"
		}
		return 0, &Error{Where: where, Msg: fmt.Sprintf("%q is not a duration", text), Advice: advice}
	case d < 0:
		return 0, &Error{Where: where, Msg: fmt.Sprintf("the interval %s is negative", text), Advice: "0 ships at once"}
	}
	return d, nil
}

func (l *layers) count(key string, e *entry) (int, error) {
	text, where := l.get(key, e)
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > math.MaxInt32 {
		return 0, &Error{Where: where, Msg: fmt.Sprintf("%q is not a number of pages", text), Advice: "write a whole number from 1 on"}
	}
	return n, nil
}

func (l *layers) boolean(key string) (bool, error) {
	text, where := l.get(key, nil)
	switch strings.ToLower(text) {
	case "", "false", "0", "no", "off":
		return false, nil
	case "true", "1", "yes", "on":
		return true, nil
	}
	return false, &Error{Where: where, Msg: fmt.Sprintf("%q is neither true nor false", text)}
}

// stateDir gives an entry's own folder, or one below the folder that is set
// for all. Each database of a list gets its own even if it is the only one, so
// that adding a second does not move the first one's state.
func (l *layers) stateDir(e *entry) (string, error) {
	dir, where := l.get(KeyStateDir, e)
	if dir == "" || e == nil || (e.own[KeyStateDir].text != "" && !l.overridden(KeyStateDir)) {
		return dir, nil
	}
	abs, err := filepath.Abs(e.path)
	if err != nil {
		return "", &Error{Where: where, Msg: err.Error()}
	}
	sum := crc32.ChecksumIEEE([]byte(filepath.ToSlash(abs)))
	return filepath.Join(dir, fmt.Sprintf("%s-%08x", filepath.Base(abs), sum)), nil
}

func (l *layers) logging() (Logging, error) {
	var out Logging
	text, where := l.get(KeyLogLevel, nil)
	if err := out.Level.UnmarshalText([]byte(text)); err != nil {
		levels := []string{"debug", "info", "warn", "error"}
		return Logging{}, &Error{
			Where: where, Msg: fmt.Sprintf("unknown level %q", text) + suggest.DidYouMean(text, "", levels),
			Advice: "write debug, info, warn or error",
		}
	}
	text, where = l.get(KeyLogFormat, nil)
	if text != "text" && text != "json" {
		return Logging{}, &Error{
			Where: where, Msg: fmt.Sprintf("unknown format %q", text) + suggest.DidYouMean(text, "", []string{"text", "json"}),
			Advice: "write text or json",
		}
	}
	out.Format = text
	return out, nil
}
