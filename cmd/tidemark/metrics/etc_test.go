package metrics_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	yaml "go.yaml.in/yaml/v3"

	"tidemark/cmd/tidemark/metrics"
	"tidemark/replica"
)

// described has each metric's name, with its labels.
func described(t *testing.T) map[string][]string {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		metrics.NewCollector(&told{}).Describe(descs)
	}()
	form := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)
	names := map[string][]string{}
	for d := range descs {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("can't read %s", d)
		}
		labels := strings.Split(m[2], ",")
		names[m[1]] = labels
		if strings.Contains(m[1], "write_lock_seconds") {
			names[m[1]+"_bucket"] = append(labels, "le")
		}
	}
	return names
}

// checkQuery wants the metrics and the labels of a query to exist.
func checkQuery(t *testing.T, where, query string, names map[string][]string) {
	t.Helper()
	used := regexp.MustCompile(`(tidemark_\w+)(\{[^}]*\})?`).FindAllStringSubmatch(query, -1)
	if len(used) == 0 {
		t.Errorf("%s asks for nothing of tidemark's: %s", where, query)
	}
	var has []string
	for _, u := range used {
		labels, ok := names[u[1]]
		if !ok {
			t.Errorf("%s asks for %s, which there is not", where, u[1])
		}
		has = append(has, labels...)
		for _, l := range regexp.MustCompile(`(\w+)(=~?|!=|!~)"`).FindAllStringSubmatch(u[2], -1) {
			if !slices.Contains(labels, l[1]) {
				t.Errorf("%s asks for the label %s of %s, which it has not", where, l[1], u[1])
			}
		}
	}
	for _, by := range regexp.MustCompile(`by \(([\w, ]+)\)`).FindAllStringSubmatch(query, -1) {
		for l := range strings.SplitSeq(by[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(has, l) {
				t.Errorf("%s groups by %s, which nothing in it has: %s", where, l, query)
			}
		}
	}
	for _, s := range regexp.MustCompile(`state=~?"([\w|]+)"`).FindAllStringSubmatch(query, -1) {
		for state := range strings.SplitSeq(s[1], "|") {
			if !slices.Contains([]replica.StatusState{
				replica.StatusStarting, replica.StatusFollowing, replica.StatusRetrying, replica.StatusOverflowed, replica.StatusFailed,
			}, replica.StatusState(state)) {
				t.Errorf("%s asks for the state %q", where, state)
			}
		}
	}
}

// checkTemplate wants the labels that a text names to be those of replications.
func checkTemplate(t *testing.T, where, text string) {
	t.Helper()
	for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
		if l[1] != "db" && l[1] != "replica" {
			t.Errorf("%s names the label %s", where, l[1])
		}
	}
	if strings.Count(text, "{{") != strings.Count(text, "}}") {
		t.Errorf("%s: %q", where, text)
	}
}

func etc(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "etc", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRules checks the alerts against the metrics that there are.
func TestRules(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(etc(t, "prometheus-rules.yml"))))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	names, alerts := described(t), map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || alerts[r.Alert] {
				t.Errorf("an alert named %q", r.Alert)
			}
			alerts[r.Alert] = true
			checkQuery(t, r.Alert, r.Expr, names)
			if _, err := time.ParseDuration(r.For); err != nil && r.For != "" {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s has labels %v, annotations %v", r.Alert, r.Labels, r.Annotations)
			}
			for _, text := range r.Annotations {
				checkTemplate(t, r.Alert, text)
			}
		}
	}
	for _, name := range []string{"TidemarkLagging", "TidemarkFailing", "TidemarkFailed", "TidemarkOverflow", "TidemarkNoSnapshot"} {
		if !alerts[name] {
			t.Errorf("no alert %s, only %v", name, slices.Sorted(maps.Keys(alerts)))
		}
	}
}

// TestDashboard checks what the dashboard asks for in the same way.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
		Templating struct {
			List []struct {
				Name  string
				Query any
			}
		}
	}
	if err := json.Unmarshal(etc(t, "grafana-dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	names, ids := described(t), map[int]bool{}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range board.Templating.List {
		variables[v.Name] = true
	}
	if len(board.Panels) < 6 {
		t.Errorf("it has %d panels", len(board.Panels))
	}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W*p.GridPos.H == 0 {
			t.Errorf("panel %d %q at %+v has %d queries", p.ID, p.Title, p.GridPos, len(p.Targets))
		}
		ids[p.ID] = true
		for _, q := range p.Targets {
			checkQuery(t, p.Title, q.Expr, names)
			for _, v := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !variables[v[1]] {
					t.Errorf("%s uses the variable %s", p.Title, v[1])
				}
			}
		}
	}
}
