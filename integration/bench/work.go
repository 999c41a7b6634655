package main

import (
	"cmp"
	"context"
	"errors"
)

// side is who does a piece of work.
type side string

const (
	// alone is the application without a replicator.
	alone side = "alone"
	// tidemark replicates to MinIO, or does the work there.
	tidemark side = "tidemark"
	// folder is tidemark with a folder as its storage.
	folder side = "tidemark, folder"
	// litestream is a Litestream that the user has installed.
	litestream side = "litestream"
	// plain does the least that has to be done: cp and fsync, or a download.
	plain side = "plain"
)

// profile says how much of each work is done.
type profile string

const (
	// smoke is for the test of this program: it measures nothing.
	smoke profile = "smoke"
	short profile = "short"
	full  profile = "full"
)

// pick gives what a profile needs.
func pick[T any](p profile, forSmoke, forShort, forFull T) T {
	switch p {
	case smoke:
		return forSmoke
	case full:
		return forFull
	case short:
	}
	return forShort
}

// figure is one measured number. Names and units are stable: the JSON has them.
type figure struct {
	Name string `json:"name"`
	// Unit is "s", "ms", "commits/s", "B", "B/s", "count", "CPU-s" or "%".
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

// errUnmeasured is wrapped by what [work.Run] returns if a side can't do the work
// here, as without MinIO. The table has "-" for it, and the reason below.
var errUnmeasured = errors.New("not measured")

// work is one piece of work that sides do in turn, A B A B.
type work struct {
	// Name is what --only matches, as "replicate-small"; Title is for the table.
	Name, Title string
	// Sizes says what is done in a profile, "20 s, rows of 200 B". It may be nil.
	Sizes func(p profile) string
	// Short and Full tell in which profiles it is. The smoke profile has what the
	// short one has.
	Short, Full bool
	// Rounds is how often each side does it.
	Rounds func(p profile) int
	// Sides do it, in this order. Litestream is left out if there is none.
	Sides   []side
	Targets []target
	// Prepare is called once, before the first round. It may be nil. What sides share
	// lies below the bench's folder.
	Prepare func(ctx context.Context, b *bench, p profile) error
	// Run does the work once. Rounds are counted from 0. It leaves nothing behind that
	// runs, or that takes room on the disk.
	Run func(ctx context.Context, b *bench, s side, round int) ([]figure, error)
	// Clean removes what Prepare has made. It may be nil.
	Clean func(b *bench) error
}

// in tells whether the work belongs to a profile.
func (w work) in(p profile) bool {
	if p == full {
		return w.Full
	}
	return w.Short
}

// relation is how a figure has to stand to its limit.
type relation string

const (
	atMost  relation = "<="
	atLeast relation = ">="
)

// target is what one side's figure has to be, against that of another side in the
// same run, or against a constant.
type target struct {
	// Side is whose figure it is; "" is tidemark's.
	Side side
	// Figure is the figure's name.
	Figure string
	// Against is the side whose same figure is multiplied by Factor, or "" if Factor
	// is the limit itself, in the figure's unit.
	Against side
	// Of is the name of the other side's figure if that is another one.
	Of       string
	Relation relation
	Factor   float64
	// Every takes the worst round, not the median.
	Every bool
	// Text is the target in words, as the table has it.
	Text string
}

// otherFigure is the name of the other side's figure.
func (t target) otherFigure() string { return cmp.Or(t.Of, t.Figure) }

// of is the side whose figure it is.
func (t target) of() side {
	return cmp.Or(t.Side, tidemark)
}
