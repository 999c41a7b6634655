package upkeep

import "tidemark/replica/archive"

// Listing is the archive as the Keeper knows it.
func (k *Keeper) Listing() archive.Listing {
	a, _ := k.told()
	return a.Listing()
}
