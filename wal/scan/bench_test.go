package scan_test

import (
	"bytes"
	"fmt"
	"testing"

	"tidemark/wal"
	"tidemark/wal/scan"
)

// BenchmarkScan scans 32 MiB: healthy, and with every tenth frame damaged. Checksum
// is what the chain alone costs.
func BenchmarkScan(b *testing.B) {
	for _, size := range []wal.PageSize{512, 4096, 65536} {
		var commits []int
		for n := 0; n < 32<<20; n += 5 * int(size) {
			commits = append(commits, 5)
		}
		h := wal.Header{PageSize: size, Salts: wal.Salts{Salt1: 1, Salt2: 2}}
		o := made(h, 1, commits...)
		hurt := bytes.Clone(o.b)
		for n := 5; n < o.frames(); n += 10 {
			hurt[o.offset(n)+99] ^= 1
		}
		for name, file := range map[string][]byte{"healthy": o.b, "damaged": hurt, "foreign": make([]byte, 32<<20)} {
			b.Run(fmt.Sprintf("size=%d/%s", size, name), func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				b.ReportAllocs()
				for b.Loop() {
					must(b, file, scan.Options{})
				}
			})
		}
		b.Run(fmt.Sprintf("size=%d/checksum", size), func(b *testing.B) {
			b.SetBytes(int64(len(o.b)))
			for b.Loop() {
				wal.Checksum{}.Extend(o.h.Order, o.b)
			}
		})
	}
}
