package integration_test

import (
	"errors"
	"strings"
	"testing"

	"tidemark/integration/minio"
	"tidemark/storage"
	"tidemark/storage/s3"
	"tidemark/storage/storagetest"
)

func minioConfig(server *minio.Server, bucket string) s3.Config {
	return s3.Config{
		Bucket:          bucket,
		Prefix:          "replicas/app.db",
		Endpoint:        server.Endpoint,
		PathStyle:       true,
		AccessKeyID:     server.AccessKey,
		SecretAccessKey: server.SecretKey,
	}
}

func openMinio(t *testing.T, c s3.Config) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.CloseIdle)
	return b
}

// TestStorageMinIO holds the S3 backend to its contract against a real
// service, conditional multipart uploads included.
func TestStorageMinIO(t *testing.T) {
	t.Parallel()
	server := minio.Shared(t)
	t.Run("contract", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, func(t *testing.T) storage.Bucket {
			t.Helper()
			return openMinio(t, minioConfig(server, server.NewBucket(t)))
		})
	})
	t.Run("wrong secret", func(t *testing.T) {
		t.Parallel()
		c := minioConfig(server, server.NewBucket(t))
		c.SecretAccessKey = "not-the-secret"
		wantPutError(t, c, storage.ErrDenied)
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Parallel()
		c := minioConfig(server, server.NewBucket(t))
		c.AccessKeyID = "nobody"
		wantPutError(t, c, storage.ErrDenied)
	})
	t.Run("no bucket", func(t *testing.T) {
		t.Parallel()
		wantPutError(t, minioConfig(server, "no-such-bucket"), storage.ErrNoBucket)
	})
}

// TestStorageMinIOStops meets a service that was there and is gone.
func TestStorageMinIOStops(t *testing.T) {
	t.Parallel()
	server := minio.Start(t)
	c := minioConfig(server, server.NewBucket(t))
	c.Attempts = 2
	b := openMinio(t, c)
	if err := b.Put(t.Context(), "log/1", strings.NewReader("x"), storage.PutOptions{Size: 1}); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	err := b.Put(t.Context(), "log/2", strings.NewReader("x"), storage.PutOptions{Size: 1})
	if !errors.Is(err, storage.ErrUnreachable) {
		t.Errorf("Put = %v, want ErrUnreachable", err)
	}
}

func wantPutError(t *testing.T, c s3.Config, want error) {
	t.Helper()
	b := openMinio(t, c)
	if err := b.Put(t.Context(), "log/1", strings.NewReader("x"), storage.PutOptions{Size: 1}); !errors.Is(err, want) {
		t.Errorf("Put = %v, want %v", err, want)
	}
	if _, err := b.Get(t.Context(), "log/1", 0, -1); !errors.Is(err, want) {
		t.Errorf("Get = %v, want %v", err, want)
	}
	if err := b.List(t.Context(), "", "", func(storage.Info) error { return nil }); !errors.Is(err, want) {
		t.Errorf("List = %v, want %v", err, want)
	}
}
