//go:build !race

package corpus_test

const slowly = false
