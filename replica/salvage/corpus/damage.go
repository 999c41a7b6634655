package corpus

import (
	"bytes"
	"slices"

	"tidemark/wal"
)

// Damage is something that happened to files.
type Damage struct {
	// Name says what, for people.
	Name string
	// Hurt alters a copy of the original's files, or puts others in their place.
	Hurt func(o *Original, f *Files)
	// Closed says that it happened to the database after its last connection was
	// closed: the original is [Original.Closed].
	Closed bool
	// Unseen says that bytes of rows in the database file were altered in place, or that its
	// pages are others than those the WAL continues. It has no checksums, so a row
	// can come back as it never was.
	Unseen bool
	// Mixed says that bytes of other WALs have come into this one.
	Mixed bool
	// StrangeDB and StrangeWAL, if not nil, give the database to which that file belongs
	// after it, which is not the one to which the other file belongs.
	StrangeDB, StrangeWAL func(o *Original) *Original
}

// Whole is no damage at all: what a crash alone leaves.
func Whole() Damage { return Damage{Name: "none", Hurt: func(*Original, *Files) {}} }

// Others are what some damages take from elsewhere.
type Others struct {
	// Same is another database of the same page size, Odd one of another.
	Same, Odd *Original
}

// Damages are all that is done to a database with a WAL of several generations.
func Damages(x Others) []Damage {
	return slices.Concat(
		[]Damage{Whole()}, headers(), cuts(), zeros(), flips(), mixtures(), strangers(x), databases(),
	)
}

// FreshDamages are done to a database of which nothing was ever checkpointed: the WAL
// has all of it.
func FreshDamages() []Damage {
	missing := func(_ *Original, f *Files) { f.DB = nil }
	header := func(_ *Original, f *Files) { clear(f.WAL[:wal.HeaderSize]) }
	return []Damage{
		Whole(),
		{Name: "never checkpointed: WAL header zeroed", Hurt: header},
		{Name: "never checkpointed: database missing", Hurt: missing},
		{Name: "never checkpointed: database empty", Hurt: func(_ *Original, f *Files) { f.DB = []byte{} }},
		{Name: "never checkpointed: database zeroed", Hurt: func(_ *Original, f *Files) { clear(f.DB) }},
		{Name: "never checkpointed: database missing, WAL header zeroed", Hurt: func(o *Original, f *Files) {
			missing(o, f)
			header(o, f)
		}},
		{Name: "never checkpointed: database missing, a page of the WAL damaged", Hurt: func(o *Original, f *Files) {
			missing(o, f)
			f.WAL[o.Offset(o.Last(o.middle()))+wal.FrameHeaderSize+o.PageSize()/2] ^= 1
		}},
	}
}

// onWAL is a damage to the WAL's bytes.
func onWAL(name string, hurt func(o *Original, b []byte) []byte) Damage {
	return Damage{Name: name, Hurt: func(o *Original, f *Files) { f.WAL = hurt(o, f.WAL) }}
}

// edit is a damage to the WAL in place.
func edit(name string, hurt func(o *Original, b []byte)) Damage {
	return onWAL(name, func(o *Original, b []byte) []byte { hurt(o, b); return b })
}

// before is the same database at the end of the generation before.
func before(o *Original) *Original { return o.Earlier[len(o.Earlier)-1] }

func headers() []Damage {
	return []Damage{
		edit("WAL header: zeroed", func(_ *Original, b []byte) { clear(b[:wal.HeaderSize]) }),
		edit("WAL header: bad magic", func(_ *Original, b []byte) { b[0] ^= 0x40 }),
		edit("WAL header: wrong page size", func(_ *Original, b []byte) { b[10] ^= 0x30; b[9] ^= 1 }),
		edit("WAL header: wrong salts", func(_ *Original, b []byte) { b[17] ^= 0xff; b[23] ^= 0x0f }),
		edit("WAL header: wrong checksum", func(_ *Original, b []byte) { b[26] ^= 4 }),
		edit("WAL header: that of the generation before", func(o *Original, b []byte) {
			copy(b, before(o).WAL[:wal.HeaderSize])
		}),
	}
}

// middle is a commit in the middle of the WAL that has several frames, from 1.
func (o *Original) middle() int {
	for c := len(o.Frames) / 2; c <= len(o.Frames); c++ {
		if o.Frames[c-1] > 3 {
			return c
		}
	}
	return len(o.Frames)
}

// end is where the last commit ends in the WAL.
func (o *Original) end() int { return o.Offset(o.Last(len(o.Frames)) + 1) }

func cuts() []Damage {
	at := func(name string, place func(o *Original) int) Damage {
		return onWAL("WAL cut: "+name, func(o *Original, b []byte) []byte { return b[:place(o)] })
	}
	return []Damage{
		at("empty", func(*Original) int { return 0 }),
		at("in its header", func(*Original) int { return 17 }),
		at("after its header", func(*Original) int { return wal.HeaderSize }),
		at("in the first frame's header", func(*Original) int { return wal.HeaderSize + 10 }),
		at("in a frame's header", func(o *Original) int { return o.Offset(o.Last(o.middle())) + 11 }),
		at("in a page", func(o *Original) int { return o.Offset(o.Last(o.middle())) + 24 + o.PageSize()/2 }),
		at("one byte of a commit missing", func(o *Original) int { return o.Offset(o.Last(o.middle())+1) - 1 }),
		at("after a commit", func(o *Original) int { return o.Offset(o.Last(o.middle()) + 1) }),
		at("between frames of a transaction", func(o *Original) int { return o.Offset(o.Last(o.middle())) }),
		at("after the last commit", (*Original).end),
	}
}

func zeros() []Damage {
	var all []Damage
	for _, n := range []struct {
		name string
		size int
	}{{"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}} {
		zero := func(where string, place func(o *Original) int) {
			all = append(all, edit("WAL: "+n.name+" of zeros "+where, func(o *Original, b []byte) {
				at := max(place(o), 0)
				clear(b[min(at, len(b)):min(at+n.size, len(b))])
			}))
		}
		zero("at its start", func(*Original) int { return 0 })
		zero("from the first page on", func(*Original) int { return wal.HeaderSize + wal.FrameHeaderSize + 100 })
		zero("in the middle, aligned", func(o *Original) int { return o.Offset(o.Last(o.middle())) / n.size * n.size })
		zero("in the middle, from a frame on", func(o *Original) int { return o.Offset(o.Last(o.middle())) })
		zero("in the middle, from within a page", func(o *Original) int { return o.Offset(o.Last(o.middle())) + o.PageSize()/3 })
		zero("before the last commit's end", func(o *Original) int { return o.end() - n.size })
		zero("behind the last commit", (*Original).end)
	}
	return all
}

func flips() []Damage {
	one := func(name string, place func(o *Original) int) Damage {
		return edit("WAL bit flip: "+name, func(o *Original, b []byte) { b[place(o)] ^= 0x10 })
	}
	frame := func(o *Original) int { return o.Offset(o.Last(o.middle()) - 1) }
	every := func(name string, step, at int) Damage {
		return edit("WAL bit flips: "+name, func(o *Original, b []byte) {
			for n := step; o.Offset(n+1) <= o.end(); n += step {
				b[o.Offset(n)+at] ^= 2
			}
		})
	}
	return []Damage{
		one("a page", func(o *Original) int { return frame(o) + 24 + o.PageSize()/2 }),
		one("the first page", func(o *Original) int { return o.Offset(1) + 24 + o.PageSize()/2 }),
		one("the page of the last commit's end", func(o *Original) int { return o.end() - 9 }),
		one("a page number", func(o *Original) int { return frame(o) + 3 }),
		one("a commit's size", func(o *Original) int { return o.Offset(o.Last(o.middle())) + 7 }),
		one("a frame's salts", func(o *Original) int { return frame(o) + 14 }),
		one("a stored checksum", func(o *Original) int { return frame(o) + 18 }),
		one("the last stored checksum", func(o *Original) int { return o.Offset(o.Last(len(o.Frames))) + 20 }),
		every("each 5th page", 5, 24+77),
		every("each 3rd stored checksum", 3, 17),
		edit("WAL bit flips: each 2nd frame's salts", func(o *Original, b []byte) {
			for n := 2; o.Offset(n+1) <= o.end(); n += 2 {
				b[o.Offset(n)+8+n%8] ^= byte(n)
			}
		}),
		every("each 11th frame's page number", 11, 2),
	}
}

// mixtures have blocks of the generation before over the WAL, as a network share
// leaves them that writes out of order.
func mixtures() []Damage {
	var all []Damage
	mix := func(name string, hurt func(o *Original, b, older []byte)) {
		d := edit("WAL mixed: "+name, func(o *Original, b []byte) {
			older := before(o).WAL
			hurt(o, b, older[:min(len(older), len(b))])
		})
		d.Mixed = true
		all = append(all, d)
	}
	for _, n := range []struct {
		name string
		size int
	}{{"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}} {
		block := func(b, older []byte, i int) {
			if at := i * n.size; at < len(older) {
				copy(b[at:min(at+n.size, len(older))], older[at:])
			}
		}
		mix("an older block of "+n.name+" at its start", func(_ *Original, b, older []byte) { block(b, older, 0) })
		mix("an older block of "+n.name+" in the middle", func(o *Original, b, older []byte) {
			block(b, older, o.Offset(o.Last(o.middle()))/n.size)
		})
		mix("each 4th block of "+n.name+" older", func(_ *Original, b, older []byte) {
			for i := 2; i*n.size < len(b); i += 4 {
				block(b, older, i)
			}
		})
		mix("each 2nd block of "+n.name+" older", func(_ *Original, b, older []byte) {
			for i := 1; i*n.size < len(b); i += 2 {
				block(b, older, i)
			}
		})
	}
	mix("its second half older", func(o *Original, b, older []byte) {
		half := o.Offset(o.Last(o.middle())) / 4096 * 4096
		copy(b[min(half, len(older)):], older[min(half, len(older)):])
	})
	return all
}

func strangers(x Others) []Damage {
	return []Damage{
		{
			Name: "database: another one beside the WAL", Unseen: true, StrangeDB: func(*Original) *Original { return x.Same },
			Hurt: func(_ *Original, f *Files) { f.DB = bytes.Clone(x.Same.DB) },
		},
		{
			Name: "WAL: of another page size", StrangeWAL: func(*Original) *Original { return x.Odd },
			Hurt: func(_ *Original, f *Files) { f.WAL = bytes.Clone(x.Odd.WAL) },
		},
		{
			Name: "database: a copy from before the last checkpoint", Unseen: true, StrangeDB: before,
			Hurt: func(o *Original, f *Files) { f.DB = bytes.Clone(before(o).DB) },
		},
		{
			Name: "database: missing",
			Hurt: func(_ *Original, f *Files) { f.DB = nil },
		},
	}
}

// databases are damages to the database file, with a WAL and without.
func databases() []Damage {
	file := func(name string, hurt func(o *Original, b []byte) []byte) []Damage {
		d := func(o *Original, f *Files) { f.DB = hurt(o, f.DB) }
		return []Damage{
			{Name: "database: " + name + ", no WAL", Hurt: d, Closed: true},
			{Name: "database: " + name + ", good WAL", Hurt: d},
		}
	}
	unseen := func(all []Damage) []Damage {
		for i := range all {
			all[i].Unseen = true
		}
		return all
	}
	zero := func(name string, place func(o *Original, b []byte) (at, n int)) []Damage {
		return file(name, func(o *Original, b []byte) []byte {
			at, n := place(o, b)
			clear(b[at:min(at+n, len(b))])
			return b
		})
	}
	return slices.Concat(
		file("cut to half", func(_ *Original, b []byte) []byte { return b[:len(b)/2] }),
		zero("first page zeroed", func(o *Original, _ []byte) (int, int) { return 0, o.PageSize() }),
		zero("header zeroed", func(*Original, []byte) (int, int) { return 0, 100 }),
		zero("a page of an inner node zeroed", func(o *Original, b []byte) (int, int) {
			return (int(o.inner(b)) - 1) * o.PageSize(), o.PageSize()
		}),
		unseen(zero("4 KiB of zeros", func(_ *Original, b []byte) (int, int) { return len(b) / 2 / 4096 * 4096, 4 << 10 })),
		unseen(zero("64 KiB of zeros", func(_ *Original, b []byte) (int, int) { return len(b) / 3 / 4096 * 4096, 64 << 10 })),
		unseen(file("a bit flipped in each 7th page", func(o *Original, b []byte) []byte {
			for at := 6 * o.PageSize(); at+o.PageSize() <= len(b); at += 7 * o.PageSize() {
				b[at+o.PageSize()*3/4] ^= 4
			}
			return b
		})),
		[]Damage{
			{Name: "both: database's first page and WAL header zeroed", Hurt: func(o *Original, f *Files) {
				clear(f.DB[:o.PageSize()])
				clear(f.WAL[:wal.HeaderSize])
			}},
			{Name: "both: checkpoint cut off, then a page of the WAL damaged", Hurt: func(o *Original, f *Files) {
				o.checkpointed(f)
				f.WAL[o.Offset(o.Last(2))+24+o.PageSize()/2] ^= 1
			}},
		},
	)
}

// inner is the root of the table with the most rows, if it is an inner node: the
// first such page.
func (o *Original) inner(db []byte) wal.PageNo {
	m := o.fileImage(db)
	for no := wal.PageNo(2); int(no) <= len(m); no++ {
		if p, ok := m.btree(no); ok && p.kind() == interiorTable && len(p.cells()) > 1 {
			return no
		}
	}
	return 2
}

// checkpointed brings the first half of the pages that the WAL has into the database,
// as a checkpoint does, in the order of their numbers, that was cut off.
func (o *Original) checkpointed(f *Files) {
	last := o.pages(len(o.Frames))
	before := o.fileImage(f.DB)
	var changed []wal.PageNo
	for no := range last {
		if !bytes.Equal(last[no], before[no]) {
			changed = append(changed, no)
		}
	}
	slices.Sort(changed)
	for _, no := range changed[:len(changed)/2] {
		at := (int(no) - 1) * o.PageSize()
		if grow := at + o.PageSize() - len(f.DB); grow > 0 {
			f.DB = append(f.DB, make([]byte, grow)...)
		}
		copy(f.DB[at:], last[no])
	}
}
