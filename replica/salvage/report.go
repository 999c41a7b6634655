package salvage

import "tidemark/wal"

// Verdict is how a salvage ended.
type Verdict string

// The verdicts.
const (
	// Whole: nothing is lost, and all that was written is proven.
	Whole Verdict = "whole"
	// Lost: something is lost, damaged or not proven; the report says what.
	Lost Verdict = "lost"
	// Nothing: there was nothing to salvage.
	Nothing Verdict = "nothing"
)

// Kind is a way to read the files.
type Kind string

// The kinds, from that which follows the files most closely.
const (
	// KindProven is the database, if there is one, with the longest prefix of the WAL's
	// commits that can be proven.
	KindProven Kind = "proven"
	// KindCheckpointed is the database as it is, where it shows that a checkpoint has
	// brought commits of the WAL into it, and the commits after these.
	KindCheckpointed Kind = "checkpointed"
	// KindReplica is a state of the replica, and the commits of the WAL that come
	// after it.
	KindReplica Kind = "replica"
	// KindIntact is KindProven and, beyond, each commit whose own frames are all intact
	// although an earlier frame is lost.
	KindIntact Kind = "intact"
	// KindFrames is KindIntact with those frames, too, that hold in commits of which
	// another frame is lost, if a commit comes after them.
	KindFrames Kind = "frames"
	// KindPartial is KindFrames and what holds of the damaged commits at the end. A
	// transaction can be in it in part.
	KindPartial Kind = "partial"
	// KindGenerations is KindFrames over what frames of the WAL's earlier generations
	// hold, where the database lacks it.
	KindGenerations Kind = "generations"
	// KindDatabase is the database file alone.
	KindDatabase Kind = "database"
	// KindWAL is the WAL alone: nothing is taken from the database file.
	KindWAL Kind = "wal"
)

// Proof is how far something can be trusted.
type Proof string

// The proofs.
const (
	// Proven: it is what was committed, as checksums or the replica prove it. For a
	// database file without a WAL nothing but its integrity can be known; if that
	// is in order, it is called proven.
	Proven Proof = "proven"
	// Probable: nothing is known to be wrong with it, but something before it is lost.
	Probable Proof = "probable"
	// Damaged: something of it is known to be wrong or missing. Of commits, pages and
	// tables: it is lost, wholly or in part.
	Damaged Proof = "damaged"
)

// Report is what was found and made. Its JSON names are stable. Lists that could be
// long are in runs or bounded, as their comments say.
type Report struct {
	// Output is the database that was made, as it was given; empty if none was.
	Output string `json:"output,omitempty"`
	// Verdict is the whole in a word.
	Verdict Verdict `json:"verdict"`
	// Database, WAL and Journal are the inputs, nil where there is none.
	Database *Input `json:"database,omitempty"`
	WAL      *Input `json:"wal,omitempty"`
	// Journal is a rollback journal beside the database. It is not applied.
	Journal *Journal `json:"journal,omitempty"`
	// Log is what the WAL holds, nil without one.
	Log *Log `json:"log,omitempty"`
	// Match says whether the WAL belongs to the database; nil unless there are both.
	Match *Match `json:"match,omitempty"`
	// Replica is what was found in the replica; nil without one.
	Replica *Replica `json:"replica,omitempty"`
	// Candidates begin with the best one, which the output is.
	Candidates []Candidate `json:"candidates"`
	// Notes are what else there is to know, each a sentence.
	Notes []string `json:"notes,omitempty"`
}

// Best is the candidate that the output is, or nil.
func (r *Report) Best() *Candidate {
	if len(r.Candidates) == 0 {
		return nil
	}
	return &r.Candidates[0]
}

// Find is the candidate of a kind, or nil.
func (r *Report) Find(k Kind) *Candidate {
	for i := range r.Candidates {
		if r.Candidates[i].Kind == k {
			return &r.Candidates[i]
		}
	}
	return nil
}

// Input is a file that was read.
type Input struct {
	// Path is the file, Size its length in bytes.
	Path string `json:"path"`
	Size int64  `json:"size"`
	// PageSize is as used, and Header what is wrong with the file's header; empty
	// if nothing is.
	PageSize wal.PageSize `json:"page_size"`
	Header   string       `json:"header,omitempty"`
	// Unreadable is the number of bytes that the system could not read; they are
	// taken for zeros.
	Unreadable int64 `json:"unreadable_bytes,omitempty"`
	// Changed tells that somebody wrote to the file while it was copied.
	Changed bool `json:"changed,omitempty"`
}

// Journal is a rollback journal.
type Journal struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	// Hot tells that it looks as if SQLite would apply it: a transaction was cut
	// off in the midst, and the database file has a part of it.
	Hot bool `json:"hot"`
	// Advice is what to do about it.
	Advice string `json:"advice,omitempty"`
}

// Log is what a WAL holds.
type Log struct {
	// Trust is how far the header used can be trusted: whole, confirmed, likely or
	// guessed, as in package scan.
	Trust string `json:"header"`
	// Generations is their number.
	Generations int `json:"generations"`
	// Frames counts the frames and places by their verdicts, as in package scan.
	Frames map[string]int `json:"frames"`
	// Healed counts the frames of the current generation whose image was lost in the
	// WAL and found elsewhere, as their checksums prove.
	Healed int `json:"healed,omitempty"`
	// Proven, Probable and Lost count the commits of the current generation. A
	// commit that is gone without a trace is not counted.
	Proven   int `json:"proven_commits"`
	Probable int `json:"probable_commits"`
	Lost     int `json:"lost_commits"`
	// Runs are these commits in order, those with equal proofs as one run: 100 runs
	// at most; MoreRuns counts the rest.
	Runs     []CommitRun `json:"commits"`
	MoreRuns int         `json:"more_commits,omitempty"`
}

// CommitRun is a number of consecutive commits that stand equal.
type CommitRun struct {
	// First and Last are the commits' numbers. Those of the current generation of which
	// anything is left are counted, from 1.
	First int `json:"first"`
	Last  int `json:"last"`
	// FirstOffset is where the first frame of the first lies in the WAL, LastOffset
	// where the last of the last does.
	FirstOffset int64 `json:"first_offset"`
	LastOffset  int64 `json:"last_offset"`
	Proof       Proof `json:"proof"`
	// Reason is why it is not proven, empty if it is.
	Reason string `json:"reason,omitempty"`
}

// Fit says whether two files belong together.
type Fit string

// The fits.
const (
	// Fits: pages in both are the same, or nothing speaks against it and SQLite finds nothing wrong.
	Fits Fit = "fits"
	// Doubtful: something speaks against it.
	Doubtful Fit = "doubtful"
	// Foreign: the WAL belongs to another database, or to another copy of this one.
	Foreign Fit = "foreign"
)

// Match says whether a WAL belongs to a database.
type Match struct {
	Fit Fit `json:"fit"`
	// Evidence is what speaks for or against it, each a sentence.
	Evidence []string `json:"evidence,omitempty"`
}

// Replica is what a replica gave.
type Replica struct {
	// TXID and Time are the commit that was used, the nearest to what the files hold.
	TXID uint64 `json:"txid"`
	Time string `json:"time"`
	// Commit is the number of the WAL's commit that this is, counted from 1 as in
	// [CommitRun]; 0: the state before the WAL's first one, or not known, see Relation.
	Commit int `json:"commit"`
	// Relation says in a sentence how the replica stands to the files.
	Relation string `json:"relation"`
	// Newer tells that the replica holds commits that the files don't.
	Newer bool `json:"newer,omitempty"`
}

// Candidate is one way to read the files, and what came of it.
type Candidate struct {
	Kind  Kind  `json:"kind"`
	Proof Proof `json:"proof"`
	// Why says in a sentence what it is, and why it is not proven if it is not.
	Why string `json:"why"`
	// Output is the file that holds it now; empty if it was not kept.
	Output string `json:"output,omitempty"`
	// Commits is the number of the WAL's commits that it has, those included that the
	// database or the replica had already. Through is the number of the last of them.
	Commits int `json:"commits"`
	Through int `json:"through"`
	// Equals is the TXID of the replica whose state this is, byte for byte; 0: none
	// that is known.
	Equals uint64 `json:"equals_txid,omitempty"`
	// Integrity is "ok", or what SQLite's integrity_check found in the pages, up to
	// 20 lines.
	Integrity string `json:"integrity"`
	// Rebuilt tells that its b-trees are damaged, so that its rows were written into
	// a new database; LostAndFound is the number of those for which no table
	// was found, in the table lost_and_found.
	Rebuilt      bool  `json:"rebuilt,omitempty"`
	LostAndFound int64 `json:"lost_and_found,omitempty"`
	// Pages says where its pages are from and how far they can be trusted.
	Pages Pages `json:"pages"`
	// Rows is the number of rows in all tables, and Tables has each of them by name.
	Rows   int64   `json:"rows"`
	Tables []Table `json:"tables"`
}

// Pages counts the pages of a candidate.
type Pages struct {
	Total uint32 `json:"total"`
	// Where they are from. Missing ones are nowhere, and zeros.
	Database uint32 `json:"from_database"`
	WAL      uint32 `json:"from_wal"`
	Replica  uint32 `json:"from_replica,omitempty"`
	Missing  uint32 `json:"missing"`
	// How far they can be trusted. Lost ones are missing, or a frame that wrote them
	// later is lost.
	Proven   uint32 `json:"proven"`
	Probable uint32 `json:"probable"`
	Lost     uint32 `json:"lost"`
	// LostPages are their numbers, the first 100.
	LostPages []wal.PageNo `json:"lost_pages,omitempty"`
}

// Table is a table of a candidate.
type Table struct {
	Name string `json:"name"`
	// Rows is how many the candidate has, InDatabase how many the database file alone
	// has; -1: not known, or it has no such table.
	Rows       int64 `json:"rows"`
	InDatabase int64 `json:"rows_in_database"`
	// Proof is that of the pages of the table and its indexes.
	Proof Proof `json:"proof"`
}
