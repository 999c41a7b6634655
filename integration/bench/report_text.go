package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// sides are those that appear in any work, in the order of the works.
func (r report) sides() (all []side) {
	for _, w := range r.Works {
		for _, s := range w.Sides {
			if !slices.Contains(all, s.Side) {
				all = append(all, s.Side)
			}
		}
	}
	return all
}

// row is a figure of a work and what each side has of it.
type row struct {
	label string
	cells map[side]string
}

// rows are the figures of a work, in the order in which its sides have them.
func (r result) rows() (all []*row) {
	byName := map[string]*row{}
	for _, s := range r.Sides {
		for _, m := range s.Figures {
			line := byName[m.Name]
			if line == nil {
				line = &row{label: label(m.Name, m.Unit), cells: map[side]string{}}
				byName[m.Name], all = line, append(all, line)
			}
			line.cells[s.Side] = m.String()
		}
	}
	return all
}

// cell is what a side has, or that it has nothing.
func (l *row) cell(s side) string {
	if text, ok := l.cells[s]; ok {
		return text
	}
	return none
}

// heading is the title with the sizes.
func (r result) heading() string {
	if r.Sizes == "" {
		return r.Title
	}
	return r.Title + " (" + r.Sizes + ")"
}

// writeText writes the table for a terminal: a part for each work.
func (r report) writeText(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Command: " + r.Head.Command + "\n")
	for _, line := range r.Head.lines() {
		b.WriteString(line + "\n")
	}
	for _, result := range r.Works {
		fmt.Fprintf(&b, "\n%s: %s\n", result.Name, result.heading())
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		line := func(cells ...string) { _, _ = fmt.Fprintln(t, "  "+strings.Join(cells, "\t")) } // the builder takes all
		titles := []string{""}
		for _, s := range result.Sides {
			titles = append(titles, strings.ToUpper(string(s.Side)))
		}
		line(titles...)
		for _, l := range result.rows() {
			cells := []string{l.label}
			for _, s := range result.Sides {
				cells = append(cells, l.cell(s.Side))
			}
			line(cells...)
		}
		_ = t.Flush() // as above
		for _, v := range result.Targets {
			fmt.Fprintf(&b, "  target: %s: %s\n", v.Text, v)
		}
		for _, s := range result.Sides {
			if s.Note != "" {
				fmt.Fprintf(&b, "  %s: %s\n", s.Side, strings.ReplaceAll(s.Note, "\n", " "))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown is the head, the table of all figures, and that of the targets.
func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("- Command: `" + r.Head.Command + "`\n")
	for _, line := range r.Head.lines() {
		b.WriteString("- " + escape(line) + "\n")
	}
	sides := r.sides()
	columns := []string{"Work", "Figure"}
	for _, s := range sides {
		columns = append(columns, string(s))
	}
	b.WriteString("\n" + markdownRow(columns...) + strings.Repeat("|---", len(columns)) + "|\n")
	for _, result := range r.Works {
		name := "**" + result.Name + "**: " + result.heading()
		for _, l := range result.rows() {
			cells := []string{name, l.label}
			for _, s := range sides {
				cells = append(cells, l.cell(s))
			}
			b.WriteString(markdownRow(cells...))
			name = ""
		}
	}
	b.WriteString("\n" + markdownRow("Work", "Target", "Result") + "|---|---|---|\n")
	for _, result := range r.Works {
		for _, v := range result.Targets {
			b.WriteString(markdownRow(result.Name, v.Text, v.String()))
		}
	}
	b.WriteString(r.notes())
	return b.String()
}

// notes are about sides that could not be measured.
func (r report) notes() string {
	var b strings.Builder
	for _, result := range r.Works {
		for _, s := range result.Sides {
			if s.Note != "" {
				fmt.Fprintf(&b, "\n%s, %s: %s\n", result.Name, s.Side, escape(s.Note))
			}
		}
	}
	return b.String()
}

// markdownRow is a line of a table.
func markdownRow(cells ...string) string {
	for i, c := range cells {
		cells[i] = escape(c)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// escape makes one line of a text, without what ends a cell.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "\r", "", "\n", " ").Replace(text)
}

const (
	// readmeBegin and readmeEnd are around the table in a README.
	readmeBegin = "<!-- bench:begin -->"
	readmeEnd   = "<!-- bench:end -->"
)

// replaceTable puts a table between the two comments, and leaves all else as it is.
func replaceTable(text, table string) (string, error) {
	if strings.Count(text, readmeBegin) != 1 || strings.Count(text, readmeEnd) != 1 {
		return "", fmt.Errorf("there must be one %s and one %s, each on a line of its own", readmeBegin, readmeEnd)
	}
	before, rest, _ := strings.Cut(text, readmeBegin)
	_, after, ok := strings.Cut(rest, readmeEnd)
	if !ok {
		return "", errors.New(readmeEnd + " stands before " + readmeBegin)
	}
	return before + readmeBegin + "\n" + strings.Trim(table, "\n") + "\n" + readmeEnd + after, nil
}

// checkReadme tells whether a table can be written into a file.
func checkReadme(path string) error {
	text, err := os.ReadFile(path)
	if err == nil {
		_, err = replaceTable(string(text), "")
	}
	if err != nil {
		return fmt.Errorf("--readme %s: %w", path, err)
	}
	return nil
}

// writeReadme writes the table into a file.
func writeReadme(path, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--readme: %w", err)
	}
	replaced, err := replaceTable(string(text), table)
	if err != nil {
		return fmt.Errorf("--readme %s: %w", path, err)
	}
	return os.WriteFile(path, []byte(replaced), 0o644) // it is there, and keeps its mode
}
