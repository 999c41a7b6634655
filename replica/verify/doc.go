// Package verify looks at a replica as it lies in its bucket and says whether
// what it holds can be restored, and is what was committed.
//
// It reads by a path of its own: package restore plans from package archive's
// listing, this package lists, orders and applies by itself, so that a mistake in
// one of the two does not hide in the other. They share the decoders of segments
// and snapshots, and what a key looks like.
//
// # Levels
//
// Each level includes those before it.
//
//   - [List]: what the keys say, and what the ends of objects say that no key does.
//     It reads tidemark.json, the marks, the header of each pack and snapshot, and
//     the index of each segment that is in no pack. It finds gaps, commits that no
//     snapshot leads to, snapshots without their base, and what lies there that
//     nobody reads.
//   - [Objects]: every object's own checksums, from its first byte to its last, or
//     those of a [Sample].
//   - [Chain]: all objects against one another. Each one must continue the state that
//     the one before it leads to; each snapshot must be of the state that the log has
//     at its TXID, and an incremental one must hold every page that differs from its
//     base; the page sums of each object of the log must lead from state to state; a
//     pack must hold the very commits of what it covers.
//   - [Restore]: the newest commit, and others drawn at random, are rebuilt in a
//     temporary folder. The state checksum is compared after every single commit on
//     the way, and once more computed from the file; SQLite checks the result.
//
// [Options.Against] compares with the live database, whatever the level.
//
// # Gaps
//
// Retention leaves single snapshots of older times, and so do marks: gaps are
// normal. A gap counts as damage if retention can't have made it: if commits lie
// before it that neither a mark nor anything else would have kept, if commits lie
// after it that no snapshot leads to, or if it is younger than what retention may
// touch.
//
// # Beside a replicator
//
// Objects vanish while they are verified, when they have been packed or pruned. That
// is no fault: the replica is listed again, a bounded number of times, and what has
// been read already is not read again. What is half pruned looks like damage, too. So
// if something hangs loose the replica is listed again, as long as that changes.
//
// # What it takes
//
// Memory: about 256 MiB for the objects that are read at a time, or, if that is more,
// what the largest snapshot takes alone: 20 bytes for each page of the database. Then
// 8 bytes a page for the page sums of the log and of each restore that runs, three
// times that while an incremental snapshot is compared with its base, and some hundred
// bytes for each object and each finding.
// Disk: a database for each restore that runs at a time, in the temporary folder.
// Downloads: every object once, and once more what each restored commit needs.
package verify
