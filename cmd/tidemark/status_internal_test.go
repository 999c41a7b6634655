package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tidemark/replica"
	"tidemark/replica/source"
	"tidemark/snapshot/state"
)

// minute is a time for tests, some minutes after noon.
func minute(n int) time.Time { return time.Date(2026, 1, 31, 12, n, 0, 0, time.UTC) }

func read(id state.TXID, n int) replica.StatusCommit {
	return replica.StatusCommit{TXID: id, Time: minute(n)}
}

// shown are statuses and what people and scripts see of them at 12:10.
func shown() map[string]struct {
	status replica.Status
	text   []string
	none   string // text that is not there
	json   []string
	behind string // why it is, for a limit of five minutes
} {
	type row = struct {
		status replica.Status
		text   []string
		none   string
		json   []string
		behind string
	}
	return map[string]row{
		"starting": {
			status: replica.Status{Running: true, State: replica.StatusStarting, Since: minute(9), PID: 7, UnreadSince: minute(9)},
			text:   []string{"state  starting since 2026-01-31T12:09:00.000Z, process 7\n", "lag    1m0s\n"},
			none:   "waiting",
			json:   []string{`"state":"starting"`, `"lag_seconds":60,`, `"unread_since":"2026-01-31T12:09:00.000Z"`},
		},
		"starting for long": {
			status: replica.Status{Running: true, State: replica.StatusStarting, UnreadSince: minute(1)},
			behind: "it lags by 9m0s, longer than 5m0s",
		},
		"retrying": {
			status: replica.Status{
				Running: true, State: replica.StatusRetrying, Error: "this\nand that", Read: read(9, 5), Shipped: read(4, 1), Uploaded: minute(2),
				WaitingCommits: 5, WaitingBytes: 2048, OldestWaiting: minute(4),
			},
			text: []string{
				"error    this; and that\n", "read     TXID 9 of 2026-01-31T12:05:00.000Z\n",
				"shipped  TXID 4 of 2026-01-31T12:01:00.000Z, uploaded 2026-01-31T12:02:00.000Z\n",
				"waiting  5 commits since 2026-01-31T12:04:00.000Z, 2.0 KiB in the spool\n", "lag      6m0s\n",
			},
			json:   []string{`"waiting_commits":5,"waiting_bytes":2048,"oldest_waiting":"2026-01-31T12:04:00.000Z"`, `"error":"this\nand that"`},
			behind: "it lags by 6m0s, longer than 5m0s",
		},
		"overflowed": {
			status: replica.Status{
				Running: true, State: replica.StatusOverflowed,
				Overflow: &replica.Overflow{First: 5, Last: 900, Since: minute(8), Oldest: minute(3)},
			},
			text:   []string{"the spool reached its limit at 2026-01-31T12:08:00.000Z; TXID 5 to 900 are given up one by one, and what they did will be one commit when storage answers\n"},
			json:   []string{`"overflow":{"first_txid":5,"last_txid":900,"commits":896,"since":"2026-01-31T12:08:00.000Z"}`},
			behind: "it lags by 7m0s",
		},
		"overflowed and repaired": {
			status: replica.Status{
				Running: true, State: replica.StatusOverflowed, Repairs: 2,
				Overflow: &replica.Overflow{First: 5, Last: 900, Since: minute(8), Oldest: minute(8), Repair: 5},
				Repair:   &replica.Repair{StatusCommit: read(5, 9), Pages: 12, Why: "the spool is full", Replaced: 896},
			},
			text: []string{
				"TXID 5 to 900 are given up one by one, and what they did is TXID 5 now, which waits for its upload\n",
				"TXID 5 of 2026-01-31T12:09:00.000Z is a resync (pages: 12): the spool is full; it replaces 896 commits (resyncs in this run: 2)\n",
			},
			json: []string{
				`"repair_txid":5`, `"repairs":2`,
				`"repair":{"txid":5,"time":"2026-01-31T12:09:00.000Z","pages":12,"why":"the spool is full","replaced_commits":896}`,
			},
		},
		"overflowed by nothing that was read": {
			status: replica.Status{Running: true, State: replica.StatusOverflowed, Overflow: &replica.Overflow{First: 5, Last: 4, Since: minute(8)}},
			text:   []string{"; what was committed since will be one commit when storage answers\n"},
			json:   []string{`"commits":0`},
		},
		"blocked": {
			status: replica.Status{Running: true, State: replica.StatusFollowing, Blocked: &replica.Blocked{
				Time: minute(9), Frames: 9, Bytes: 3 << 20, Why: "a reader", Readers: []source.Reader{{PID: 3, Command: "app"}, {PID: 4}},
			}},
			text: []string{"the WAL had grown to 3.0 MiB at 2026-01-31T12:09:00.000Z, since it can't be checkpointed to its end: a reader; who reads: app (process 3), process 4\n"},
			json: []string{`"blocked":{"time":"2026-01-31T12:09:00.000Z","frames":9,"bytes":3145728,"why":"a reader","readers":[{"pid":3,"command":"app"},{"pid":4}]}`},
		},
		"blocked by nobody knows whom": {
			status: replica.Status{Running: true, State: replica.StatusFollowing, Blocked: &replica.Blocked{Why: "a reader"}},
			none:   "who reads",
			json:   []string{`"readers":[]`, `"lag_seconds":0,`},
		},
		"hanging": {
			status: replica.Status{
				Running: true, State: replica.StatusFollowing, Updated: minute(3), WAL: replica.FileFacts{Bytes: 99, Modified: minute(9)},
				Database: replica.FileFacts{Modified: minute(10)},
			},
			text: []string{"the WAL was written to at 2026-01-31T12:09:00.000Z, and no commit was read since"},
			json: []string{`"wal_bytes":99,"unseen_write":"2026-01-31T12:09:00.000Z"`},
		},
		"not hanging": {
			status: replica.Status{
				Running: true, State: replica.StatusFollowing, Updated: minute(3), WAL: replica.FileFacts{Modified: minute(10).Add(-time.Second)},
				Database: replica.FileFacts{Modified: minute(9)},
			},
			none: "unread",
		},
		"failed": {
			status: replica.Status{State: replica.StatusFailed, Since: minute(2), Updated: minute(2), Error: "no", Database: replica.FileFacts{Modified: minute(3)}},
			text:   []string{"failed at 2026-01-31T12:02:00.000Z: nobody replicates it\n", "the database was written to at 2026-01-31T12:03:00.000Z"},
			json:   []string{`"running":false`, `"lag_seconds":null`},
			behind: "nobody replicates it",
		},
		"unknown": {
			status: replica.Status{Running: true, State: replica.StatusUnknown},
			text:   []string{"a replicator runs, and has left no status that can be read\n", "lag    unknown\n"},
			behind: "its replicator has left no status that can be read",
		},
	}
}

func TestStatusView(t *testing.T) {
	t.Parallel()
	for name, tc := range shown() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := view{standing{Status: tc.status, path: "app.db"}, minute(10)}
			var text bytes.Buffer
			if err := v.list(&text); err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.text {
				if !strings.Contains(text.String(), want) {
					t.Errorf("no %q in\n%s", want, text.String())
				}
			}
			if tc.none != "" && strings.Contains(text.String(), tc.none) {
				t.Errorf("%q in\n%s", tc.none, text.String())
			}
			js, err := json.Marshal(v.json())
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range tc.json {
				if !strings.Contains(string(js), want) {
					t.Errorf("no %s in\n%s", want, js)
				}
			}
			got := v.behind(5 * time.Minute)
			if !strings.HasPrefix(got, tc.behind) || tc.behind == "" && got != "" {
				t.Errorf("behind: %q, want %q", got, tc.behind)
			}
		})
	}
}

// A table has a line for each, whatever their errors are.
func TestStatusTable(t *testing.T) {
	t.Parallel()
	a := view{now: minute(10), standing: standing{path: "a.db", Status: replica.Status{
		Running: true, PID: 7, State: replica.StatusRetrying, Error: "one\ntwo", Read: read(12, 9), Shipped: read(10, 8), Uploaded: minute(9),
		WaitingCommits: 2, OldestWaiting: minute(9),
	}}}
	b := view{now: minute(10), standing: standing{path: "longer.db", Status: replica.Status{State: replica.StatusKilled, PID: 9}}}
	var text bytes.Buffer
	if err := printTable(&text, []view{a, b}); err != nil {
		t.Fatal(err)
	}
	want := `DATABASE   STATE     PID  READ  SHIPPED  UPLOADED                  WAITING  LAG      ERROR
a.db       retrying  7    12    10       2026-01-31T12:09:00.000Z  2        1m0s     one; two
longer.db  killed    -    0     0        -                         0        unknown  
`
	if text.String() != want {
		t.Errorf("got\n%s\nwant\n%s", text.String(), want)
	}
}
