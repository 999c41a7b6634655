package integration_test

import (
	"fmt"
	"os"
	"testing"
)

// roleVariable makes the test program play one of the processes that the tests
// need, instead of running tests.
const roleVariable = "TIDEMARK_TEST_ROLE"

// roles are those processes: separate ones, since SQLite's locks belong to a
// process.
var roles = map[string]func(args []string) error{
	"writer":       writerRole,
	"engine":       engineRole,
	"careless":     carelessRole,
	"checkpointer": checkpointerRole,
	"reader":       readerRole,
	"session":      sessionRole,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		if err := roles[name](os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if err := removeProgram(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
