package config

import (
	"fmt"
	"math"
	"net"
	"strconv"

	"github.com/mattn/go-shellwords"
)

// Process is what holds for all databases of a run together.
type Process struct {
	// MetricsAddr is the address on which metrics are served, host:port, or "" for
	// none.
	MetricsAddr string
	// MaxUploads is how many uploads may be under way at once; at least 1.
	MaxUploads int
	// MaxRequestRate is how many requests may be sent to storage in a second; 0 is
	// any number.
	MaxRequestRate float64
	// SnapshotRate is how many bytes of the databases may be read in a second for
	// snapshots and comparisons of pages; 0 is any number.
	SnapshotRate int64
	// Exec is the command that is run while the databases are replicated, its program
	// and its arguments, or nil for none.
	Exec []string
	// Check refuses to start if a check of a database fails.
	Check bool
	// RestoreIfMissing restores a listed database that is missing, if there is a
	// replica of it.
	RestoreIfMissing bool
}

// process resolves it.
func (l *layers) process() Process {
	p := Process{
		MaxUploads: l.count(KeyMaxUploads, "uploads", nil), MaxRequestRate: l.rate(KeyMaxRequestRate), SnapshotRate: l.bytes(l.get(KeySnapshotRate, nil)),
		Exec: l.commandLine(KeyExec), Check: l.boolean(KeyCheck, nil), RestoreIfMissing: l.boolean(KeyRestoreIfMissing, nil),
	}
	v := l.get(KeyMetricsAddr, nil)
	if v.text == "" {
		return p
	}
	if _, port, err := net.SplitHostPort(v.text); err != nil || port == "" {
		l.refuse(v, fmt.Sprintf("%q is not an address", v.text), "write 127.0.0.1:9464, or :9464 for all of this machine's")
	}
	p.MetricsAddr = v.text
	return p
}

// rate reads a number of requests per second.
func (l *layers) rate(key string) float64 {
	v := l.get(key, nil)
	n, err := strconv.ParseFloat(v.text, 64)
	switch {
	case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
		l.refuse(v, fmt.Sprintf("%q is not a number of requests", v.text), "write how many there may be in a second, or 0 for any number")
	case n < 0:
		l.refuse(v, fmt.Sprintf("the rate %s is negative", v.text), "write how many requests there may be in a second, or 0 for any number")
	}
	return n
}

// commandLine splits a command line into words, as a shell would: at blanks, but for
// what is quoted by ', " or \. Nothing is expanded, and what only a shell can do is
// refused rather than taken for a word.
func (l *layers) commandLine(key string) []string {
	v := l.get(key, nil)
	if v.text == "" {
		return nil
	}
	const advice = `quote what belongs together: 'python3 "my engine.py"'; for pipes, variables and the like write sh -c '...'`
	p := shellwords.NewParser()
	words, err := p.Parse(v.text)
	switch {
	case err != nil:
		l.refuse(v, fmt.Sprintf("%q is no command: a quote or a parenthesis is not closed", v.text), advice)
	case p.Position >= 0:
		l.refuse(v, fmt.Sprintf("%q needs a shell", v.text), advice)
	case len(words) == 0:
		l.refuse(v, fmt.Sprintf("%q is no command", v.text), advice)
	}
	return words
}
