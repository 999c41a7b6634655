package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/current"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

const markLong = `Mark gives a commit a name, for tidemark restore --mark. A marked commit stays
restorable whatever the policy of retention is, until the mark is deleted.

Given a database, it marks the current commit: it waits until the replicator
that runs beside it has shipped everything that was committed before, and marks
the newest commit then. Without a replicator it works if all is shipped already,
and else ends with exit code 5. It finds the replica by what the replicator has
left in the state directory; --replica, or a configuration file, names it
instead.

Given a replica's URL, it marks the newest commit there, or another one (--txid,
--timestamp).

Without a name, or with --list, it lists the marks. A name has letters, digits,
dots, underscores and hyphens, begins with a letter or a digit, and is used once:
one that is in use is an error.`

const markExample = `  tidemark mark app.db before-migration
  tidemark mark s3://backups/app release-7 --timestamp 2026-01-31T12:00:00Z
  tidemark mark s3://backups/app
  tidemark mark app.db before-migration --delete`

// defaultMarkTimeout is how long mark waits for a replicator.
const defaultMarkTimeout = time.Minute

// markFlags are the flags of mark.
type markFlags struct {
	timestamp, replica, config string
	txid                       uint64
	byTXID, byTime             bool
	timeout                    time.Duration
	list, delete, json         bool
}

func newMark(p process) *cobra.Command {
	var f markFlags
	cmd := &cobra.Command{
		Use:     "mark DB|URL [NAME]",
		Short:   "Name a commit, which then stays restorable",
		Long:    markLong,
		Example: markExample,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("the database or the replica's URL is missing")
			}
			return atMost(2, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Uint64Var(&f.txid, "txid", 0, "mark the commit with this `number`, which is in the replica")
	flags.StringVar(&f.timestamp, "timestamp", "", "mark the commit that was current at this `time`: "+momentHelp)
	flags.BoolVar(&f.list, "list", false, "list the marks")
	flags.BoolVar(&f.delete, "delete", false, "delete the mark; the commit stays until retention lets it go")
	flags.StringVar(&f.replica, "replica", "", "the `URL` that the database is replicated to (default: what the replicator says)")
	flags.StringVar(&f.config, "config", "", "look the database up in this YAML `file`, as given to replicate")
	flags.String(config.KeyStateDir, "", "look for local state in this `folder`, as given to replicate")
	flags.DurationVar(&f.timeout, "timeout", defaultMarkTimeout, "wait this `long` for the replicator")
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *markFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, args []string) error {
	f.byTXID, f.byTime = flags.Changed("txid"), flags.Changed("timestamp")
	target, name := args[0], ""
	if len(args) > 1 {
		name = args[1]
	}
	if err := f.check(name); err != nil {
		return err
	}
	how, err := config.LoadLogging(flags)
	if err != nil {
		return err
	}
	m := marking{markFlags: f, name: name}
	if err := m.find(flags, target); err != nil {
		return err
	}
	m.logger = newConsole(p.err).logger(how)
	ctx, release := p.interruptible(ctx, m.logger, notices{first: "stopping", second: "stopped at once"})
	defer release()
	err = m.run(ctx, p.out)
	if errors.Is(err, context.Canceled) {
		return interruptedError{err: err, text: "interrupted; nothing was marked", hint: "run it again"}
	}
	return err
}

// check checks the flags before anything is opened.
func (f *markFlags) check(name string) error {
	switch {
	case name == "" && f.delete:
		return usagef("--delete: the mark's name is missing")
	case name == "" && (f.byTXID || f.byTime):
		return usagef("the mark's name is missing")
	case name != "" && f.list:
		return usagef("--list lists all marks: leave out the name")
	case f.list && f.delete, (f.byTXID || f.byTime) && f.delete:
		return usagef("--delete can't be used together with --list, --txid or --timestamp")
	}
	if name != "" {
		if err := archive.CheckMarkName(name); err != nil {
			return usageError{err: err}
		}
	}
	return f.checkValues()
}

func (f *markFlags) checkValues() error {
	switch {
	case f.byTXID && f.byTime:
		return usagef("--timestamp and --txid can't be used together: each names one commit")
	case f.byTXID && f.txid == 0:
		return usagef("--txid: commits are numbered from 1 on")
	case f.timeout < 0:
		return usagef("--timeout: %s is negative", f.timeout)
	}
	return nil
}

// marking is one run of the command.
type marking struct {
	*markFlags
	name  string
	place location.Location
	// path and stateDir are the database's, path "" for a replica's URL. told says
	// that the place is what its replicator told.
	path, stateDir string
	told           bool
	logger         *slog.Logger
}

// find finds the replica: at a URL, or that of a database.
func (m *marking) find(flags *pflag.FlagSet, target string) error {
	url := target
	if !strings.Contains(target, "://") {
		m.path = target
		var err error
		if url, err = m.urlOf(flags); err != nil {
			return err
		}
	} else if m.replica != "" || m.config != "" || flags.Changed(config.KeyStateDir) {
		return usagef("--replica, --config and --%s are about a database: %s is a replica's URL", config.KeyStateDir, target)
	}
	var err error
	m.place, err = location.Parse(url)
	return err
}

// urlOf finds out what a database is replicated to, and where its local state is.
func (m *marking) urlOf(flags *pflag.FlagSet) (url string, err error) {
	db, err := m.settings(flags)
	if err != nil {
		return "", err
	}
	m.stateDir = db.StateDir
	if m.replica != "" {
		return m.replica, nil
	}
	if db.URL != "" {
		return db.URL, nil
	}
	st, err := replica.ReadStatus(m.path, m.stateDir)
	if err != nil {
		return "", err
	}
	if m.told = true; st.Replica != "" {
		return st.Replica, nil
	}
	return "", advisedError{
		err:  fmt.Errorf("%w: nothing was replicated from here: no replicator has left a word in %s", current.ErrBehind, st.StateDir),
		hint: "start tidemark replicate " + m.path + " URL; --state-dir says where its state is, and --replica where it ships to",
	}
}

// settings are those of the database, as far as they are known.
func (m *marking) settings(flags *pflag.FlagSet) (config.Database, error) {
	if m.config == "" {
		dbs, err := config.LoadStateDirs(flags, "", []string{m.path})
		if err != nil {
			return config.Database{}, err
		}
		return dbs[0], nil
	}
	s, err := config.Load(flags, m.config, nil)
	if err != nil {
		return config.Database{}, err
	}
	want, err := filepath.Abs(m.path)
	for _, db := range s.Databases {
		if got, gerr := filepath.Abs(db.Path); err == nil && gerr == nil && got == want {
			return db, nil
		}
	}
	return config.Database{}, usagef("%s is not among the databases of %s", m.path, m.config)
}

func (m *marking) run(ctx context.Context, w io.Writer) error {
	a, err := m.open(ctx)
	if err != nil {
		return m.atPlace(err)
	}
	switch {
	case m.name == "":
		err = m.printList(ctx, w, a)
	case m.delete:
		err = m.deleteMark(ctx, w, a)
	default:
		err = m.mark(ctx, w, a)
	}
	return m.atPlace(err)
}

func (m *marking) open(ctx context.Context) (*archive.Archive, error) {
	bucket, err := m.place.Open(ctx, location.Options{})
	if err != nil {
		return nil, err
	}
	return archive.Open(ctx, bucket)
}

// mark makes the mark.
func (m *marking) mark(ctx context.Context, w io.Writer, a *archive.Archive) error {
	// A name that is in use is no reason to wait first.
	other, err := a.Mark(ctx, m.name)
	if err == nil {
		return fmt.Errorf("%w: %s is TXID %s of %s", archive.ErrMarked, m.name, other.TXID, formatTime(other.Time))
	}
	if !errors.Is(err, archive.ErrNoMark) {
		return err
	}
	mark := archive.Mark{Name: m.name}
	if m.byTXID || m.byTime || m.path == "" {
		mark.TXID, mark.Time, err = m.chosen(ctx, a)
	} else {
		mark.TXID, mark.Time, err = m.current(ctx, a)
	}
	if err != nil {
		return err
	}
	mark.Created = time.Now()
	if err := a.PutMark(ctx, mark); err != nil {
		return err
	}
	if m.json {
		return writeJSON(w, shownMarkOf(mark))
	}
	_, err = fmt.Fprintf(w, "marked TXID %s of %s as %s\n", mark.TXID, formatTime(mark.Time), mark.Name)
	return err
}

// chosen is the commit of the replica that the flags name, or its newest.
func (m *marking) chosen(ctx context.Context, a *archive.Archive) (id state.TXID, at time.Time, err error) {
	switch {
	case m.byTXID:
		id = state.TXID(m.txid)
	case m.byTime:
		t, err := parseMoment(m.timestamp, time.Now())
		if err != nil {
			return 0, at, usagef("--timestamp: %w", err)
		}
		if id, _, err = a.At(ctx, t); err != nil {
			return 0, at, err
		}
	default:
		r, err := a.Range(ctx)
		return r.LastTXID, r.LastTime, err
	}
	at, err = a.CommitTime(ctx, id)
	return id, at, err
}

// current is the commit that the database is at, once it is in the replica.
func (m *marking) current(ctx context.Context, a *archive.Archive) (state.TXID, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	c, err := current.Find(ctx, current.Options{Path: m.path, StateDir: m.stateDir, Bucket: a.Bucket(), Logger: m.logger})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		if st, serr := replica.ReadStatus(m.path, m.stateDir); serr == nil && st.Error != "" {
			err = fmt.Errorf("%w; the replicator says: %s", err, oneLine(st.Error))
		}
		err = advisedError{err: err, hint: "tidemark status " + m.path + " says more; --timeout waits longer than " + m.timeout.String()}
	case errors.Is(err, current.ErrBehind):
		err = advisedError{err: err, hint: "start tidemark replicate, or mark what the replica holds: tidemark mark " + m.place.String() + " " + m.name}
	case errors.Is(err, current.ErrOther):
		err = advisedError{err: err, hint: "give the URL that the database is replicated to with --replica"}
	}
	return c.TXID, c.Time, err
}

// atPlace says where an error happened.
func (m *marking) atPlace(err error) error {
	if m.told && m.place.IsFolder() && isAny(err, storage.ErrNoBucket, archive.ErrNoReplica) {
		return advisedError{
			err: atPlace(m.place, err),
			hint: "that is where the replicator says that it ships to; if it was started in another folder than this one, " +
				"give the URL, as seen from here, with --replica",
		}
	}
	return atPlace(m.place, err)
}

// shownMark is a mark as JSON.
type shownMark struct {
	Name    string     `json:"name"`
	TXID    state.TXID `json:"txid"`
	Time    string     `json:"time"`
	Created string     `json:"created"`
}

func shownMarkOf(m archive.Mark) shownMark {
	return shownMark{m.Name, m.TXID, formatTime(m.Time), formatTime(m.Created)}
}

func (m *marking) printList(ctx context.Context, w io.Writer, a *archive.Archive) error {
	marks, err := a.Marks(ctx)
	if err != nil {
		return err
	}
	if m.json {
		out := make([]shownMark, 0, len(marks))
		for _, mark := range marks {
			out = append(out, shownMarkOf(mark))
		}
		return writeJSON(w, map[string][]shownMark{"marks": out})
	}
	if len(marks) == 0 {
		_, err := io.WriteString(w, "no marks\n")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NAME\tTXID\tTIME\tMARKED") // Flush gives the error
	for _, mark := range marks {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mark.Name, mark.TXID, formatTime(mark.Time), formatTime(mark.Created)) // as above
	}
	return t.Flush()
}

func (m *marking) deleteMark(ctx context.Context, w io.Writer, a *archive.Archive) error {
	if err := a.DeleteMark(ctx, m.name); err != nil {
		return err
	}
	if m.json {
		return writeJSON(w, map[string]string{"deleted": m.name})
	}
	_, err := fmt.Fprintf(w, "deleted the mark %s\n", m.name)
	return err
}
