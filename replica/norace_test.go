//go:build !race

package replica_test

const slowly = false
