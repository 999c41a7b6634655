package s3

import (
	"context"
	"strings"
	"sync/atomic"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"tidemark/storage"
)

// counter counts the requests of one Bucket as they are sent. It is safe for
// concurrent use.
type counter struct {
	list, get, put, del atomic.Int64
}

// observe adds the counter to the options of one call. It stands behind the
// retries, so each attempt counts.
func (c *counter) observe(o *awss3.Options) {
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("CountRequests", c.handle), middleware.After)
	})
}

func (c *counter) handle(
	ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
) (middleware.DeserializeOutput, middleware.Metadata, error) {
	switch op := awsmiddleware.GetOperationName(ctx); {
	case strings.HasPrefix(op, "List"):
		c.list.Add(1)
	case strings.HasPrefix(op, "Get"), strings.HasPrefix(op, "Head"):
		c.get.Add(1)
	case strings.HasPrefix(op, "Delete"), strings.HasPrefix(op, "Abort"):
		c.del.Add(1)
	default:
		c.put.Add(1)
	}
	return next.HandleDeserialize(ctx, in)
}

func (c *counter) requests() storage.Requests {
	return storage.Requests{
		List:   c.list.Load(),
		Get:    c.get.Load(),
		Put:    c.put.Load(),
		Delete: c.del.Load(),
	}
}
