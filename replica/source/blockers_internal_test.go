package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// locksOfAll is what /proc/locks can hold: the locks of SQLite and of others, of
// several kinds and files.
const locksOfAll = `1: POSIX  ADVISORY  READ 100 fd:01:77 124 124
1: -> POSIX  ADVISORY  WRITE 101 fd:01:77 120 127
2: POSIX  ADVISORY  READ 100 fd:01:77 128 128
3: POSIX  ADVISORY  READ 102 fd:01:77 123 124
4: POSIX  ADVISORY  WRITE 103 fd:01:77 120 120
5: POSIX  ADVISORY  READ 104 fd:01:78 124 124
6: POSIX  ADVISORY  READ 105 08:11:77 124 124
7: FLOCK  ADVISORY  WRITE 106 fd:01:77 0 EOF
8: OFDLCK ADVISORY  READ -1 fd:01:77 124 124
9: POSIX  ADVISORY  READ 107 fd:01:77 128 128
10: POSIX  ADVISORY  WRITE 108 fd:01:77 0 EOF
11: POSIX  ADVISORY  READ 102 fd:01:77 126 126
12: POSIX  ADVISORY  READ 0 fd:01:77 125 125
13: LEASE  ACTIVE    READ 109 fd:01:77 0 EOF
14: POSIX  ADVISORY  READ x fd:01:77 125 125
15: POSIX  ADVISORY  READ 110 77 125 125
16: POSIX  ADVISORY  READ 111 fd:01:77 125 x
17: POSIX
`

func TestParseLocks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		device string
		self   int
		want   []int
	}{
		"of others":             {"fd:01", 999, []int{100, 102, 108}},
		"without our own":       {"fd:01", 100, []int{102, 108}},
		"as our own lock tells": {"00:2d", 103, []int{100, 102, 108}},
		"on another device":     {"08:11", 999, []int{105}},
		"nowhere":               {"08:12", 999, nil},
	} {
		got := readersAmong(parseLocks(strings.NewReader(locksOfAll), 77), c.device, c.self)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzParseLocks(f *testing.F) {
	f.Add(locksOfAll)
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range parseLocks(strings.NewReader(text), 77) {
			if l.inode != 77 {
				t.Errorf("%+v is of another file", l)
			}
		}
	})
}
