package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidemark/cmd/tidemark/config"
	"tidemark/cmd/tidemark/location"
	"tidemark/replica/archive"
	"tidemark/replica/prune"
	"tidemark/replica/retain"
)

const pruneLong = `Prune shows what the policy of retention lets go of a replica, and deletes it
with --confirm. Without it nothing is deleted.

Every commit of --retention-history stays restorable: the newest snapshot that
is as old as that, and the log since. Before it the first snapshot of each hour,
day and ISO week stays, for a time each: a single state without the commits that
follow it. What a mark needs stays, and so do the newest snapshot, all that it
rests on, and whatever is younger than an hour. If no snapshot is old enough,
everything stays.

Times are counted back from the newest snapshot, or from now if that is earlier:
a database at rest keeps what it has, and so does one whose clock has gone
astray. Durations are such as 90m, 48h, 7d or 52w.

The replicator does the same by itself, unless retention.enabled is false. Prune
may run beside it, and beside restores. With --config it takes the policy that a
configuration file has for the replica.`

const pruneExample = `  tidemark prune s3://backups/app
  tidemark prune s3://backups/app --retention-history 3d --confirm
  tidemark prune s3://backups/app --config /etc/tidemark.yml --json`

// pruneFlags are the flags of prune that package config does not read.
type pruneFlags struct {
	config        string
	confirm, json bool
}

func newPrune(p process) *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:     "prune URL",
		Short:   "Show what retention lets go, and delete it",
		Long:    pruneLong,
		Example: pruneExample,
		Args:    exactArgs("the replica's URL"),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), cmd.Flags(), p, args[0]) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.confirm, "confirm", false, "delete what goes")
	flags.StringVar(&f.config, "config", "", "take the policy from this YAML `file`, as given to replicate")
	config.RetentionFlags(flags)
	flags.BoolVar(&f.json, "json", false, "print JSON, and errors too")
	return cmd
}

func (f *pruneFlags) run(ctx context.Context, flags *pflag.FlagSet, p process, url string) error {
	how, kept, err := config.LoadRetention(flags, f.config, url)
	if err != nil {
		return err
	}
	place, err := location.Parse(url)
	if err != nil {
		return err
	}
	logger := newConsole(p.err).logger(how)
	ctx, release := p.interruptible(ctx, logger, notices{first: "stopping", second: "stopped at once"})
	defer release()
	v, err := lookAt(ctx, place)
	if err != nil {
		return atPlace(place, err)
	}
	show := pruning{place: place.String(), policy: kept.Policy, plan: kept.Policy.Plan(v.State, time.Now()), inventory: v, confirmed: f.confirm}
	if !f.json {
		if err := show.print(p.out); err != nil {
			return err
		}
	}
	failed := f.delete(ctx, &show)
	if f.json {
		err = writeJSON(p.out, show.json())
	} else {
		err = show.printResult(p.out)
	}
	if failed != nil {
		return atPlace(place, failed)
	}
	return err
}

func lookAt(ctx context.Context, place location.Location) (*prune.Inventory, error) {
	bucket, err := place.Open(ctx, location.Options{})
	if err != nil {
		return nil, err
	}
	a, err := archive.Open(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return prune.Look(ctx, a, nil)
}

// delete carries the plan out, if it was confirmed.
func (f *pruneFlags) delete(ctx context.Context, show *pruning) error {
	if !f.confirm {
		return nil
	}
	res, err := show.inventory.Run(ctx, show.plan)
	show.result = res
	switch {
	case errors.Is(err, context.Canceled):
		return interruptedError{err: err, text: "interrupted: " + show.deleted(), hint: "run it again to delete the rest; what is there can be restored"}
	case err != nil:
		return fmt.Errorf("%s, and then failed: %w", show.deleted(), err)
	case len(res.Refused) > 0:
		return advisedError{
			err:  fmt.Errorf("storage refused to delete %s, first: %w", count(len(res.Refused), "object"), res.Refused[0].Err),
			hint: "the credentials may not delete here, or the objects are locked for a time (Object Lock); they stay, with what they need, and nothing is lost",
		}
	}
	return nil
}

// pruning is a plan, and what came of it, as it is shown.
type pruning struct {
	place     string
	policy    retain.Policy
	plan      retain.Plan
	inventory *prune.Inventory
	confirmed bool
	result    prune.Result
}

// deleted tells what was deleted.
func (p *pruning) deleted() string {
	return fmt.Sprintf("deleted %s (%s)", count(len(p.result.Deleted), "object"), formatSize(p.result.Bytes()))
}

// printResult tells people what came of the plan.
func (p *pruning) printResult(w io.Writer) error {
	text := ""
	switch {
	case len(p.plan.Goes) == 0:
	case !p.confirmed:
		text = "\nnothing was deleted; --confirm deletes what goes\n"
	default:
		text = "\n" + p.deleted() + "\n"
		if n := p.result.Spared; n > 0 {
			text += fmt.Sprintf("of the plan %d more stay: marks that were made since, or objects that can't be deleted, need them\n", n)
		}
	}
	_, err := io.WriteString(w, text)
	return err
}
