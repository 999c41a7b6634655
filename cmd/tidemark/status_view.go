package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tidemark/replica"
	"tidemark/snapshot/state"
)

// view is a status as it is shown, at a time.
type view struct {
	standing
	now time.Time
}

// list prints all that is known about one database.
func (v view) list(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(key, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(t, "  %s\t%s\n", key, oneLine(text)) // Flush gives the error
		}
	}
	_, _ = fmt.Fprintln(t, v.label())
	line("state", v.state())
	line("replica", v.Replica)
	line("error", v.Error)
	line("read", commit(v.Read))
	line("shipped", v.shipped())
	line("waiting", v.waiting())
	line("lag", v.lag())
	line("overflow", v.overflow())
	line("repair", v.repair())
	line("blocked", v.blocked())
	line("unread", v.unseen())
	return t.Flush()
}

// printTable prints a line for each of several databases, or replicas.
func printTable(w io.Writer, views []view) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	several := slices.ContainsFunc(views, func(v view) bool { return v.name != "" })
	column := func(text string) string {
		if !several {
			return ""
		}
		return cmp.Or(text, "-") + "\t"
	}
	_, _ = fmt.Fprintf(t, "DATABASE\t%sSTATE\tPID\tREAD\tSHIPPED\tUPLOADED\tWAITING\tLAG\tERROR\n", column("REPLICA")) // Flush gives the error
	for _, v := range views {
		pid, uploaded := "-", "-"
		if v.Running && v.PID != 0 {
			pid = strconv.Itoa(v.PID)
		}
		if !v.Uploaded.IsZero() {
			uploaded = formatTime(v.Uploaded)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", v.path, column(v.name), v.State, pid,
			v.Read.TXID, v.Shipped.TXID, uploaded, v.WaitingCommits, v.lag(), oneLine(v.Error)) // as above
	}
	return t.Flush()
}

// oneLine makes one line of an error of several.
func oneLine(text string) string { return strings.Join(strings.Split(text, "\n"), "; ") }

func (v view) state() string {
	s := string(v.State)
	switch v.State {
	case replica.StatusNone:
		return s + ": nothing was replicated from here, there is no " + v.StateDir
	case replica.StatusUnknown:
		if v.Running {
			return s + ": a replicator runs, and has left no status that can be read"
		}
		return s + ": nobody replicates it, and no status of a run is left that can be read"
	case replica.StatusStopped, replica.StatusFailed:
		return fmt.Sprintf("%s at %s: nobody replicates it", s, formatTime(v.Since))
	case replica.StatusKilled:
		return fmt.Sprintf("%s: nobody replicates it; process %d ended without a word, after %s", s, v.PID, formatTime(v.Updated))
	case replica.StatusStarting, replica.StatusFollowing, replica.StatusRetrying, replica.StatusOverflowed:
		return fmt.Sprintf("%s since %s, process %d", s, formatTime(v.Since), v.PID)
	}
	return s // of a later version
}

func commit(c replica.StatusCommit) string {
	switch {
	case c.TXID == 0:
		return ""
	case c.Time.IsZero():
		return fmt.Sprintf("TXID %s", c.TXID)
	default:
		return fmt.Sprintf("TXID %s of %s", c.TXID, formatTime(c.Time))
	}
}

func (v view) shipped() string {
	text := commit(v.Shipped)
	if text != "" && !v.Uploaded.IsZero() {
		text += ", uploaded " + formatTime(v.Uploaded)
	}
	return text
}

func (v view) waiting() string {
	switch {
	case v.Read.TXID == 0:
		return ""
	case v.WaitingCommits == 0 && v.WaitingBytes == 0:
		return "nothing"
	case v.OldestWaiting.IsZero():
		return fmt.Sprintf("%d commits", v.WaitingCommits)
	default:
		return fmt.Sprintf("%d commits since %s, %s in the spool", v.WaitingCommits, formatTime(v.OldestWaiting), formatSize(v.WaitingBytes))
	}
}

func (v view) lag() string {
	lag, known := v.Lag(v.now)
	if !known {
		return "unknown"
	}
	return formatLag(lag)
}

// formatLag gives a lag for people.
func formatLag(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (v view) overflow() string {
	o := v.Overflow
	if o == nil {
		return ""
	}
	text := fmt.Sprintf("the spool reached its limit at %s; ", formatTime(o.Since))
	if n := o.Commits(); n > 0 {
		text += fmt.Sprintf("TXID %s to %s are given up one by one, and what they did", o.First, o.Last)
	} else {
		text += "what was committed since"
	}
	if o.Repair > 0 {
		return fmt.Sprintf("%s is TXID %s now, which waits for its upload", text, o.Repair)
	}
	return text + " will be one commit when storage answers"
}

func (v view) repair() string {
	r := v.Repair
	if r == nil {
		return ""
	}
	text := fmt.Sprintf("%s is a resync (pages: %d): %s", commit(r.StatusCommit), r.Pages, r.Why)
	if r.Replaced > 0 {
		text += fmt.Sprintf("; it replaces %d commits", r.Replaced)
	}
	return text + fmt.Sprintf(" (resyncs in this run: %d)", v.Repairs)
}

func (v view) blocked() string {
	b := v.Blocked
	if b == nil {
		return ""
	}
	text := fmt.Sprintf("the WAL had grown to %s at %s, since it can't be checkpointed to its end: %s", formatSize(b.Bytes), formatTime(b.Time), b.Why)
	if len(b.Readers) == 0 {
		return text
	}
	readers := make([]string, 0, len(b.Readers))
	for _, r := range b.Readers {
		readers = append(readers, r.String())
	}
	return text + "; who reads: " + strings.Join(readers, ", ")
}

func (v view) unseen() string {
	at := v.Unseen(v.now)
	switch {
	case at.IsZero():
		return ""
	case v.Running:
		return fmt.Sprintf("the WAL was written to at %s, and no commit was read since: a transaction that has not committed, or a replicator that hangs", formatTime(at))
	default:
		return fmt.Sprintf("the database was written to at %s, after the replicator's last word; commits since then may not be shipped (the WAL has %s)",
			formatTime(at), formatSize(v.WAL.Bytes))
	}
}

// shownStatus is a status as JSON. A time that is not known is left out, and so
// is a part that there is not.
type shownStatus struct {
	Path          string              `json:"path"`
	Name          string              `json:"name,omitempty"`
	StateDir      string              `json:"state_dir"`
	Running       bool                `json:"running"`
	PID           int                 `json:"pid,omitempty"`
	State         replica.StatusState `json:"state"`
	Since         string              `json:"since,omitempty"`
	Started       string              `json:"started,omitempty"`
	Updated       string              `json:"updated,omitempty"`
	Replica       string              `json:"replica,omitempty"`
	Error         string              `json:"error,omitempty"`
	ReadTXID      state.TXID          `json:"read_txid"`
	ReadTime      string              `json:"read_time,omitempty"`
	ShippedTXID   state.TXID          `json:"shipped_txid"`
	ShippedTime   string              `json:"shipped_time,omitempty"`
	Uploaded      string              `json:"uploaded,omitempty"`
	Waiting       uint64              `json:"waiting_commits"`
	WaitingBytes  int64               `json:"waiting_bytes"`
	OldestWaiting string              `json:"oldest_waiting,omitempty"`
	UnreadSince   string              `json:"unread_since,omitempty"`
	// Lag is null if it is not known.
	Lag      *float64       `json:"lag_seconds"`
	Overflow *shownOverflow `json:"overflow,omitempty"`
	Repair   *shownRepair   `json:"repair,omitempty"`
	Repairs  int            `json:"repairs"`
	Blocked  *shownBlocked  `json:"blocked,omitempty"`
	WALBytes int64          `json:"wal_bytes"`
	Unseen   string         `json:"unseen_write,omitempty"`
}

type shownOverflow struct {
	FirstTXID  state.TXID `json:"first_txid"`
	LastTXID   state.TXID `json:"last_txid"`
	Commits    uint64     `json:"commits"`
	Since      string     `json:"since"`
	RepairTXID state.TXID `json:"repair_txid,omitempty"`
}

type shownRepair struct {
	TXID     state.TXID `json:"txid"`
	Time     string     `json:"time"`
	Pages    int        `json:"pages"`
	Why      string     `json:"why"`
	Replaced uint64     `json:"replaced_commits"`
}

type shownBlocked struct {
	Time    string        `json:"time"`
	Frames  uint32        `json:"frames"`
	Bytes   int64         `json:"bytes"`
	Why     string        `json:"why"`
	Readers []shownReader `json:"readers"`
}

type shownReader struct {
	PID     int    `json:"pid"`
	Command string `json:"command,omitempty"`
}

func (v view) json() shownStatus {
	s := shownStatus{
		Path: v.path, Name: v.name, StateDir: v.StateDir, Running: v.Running, PID: v.PID, State: v.State,
		Since: timeOrNone(v.Since), Started: timeOrNone(v.Started), Updated: timeOrNone(v.Updated), Replica: v.Replica, Error: v.Error,
		ReadTXID: v.Read.TXID, ReadTime: timeOrNone(v.Read.Time),
		ShippedTXID: v.Shipped.TXID, ShippedTime: timeOrNone(v.Shipped.Time), Uploaded: timeOrNone(v.Uploaded),
		Waiting: v.WaitingCommits, WaitingBytes: v.WaitingBytes, OldestWaiting: timeOrNone(v.OldestWaiting), UnreadSince: timeOrNone(v.UnreadSince),
		Repairs: v.Repairs, WALBytes: v.WAL.Bytes, Unseen: timeOrNone(v.Unseen(v.now)),
	}
	if lag, known := v.Lag(v.now); known {
		seconds := lag.Round(time.Millisecond).Seconds()
		s.Lag = &seconds
	}
	if o := v.Overflow; o != nil {
		s.Overflow = &shownOverflow{o.First, o.Last, o.Commits(), formatTime(o.Since), o.Repair}
	}
	if r := v.Repair; r != nil {
		s.Repair = &shownRepair{r.TXID, formatTime(r.Time), r.Pages, r.Why, r.Replaced}
	}
	if b := v.Blocked; b != nil {
		s.Blocked = &shownBlocked{formatTime(b.Time), b.Frames, b.Bytes, b.Why, []shownReader{}}
		for _, r := range b.Readers {
			s.Blocked.Readers = append(s.Blocked.Readers, shownReader{r.PID, r.Command})
		}
	}
	return s
}

// timeOrNone gives a time as printed, or "" for none.
func timeOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return formatTime(t)
}
