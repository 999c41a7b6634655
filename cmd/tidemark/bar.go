package main

import (
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// maxBar is the length of the bar itself at most, in columns.
const maxBar = 40

// bar is a job's progress and, between show and hide, the line that shows it.
type bar struct {
	what        string
	start       time.Time // what rate and time left are reckoned from
	done, total int64

	screen *mpb.Progress
	line   *mpb.Bar
}

// show draws the bar on the last line, again and again, until hide.
func (b *bar) show(how []mpb.ContainerOption) {
	const size = "% .1f"
	b.screen = mpb.New(how...)
	b.line = b.screen.New(
		b.total,
		mpb.BarStyle().Lbound(" ["),
		mpb.BarWidth(maxBar),
		mpb.BarFillerTrim(),
		mpb.PrependDecorators(
			whole{Decorator: decor.Name(b.what)},
			whole{Decorator: decor.NewPercentage("%d", decor.WC{W: len(" 100%")})},
		),
		mpb.AppendDecorators(
			whole{Decorator: decor.CountersKibiByte("  " + size + " of " + size)},
			whole{Decorator: decor.NewAverageSpeed(decor.SizeB1024(0), "  "+size, b.start)},
			whole{Decorator: decor.NewAverageETA(decor.ET_STYLE_GO, b.start, nil), before: "  ", after: " left"},
		),
	)
	b.line.SetCurrent(b.done)
}

// hide takes the bar from the screen. It returns when that is done.
func (b *bar) hide() {
	b.line.Abort(true)
	b.screen.Wait()
}

// whole is a part of the line that is left out where it has no room: half a
// number would be a wrong one.
type whole struct {
	decor.Decorator
	before, after string
}

// Decor implements [decor.Decorator].
func (w whole) Decor(s decor.Statistics) (text string, columns int) {
	text, columns = w.Decorator.Decor(s)
	columns += len(w.before) + len(w.after)
	if columns > s.AvailableWidth {
		return "", 0
	}
	return w.before + text + w.after, columns
}
