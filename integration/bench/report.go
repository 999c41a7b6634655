package main

import (
	"encoding/json"
	"io"
	"math"
	"slices"
)

// report is all that was measured.
type report struct {
	Head  head     `json:"head"`
	Works []result `json:"works"`
}

// result is what a work has given.
type result struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Sizes string `json:"sizes,omitempty"`
	// Sides are those that took part.
	Sides   []sideResult `json:"sides"`
	Targets []verdict    `json:"targets,omitempty"`
}

// sideResult is what one side has given.
type sideResult struct {
	Side    side       `json:"side"`
	Figures []measured `json:"figures"`
	// Note says why it could not be measured, or failed.
	Note string `json:"note,omitempty"`
}

// measured is one figure over all rounds.
type measured struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Values are those of the rounds that have one, in their order.
	Values []float64 `json:"values"`
	// Ratios are those to the other sides, which are what this one is measured by.
	Ratios []ratio `json:"ratios,omitempty"`
}

// ratio is the median of the ratios of each round.
type ratio struct {
	To    side    `json:"to"`
	Value float64 `json:"value"`
}

// verdict says whether a target is met.
type verdict struct {
	Text     string   `json:"target"`
	Side     side     `json:"side"`
	Figure   string   `json:"figure"`
	Against  side     `json:"against,omitempty"`
	Relation relation `json:"relation"`
	Limit    float64  `json:"limit"`
	Unit     string   `json:"unit"`
	// Measured tells whether Value is there. It is the figure, or the ratio if the
	// target is against another side.
	Measured bool    `json:"measured"`
	Value    float64 `json:"value"`
	Met      bool    `json:"met"`
	// MissedBy is by which factor the target is missed, 0 if it is met.
	MissedBy float64 `json:"missed_by,omitempty"`
}

// newResult works out what the rounds of a work say.
func newResult(w work, p profile, all []*taken) result {
	r := result{Name: w.Name, Title: w.Title}
	if w.Sizes != nil {
		r.Sizes = w.Sizes(p)
	}
	for _, t := range all {
		s := sideResult{Side: t.side, Figures: []measured{}, Note: t.note}
		for _, name := range t.order {
			m := newMeasured(t, name)
			for _, other := range all {
				if isBase(t.side) || !isBase(other.side) || name == commitsFigure {
					continue
				}
				if v, ok := median(ratios(t, other, name, name)); ok {
					m.Ratios = append(m.Ratios, ratio{other.side, v})
				}
			}
			s.Figures = append(s.Figures, m)
		}
		r.Sides = append(r.Sides, s)
	}
	for _, t := range w.Targets {
		r.Targets = append(r.Targets, newVerdict(t, all))
	}
	return r
}

// commitsFigure is how many commits the application has made, of which ratios say no
// more than those of its throughput.
const commitsFigure = "commits"

// isBase tells whether a side is one that tidemark is compared to.
func isBase(s side) bool { return s == alone || s == litestream || s == plain }

func newMeasured(t *taken, name string) measured {
	m := measured{Name: name, Values: []float64{}}
	for _, figures := range t.rounds {
		if f, ok := figures[name]; ok {
			m.Unit, m.Values = f.Unit, append(m.Values, f.Value)
		}
	}
	m.Median, _ = median(m.Values)
	m.Min, m.Max = slices.Min(m.Values), slices.Max(m.Values)
	return m
}

// newVerdict compares a side's figure with its limit.
func newVerdict(t target, all []*taken) verdict {
	v := verdict{Text: t.Text, Side: t.of(), Figure: t.Figure, Against: t.Against, Relation: t.Relation, Limit: t.Factor}
	mine, ok := find(all, t.of())
	if !ok {
		return v
	}
	var values []float64
	if t.Against == "" {
		for _, figures := range mine.rounds {
			if f, ok := figures[t.Figure]; ok {
				v.Unit, values = f.Unit, append(values, f.Value)
			}
		}
	} else if other, ok := find(all, t.Against); ok {
		values = ratios(mine, other, t.Figure, t.otherFigure())
	}
	v.Value, v.Measured = median(values)
	if v.Measured && t.Every {
		v.Value = slices.Max(values)
		if t.Relation == atLeast {
			v.Value = slices.Min(values)
		}
	}
	if v.Measured {
		v.Met, v.MissedBy = judge(v.Value, t.Relation, t.Factor)
	}
	return v
}

// judge tells whether a value keeps its limit, or by which factor it does not.
func judge(value float64, r relation, limit float64) (met bool, missedBy float64) {
	if r == atLeast {
		value, limit = limit, value
	}
	if value <= limit {
		return true, 0
	}
	if limit <= 0 {
		return false, math.MaxFloat64 // JSON has no infinity
	}
	return false, value / limit
}

func find(all []*taken, s side) (*taken, bool) {
	i := slices.IndexFunc(all, func(t *taken) bool { return t.side == s })
	if i < 0 {
		return nil, false
	}
	return all[i], true
}

// ratios are those of the rounds in which both sides have a value.
func ratios(a, b *taken, name, other string) (all []float64) {
	for i := range a.rounds {
		x, ok := a.rounds[i][name]
		y, too := b.rounds[i][other]
		if ok && too && y.Value != 0 {
			all = append(all, x.Value/y.Value)
		}
	}
	return all
}

// median is the middle of some values, or the mean of the two in the middle; ok is
// false if there is none.
func median(values []float64) (m float64, ok bool) {
	if len(values) == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2, true
	}
	return sorted[middle], true
}

// percentile is the value that p of a hundred values don't exceed; values must be
// sorted, and not empty.
func percentile(sorted []float64, p float64) float64 {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// writeJSON writes all of it as one object.
func (r report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
