package s3

// LimitParts sets how many parts an upload may have, which is 10,000 else.
func LimitParts(b *Bucket, n int) { b.parts.limit = n }
