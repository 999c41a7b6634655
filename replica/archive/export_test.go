package archive

import "context"

// Search is search.
func Search(ctx context.Context, n int, is func(ctx context.Context, i int) (bool, error)) (int, error) {
	return search(ctx, n, is)
}
