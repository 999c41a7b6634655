package local

import (
	"tidemark/replica/disk"
	"tidemark/snapshot/state"
)

// Peek reads what a state directory remembers, beside the process that holds it.
// It makes and changes nothing. The position is read first: that its commits are
// shipped can be told by what is read after it. ErrLost says that there is nothing
// that can be used, as before the first commit is shipped.
func Peek(fs disk.FS, dir string) (State, Shipped, error) {
	d := &Dir{path: dir, fs: fs}
	st, err := d.Load()
	if err != nil {
		return State{}, Shipped{}, err
	}
	sh, err := d.LoadShipped(st.Replica)
	return st, sh, err
}

// SpoolPath is the place of a sealed segment in a state directory. It leaves the
// spool when it has been uploaded.
func SpoolPath(dir string, first state.TXID) string { return (&Dir{path: dir}).SpoolPath(first) }
