package config

import (
	"slices"
	"strings"

	"tidemark/cmd/tidemark/location"
	"tidemark/cmd/tidemark/suggest"
)

const (
	// prefix begins the names of all of tidemark's variables.
	prefix = "TIDEMARK_"
	// testPrefix begins those of its tests, which the commands pass over.
	testPrefix = "TIDEMARK_TEST_"
)

// Variables lists the environment variables that tidemark reads, apart from
// those of AWS.
func Variables() []string {
	var names []string
	for _, key := range keys() {
		names = append(names, envName(key))
	}
	return append(names, location.VarAccessKeyID, location.VarSecretAccessKey)
}

// checkEnvironment refuses a variable that begins as tidemark's do and is none,
// so that a mistyped one does not go unseen.
func checkEnvironment(environ []string) error {
	known := Variables()
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, testPrefix) || slices.Contains(known, name) {
			continue
		}
		return &Error{
			Msg:    "unknown environment variable " + name + didYouMean(name, known),
			Advice: "tidemark knows " + strings.Join(known, ", "),
		}
	}
	return nil
}

// didYouMean suggests a variable. What all of them share does not count as
// likeness.
func didYouMean(name string, known []string) string {
	words := make([]string, 0, len(known))
	for _, k := range known {
		words = append(words, strings.ToLower(strings.TrimPrefix(k, prefix)))
	}
	closest := suggest.Closest(strings.TrimPrefix(name, prefix), words)
	if closest == "" {
		return ""
	}
	return `; did you mean "` + prefix + strings.ToUpper(closest) + `"?`
}
