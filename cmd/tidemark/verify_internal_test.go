package main

import (
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tidemark/replica/verify"
)

// ciReport is a JUnit report as those read it that show it: GitLab's parser
// (lib/gitlab/ci/parsers/test/junit.rb) takes testcases of testsuites of testsuites, by
// name and classname, and of each the first of failure, error and skipped, with its
// text; the actions of GitHub (dorny/test-reporter, mikepenz/action-junit-report) take
// the counts of the suites, too, and a failure's message.
type ciReport struct {
	XMLName xml.Name `xml:"testsuites"`
	Suites  []struct {
		Name     string `xml:"name,attr"`
		Tests    string `xml:"tests,attr"`
		Failures string `xml:"failures,attr"`
		Errors   string `xml:"errors,attr"`
		Skipped  string `xml:"skipped,attr"`
		Time     string `xml:"time,attr"`
		Cases    []struct {
			Name     string   `xml:"name,attr"`
			Class    string   `xml:"classname,attr"`
			Time     string   `xml:"time,attr"`
			Failures []ciText `xml:"failure"`
			Errors   []ciText `xml:"error"`
			Skipped  []ciText `xml:"skipped"`
			Output   string   `xml:"system-out"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type ciText struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func readReport(t *testing.T, path string) ciReport {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r ciReport
	if err := xml.Unmarshal(b, &r); err != nil {
		t.Fatalf("%v:\n%s", err, b)
	}
	return r
}

// What CI shows is what was found: every finding, whatever is in its text, no case
// twice, and counts that are those of the cases.
func TestJUnit(t *testing.T) {
	t.Parallel()
	odd := "log/\x01 \xff <&> ]]> \"'\ufffe\ufffd"
	v := verification{place: "s3://b/p?a=1&b=2", report: &verify.Report{Level: verify.Chain, Findings: []verify.Finding{
		{Check: verify.CheckList, Class: verify.Foreign, Key: odd, Severity: verify.Warning, Problem: "odd", Means: "m", Do: "d"},
		{Check: verify.CheckObjects, Class: verify.Pack, Key: "one", Severity: verify.Error, Problem: "bad", Means: "m", Do: "d"},
		{Check: verify.CheckObjects, Class: verify.Pack, Key: "two", Severity: verify.Error, Problem: "bad", Means: "m", Do: "d"},
		{Check: verify.CheckChain, Class: verify.Mark, Key: "three", Severity: verify.Error, Problem: odd, Means: "m", Do: "d"},
	}}}
	path := filepath.Join(t.TempDir(), "r.xml")
	for range 2 { // the second one replaces the first
		if err := checkJUnit(path); err != nil {
			t.Fatal(err)
		}
		if err := v.writeJUnit(path); err != nil {
			t.Fatal(err)
		}
	}
	r := readReport(t, path)
	if len(r.Suites) != 1 {
		t.Fatalf("%d suites", len(r.Suites))
	}
	s := r.Suites[0]
	seen, n := map[string]bool{}, map[string]int{}
	var texts []string
	for _, c := range s.Cases {
		if c.Name == "" || c.Class == "" || seen[c.Class+c.Name] || len(c.Failures)+len(c.Errors)+len(c.Skipped) > 1 {
			t.Errorf("case %+v", c)
		}
		seen[c.Class+c.Name] = true
		if _, err := strconv.ParseFloat(c.Time, 64); err != nil {
			t.Error(err)
		}
		for _, f := range c.Failures {
			if f.Message == "" || f.Text == "" {
				t.Errorf("failure %+v", f)
			}
			texts = append(texts, f.Text)
			n["failures"]++
		}
		n["errors"], n["skipped"] = n["errors"]+len(c.Errors), n["skipped"]+len(c.Skipped)
		texts = append(texts, c.Output)
	}
	for what, has := range map[string]string{"failures": s.Failures, "errors": s.Errors, "skipped": s.Skipped} {
		if has != strconv.Itoa(n[what]) {
			t.Errorf("%s %s, there are %d", has, what, n[what])
		}
	}
	if s.Tests != strconv.Itoa(len(s.Cases)) || s.Failures != "2" || s.Skipped == "0" || s.Errors != "0" {
		t.Errorf("suite %s %s %s %s", s.Tests, s.Failures, s.Skipped, s.Errors)
	}
	text := strings.Join(texts, "\n")
	for _, want := range []string{"one", "two", "three", `log/\x01 \xff <&> ]]> "'`, "odd"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
}

// Each check of a class that findings can be of has a case: none is left out.
func TestJUnitLeavesNothingOut(t *testing.T) {
	t.Parallel()
	v := verification{report: &verify.Report{Level: verify.Restore, Against: &verify.Comparison{Known: true}, Lag: &verify.Lag{}}}
	for _, c := range junitChecks() {
		for _, class := range c.classes {
			v.report.Findings = append(v.report.Findings, verify.Finding{Check: c.check, Class: class, Severity: verify.Error, Key: "k"})
		}
	}
	for _, class := range append(classes(), verify.Database) {
		for _, check := range []verify.Check{verify.CheckList, verify.CheckObjects, verify.CheckChain, verify.CheckRestore, verify.CheckAgainst, verify.CheckLag} {
			v.report.Findings = append(v.report.Findings, verify.Finding{Check: check, Class: class, Severity: verify.Error, Key: string(check) + string(class)})
		}
	}
	var texts []string
	for _, c := range v.junit().Suites[0].Cases {
		if c.Failure != nil {
			texts = append(texts, c.Failure.Text)
		}
	}
	text := strings.Join(texts, "\n")
	for _, f := range v.report.Findings {
		if !strings.Contains(text, f.Key) {
			t.Errorf("a finding of %s about %s is left out", f.Check, f.Class)
		}
	}
}

// That it could not look is an error of the report, and no test counts as passed.
func TestJUnitFailed(t *testing.T) {
	t.Parallel()
	v := verification{place: "p", err: errors.New("no\x00network")}
	path := filepath.Join(t.TempDir(), "r.xml")
	if err := v.writeJUnit(path); err != nil {
		t.Fatal(err)
	}
	s := readReport(t, path).Suites[0]
	for _, c := range s.Cases {
		if c.Name == "look" {
			if len(c.Errors) != 1 || !strings.Contains(c.Errors[0].Text, `no\x00network`) {
				t.Errorf("%+v", c)
			}
			continue
		}
		if len(c.Skipped) != 1 {
			t.Errorf("%s %s counts as passed", c.Class, c.Name)
		}
	}
}

// What is known of a comparison is told, also where it is not conclusive.
func TestDescribeComparison(t *testing.T) {
	t.Parallel()
	pages := make([]uint32, 0, 12)
	for no := range uint32(12) {
		pages = append(pages, no+1)
	}
	for want, c := range map[string]verify.Comparison{
		"a.db is TXID 7, page by page":                              {Path: "a.db", TXID: 7, Known: true, Equal: true},
		"a.db differs from TXID 7, the nearest commit, in 1 page":   {Path: "a.db", TXID: 7, Known: true, Differ: 1, Pages: pages[:1]},
		"a.db: not compared":                                        {Path: "a.db"},
		"a.db: not known: no commit of the replica can be restored": {Path: "a.db", Why: "no commit of the replica can be restored"},
		"a.db: not known: it differs from TXID 7, the nearest commit, in 2 pages (1, 2; tables t, u); why": {
			Path: "a.db", TXID: 7, Differ: 2, Pages: pages[:2], Tables: []string{"t", "u"}, Why: "why",
		},
		"a.db: not known: it differs from TXID 7, the nearest commit, in 12 pages (1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more); why": {
			Path: "a.db", TXID: 7, Differ: 12, Pages: pages, Why: "why",
		},
	} {
		if got := describeComparison(c); got != want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c, got, want)
		}
	}
}
