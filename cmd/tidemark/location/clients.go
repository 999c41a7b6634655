package location

import (
	"context"
	"sync"

	"tidemark/storage/s3"
)

// Clients keeps the clients of S3 services, so that locations in one bucket share
// one: its connections, its certificates and its credentials. Five hundred databases
// with a client each take some 150 MB for that. The zero value is ready, and it is
// safe for concurrent use.
type Clients struct {
	mu   sync.Mutex // guards what follows
	open map[s3.Config]*s3.Bucket
}

// bucket gives the bucket that a configuration names, with the client of one that
// differs in its prefix only. A nil receiver shares nothing.
func (c *Clients) bucket(ctx context.Context, config s3.Config) (*s3.Bucket, error) {
	if c == nil {
		return s3.Open(ctx, config)
	}
	if err := config.Check(); err != nil {
		return nil, err
	}
	prefix := config.Prefix
	config.Prefix = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.open[config]; b != nil {
		return b.Sub(prefix), nil
	}
	b, err := s3.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	if c.open == nil {
		c.open = map[s3.Config]*s3.Bucket{}
	}
	c.open[config] = b
	return b.Sub(prefix), nil
}
