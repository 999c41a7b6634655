package suggest_test

import (
	"testing"

	"tidemark/cmd/tidemark/suggest"
)

func TestClosest(t *testing.T) {
	t.Parallel()
	commands := []string{"demo", "help", "log", "replicate", "restore", "version"}
	for _, tc := range []struct{ word, want string }{
		{"restore", "restore"},
		{"restroe", "restore"},
		{"Restore", "restore"},
		{"replcate", "replicate"},
		{"repl", "replicate"},
		{"lgo", "log"},
		{"lxy", ""},
		{"logs", "log"},
		{"backup", ""},
		{"", ""},
	} {
		if got := suggest.Closest(tc.word, commands); got != tc.want {
			t.Errorf("Closest(%q) = %q, want %q", tc.word, got, tc.want)
		}
	}
}

func TestClosestIsDeterministic(t *testing.T) {
	t.Parallel()
	if got := suggest.Closest("cat", []string{"hat", "bat"}); got != "bat" {
		t.Errorf("Closest = %q, want the first in alphabetical order", got)
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	if got, want := suggest.DidYouMean("timstamp", "--", []string{"timestamp", "txid"}), `; did you mean "--timestamp"?`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := suggest.DidYouMean("zzz", "--", []string{"timestamp"}); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
