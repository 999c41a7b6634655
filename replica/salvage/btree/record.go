package btree

import (
	"encoding/binary"
	"math"
	"unicode/utf16"
	"unicode/utf8"
)

// Type is the storage class of a value.
type Type uint8

// The storage classes.
const (
	Null Type = iota
	Integer
	Real
	Text
	Blob
)

// Value is a field of a record.
type Value struct {
	// Type says which of the others holds it: none for Null.
	Type  Type
	Int   int64
	Float float64
	// Bytes are a blob's, or a text's in the encoding of the database. They belong
	// to the reader and are valid as long as the row is.
	Bytes []byte
	// Cut tells that the value is not all there.
	Cut bool

	end uint64 // of a text in the payload
}

// Encoding is how a database stores text, with the numbers that its header has for it.
type Encoding uint8

// The encodings.
const (
	UTF8    Encoding = 1
	UTF16LE Encoding = 2
	UTF16BE Encoding = 3
)

// String gives the name that PRAGMA encoding has for it.
func (e Encoding) String() string {
	switch e {
	case UTF16LE:
		return "UTF-16le"
	case UTF16BE:
		return "UTF-16be"
	case UTF8:
	}
	return "UTF-8"
}

// Decode gives a text in UTF-8. exact is false if the bytes are no proper text, so that
// SQLite could not make the same bytes of it again.
func (e Encoding) Decode(b []byte) (s string, exact bool) {
	if e != UTF16LE && e != UTF16BE {
		return string(b), utf8.Valid(b)
	}
	var order binary.ByteOrder = binary.LittleEndian
	if e == UTF16BE {
		order = binary.BigEndian
	}
	exact = len(b)%2 == 0
	out := make([]byte, 0, len(b)/2)
	for i := 0; i+1 < len(b); i += 2 {
		r := rune(order.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			low := rune(utf8.RuneError)
			if i+3 < len(b) {
				low = rune(order.Uint16(b[i+2:]))
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				exact = false
			} else {
				i += 2
			}
		}
		// SQLite takes these for marks of the byte order in places.
		exact = exact && r != 0xfeff && r != 0xfffe
		out = utf8.AppendRune(out, r)
	}
	return string(out), exact
}

// Flaw says what is wrong with a row.
type Flaw uint8

// The flaws.
const (
	// Sound: the record fits together.
	Sound Flaw = iota
	// Cut: overflow pages are missing. The fields that lay there, and those that
	// were cut off, are Null; of a text or blob the beginning is there.
	Cut
	// Misshapen: header and payload do not fit together. The fields are what can
	// be made of it.
	Misshapen
	// Tangled: all is there, but the chain of overflow pages goes on past the end of
	// the payload, so the pages may be another row's.
	Tangled
	// Blank: the last overflow page is nothing but zeros, in the middle of a text. A
	// page that was lost looks so.
	Blank
)

// String says it in a few words.
func (f Flaw) String() string {
	switch f {
	case Cut:
		return "overflow pages are missing"
	case Misshapen:
		return "record does not fit together"
	case Tangled:
		return "overflow chain does not end"
	case Blank:
		return "overflow page is blank"
	case Sound:
	}
	return "sound"
}

// maxFields is more than any table's columns (SQLITE_MAX_COLUMN's upper limit).
const maxFields = 32767

// maxPayload is SQLite's limit for a row (SQLITE_MAX_LENGTH).
const maxPayload = 1_000_000_000

// width is the number of bytes of a field of a serial type (fileformat2, section
// 2.1); ok is false for the types that are not in use.
func width(serial uint64) (n uint64, ok bool) {
	switch serial {
	case 0, 8, 9:
		return 0, true
	case 1, 2, 3, 4:
		return serial, true
	case 5:
		return 6, true
	case 6, 7:
		return 8, true
	case 10, 11:
		return 0, false
	}
	return (serial - 12) / 2, true
}

// parse reads a record. payload may be shorter than size, the size that its cell
// states, if its end is lost. The values are appended to into and point into payload.
func parse(payload []byte, size uint64, into []Value) ([]Value, Flaw) {
	head, at := varint(payload)
	if at == 0 || head < uint64(at) || head > size {
		return into, Misshapen
	}
	flaw := Sound
	if uint64(len(payload)) < size {
		flaw = Cut
	}
	headEnd := int(min(head, uint64(len(payload))))
	body := head
	for at < headEnd && len(into) < maxFields {
		serial, n := varint(payload[at:headEnd])
		if n == 0 {
			break
		}
		at += n
		w, ok := width(serial)
		if !ok || w > size-body {
			return into, Misshapen
		}
		into = append(into, field(payload, body, serial, w))
		body += w
	}
	// A header that is itself cut off leaves the rest unknown.
	if flaw == Sound && (uint64(at) != head || body != size) {
		flaw = Misshapen
	}
	return into, flaw
}

// field makes the value at an offset, which may lie past the end of what is left.
func field(payload []byte, at, serial, w uint64) Value {
	have := payload[min(at, uint64(len(payload))):]
	have = have[:min(w, uint64(len(have)))]
	if serial >= 12 {
		t := Blob
		if serial%2 == 1 {
			t = Text
		}
		if w > 0 && len(have) == 0 {
			t = Null
		}
		return Value{Type: t, Bytes: have, end: at + w, Cut: uint64(len(have)) < w}
	}
	if uint64(len(have)) < w || serial == 0 {
		return Value{Cut: serial != 0}
	}
	switch serial {
	case 8, 9:
		return Value{Type: Integer, Int: int64(serial - 8)}
	case 7:
		f := math.Float64frombits(binary.BigEndian.Uint64(have))
		if math.IsNaN(f) { // which SQLite reads as NULL
			return Value{}
		}
		return Value{Type: Real, Float: f}
	}
	v := int64(int8(have[0])) // two's complement, the highest byte first
	for _, c := range have[1:] {
		v = v<<8 | int64(c)
	}
	return Value{Type: Integer, Int: v}
}
