package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"tidemark/replica/verify"
)

// junitName is the name of the reports' root, by which one is known that may be
// replaced.
const junitName = "tidemark verify"

// The report as JUnit XML, as GitLab and the actions of GitHub read it: a test case
// for each check of each class of objects, with at most one failure, since more than
// one is not shown by all of them; its text lists all findings. Warnings are output
// of a test that passes.
type (
	junitReport struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		Time    string       `xml:"time,attr"`
		Skipped *junitText   `xml:"skipped,omitempty"`
		Failure *junitText   `xml:"failure,omitempty"`
		Error   *junitText   `xml:"error,omitempty"`
		Output  *junitOutput `xml:"system-out,omitempty"`
	}
	junitText struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
	junitOutput struct {
		Text string `xml:",chardata"`
	}
)

// junitChecks are the checks, and the classes of objects that each looks at.
func junitChecks() []struct {
	check   verify.Check
	classes []verify.Class
} {
	log := []verify.Class{verify.Segment, verify.Pack, verify.Snapshot}
	return []struct {
		check   verify.Check
		classes []verify.Class
	}{
		{verify.CheckList, classes()},
		{verify.CheckObjects, log},
		{verify.CheckChain, append(slices.Clone(log), verify.Mark)},
		{verify.CheckRestore, append(slices.Clone(log), verify.Database)},
		{verify.CheckAgainst, append(slices.Clone(log), verify.Database)},
		{verify.CheckLag, []verify.Class{verify.Database}},
	}
}

// checkJUnit makes sure, before anything is done, that a report can be written where
// it should be: in place of nothing, or of an older report.
func checkJUnit(path string) error {
	if path == "" {
		return nil
	}
	old, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("--junit: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("--junit: %w", err)
	}
	var was junitReport
	if len(old) > 0 && (xml.Unmarshal(old, &was) != nil || was.Name != junitName) {
		return advisedError{
			err:  fmt.Errorf("--junit: %s exists, and is no report of tidemark verify", path),
			hint: "give another name, or move it away",
		}
	}
	return nil
}

// writeJUnit writes the report to a file, "" for none, in one step. One is written
// also if it could not look: CI shows that, too.
func (v *verification) writeJUnit(path string) error {
	if path == "" {
		return nil
	}
	b, err := xml.MarshalIndent(v.junit(), "", "  ")
	if err != nil {
		return fmt.Errorf("make the JUnit report: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tidemark-junit-*")
	if err != nil {
		return fmt.Errorf("write the JUnit report: %w", err)
	}
	_, err = f.Write(append(append([]byte(xml.Header), b...), '\n'))
	const readable = 0o644 // another user collects it
	if err = errors.Join(err, f.Chmod(readable), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the JUnit report: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// junit makes the report.
func (v *verification) junit() junitReport {
	s := junitSuite{Name: v.place, Time: "0.000"}
	if v.report != nil {
		s.Time = fmt.Sprintf("%.3f", v.report.Took.Seconds())
	}
	for _, c := range junitChecks() {
		all := c.classes
		for _, class := range v.found(c.check) {
			if !slices.Contains(all, class) {
				all = append(all, class)
			}
		}
		for _, class := range all {
			s.Cases = append(s.Cases, v.junitCase(c.check, class))
		}
	}
	if v.err != nil {
		s.Cases = append(s.Cases, junitCase{
			Name: "look", Class: "tidemark.verify", Time: "0.000",
			Error: &junitText{Message: clean(v.err.Error()), Type: "error", Text: "it could not look at everything: " + clean(v.err.Error())},
		})
	}
	for _, c := range s.Cases {
		s.Tests++
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	return junitReport{Name: junitName, Tests: s.Tests, Failures: s.Failures, Errors: s.Errors, Time: s.Time, Suites: []junitSuite{s}}
}

// found are the classes that a check's findings are of.
func (v *verification) found(check verify.Check) (all []verify.Class) {
	if v.report == nil {
		return nil
	}
	for _, f := range v.report.Findings {
		if f.Check == check {
			all = append(all, f.Class)
		}
	}
	return all
}

// junitCase is one check of one class of objects.
func (v *verification) junitCase(check verify.Check, class verify.Class) junitCase {
	c := junitCase{Name: string(check) + " " + string(class), Class: "tidemark.verify." + string(check), Time: "0.000"}
	bad, odd := v.texts(check, class)
	if len(odd) > 0 {
		c.Output = &junitOutput{strings.Join(odd, "\n")}
	}
	switch why := v.skipped(check); {
	case len(bad) == 1:
		c.Failure = &junitText{Message: bad[0], Type: "error", Text: bad[0]}
	case len(bad) > 1:
		c.Failure = &junitText{Message: fmt.Sprintf("%d errors, the first: %s", len(bad), bad[0]), Type: "error", Text: strings.Join(bad, "\n")}
	case why != "":
		c.Skipped = &junitText{Message: why}
	}
	return c
}

// texts are the errors and the warnings of one check of one class. That a comparison
// could not be made is an error here: a test that says nothing must not pass.
func (v *verification) texts(check verify.Check, class verify.Class) (bad, odd []string) {
	if v.report == nil {
		return nil, nil
	}
	for _, f := range v.report.Findings {
		switch {
		case f.Check != check || f.Class != class:
		case f.Severity == verify.Error:
			bad = append(bad, clean(f.String()))
		default:
			odd = append(odd, clean(f.String()))
		}
	}
	a := v.report.Against
	if check == verify.CheckAgainst && class == verify.Database && a != nil && !a.Known && v.err == nil {
		bad = append(bad, clean("not known: "+a.Why))
	}
	return bad, odd
}

// skipped says why a check was not made, or not to its end, "" if it was.
func (v *verification) skipped(check verify.Check) string {
	if v.report == nil || v.err != nil {
		return "it could not look at everything"
	}
	levels := map[verify.Check]verify.Level{
		verify.CheckList: verify.List, verify.CheckObjects: verify.Objects, verify.CheckChain: verify.Chain, verify.CheckRestore: verify.Restore,
	}
	level, leveled := levels[check]
	switch {
	case leveled && v.report.Level < level:
		return "the level was " + levelName(v.report.Level)
	case check == verify.CheckAgainst && v.report.Against == nil:
		return "no database was given with --against"
	case check == verify.CheckLag && v.report.Lag == nil:
		return "no --max-lag was given"
	}
	return ""
}

// clean replaces what XML can't hold, visibly.
func clean(text string) string {
	var b strings.Builder
	for i, r := range text {
		valid := r == '\t' || r == '\n' || r >= 0x20 && r != 0xFFFE && r != 0xFFFF
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			valid = false
		}
		if valid {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x%02x`, text[i])
		}
	}
	return b.String()
}
