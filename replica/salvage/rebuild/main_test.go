package rebuild_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain bounds how often a property is tried, unless TIDEMARK_TEST_LONG is set or
// -rapid.checks says it: each try damages and rebuilds a whole database.
func TestMain(m *testing.M) {
	flag.Parse()
	const name, few = "rapid.checks", "4"
	said := os.Getenv("TIDEMARK_TEST_LONG") != ""
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == name })
	if !said {
		if err := flag.Set(name, few); err != nil {
			fmt.Fprintln(os.Stderr, "bound the tries:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
