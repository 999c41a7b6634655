package main

import (
	"fmt"
	"io"

	"tidemark/snapshot/state"
	"tidemark/storage"
)

// replicated is one replica's result as JSON.
type replicated struct {
	Path          string           `json:"path"`
	Name          string           `json:"name,omitempty"`
	Replica       string           `json:"replica"`
	TXID          state.TXID       `json:"txid"`
	Commits       uint64           `json:"commits"`
	UploadedBytes int64            `json:"uploaded_bytes"`
	Requests      storage.Requests `json:"requests"`
	Error         string           `json:"error,omitempty"`
}

// print prints what a run did, if it was asked to do it once or as JSON; a
// long run has told it in its log.
func (f *replicateFlags) print(w io.Writer, jobs []*job) error {
	if f.json {
		out := make([]replicated, 0, len(jobs))
		for _, j := range jobs {
			r := replicated{
				Path: j.db.Path, Name: j.db.Replica, Replica: j.place.String(), TXID: j.report.TXID,
				Commits: j.report.Commits, UploadedBytes: j.report.UploadedBytes, Requests: j.requests(),
			}
			if j.err != nil {
				r.Error = j.err.Error()
			}
			out = append(out, r)
		}
		return writeJSON(w, map[string][]replicated{"databases": out})
	}
	if !f.once {
		return nil
	}
	for _, j := range jobs {
		if j.err != nil || j.report.TXID == 0 {
			continue // it has failed, or the database was gone
		}
		r, q := j.report, j.requests()
		_, err := fmt.Fprintf(w, "%s: at TXID %s in %s; shipped commits: %d (%s, requests: %d)\n",
			j.db.Path, r.TXID, j.place, r.Commits, formatSize(r.UploadedBytes), q.List+q.Get+q.Put+q.Delete)
		if err != nil {
			return err
		}
	}
	return nil
}
