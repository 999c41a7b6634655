// Package suggest guesses which word was meant by a mistyped one: a command, a
// flag, a key of the configuration file, a part of a URL.
package suggest

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Closest gives the candidate that word most likely stands for, or "" if none
// is near enough. A candidate is near if at most a third of its letters (and
// never fewer than one, or more than three) differ, where two letters that
// changed places count as one, or if word is its
// beginning and at least three letters long. Of equally near ones the first
// in alphabetical order wins, so that the answer is always the same.
func Closest(word string, candidates []string) string {
	word = strings.ToLower(word)
	best, distance := "", -1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		d := levenshtein.ComputeDistance(word, c)
		if d == 2 && sameLetters(word, c) {
			d = 1 // two letters changed places
		}
		near := d <= min(3, max(1, len(c)/3))
		prefix := len(word) >= 3 && strings.HasPrefix(c, word)
		if (near || prefix) && (distance < 0 || d < distance) {
			best, distance = c, d
		}
	}
	return best
}

func sameLetters(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// DidYouMean gives the clause `; did you mean "x"?`, with quote around the
// [Closest] candidate and prefix before it, or "" if no candidate is near.
func DidYouMean(word, prefix string, candidates []string) string {
	c := Closest(word, candidates)
	if c == "" {
		return ""
	}
	return `; did you mean "` + prefix + c + `"?`
}
