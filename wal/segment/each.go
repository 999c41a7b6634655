package segment

// Each calls fn for each commit of the segment in order, as Commits gives them,
// without memory for all of them: a pack holds millions. What fn gets before an
// error is of no use.
func (x *Index) Each(fn func(Commit)) error {
	return x.each(func(c Commit, _ uint64) { fn(c) })
}
