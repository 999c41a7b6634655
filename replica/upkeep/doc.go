// Package upkeep looks after a replica's archive while it grows: it joins small
// objects of the log into packs, deletes what packs have made superfluous, and
// prunes what is older than a policy keeps.
//
// # Order
//
// A pack is put beside what it was made of, under a key of its own, and from then
// on readers take the pack: see [archive.Listing]. Only [Hold] later what it covers
// is deleted, after a look at the pack. So wherever this stops, each commit is in an
// object that is read; and what was planned to be read a moment ago is still there.
//
// The hour also keeps the fence closed, which is a conditional PUT of the key of the
// segment that comes next: a writer that does not know of another one must still
// find that key taken. A writer that has not heard from the archive for half of
// Hold looks at it before it writes.
//
// # Requests
//
// A [Keeper] knows what the archive holds: from the listing that it begins with,
// and then because it is told. So it lists nothing while it runs, and while nothing
// is put it has nothing to do, once what was left has been deleted. Nothing of it is
// written down; a restart goes on from the listing alone. It waits for what is left of
// Hold if storage tells when an object was put, and else for all of it.
package upkeep
