package metrics

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tidemark/replica"
)

const (
	// maxLag is how long a replication may lag and be healthy.
	maxLag = time.Minute
	// maxShown is how many that are not healthy are named.
	maxShown = 20
)

// health answers whether all is well: 200 if there are replications, and every one
// follows its database and lags by a minute at most, else 503 with those that don't. It says
// what was measured, and that includes an engine that hangs. It says 503 while
// databases start, and while storage is away, which a restart does not mend: so it
// is for those who watch or wait, not for those who kill.
type health struct{ source Source }

// ServeHTTP implements [http.Handler].
func (h health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	all, now := h.source.Metrics().Replications, time.Now()
	var ill []string
	for _, m := range all {
		if why := illness(m, now); why != "" {
			ill = append(ill, fmt.Sprintf("%s to %s: %s\n", m.Database, m.Replica, why))
		}
	}
	if len(all) == 0 {
		ill = []string{"nothing is replicated\n"}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if len(ill) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	text := fmt.Sprintf("%d of %d replications are well\n", max(len(all)-len(ill), 0), len(all)) + strings.Join(ill[:min(len(ill), maxShown)], "")
	if n := len(ill) - maxShown; n > 0 {
		text += fmt.Sprintf("and %d more\n", n)
	}
	_, _ = io.WriteString(w, text) // who asks may have gone
}

// illness says why a replication is not healthy, "" if it is.
func illness(m replica.Measured, now time.Time) string {
	lag, known := m.Lag(now)
	switch {
	case m.Status.State != replica.StatusFollowing:
		return string(m.Status.State)
	case !known:
		return "nobody knows how far it is"
	case lag > maxLag:
		return fmt.Sprintf("lags by %v", lag.Round(time.Second))
	default:
		return ""
	}
}
