package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"tidemark/replica/salvage"
	"tidemark/wal"
)

// salvaged is a report as people see it.
type salvaged struct {
	report *salvage.Report
	path   string

	t *tabwriter.Writer
}

func (v *salvaged) line(key, format string, args ...any) {
	_, _ = fmt.Fprintf(v.t, "  %s\t%s\n", key, oneLine(fmt.Sprintf(format, args...))) // Flush gives the error
}

// show tells the whole.
func (v *salvaged) show(w io.Writer) error {
	r := v.report
	v.t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(v.t, v.path)
	v.input("database", r.Database)
	v.input("wal", r.WAL)
	if j := r.Journal; j != nil {
		v.line("journal", "%s, %s", j.Path, formatSize(j.Size))
		if j.Hot {
			v.line("", "%s", j.Advice)
		}
	}
	v.log()
	if m := r.Match; m != nil {
		v.line("match", "%s", map[salvage.Fit]string{
			salvage.Fits:     "the WAL belongs to the database, as far as can be told",
			salvage.Doubtful: "something is wrong between the WAL and the database",
			salvage.Foreign:  "the WAL does not belong to this database",
		}[m.Fit])
		for _, e := range m.Evidence {
			v.line("", "%s", e)
		}
	}
	if x := r.Replica; x != nil {
		v.line("replica", "TXID %d of %s: %s", x.TXID, x.Time, x.Relation)
	}
	for _, n := range r.Notes {
		v.line("note", "%s", n)
	}
	if err := v.t.Flush(); err != nil {
		return err
	}
	if err := v.candidates(w); err != nil {
		return err
	}
	if best := r.Best(); best != nil && best.Output != "" {
		return v.best(w, best)
	}
	return nil
}

func (v *salvaged) input(key string, in *salvage.Input) {
	if in == nil {
		v.line(key, "none")
		return
	}
	text := fmt.Sprintf("%s, %s", in.Path, formatSize(in.Size))
	if in.PageSize != 0 {
		text += fmt.Sprintf(" in pages of %d bytes", in.PageSize)
	}
	v.line(key, "%s", text)
	if in.Header != "" {
		v.line("", "%s", in.Header)
	}
	if in.Unreadable > 0 {
		v.line("", "%s of it can't be read", formatSize(in.Unreadable))
	}
	if in.Changed {
		v.line("", "somebody wrote to it while it was copied: stop the application, and run this again")
	}
}

// maxShownRuns is how many runs of commits people see.
const maxShownRuns = 12

// log tells the commits of the WAL.
func (v *salvaged) log() {
	l := v.report.Log
	if l == nil {
		return
	}
	v.line("commits", "%d proven, %d probable, %d lost", l.Proven, l.Probable, l.Lost)
	if l.Probable+l.Lost == 0 {
		return
	}
	for i, run := range l.Runs {
		if i == maxShownRuns {
			v.line("", "and more; --json has all")
			return
		}
		text := "commit " + strconv.Itoa(run.First)
		if run.Last > run.First {
			text = fmt.Sprintf("commits %d to %d", run.First, run.Last)
		}
		text += ": " + proofWord(run.Proof)
		if run.Reason != "" {
			text += ", " + run.Reason
		}
		v.line("", "%s", text)
	}
}

// proofWord is a proof of commits, pages and tables, as people call it.
func proofWord(p salvage.Proof) string {
	if p == salvage.Damaged {
		return "lost"
	}
	return string(p)
}

// candidates lists the candidates, the best first.
func (v *salvaged) candidates(w io.Writer) error {
	if len(v.report.Candidates) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nCANDIDATE\tPROOF\tCOMMITS\tROWS\tINTEGRITY\tFILE") // Flush gives the error
	for _, c := range v.report.Candidates {
		check, file := c.Integrity, c.Output
		if check != "ok" {
			check = "damaged"
		}
		if file == "" {
			file = "-"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", c.Kind, c.Proof, c.Commits, c.Rows, check, file)
	}
	return t.Flush()
}

// best tells what was written.
func (v *salvaged) best(w io.Writer, c *salvage.Candidate) error {
	text := fmt.Sprintf("\nwrote %s: %s\n", c.Output, c.Why)
	if c.Equals != 0 {
		text += fmt.Sprintf("it is exactly TXID %d of the replica\n", c.Equals)
	}
	p := c.Pages
	text += fmt.Sprintf("%s: %d proven, %d probable, %d lost%s\n", count(p.Total, "page"), p.Proven, p.Probable, p.Lost, pageList(p.LostPages, p.Lost))
	tables := make([]string, 0, len(c.Tables))
	for _, t := range c.Tables {
		tables = append(tables, describeTable(t))
	}
	text += strings.Join(tables, "")
	if c.Rebuilt {
		text += fmt.Sprintf("its b-trees were damaged: it was rebuilt from the rows that can be read; %s in lost_and_found\n", count(int(c.LostAndFound), "row"))
		text += "SQLite finds in the pages: " + someOf(strings.Split(strings.TrimPrefix(c.Integrity, "*** in database main ***\n"), "\n")) + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// describeTable tells the rows of a table against those of the database alone.
func describeTable(t salvage.Table) string {
	proof := ""
	if t.Proof != salvage.Proven {
		proof = " (" + string(t.Proof) + ")"
	}
	switch {
	case t.Rows < 0:
		return fmt.Sprintf("%s: can't be counted%s\n", t.Name, proof)
	case t.InDatabase < 0:
		return fmt.Sprintf("%s: %d rows recovered%s\n", t.Name, t.Rows, proof)
	default:
		return fmt.Sprintf("%s: %d rows in the database, %d recovered%s\n", t.Name, t.InDatabase, t.Rows, proof)
	}
}

// pageList names the first pages.
func pageList(pages []wal.PageNo, of uint32) string {
	const most = 20
	if len(pages) == 0 {
		return ""
	}
	var parts []string
	for _, no := range pages[:min(len(pages), most)] {
		parts = append(parts, no.String())
	}
	text := " (" + strings.Join(parts, ", ")
	if int(of) > len(parts) {
		text += ", …"
	}
	return text + ")"
}

// someOf is the first lines of what SQLite finds, which can be a hundred.
func someOf(lines []string) string {
	const most = 3
	if len(lines) <= most {
		return strings.Join(lines, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(lines[:most], "; "), len(lines)-most)
}
