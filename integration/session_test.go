package integration_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// sessionRole is an application that commits as fast as it can until it gets a SIGTERM
// or, but for the first of them if it is patient, a SIGINT. args are the database, a file
// that tells how far it is, "patient" or "hasty", and the code that it ends with. The
// file has its process's number, its commits and the SIGINTs that it got.
func sessionRole(args []string) (err error) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	facts, err := os.Create(args[1])
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", args[0]+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, v TEXT)"); err != nil {
		return err
	}
	var commits, ints uint64
	commit := func(what string) error {
		if _, err := db.ExecContext(ctx, "INSERT INTO rows (v) VALUES (?)", what); err != nil {
			return err
		}
		commits++
		b := binary.BigEndian.AppendUint64(nil, uint64(os.Getpid()))
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, commits), ints)
		_, err := facts.WriteAt(b, 0)
		return err
	}
	for {
		select {
		case sig := <-signals:
			if sig == os.Interrupt {
				ints++
			}
			if err := commit(sig.String()); err != nil {
				return err
			}
			if sig != os.Interrupt || args[2] == "hasty" {
				if _, err := fmt.Fprintf(os.Stdout, "%d commits\n", commits); err != nil {
					return err
				}
				if err := db.Close(); err != nil {
					return err
				}
				os.Exit(code)
			}
		default:
			if err := commit("row"); err != nil {
				return err
			}
		}
	}
}

// progress is what a session's file tells.
type progress struct{ pid, commits, ints uint64 }

func (p progress) String() string { return fmt.Sprintf("%d commits, %d SIGINTs", p.commits, p.ints) }

func progressOf(path string) (p progress) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 24 {
		return progress{}
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return progress{word(0), word(1), word(2)}
}
