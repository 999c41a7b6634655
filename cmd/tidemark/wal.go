package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tidemark/replica/salvage"
	"tidemark/wal"
	"tidemark/wal/scan"
)

const walLong = `Wal lists the frames of a SQLite WAL, in any state, and says of each what is known
about it. PATH is the WAL, or the database beside which it lies. The file is only
read, and never with SQLite. What salvage makes of it rests on this.

The header comes first, and how far it is to be trusted: whole; confirmed or likely,
if it was damaged and is rebuilt from the frames; guessed. Then the frames:

  committed        it holds, and a commit comes after it
  uncommitted      it holds, and no commit comes after it
  stale            of an earlier generation of the WAL, which is past
  checksum-broken  its bytes are not what was written there
  torn             the file's end cuts it
  orphan           what comes before it is lost: nothing proves it, nothing speaks
                   against it
  unknown          no frame can be told there

The column LINK says more: a frame that is healed holds, although its salts or its
stored checksum are damaged. COMMIT is the length of the database in pages, in the last
frame of a commit. GENERATION counts what the WAL holds from between two of its
restarts, as found; the current one is marked.

Exit code 3 if the header is damaged, or a frame before the last commit.`

const walExample = `  tidemark wal app.db-wal
  tidemark wal app.db --json`

// walFlags are the flags of wal.
type walFlags struct{ json bool }

func newWAL(p process) *cobra.Command {
	var f walFlags
	cmd := &cobra.Command{
		Use:     "wal PATH",
		Short:   "List the frames of a WAL, and what is known of each",
		Long:    walLong,
		Example: walExample,
		Args:    exactArgs("the WAL's path"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), p, args[0]) },
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *walFlags) run(ctx context.Context, p process, path string) error {
	path, err := salvage.WALOf(path)
	if err != nil {
		return salvageFailure(err)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the WAL: %w", err)
	}
	defer func() { _ = file.Close() }() // only read from
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("look at the WAL: %w", err)
	}
	res, err := scan.Scan(file, info.Size(), scan.Options{})
	if err != nil {
		return fmt.Errorf("scan %s: %w", path, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	v := walView{path: path, size: info.Size(), Result: res}
	w := bufio.NewWriter(p.out)
	if f.json {
		err = v.printJSON(w)
	} else {
		err = v.print(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return err
	}
	return v.judge()
}

// walView is a WAL as it is shown.
type walView struct {
	path string
	size int64
	*scan.Result
}

// walHeader is the header as JSON.
type walHeader struct {
	Trust    string       `json:"trust"`
	Error    string       `json:"error,omitempty"`
	PageSize wal.PageSize `json:"page_size"`
	Order    string       `json:"byte_order"`
	Sequence uint32       `json:"sequence"`
	Salts    string       `json:"salts"`
	Checksum string       `json:"checksum"`
	Rebuilt  []string     `json:"rebuilt,omitempty"`
}

// walGeneration is a generation as JSON.
type walGeneration struct {
	Salts   string `json:"salts"`
	Frames  int    `json:"frames"`
	Holding int    `json:"holding"`
	Current bool   `json:"current,omitempty"`
}

// walCommit is a commit as JSON.
type walCommit struct {
	Generation  int    `json:"generation"`
	FirstOffset int64  `json:"first_offset"`
	LastOffset  int64  `json:"last_offset"`
	Pages       uint32 `json:"pages"`
	Proof       string `json:"proof"`
	Reason      string `json:"reason,omitempty"`
}

// walFrame is a frame as JSON. Generation counts from 1; 0 is none.
type walFrame struct {
	Frame      uint32     `json:"frame,omitempty"`
	Offset     int64      `json:"offset"`
	Page       wal.PageNo `json:"page"`
	Commit     uint32     `json:"commit"`
	Generation int        `json:"generation"`
	Checksum   string     `json:"checksum"`
	Link       string     `json:"link"`
	Verdict    string     `json:"verdict"`
}

func (v walView) header() walHeader {
	u := v.Header.Used
	h := walHeader{
		Trust: v.Header.Trust.String(), PageSize: u.PageSize, Order: "little-endian", Sequence: u.Sequence,
		Salts: formatSalts(u.Salts), Checksum: u.Sum.String(),
	}
	if u.Order == wal.BigEndian {
		h.Order = "big-endian"
	}
	if v.Header.Err != nil {
		h.Error = v.Header.Err.Error()
	}
	for _, r := range v.Header.Rebuilt {
		h.Rebuilt = append(h.Rebuilt, r.Field.String())
	}
	return h
}

func formatSalts(s wal.Salts) string { return fmt.Sprintf("%08x-%08x", s.Salt1, s.Salt2) }

// counts are the numbers of frames by verdict.
func (v walView) counts() (all [scan.Orphan + 1]int) {
	for _, f := range v.Frames {
		all[f.Verdict]++
	}
	return all
}

// proofs are the numbers of commits of the current generation by proof.
func (v walView) proofs() (all [scan.Proven + 1]int) {
	current := v.Current()
	for _, c := range v.Commits {
		if c.Generation == current {
			all[c.Proof]++
		}
	}
	return all
}

func (v walView) frame(i int) walFrame {
	f := v.Frames[i]
	out := walFrame{
		Offset: f.Offset, Page: f.Page, Commit: f.Commit, Generation: int(f.Generation) + 1,
		Checksum: f.Sum.String(), Link: f.Link.String(), Verdict: f.Verdict.String(),
	}
	if v.Header.Used.PageSize != 0 {
		out.Frame = v.Number(i)
	}
	return out
}

// flushEvery is how many lines of the table are laid out together, so that memory does not
// go by the WAL's length.
const flushEvery = 1000

// print prints the header and the table of frames.
func (v walView) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) {
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", key, fmt.Sprintf(format, args...)) // Flush gives the error
	}
	_, _ = fmt.Fprintln(t, v.path)
	line("size", "%s", formatSize(v.size))
	v.describe(line)
	if err := t.Flush(); err != nil || len(v.Frames) == 0 {
		return err
	}
	// The widths are given, so that the parts that are laid out apart look alike.
	t = tabwriter.NewWriter(w, 10, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nFRAME\tOFFSET\tPAGE\tCOMMIT\tGENERATION\tCHECKSUM\tLINK\tVERDICT")
	for i, f := range v.Frames {
		generation := "-"
		if f.Generation != scan.NoGeneration {
			generation = strconv.Itoa(int(f.Generation) + 1)
			if v.Generations[f.Generation].Current {
				generation += " *"
			}
		}
		s := v.frame(i)
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n",
			orDash(s.Frame), s.Offset, s.Page, s.Commit, generation, s.Checksum, s.Link, s.Verdict)
		if i%flushEvery == flushEvery-1 {
			if err := t.Flush(); err != nil {
				return err
			}
		}
	}
	return t.Flush()
}

func orDash(n uint32) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// describe tells the header, the generations, and the numbers of commits and frames.
func (v walView) describe(line func(key, format string, args ...any)) {
	if v.Header.Used.PageSize == 0 {
		line("header", "it does not look like a WAL")
		return
	}
	h := v.header()
	line("header", "%s", h.Trust)
	if h.Error != "" {
		line("found", "%s", h.Error)
	}
	if len(h.Rebuilt) > 0 {
		line("rebuilt", "%s", strings.Join(h.Rebuilt, ", "))
	}
	line("page size", "%d", h.PageSize)
	line("checksums", "%s", h.Order)
	line("sequence", "%d", h.Sequence)
	for i, g := range v.Generations {
		current := ""
		if g.Current {
			current = ", the current one"
		}
		line("generation "+strconv.Itoa(i+1), "%s, %s, of which %d hold%s", formatSalts(g.Salts), count(g.Frames, "frame"), g.Holding, current)
	}
	var parts []string
	for p, n := range v.proofs() {
		if n > 0 {
			parts = append([]string{fmt.Sprintf("%d %s", n, scan.Proof(p))}, parts...)
		}
	}
	line("commits", "%s", strings.Join(append(parts, "of the current generation")[:max(len(parts), 1)], ", "))
	parts = nil
	for x, n := range v.counts() {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, scan.Verdict(x)))
		}
	}
	if len(parts) > 0 {
		line("frames", "%s", strings.Join(parts, ", "))
	}
}

// printJSON prints one object. Its lists are written as they are made.
func (v walView) printJSON(w io.Writer) error {
	head := struct {
		Path        string          `json:"path"`
		Size        int64           `json:"size"`
		Header      walHeader       `json:"header"`
		Generations []walGeneration `json:"generations"`
	}{v.path, v.size, v.header(), []walGeneration{}}
	for _, g := range v.Generations {
		head.Generations = append(head.Generations, walGeneration{formatSalts(g.Salts), g.Frames, g.Holding, g.Current})
	}
	b, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("print the WAL: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s,\"commits\":[", b[:len(b)-1]); err != nil {
		return err
	}
	err = streamJSON(w, len(v.Commits), func(i int) any {
		c := v.Commits[i]
		return walCommit{
			Generation: c.Generation + 1, FirstOffset: v.Frames[c.First].Offset, LastOffset: v.Frames[c.Last].Offset,
			Pages: c.Pages, Proof: c.Proof.String(), Reason: c.Reason.String(),
		}
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "],\"frames\":["); err != nil {
		return err
	}
	if err := streamJSON(w, len(v.Frames), func(i int) any { return v.frame(i) }); err != nil {
		return err
	}
	_, err = io.WriteString(w, "]}\n")
	return err
}

// streamJSON writes the elements of a list, one after the other.
func streamJSON(w io.Writer, n int, element func(int) any) error {
	for i := range n {
		b, err := json.Marshal(element(i))
		if err != nil {
			return fmt.Errorf("print the WAL: %w", err)
		}
		if i > 0 {
			b = append([]byte{','}, b...)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// judge says whether the WAL is damaged where it counts.
func (v walView) judge() error {
	current, last := v.Current(), -1
	for _, c := range v.Commits {
		if c.Generation == current {
			last = c.Last
		}
	}
	bad := 0
	for _, f := range v.Frames[:last+1] {
		if f.Verdict != scan.Committed || f.Link != scan.Linked {
			bad++
		}
	}
	var why []string
	switch {
	case v.size == 0:
	case v.Header.Used.PageSize == 0:
		why = append(why, "it does not look like a WAL")
	case v.Header.Trust != scan.Whole || len(v.Header.Rebuilt) > 0:
		why = append(why, "its header is damaged")
	}
	if bad > 0 {
		why = append(why, fmt.Sprintf("%s before the last commit %s damaged or missing", count(bad, "frame"), isOrAre(bad)))
	}
	if len(why) == 0 {
		return nil
	}
	return damagedError{
		text: fmt.Sprintf("%s is damaged: %s", v.path, strings.Join(why, ", and ")),
		hint: "don't open the database with SQLite, which would drop what it can't follow; tidemark salvage brings back what can be had",
	}
}

func isOrAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
