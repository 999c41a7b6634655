package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidemark/cmd/tidemark/config"
)

// A command line is split as a shell would, and nothing more is done to it.
func TestExec(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`python engine.py`:               {"python", "engine.py"},
		`  a   "b c" 'd "e' f\ g  `:      {"a", "b c", `d "e`, "f g"},
		`sh -c 'echo $HOME | wc; a & b'`: {"sh", "-c", "echo $HOME | wc; a & b"},
		`echo $HOME "" *`:                {"echo", "$HOME", "", "*"},
	} {
		file := writeFile(t, "exec: '"+strings.ReplaceAll(text, "'", "''")+"'\ncheck: true\nrestore-if-missing: yes\ndbs: [{path: a.db, url: 'file://a'}]\n")
		s, err := config.Load(flagSet(t), file, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, s.Process.Exec); diff != "" || !s.Process.Check || !s.Process.RestoreIfMissing {
			t.Errorf("%s: check %t, restore %t (-want +got):\n%s", text, s.Process.Check, s.Process.RestoreIfMissing, diff)
		}
	}
	for text, want := range map[string]string{
		`a | b`: "needs a shell", `a; b`: "needs a shell", `a > b`: "needs a shell", `a &`: "needs a shell",
		`a "b`: "is not closed", `a (b)`: "is not closed", `"`: "is not closed", `' '`: "",
	} {
		file := writeFile(t, "exec: '"+strings.ReplaceAll(text, "'", "''")+"'\ndbs: [{path: a.db, url: 'file://a'}]\n")
		_, err := config.Load(flagSet(t), file, nil)
		var e *config.Error
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if !errors.As(err, &e) || !strings.Contains(e.Msg, want) || !strings.HasSuffix(e.Where, "tidemark.yml:1: exec") || e.Advice == "" {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}
