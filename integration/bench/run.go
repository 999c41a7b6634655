package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
)

// measure does the works. A side that fails is out of its work, with a note, and is
// counted; the rest goes on, for hours of measurements must not be lost to it. An error
// is only the end of ctx.
func (b *bench) measure(ctx context.Context, chosen []work, rounds int) (r report, failed int, err error) {
	for _, w := range chosen {
		n := rounds
		if n == 0 {
			n = w.Rounds(b.profile)
		}
		took, failures := b.do(ctx, w, n)
		if ctx.Err() != nil {
			return r, failed, errors.New("interrupted; nothing was printed")
		}
		r.Works = append(r.Works, newResult(w, b.profile, took))
		failed += failures
	}
	return r, failed, nil
}

// taken is what a side's rounds have given.
type taken struct {
	side side
	// rounds has the figures of each round by name; those of a round that was not
	// done are nil.
	rounds []map[string]figure
	// order is the names as they came.
	order []string
	// note says why there is nothing, or not all.
	note string
}

// do does one work, its sides in turn.
func (b *bench) do(ctx context.Context, w work, rounds int) (all []*taken, failed int) {
	for _, s := range w.Sides {
		if s != litestream || b.litestream != "" {
			all = append(all, &taken{side: s, rounds: make([]map[string]figure, rounds)})
		}
	}
	defer func() {
		if w.Clean == nil {
			return
		}
		if err := w.Clean(b); err != nil {
			b.log.Warn("clean up after a work", slog.String("work", w.Name), slog.Any("error", err))
		}
	}()
	if w.Prepare != nil {
		b.log.Info("preparing", slog.String("work", w.Name))
		if err := w.Prepare(ctx, b, b.profile); err != nil {
			for _, t := range all {
				failed += t.fail(b.log, w, err)
			}
			return all, failed
		}
	}
	for round := range rounds {
		for _, t := range all {
			if t.note != "" || ctx.Err() != nil {
				continue
			}
			b.log.Info("measuring", slog.String("work", w.Name), slog.Int("round", round+1), slog.Int("of", rounds), slog.String("side", string(t.side)))
			flushDisks()
			figures, err := w.Run(ctx, b, t.side, round)
			if err != nil && ctx.Err() == nil {
				failed += t.fail(b.log, w, err)
				continue
			}
			t.add(round, figures)
		}
	}
	return all, failed
}

// fail takes a side out of a work, and counts it unless it could not be measured.
func (t *taken) fail(log *slog.Logger, w work, err error) int {
	t.note = err.Error()
	log.Warn("a side is out of its work", slog.String("work", w.Name), slog.String("side", string(t.side)), slog.Any("error", err))
	if errors.Is(err, errUnmeasured) {
		return 0
	}
	return 1
}

// add keeps the figures of one round.
func (t *taken) add(round int, figures []figure) {
	t.rounds[round] = map[string]figure{}
	for _, f := range figures {
		t.rounds[round][f.Name] = f
		if !slices.Contains(t.order, f.Name) {
			t.order = append(t.order, f.Name)
		}
	}
}

// printList lists works, one a line.
func printList(out io.Writer, all []work, p profile) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NAME\tROUNDS\tSIDES\tWHAT") // Flush gives the error
	for _, w := range all {
		sides := make([]string, 0, len(w.Sides))
		for _, s := range w.Sides {
			sides = append(sides, strings.ReplaceAll(string(s), ", ", "/"))
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", w.Name, w.Rounds(p), strings.Join(sides, " "), w.heading(p))
	}
	return t.Flush()
}

// heading is the title with the sizes.
func (w work) heading(p profile) string {
	if w.Sizes == nil {
		return w.Title
	}
	return w.Title + " (" + w.Sizes(p) + ")"
}
