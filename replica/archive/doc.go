// Package archive is the layout of a replica in a bucket, and what can be read
// off it: which commits there are, when they were made, and what a restore of
// one of them needs.
//
//	<prefix>/tidemark.json                         what the replica is; written once
//	<prefix>/log/<first TXID, 16 hex>.seg          consecutive commits; written once
//	<prefix>/snapshot/<TXID>-<base TXID>.snap      page images as of TXID; base 0: all
//
// Every object is put with If-Absent. A segment's key depends only on its first
// TXID, so that two writers of one replica collide on the key, one of them
// wins, and the other learns it ([ErrFenced]).
//
// The listing is the only index. Keys outside this layout are ignored.
package archive
