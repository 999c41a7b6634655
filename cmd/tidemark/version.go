package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versions says what this binary was built from.
type versions struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	SQLite   string `json:"sqlite"`
	Platform string `json:"platform"`
}

func newVersion(p process) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of tidemark, Go and SQLite",
		Example: "  tidemark version\n  tidemark version --json",
		Args:    exactArgs(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return printVersions(cmd.Context(), p, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

//nolint:revive // asJSON is the flag --json
func printVersions(ctx context.Context, p process, asJSON bool) error {
	v, err := readVersions(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(p.out, v)
	}
	return v.print(p.out)
}

func readVersions(ctx context.Context) (versions, error) {
	v := versions{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return v, fmt.Errorf("open SQLite: %w", err)
	}
	defer func() { _ = db.Close() }() // in memory: nothing to lose
	if err := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&v.SQLite); err != nil {
		return v, fmt.Errorf("ask SQLite for its version: %w", err)
	}
	return v, nil
}

func (v versions) print(w io.Writer) error {
	built := ""
	if v.Revision != "" {
		built = " (" + v.Revision
		if v.Modified {
			built += ", with local changes"
		}
		built += ")"
	}
	_, err := fmt.Fprintf(w, "tidemark %s%s\n%s %s\nSQLite %s\n", v.Version, built, v.Go, v.Platform, v.SQLite)
	return err
}

// writeJSON prints a result as one line of JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
