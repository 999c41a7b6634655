package mem_test

import (
	"testing"

	"tidemark/storage"
	"tidemark/storage/mem"
	"tidemark/storage/storagetest"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(*testing.T) storage.Bucket { return mem.New() })
}
