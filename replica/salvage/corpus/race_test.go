//go:build race

package corpus_test

// slowly tells that the race detector makes everything several times slower.
const slowly = true
