package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// engine is an application for scripts:
//
//	engine DB ROWS CODE [wait]
//
// makes a table, inserts rows, a commit each, and ends with a code. With wait it says
// "ready" first, and ends when it has inserted the name of a signal that it got.
func engine() {
	code, err := runEngine(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		code = 99
	}
	os.Exit(code)
}

func runEngine(args []string) (code int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	rows, err := strconv.Atoi(args[1])
	if err != nil {
		return 0, err
	}
	if code, err = strconv.Atoi(args[2]); err != nil {
		return 0, err
	}
	db, err := sql.Open("sqlite", args[0]+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	insert := func(v any) error {
		_, err := db.ExecContext(context.Background(), "INSERT INTO rows VALUES (?)", v)
		return err
	}
	if _, err := db.ExecContext(context.Background(), "CREATE TABLE IF NOT EXISTS rows (v)"); err != nil {
		return 0, err
	}
	for i := range rows {
		if err := insert(i); err != nil {
			return 0, err
		}
	}
	if len(args) < 4 {
		return code, nil
	}
	if _, err := fmt.Println("ready"); err != nil { //nolint:forbidigo // It answers.
		return 0, err
	}
	return code, insert((<-signals).String())
}
