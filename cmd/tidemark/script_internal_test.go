package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tidemark": main, "engine": engine})
}

// TestScripts runs every command as a user would; see testdata/script.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// No settings of the machine: neither keys nor an instance's role.
			for _, kv := range []string{
				"AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_PROFILE=",
				"TIDEMARK_S3_ACCESS_KEY_ID=AKIDTEST", "TIDEMARK_S3_SECRET_ACCESS_KEY=open-sesame",
			} {
				k, v, _ := strings.Cut(kv, "=")
				env.Setenv(k, v)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":       command("N COMMAND ARGS...", 2, code),
			"sqlexec":    command("DB SQL...", 2, sqlExec),
			"sqlquery":   command("DB SQL", 2, sqlQuery),
			"randomfile": command("NAME SIZE", 2, randomFile),
			"fakes3":     command("BUCKET", 1, fakeS3),
			"deniedport": command("", 0, deniedPort),
			"closedport": command("", 0, closedPort),
			"await":      command("PATTERN ARGS...", 2, await),
			"awaithere":  command("PATTERN ARGS...", 2, awaitHere),
			"timeof":     command("NAME TXID URL", 3, timeOf),
			"newest":     command("URL N", 2, newest),
			"snapshotof": command("FOLDER TXID", 2, snapshotOf),
			"packof":     command("FOLDER FIRST LAST", 3, packOf),
			"aged":       command("FOLDER", 1, aged),
			"droplog":    command("FOLDER TXID...", 2, dropLog),
			"left":       command("FOLDER PAGESIZE COMMITS", 3, left),
			"blank":      command("FILE OFFSET LENGTH", 3, blank),
			"unwritten":  command("FOLDER", 1, unwritten),
		},
	})
}

// command makes a script's command of a function that needs at least n
// arguments and can't be negated.
func command(usage string, n int, do func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < n {
			ts.Fatalf("usage: %s", usage)
		}
		do(ts, args)
	}
}

// code N COMMAND ARGS... runs a command that must end with the exit code N.
func code(ts *testscript.TestScript, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// sqlExec DB SQL... executes each SQL as a statement, and so a commit, of its
// own.
func sqlExec(ts *testscript.TestScript, args []string) {
	db := openSQL(ts, args[0])
	defer func() { ts.Check(db.Close()) }()
	for _, stmt := range args[1:] {
		_, err := db.ExecContext(context.Background(), stmt)
		ts.Check(err)
	}
}

// sqlQuery DB SQL prints the first column of the first row to standard output.
func sqlQuery(ts *testscript.TestScript, args []string) {
	db := openSQL(ts, args[0])
	defer func() { ts.Check(db.Close()) }()
	var value string
	ts.Check(db.QueryRowContext(context.Background(), args[1]).Scan(&value))
	_, err := fmt.Fprintln(ts.Stdout(), value)
	ts.Check(err)
}

func openSQL(ts *testscript.TestScript, name string) *sql.DB {
	db, err := sql.Open("sqlite", ts.MkAbs(name)+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	db.SetMaxOpenConns(1)
	return db
}

// randomFile NAME SIZE writes random bytes, as an encrypted database is.
func randomFile(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := make([]byte, n)
	_, err = rand.Read(b)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// fakeS3 BUCKET starts an S3 server with one bucket; $S3 is its endpoint.
func fakeS3(ts *testscript.TestScript, args []string) {
	backend := s3mem.New()
	ts.Check(backend.CreateBucket(args[0]))
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	ts.Defer(server.Close)
	ts.Setenv("S3", server.URL)
}

// deniedPort starts a server that answers as S3 does to a key that it does
// not know; $S3 is its endpoint.
func deniedPort(ts *testscript.TestScript, _ []string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>InvalidAccessKeyId</Code><Message>The Access Key Id you provided does not exist in our records.</Message></Error>`)
	}))
	ts.Defer(server.Close)
	ts.Setenv("S3", server.URL)
}

// closedPort gives an endpoint at which nobody listens, as $S3.
func closedPort(ts *testscript.TestScript, _ []string) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("S3", "http://"+l.Addr().String())
	ts.Check(l.Close())
}

// await PATTERN ARGS... runs tidemark with the arguments until its output
// matches.
func await(ts *testscript.TestScript, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		out, stderr := tidemark(ts, args[1:])
		if pattern.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("tidemark %s: %s%s does not match %s", strings.Join(args[1:], " "), out, stderr, args[0])
		}
	}
}

// awaitHere PATTERN ARGS... is await for a command that must run in the script's
// folder, as one that reads a configuration.
func awaitHere(ts *testscript.TestScript, args []string) {
	pattern, err := regexp.Compile(args[0])
	ts.Check(err)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); ; <-tick.C {
		err := ts.Exec("tidemark", args[1:]...)
		if out := ts.ReadFile("stdout"); pattern.MatchString(out) {
			return
		} else if time.Now().After(end) {
			ts.Fatalf("tidemark %s: %s (%v) does not match %s", strings.Join(args[1:], " "), out, err, args[0])
		}
	}
}

// tidemark runs a command to its end, in the script's folder.
func tidemark(ts *testscript.TestScript, args []string) (stdout, stderr string) {
	for i, a := range args { // this process has another folder than the script
		if rest, ok := strings.CutPrefix(a, "file://"); ok && !strings.HasPrefix(rest, "/") {
			args[i] = "file://" + ts.MkAbs(rest)
		}
	}
	var out, errs bytes.Buffer
	run(context.Background(), process{in: strings.NewReader(""), out: &out, err: &errs, abort: os.Exit}, args)
	return out.String(), errs.String()
}

// timeOf NAME TXID URL sets the variable to the time of a commit.
func timeOf(ts *testscript.TestScript, args []string) {
	out, stderr := tidemark(ts, []string{"log", args[2], "--json", "--limit", "0"})
	found := regexp.MustCompile(`"txid":` + args[1] + `,"time":"([^"]+)"`).FindStringSubmatch(out)
	if found == nil {
		ts.Fatalf("no TXID %s in %s%s", args[1], out, stderr)
	}
	ts.Setenv(args[0], found[1])
}

// newest URL N checks that --limit 1 to N+1 each list exactly the newest
// commits of a replica that has N.
func newest(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ids := regexp.MustCompile(`"txid":([0-9]+),"time"`)
	for limit := 1; limit <= n+1; limit++ {
		out, stderr := tidemark(ts, []string{"log", args[0], "--json", "--limit", strconv.Itoa(limit)})
		var got, want []string
		for _, m := range ids.FindAllStringSubmatch(out, -1) {
			got = append(got, m[1])
		}
		for id := n; id > max(0, n-limit); id-- {
			want = append(want, strconv.Itoa(id))
		}
		if !slices.Equal(got, want) {
			ts.Fatalf("--limit %d lists %v, want %v\n%s", limit, got, want, stderr)
		}
	}
}
