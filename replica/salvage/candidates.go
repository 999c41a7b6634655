package salvage

import "fmt"

// builders give the plans of all candidates, in the order of their kinds. A plan is nil
// if there is no such candidate. They can be built again, so that only one is in memory.
func (w *work) builders() []func() *plan {
	h := w.history
	if h == nil || len(h.commits) == 0 {
		return []func() *plan{w.replicaAlone, w.database}
	}
	if w.foreign() {
		return []func() *plan{w.replica, w.database, w.walAlone}
	}
	return []func() *plan{
		w.proven, w.checkpointed, w.replica, w.intact, w.frames, w.partial, w.generations, w.database, w.walAlone,
	}
}

// foreign tells whether the WAL is not the database's.
func (w *work) foreign() bool { return w.rep.Match != nil && w.rep.Match.Fit == Foreign }

// doubt is why nothing that is made of the inputs can be called proven, or "".
func (w *work) doubt() string {
	switch {
	case w.doubtful != "":
		return w.doubtful
	case w.headWrong != "" && w.base != nil:
		return "the database's header is damaged: " + w.headWrong
	case w.rep.Journal != nil && w.rep.Journal.Hot:
		return "a rollback journal says that the database has a part of a transaction"
	}
	for _, in := range []*Input{w.rep.Database, w.rep.WAL} {
		switch {
		case in == nil:
		case in.Changed:
			return "somebody wrote to " + in.Path + " while it was copied"
		case in.Unreadable > 0:
			return "parts of " + in.Path + " can't be read"
		}
	}
	return ""
}

// judged sets what is known of a plan before SQLite has looked at it.
func (w *work) judged(p *plan, proof Proof, format string, args ...any) *plan {
	p.proof, p.why = proof, fmt.Sprintf(format, args...)
	if why := w.doubt(); why != "" && proof == Proven && !p.remote {
		p.proof = Probable
		p.why += "; " + why
	}
	return p
}

// proven is the database with the commits that can be proven.
func (w *work) proven() *plan {
	h := w.history
	k := h.proven()
	if k == 0 {
		return nil
	}
	p := h.plan(KindProven, overlay{base: w.base, commits: k})
	if w.base == nil {
		return w.judged(p, Proven, "the first %d of %d commits, which are proven, alone: there is no database", k, len(h.commits))
	}
	if w.at.reached > k {
		return w.judged(p, Probable, "the database and the first %d of %d commits, which are proven; but the database has pages of commit %d "+
			"already, so that the two together are no state that there was", k, len(h.commits), w.at.reached)
	}
	return w.judged(p, Proven, "the database and the first %d of %d commits, which are proven", k, len(h.commits))
}

// checkpointed is the database where it is further than what can be proven of the WAL.
func (w *work) checkpointed() *plan {
	h := w.history
	k := w.at.commits
	if w.base == nil || w.at.least == 0 || k <= h.proven() || w.at.against > len(h.lost) {
		return nil
	}
	o := overlay{base: w.base, skip: k, commits: h.contiguous(k)}
	p := h.plan(KindCheckpointed, o)
	why := "the database, into which a checkpoint has brought the first %d of %d commits, as %d of its pages show"
	if o.commits > k {
		return w.judged(p, Probable, why+", and the %d commits after these", k, len(h.commits), w.at.matches, o.commits-k)
	}
	return w.judged(p, Probable, why, k, len(h.commits), w.at.matches)
}

// onto is what a candidate beyond a lost frame is laid over: the replica if that is known to
// be further than the WAL's beginning, else the database.
func (w *work) onto(commits int) overlay {
	if w.remote != nil && w.aligned && w.there.commits <= commits {
		return overlay{base: w.remote, remote: true, skip: w.there.commits, commits: commits}
	}
	return overlay{base: w.base, commits: commits}
}

// intact is what can be proven, and beyond it the commits that are whole.
func (w *work) intact() *plan {
	h := w.history
	o := w.onto(h.whole())
	if o.base == nil || o.commits <= h.proven() {
		return nil
	}
	return w.beyond(h.plan(KindIntact, o), "commits that are whole, although something before them is lost")
}

// frames is intact with what holds of damaged commits.
func (w *work) frames() *plan {
	h := w.history
	o := w.onto(h.whole())
	o.partial = true
	if o.base == nil || o.commits <= h.proven() {
		return nil
	}
	return w.beyond(h.plan(KindFrames, o), "all frames that hold up to the last whole commit, those of damaged commits too")
}

// partial is frames up to the very end.
func (w *work) partial() *plan {
	h := w.history
	o := w.onto(len(h.commits))
	o.partial = true
	if o.base == nil || o.commits == h.whole() {
		return nil
	}
	p := w.beyond(h.plan(KindPartial, o), "all frames that hold, those of damaged commits at the end too, of which a part is missing")
	p.mixed = true
	return p
}

// generations is frames over what earlier generations have.
func (w *work) generations() *plan {
	h := w.history
	o := overlay{base: w.base, commits: h.whole(), partial: true, older: h.older(w.base)}
	if o.older == nil {
		return nil
	}
	p := w.beyond(h.plan(KindGenerations, o), "all frames that hold up to the last whole commit, and under them what earlier generations of the WAL have and the database lacks")
	p.mixed = true
	return p
}

// beyond says what a candidate past a lost frame is.
func (w *work) beyond(p *plan, what string) *plan {
	base := "the database"
	switch {
	case p.remote:
		base = "the replica's newest commit"
	case p.base == nil:
		base = "no database"
	}
	why := fmt.Sprintf("%s and %s", base, what)
	if n := len(p.lost); n > 0 {
		why += fmt.Sprintf("; frames are lost: %d", n)
		if p.seeming {
			why += ", and what their headers name was written again later, which is a hint and no proof"
		}
	}
	return w.judged(p, Probable, "%s", why)
}

// cutOff is the number of pages that the database's header counts and its file lacks.
func (w *work) cutOff() uint32 {
	if w.headWrong != "" || w.head.pageSize != w.base.size || w.head.pages <= w.base.count {
		return 0
	}
	return w.head.pages - w.base.count
}

// database is the database alone.
func (w *work) database() *plan {
	h := w.history
	if w.base == nil {
		return nil
	}
	p := planAlone(KindDatabase, w.base, Proven)
	p.absent = w.cutOff()
	switch {
	case w.wal != nil && w.wal.size > 0 && (h == nil || h.Header.Err != nil && len(h.commits) == 0):
		return w.judged(p, Probable, "the database alone: the WAL has no commit that can be told from noise")
	case h == nil || len(h.commits) == 0 && len(h.lost) == 0:
		return w.judged(p, Proven, "the database: there are no commits outside it")
	case w.foreign():
		return w.judged(p, Proven, "the database alone: the WAL does not belong to it")
	}
	if w.at.least > 0 && w.at.against <= len(h.lost) {
		p.commits, p.through = w.at.least, w.at.least
	}
	return w.judged(p, Probable, "the database alone, without what only the WAL has")
}

// walAlone is the WAL where there is no database, or not its own.
func (w *work) walAlone() *plan {
	h := w.history
	if w.base != nil && !w.foreign() {
		return nil
	}
	o := overlay{commits: h.whole(), partial: true}
	if o.commits == 0 {
		o.commits = len(h.commits)
	}
	p := h.plan(KindWAL, o)
	if h.proven() == len(h.commits) && w.base == nil {
		return w.judged(p, Proven, "the WAL alone")
	}
	return w.judged(p, Probable, "the WAL alone")
}
