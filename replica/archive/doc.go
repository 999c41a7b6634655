// Package archive is the layout of a replica in a bucket, and what can be read
// off it: which commits there are, when they were made, which of them can be
// restored, and what a restore of one needs.
//
//	<prefix>/tidemark.json                         what the replica is; written once
//	<prefix>/log/<first TXID, 16 hex>.seg          consecutive commits; written once
//	<prefix>/pack/<first TXID>-<last TXID>.seg     the commits of many of these
//	<prefix>/snapshot/<TXID>-<base TXID>.snap      page images as of TXID; base 0: all
//	<prefix>/mark/<name>.json                      a name for a commit
//
// Every object is put with If-Absent. A segment's key depends only on its first
// TXID, so that two writers of one replica collide on the key, one of them
// wins, and the other learns it ([ErrFenced]).
//
// The listing is the only index. Keys outside this layout are ignored. Where a
// pack holds the commits of segments, or of other packs, only the pack is read.
//
// # What can be restored
//
// A snapshot can be restored if all that it adds to is there, down to a full one.
// From it on every commit can be, as far as the log has no gap. What is left of a
// history are so [Ranges]: consecutive commits, and snapshots that stand alone.
package archive
