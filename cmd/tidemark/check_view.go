package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"tidemark/replica/check"
)

// checking is a check that is done.
type checking struct {
	path, url string
	items     []check.Item
	took      time.Duration
}

// checked is the result as JSON.
type checked struct {
	Path    string       `json:"path"`
	Replica string       `json:"replica,omitempty"`
	Level   check.Level  `json:"level"` // the worst one
	Items   []check.Item `json:"items"`
	Seconds float64      `json:"seconds"`
}

func (c checking) print(w io.Writer, asJSON bool) error { //nolint:revive // the flag is the user's choice
	if asJSON {
		return writeJSON(w, checked{c.path, c.url, check.Worst(c.items), c.items, c.took.Round(time.Millisecond).Seconds()})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) } // Flush gives the error
	line("%s", c.path)
	if c.url != "" {
		line("%s", c.url)
	}
	for _, i := range c.items {
		line("%-4s\t%s\t%s", i.Level, i.ID, i.Finding)
		if i.Advice != "" {
			line("\t\t-> %s", i.Advice)
		}
	}
	line("%d ok, %d warn, %d fail; it took %s", c.count(check.OK), c.count(check.Warn), c.count(check.Fail), c.took.Round(time.Millisecond))
	return t.Flush()
}

func (c checking) count(l check.Level) (n int) {
	for _, i := range c.items {
		if i.Level == l {
			n++
		}
	}
	return n
}

// failed gives the error of what failed, and if strict of what warned; nil if nothing.
func (c checking) failed(strict bool) error { //nolint:revive // the flag is the user's choice
	e := uncheckedError{path: c.path, hint: "each item above says what to do"}
	for _, i := range c.items {
		if i.Level == check.Fail || strict && i.Level == check.Warn {
			e.failed = append(e.failed, string(i.ID))
		}
	}
	if len(e.failed) == 0 {
		return nil
	}
	return e
}
