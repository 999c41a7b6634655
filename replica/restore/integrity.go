package restore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// checkIntegrity runs SQLite's check on a file, which it opens as immutable so
// that no -wal or -shm appears beside it. It gives "ok", or "" if there was
// nothing to run.
func checkIntegrity(ctx context.Context, path string, how Integrity) (_ string, err error) {
	var pragma string
	switch how {
	case None, "":
		return "", nil
	case Quick:
		pragma = "PRAGMA quick_check(1)"
	case Full:
		pragma = "PRAGMA integrity_check(1)"
	default:
		return "", fmt.Errorf("unknown integrity check %q", how)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("check the output: %w", err)
	}
	if abs = filepath.ToSlash(abs); !strings.HasPrefix(abs, "/") {
		abs = "/" + abs
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=ro&immutable=1"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return "", fmt.Errorf("check the output: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, pragma).Scan(&verdict); err != nil {
		return "", fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	if verdict != "ok" {
		return "", fmt.Errorf("%w: %s", ErrIntegrity, verdict)
	}
	return verdict, nil
}
