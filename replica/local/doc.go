// Package local is the directory that tidemark keeps beside a database: what it
// must remember to resume, and the spool of commits that are not in storage
// yet.
//
//	.<name>-tidemark/
//	    lock          held while a tidemark replicates the database
//	    state.json    the last position that is safe: in storage or in the spool
//	    shipped.json  the newest segment that is known to be in storage, and the one on its way there
//	    status.json   what the replicator tells about itself; nothing relies on it
//	    sums          page sums of the state after one commit
//	    base          those of the newest snapshot, to which the next one adds
//	    spool/<first TXID, 16 hex>.seg    a sealed segment, to be uploaded
//	    spool/<first TXID, 16 hex>.part   the segment that is being written
//	    spool/<first TXID, 16 hex>.sums   sums of the pages in it, as of the last hand-off
//	    replicas/<name>/    all of this for another replica of the database, by its name
//	    cache/        copies of what is in storage, to be packed without a download
//	    snapshot.request    asks for a snapshot at once
//	    snapshot-*.tmp      pages that a snapshot under way has yet to read
//
// Files are replaced atomically, but for shipped.json, which has two slots. Whatever
// is missing or torn counts as lost: the archive has it, and continuity is then
// proven by page sums. What can't be read for now is an error, and nothing is given
// up for it.
package local
