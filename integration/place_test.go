package integration_test

import (
	"os"
	"path/filepath"
	"testing"

	"tidemark/integration/minio"
	"tidemark/storage"
	"tidemark/storage/file"
)

// place is where a replica goes, as the program and as the tests reach it.
type place struct {
	url string
	// env is what the program needs in its environment.
	env    []string
	bucket storage.Bucket
	folder string // if it is one
}

// folderPlace is a folder of the test's own.
func folderPlace(t *testing.T) place {
	t.Helper()
	root := filepath.Join(t.TempDir(), "replica")
	b, err := file.Open(root, file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.ToSlash(root)
	if path[0] != '/' {
		path = "/" + path // C:/…
	}
	return place{url: "file://" + path, bucket: b, folder: root}
}

// minioPlace is a bucket of the test's own in MinIO.
func minioPlace(t *testing.T) place {
	t.Helper()
	server := minio.Shared(t)
	c := minioConfig(server, server.NewBucket(t))
	return place{
		url:    server.URL(c.Bucket, c.Prefix),
		env:    []string{"TIDEMARK_S3_ACCESS_KEY_ID=" + c.AccessKeyID, "TIDEMARK_S3_SECRET_ACCESS_KEY=" + c.SecretAccessKey},
		bucket: openMinio(t, c),
	}
}

// fileSize is the length of a file.
func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
