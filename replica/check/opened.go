package check

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// holder is a process that has one of the database's files open.
type holder struct {
	pid     int
	command string
	// deleted is a file that it has open and that has no name any more, or "".
	deleted string
}

// String names the process for people.
func (h holder) String() string {
	if h.command == "" {
		return fmt.Sprintf("process %d", h.pid)
	}
	return fmt.Sprintf("%s (process %d)", h.command, h.pid)
}

// holding is who has the database open.
type holding struct {
	holders []holder
	// known tells that the system tells at all: of every process that has a lock, and,
	// if all is set, of every other one, too.
	known, all bool
}

// openedBy looks who else has the database open.
func (c *checker) openedBy() {
	c.held = holders(c.files.path)
	names := make([]string, 0, len(c.held.holders))
	for _, h := range c.held.holders {
		names = append(names, h.String())
		if h.deleted != "" {
			c.fail(OpenedBy, "stop it before anything else is done: what it writes there is lost when it ends. The file can still be copied out of /proc",
				"%s has %s open, which was deleted", h, h.deleted)
			return
		}
	}
	rest := ""
	if !c.held.all {
		rest = ", as far as this user may see"
	}
	switch {
	case !c.held.known:
		c.ok(OpenedBy, "this system does not tell who has it open")
	case len(names) == 0:
		c.ok(OpenedBy, "nobody has it open%s", rest)
	default:
		slices.Sort(names)
		c.ok(OpenedBy, "open in %s%s", strings.Join(names, ", "), rest)
	}
}

// lately is how long after a write a database counts as being used, where the system
// does not tell.
const lately = 10 * time.Second

// quiet tells whether nobody seems to use the database, so that what lies beside it was
// left there.
func (c *checker) quiet() bool {
	if len(c.held.holders) > 0 {
		return false
	}
	return c.held.known || !c.writtenLately()
}
