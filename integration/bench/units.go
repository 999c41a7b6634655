package main

import (
	"math"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// show writes a value as people read it, in its unit. Bytes come with theirs.
func show(value float64, unit string) string {
	switch unit {
	case "B":
		return humanize.IBytes(uint64(math.Round(max(value, 0))))
	case "B/s":
		return humanize.IBytes(uint64(math.Round(max(value, 0)))) + "/s"
	default:
		return digits(value)
	}
}

// digits writes a number with three digits, or all before the point if there are more.
func digits(value float64) string {
	if math.Abs(value) >= 99.95 {
		return humanize.Comma(int64(math.Round(value)))
	}
	if math.Abs(value) < 0.0005 {
		return "0"
	}
	places := 2
	for limit := 9.995; math.Abs(value) < limit/10 && places < 3; limit /= 10 {
		places++
	}
	if math.Abs(value) >= 9.995 {
		places = 1
	}
	return trim(strconv.FormatFloat(value, 'f', places, 64))
}

// trim takes zeros at the end of a fraction away.
func trim(text string) string {
	end := len(text)
	for end > 0 && text[end-1] == '0' {
		end--
	}
	if text[end-1] == '.' {
		end--
	}
	return text[:end]
}

// label is a figure's name with its unit, unless the values have that.
func label(name, unit string) string {
	switch unit {
	case "", "B", "B/s", "count":
		return name
	default:
		return name + ", " + unit
	}
}

// times is a ratio, as in "0.88 × alone".
func (r ratio) String() string { return digits(r.Value) + " × " + string(r.To) }

// String is a figure: its median, its range if it has several values, and its ratios.
func (m measured) String() string {
	parts := []string{show(m.Median, m.Unit)}
	if low, high := show(m.Min, m.Unit), show(m.Max, m.Unit); low != high {
		parts[0] += " (" + low + " – " + high + ")"
	}
	for _, r := range m.Ratios {
		parts = append(parts, r.String())
	}
	return strings.Join(parts, "; ")
}

// String is what has become of a target.
func (v verdict) String() string {
	if !v.Measured {
		return none
	}
	value := show(v.Value, v.Unit)
	switch {
	case v.Against != "":
		value = ratio{v.Against, v.Value}.String()
	case v.Unit != "" && v.Unit != "B" && v.Unit != "B/s" && v.Unit != "count":
		value += " " + v.Unit
	}
	if v.Met {
		return "met: " + value
	}
	return "missed by a factor of " + digits(v.MissedBy) + ": " + value
}

// none stands for what was not measured.
const none = "-"
