package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
)

// markings are those of one run of the command: on one replica, or on several of a
// database.
type markings []*marking

// run does what the flags say.
func (all markings) run(ctx context.Context, w io.Writer, f *markFlags) error {
	errs := all.each(func(m *marking) error { return m.open(ctx) })
	switch name := all[0].name; {
	case name == "":
		return all.list(ctx, w, f, errs)
	case f.delete:
		return all.delete(ctx, w, f, errs)
	default:
		return all.mark(ctx, w, f, errs)
	}
}

// each does something on all of them side by side.
func (all markings) each(do func(m *marking) error) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		wg.Go(func() { errs[i] = m.atPlace(do(m)) })
	}
	wg.Wait()
	return errs
}

// and does something more on those that have not failed.
func (all markings) and(errs []error, do func(i int, m *marking) error) {
	var wg sync.WaitGroup
	for i, m := range all {
		if errs[i] == nil {
			wg.Go(func() { errs[i] = m.atPlace(do(i, m)) })
		}
	}
	wg.Wait()
}

// failed makes one error of theirs.
func (all markings) failed(errs []error) error {
	var failed []labelled
	for i, m := range all {
		if errs[i] != nil {
			failed = append(failed, labelled{m.label, errs[i]})
		}
	}
	return severalFailed(failed, len(all))
}

// mark makes the marks. A name that is in use is no reason to wait first, nor to
// mark other replicas.
func (all markings) mark(ctx context.Context, w io.Writer, f *markFlags, errs []error) error {
	all.and(errs, func(_ int, m *marking) error { return m.free(ctx) })
	for _, err := range errs {
		if errors.Is(err, archive.ErrMarked) {
			return all.failed(errs)
		}
	}
	marks := make([]archive.Mark, len(all))
	all.and(errs, func(i int, m *marking) (err error) {
		marks[i], err = m.mark(ctx)
		return err
	})
	var out []shownMark
	for i, m := range all {
		if errs[i] != nil {
			continue
		}
		out = append(out, m.shown(marks[i], len(all)))
		if f.json {
			continue
		}
		if _, err := fmt.Fprintf(w, "marked TXID %s of %s as %s%s\n", marks[i].TXID, formatTime(marks[i].Time), marks[i].Name, m.inside(len(all))); err != nil {
			return err
		}
	}
	err := all.failed(errs)
	switch {
	case !f.json || len(out) == 0:
		return err
	case len(all) == 1:
		return errors.Join(writeJSON(w, out[0]), err)
	default:
		return errors.Join(writeJSON(w, map[string][]shownMark{"marks": out}), err)
	}
}

// shownMark is a mark as JSON. Replica is its URL, where there are several.
type shownMark struct {
	Name    string     `json:"name"`
	TXID    state.TXID `json:"txid"`
	Time    string     `json:"time"`
	Created string     `json:"created"`
	Replica string     `json:"replica,omitempty"`
}

// shown is a mark on one of so many replicas.
func (m *marking) shown(mark archive.Mark, of int) shownMark {
	s := shownMark{Name: mark.Name, TXID: mark.TXID, Time: formatTime(mark.Time), Created: formatTime(mark.Created)}
	if of > 1 {
		s.Replica = m.place.String()
	}
	return s
}

// inside says where, where there are several.
func (m *marking) inside(of int) string {
	if of == 1 {
		return ""
	}
	return " in " + m.place.String()
}

// list prints the marks of all.
func (all markings) list(ctx context.Context, w io.Writer, f *markFlags, errs []error) error {
	lists := make([][]archive.Mark, len(all))
	all.and(errs, func(i int, m *marking) (err error) {
		lists[i], err = m.archive.Marks(ctx)
		return err
	})
	out := []shownMark{}
	for i, m := range all {
		for _, mark := range lists[i] {
			out = append(out, m.shown(mark, len(all)))
		}
	}
	err := all.failed(errs)
	switch {
	case err != nil && len(all) == 1:
		return err
	case f.json:
		return errors.Join(writeJSON(w, map[string][]shownMark{"marks": out}), err)
	default:
		return errors.Join(printMarks(w, out, len(all)), err)
	}
}

// printMarks prints a line for each mark.
func printMarks(w io.Writer, marks []shownMark, of int) error {
	if len(marks) == 0 {
		_, err := io.WriteString(w, "no marks\n")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	last := func(text string) string {
		if of == 1 {
			return ""
		}
		return "\t" + text
	}
	_, _ = fmt.Fprintf(t, "NAME\tTXID\tTIME\tMARKED%s\n", last("REPLICA")) // Flush gives the error
	for _, mark := range marks {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\n", mark.Name, mark.TXID, mark.Time, mark.Created, last(mark.Replica)) // as above
	}
	return t.Flush()
}

// delete deletes the marks of a name. Of several replicas some may not have it.
func (all markings) delete(ctx context.Context, w io.Writer, f *markFlags, errs []error) error {
	deleted := make([]bool, len(all))
	all.and(errs, func(i int, m *marking) error {
		err := m.archive.DeleteMark(ctx, m.name)
		deleted[i] = err == nil
		return err
	})
	if !slices.Contains(deleted, true) {
		return all.failed(errs)
	}
	for i, m := range all {
		if errors.Is(errs[i], archive.ErrNoMark) {
			errs[i] = nil
		}
		if !deleted[i] || f.json {
			continue
		}
		if _, err := fmt.Fprintf(w, "deleted the mark %s%s\n", m.name, m.inside(len(all))); err != nil {
			return err
		}
	}
	err := all.failed(errs)
	if f.json {
		return errors.Join(writeJSON(w, map[string]string{"deleted": all[0].name}), err)
	}
	return err
}
