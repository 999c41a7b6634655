package btree

// varint reads a variable-length integer (fileformat2, section 1.6): seven bits a
// byte, the highest first, and all eight of a ninth. n is the number of bytes, 0 if b
// ends before the integer does.
func varint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
