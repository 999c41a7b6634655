package rebuild

import (
	"errors"
	"fmt"
	"strings"
)

// errStatement says that a row of the schema has SQL that is not executed.
var errStatement = errors.New("not a statement that the schema can have")

// statement is a CREATE statement of the schema, as far as it must be understood to
// know that executing it makes this object and does nothing else.
type statement struct {
	unique, virtual bool
}

// token is a word, a quoted name, a string, or a single character.
type token struct {
	text   string // a name without its quotes
	quoted bool
}

// inspect reads the SQL of an object of a type and name. It must be one whole
// statement, without a query that would run when it is executed.
func inspect(sql, kind, name string) (s statement, err error) {
	t := lexer{rest: sql}
	if !t.word("CREATE") {
		return s, fmt.Errorf("%w: does not begin with CREATE", errStatement)
	}
	switch kind {
	case "index":
		s.unique = t.word("UNIQUE")
	case "table":
		s.virtual = t.word("VIRTUAL")
	}
	if !t.word(kind) {
		return s, fmt.Errorf("%w: does not make a %s", errStatement, kind)
	}
	if got := t.next(); !strings.EqualFold(got.text, name) {
		return s, fmt.Errorf("%w: makes %q and not %q", errStatement, got.text, name)
	}
	if kind == "table" && !s.virtual {
		if open := t.next(); open.quoted || open.text != "(" {
			return s, fmt.Errorf("%w: has no columns", errStatement)
		}
	}
	if kind == "trigger" {
		t.body()
	}
	return s, t.finish()
}

// lexer takes SQL apart.
type lexer struct {
	rest string
	err  error
}

// word takes a word if it is next.
func (l *lexer) word(want string) bool {
	ahead := *l
	t := ahead.next()
	if t.quoted || !strings.EqualFold(t.text, want) {
		return false
	}
	*l = ahead
	return true
}

// body reads the statements of a trigger: they end with a semicolon each, and all of
// them with an END after it.
func (l *lexer) body() {
	last := ""
	for {
		t := l.next()
		if t.text == "" && !t.quoted {
			if l.err == nil {
				l.err = fmt.Errorf("%w: trigger without an end", errStatement)
			}
			return
		}
		if !t.quoted && last == ";" && strings.EqualFold(t.text, "END") {
			return
		}
		if last = t.text; t.quoted {
			last = ""
		}
	}
}

// finish reads to the end, which must be that of the statement: after a semicolon
// nothing comes.
func (l *lexer) finish() error {
	for ended := false; l.err == nil; {
		t := l.next()
		if t.text == "" && !t.quoted {
			break
		}
		if ended {
			return fmt.Errorf("%w: something follows it", errStatement)
		}
		ended = !t.quoted && t.text == ";"
	}
	return l.err
}

// next gives the next token, an empty one at the end.
func (l *lexer) next() token {
	l.skip()
	if l.rest == "" {
		return token{}
	}
	switch c := l.rest[0]; c {
	case '\'', '"', '`':
		return l.quote(string(c))
	case '[':
		end := strings.IndexByte(l.rest, ']')
		if end < 0 {
			return l.broken("quotes")
		}
		t := token{text: l.rest[1:end], quoted: true}
		l.rest = l.rest[end+1:]
		return t
	}
	n := 0
	for n < len(l.rest) && wordChar(l.rest[n]) {
		n++
	}
	n = max(n, 1)
	t := token{text: l.rest[:n]}
	l.rest = l.rest[n:]
	return t
}

// skip leaves out blanks and comments.
func (l *lexer) skip() {
	for {
		l.rest = strings.TrimLeft(l.rest, " \t\r\n\f")
		switch {
		case strings.HasPrefix(l.rest, "--"):
			end := strings.IndexByte(l.rest, '\n')
			if end < 0 {
				end = len(l.rest) - 1
			}
			l.rest = l.rest[end+1:]
		case strings.HasPrefix(l.rest, "/*"):
			end := strings.Index(l.rest[2:], "*/")
			if end < 0 { // goes on to the end, for SQLite
				l.rest = ""
				return
			}
			l.rest = l.rest[end+4:]
		default:
			return
		}
	}
}

// quote reads what stands in quotes, in which two of them are one.
func (l *lexer) quote(q string) token {
	text, rest := "", l.rest[1:]
	for {
		end := strings.Index(rest, q)
		if end < 0 {
			return l.broken("quotes")
		}
		text += rest[:end]
		rest = rest[end+1:]
		if !strings.HasPrefix(rest, q) {
			l.rest = rest
			return token{text: text, quoted: true}
		}
		text += q
		rest = rest[1:]
	}
}

func (l *lexer) broken(what string) token {
	l.err = fmt.Errorf("%w: %s do not end", errStatement, what)
	l.rest = ""
	return token{}
}

func wordChar(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' ||
		c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// quoted makes a name of anything.
func quoted(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}
