package snapshot

// What tests need to build objects by hand.
const (
	KindPages   = kindPages
	KindSums    = kindSums
	KindIndex   = kindIndex
	TrailerSize = trailerSize
)

// WholeDatabase gives the runs that a full snapshot stores.
func WholeDatabase(h Header) []Run { return h.wholeDatabase() }
