package corpus

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// engine invents transactions. It knows all rows that it has written, and builds
// the SQL from the very literals that it enters into the ledger.
type engine struct {
	rng      *rand.Rand
	pageSize int

	version  map[string]int // by key
	next     map[string]int // next number of a table's rows
	sessions []string       // the literals of rows that may change, by number
	orders   []int          // numbers of orders that were not removed
	ticks    []int
	pairs    []string // account and symbol of positions, by number

	sql     strings.Builder
	changes []change
}

func newEngine(seed uint64, pageSize int) *engine {
	return &engine{
		rng: rand.New(rand.NewPCG(seed, 11)), pageSize: pageSize,
		version: map[string]int{}, next: map[string]int{},
	}
}

// take gives the transaction, and begins a new one.
func (e *engine) take() (sql string, changes []change) {
	sql, changes = e.sql.String(), e.changes
	e.sql.Reset()
	e.changes = nil
	return sql, changes
}

// tag is the tag of a row's next version, as a literal.
func (e *engine) tag(letter byte, number int) string {
	key := fmt.Sprintf("~%c%d", letter, number)
	v := e.version[key]
	e.version[key]++
	return fmt.Sprintf("'%s.%d~'", key, v)
}

// number is the next number of a table's rows.
func (e *engine) number(table string) int {
	e.next[table]++
	return e.next[table]
}

// put writes rows, replacing those with their primary keys.
func (e *engine) put(table string, rows ...[]string) {
	fmt.Fprintf(&e.sql, "INSERT OR REPLACE INTO %s VALUES", table)
	for i, literals := range rows {
		if i > 0 {
			e.sql.WriteByte(',')
		}
		fmt.Fprintf(&e.sql, "(%s)", strings.Join(literals, ","))
		r, ok := NewRow(literals)
		if !ok {
			panic("corpus: a row without a tag: " + strings.Join(literals, ","))
		}
		e.changes = append(e.changes, change{row: r, literals: literals})
	}
	e.sql.WriteString(";\n")
}

// remove deletes rows of a table that has a column id.
func (e *engine) remove(table string, letter byte, ids []int) {
	for _, id := range ids {
		fmt.Fprintf(&e.sql, "DELETE FROM %s WHERE id=%d;\n", table, id)
		e.changes = append(e.changes, change{row: Row{Table: table, Tag: fmt.Sprintf("~%c%d.0~", letter, id)}, gone: true})
	}
}

// transaction invents the next commit: small ones mostly, large ones now and then. The first
// is so large that the table of orders has inner nodes.
func (e *engine) transaction() {
	switch k := e.rng.IntN(20); {
	case len(e.sessions) == 0:
		e.openSession()
		e.place(200 + e.pageSize/64)
	case k < 2:
		e.openSession()
		e.place(2)
	case k < 7:
		e.place(1 + e.rng.IntN(5))
	case k < 11:
		e.fill(1 + e.rng.IntN(3))
	case k < 15:
		e.record()
	case k < 16:
		e.place(60)
		e.fill(20)
	case k < 17:
		e.orders = e.drop("orders", 'o', e.orders, 12)
	case k < 18:
		e.ticks = e.drop("ticks", 't', e.ticks, 2)
		e.touchSession()
	default:
		e.touchSession()
	}
}

func (e *engine) openSession() {
	e.number("sessions")
	e.sessions = append(e.sessions, "'open'")
	e.putSession(len(e.sessions))
}

func (e *engine) putSession(id int) {
	equity := fmt.Sprintf("%d.25", 10000+e.rng.IntN(5000))
	e.put("sessions", []string{strconv.Itoa(id), e.tag('s', id), e.sessions[id-1], equity})
}

func (e *engine) touchSession() {
	id := 1 + e.rng.IntN(len(e.sessions))
	e.sessions[id-1] = []string{"'open'", "'paused'", "'closed'"}[e.rng.IntN(3)]
	e.putSession(id)
}

func (e *engine) symbol() string {
	return []string{"'AAPL'", "'MSFT'", "'NVDA'", "'SAP'", "'ASML'", "'TSM'"}[e.rng.IntN(6)]
}

func (e *engine) place(n int) {
	var rows [][]string
	for range n {
		id := e.number("orders")
		e.orders = append(e.orders, id)
		note := strings.Repeat("limit day ", 1+e.rng.IntN(9))
		rows = append(rows, []string{
			strconv.Itoa(id), e.tag('o', id), strconv.Itoa(len(e.sessions)), e.symbol(),
			strconv.Itoa(1 + e.rng.IntN(900)), fmt.Sprintf("%d.75", 20+e.rng.IntN(400)), "'" + note + "'",
		})
	}
	e.put("orders", rows...)
}

// fill writes fills, and the positions that they change.
func (e *engine) fill(n int) {
	var fills, positions [][]string
	for range n {
		id := e.number("fills")
		fills = append(fills, []string{
			e.tag('f', id), strconv.Itoa(1 + e.rng.IntN(max(e.next["orders"], 1))),
			strconv.Itoa(1 + e.rng.IntN(100)), fmt.Sprintf("%d.25", 20+e.rng.IntN(400)),
		})
	}
	e.put("fills", fills...)
	for range 1 + n/4 {
		pair := fmt.Sprintf("'acc-%04d',%s", e.rng.IntN(90), e.symbol())
		number := len(e.pairs)
		for i, p := range e.pairs {
			if p == pair {
				number = i
			}
		}
		if number == len(e.pairs) {
			e.pairs = append(e.pairs, pair)
		}
		account, symbol, _ := strings.Cut(pair, ",")
		positions = append(positions, []string{account, symbol, e.tag('p', number), strconv.Itoa(e.rng.IntN(10000))})
	}
	// One statement each: a pair can come twice.
	for _, p := range positions {
		e.put("positions", p)
	}
}

// record writes a tick of up to three and a half pages.
func (e *engine) record() {
	id := e.number("ticks")
	e.ticks = append(e.ticks, id)
	data := make([]byte, e.pageSize/5+e.rng.IntN(e.pageSize*33/10))
	for i := range data {
		data[i] = byte(e.rng.Uint32())
	}
	e.put("ticks", []string{strconv.Itoa(id), e.tag('t', id), "X'" + strings.ToUpper(hex.EncodeToString(data)) + "'"})
}

// drop removes a few rows at random and gives those that are left.
func (e *engine) drop(table string, letter byte, ids []int, n int) []int {
	var gone, left []int
	for _, id := range ids {
		if len(gone) < n && e.rng.IntN(len(ids)) < 2*n {
			gone = append(gone, id)
		} else {
			left = append(left, id)
		}
	}
	e.remove(table, letter, gone)
	return left
}
