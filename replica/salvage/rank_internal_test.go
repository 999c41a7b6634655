package salvage

import "testing"

// TestCompare has for each rule a better and a worse candidate, which the rules before it
// don't tell apart, and for which those after it would say the opposite.
func TestCompare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ better, worse standing }{
		"proven before probable":        {standing{proof: Proven}, standing{proof: Probable, commits: 9, rows: 9, settled: true}},
		"probable before damaged":       {standing{proof: Probable}, standing{proof: Damaged, commits: 9, rows: 9}},
		"newer than the files":          {standing{proof: Proven, newer: true}, standing{proof: Proven, commits: 9, rows: 9}},
		"more commits":                  {standing{proof: Proven, commits: 2}, standing{proof: Proven, commits: 1, settled: true, rows: 9}},
		"nothing is lost":               {standing{proof: Probable, settled: true, mixed: true}, standing{proof: Probable, seeming: true, rows: 9}},
		"nothing lost shows":            {standing{proof: Probable, seeming: true, mixed: true}, standing{proof: Probable, rows: 9}},
		"nothing of another generation": {standing{proof: Probable}, standing{proof: Probable, mixed: true, rows: 9}},
		"more rows":                     {standing{proof: Probable, rows: 2, order: 9}, standing{proof: Probable, rows: 1}},
		"the earlier kind":              {standing{proof: Probable, order: 1}, standing{proof: Probable, order: 2}},
		"more rows of what is damaged":  {standing{proof: Damaged, rows: 2, mixed: true}, standing{proof: Damaged, rows: 1, commits: 9, settled: true}},
		"rows before entries":           {standing{proof: Damaged, rows: 2}, standing{proof: Damaged, rows: 1, entries: 9, commits: 9}},
		"more commits, damaged":         {standing{proof: Damaged, commits: 2, order: 9}, standing{proof: Damaged, commits: 1, entries: 9}},
		"more entries":                  {standing{proof: Damaged, entries: 2, order: 9}, standing{proof: Damaged, entries: 1}},
	} {
		if compare(c.better, c.worse) >= 0 || compare(c.worse, c.better) <= 0 {
			t.Errorf("%s: %d and %d", name, compare(c.better, c.worse), compare(c.worse, c.better))
		}
	}
}
