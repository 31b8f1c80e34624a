package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/stack-run/stack/cmd/internal/api"
)

// tick is how often the display moves while something runs; changes between two ticks are drawn together.
const tick = 100 * time.Millisecond

// live redraws one line for each subject: its state, its name, what happens to it, and since when. Lines that don't fit on
// the screen are counted instead, finished ones first.
type live struct {
	w     io.Writer
	title string
	color bool
	now   func() time.Time
	size  func() (width, height int)

	mu     sync.Mutex
	rows   []*row
	byName map[string]*row
	above  []string // notes, printed once above the rows
	drawn  int      // lines on the screen that the next drawing replaces
	frame  int
	closed bool
	after  *plain // shows what comes after Close
	stop   chan struct{}
	ended  chan struct{}
}

// row is one subject.
type row struct {
	name    string
	status  string
	detail  string
	working bool
	failed  bool
	began   time.Time
	ended   time.Time
	layers  map[string]layer
}

type layer struct {
	phase       string
	done, total int64
}

func newLive(w io.Writer, title string, color bool) *live {
	l := &live{
		w: w, title: title, color: color, now: time.Now,
		size:   func() (int, int) { return size(w) },
		byName: map[string]*row{},
		after:  &plain{w: w},
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	go l.animate()
	return l
}

// animate draws at each tick while there is something to see move.
func (l *live) animate() {
	defer close(l.ended)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			l.mu.Lock()
			if !l.closed && len(l.rows) > 0 {
				l.frame++
				l.draw()
			}
			l.mu.Unlock()
		}
	}
}

// Event takes note; the next tick shows it.
func (l *live) Event(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.after.Event(e)
		return
	}
	switch e.Kind {
	case "note":
		l.above = append(l.above, e.Text)
	case "warning":
		l.above = append(l.above, paint(l.color, yellow, "WARNING: "+e.Text))
	case "start", "done", "fail":
		r := l.row(e)
		r.status, r.working, r.failed = status(e), e.Kind == "start", e.Kind == "fail"
		if e.Kind != "start" {
			r.ended, r.layers = l.now(), nil
		}
		if r.failed {
			r.detail = failure(e)
		}
	case "progress":
		r := l.row(e)
		if r.layers == nil {
			r.layers = map[string]layer{}
		}
		r.working = true
		if e.Layer != "" {
			r.layers[e.Layer] = layer{phase: e.Phase, done: e.Done, total: e.Total}
		} else if e.Phase != "" {
			r.detail = e.Phase
		}
	}
}

func (l *live) row(e api.Event) *row {
	name := subject(e)
	r := l.byName[name]
	if r == nil {
		r = &row{name: name, began: l.now(), status: status(e)}
		l.byName[name] = r
		l.rows = append(l.rows, r)
	}
	return r
}

// Close draws the last state and leaves it on the screen.
func (l *live) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	if len(l.rows) > 0 || len(l.above) > 0 {
		l.draw()
	}
	l.mu.Unlock()
	close(l.stop)
	<-l.ended
}

// draw replaces what is on the screen in one write.
func (l *live) draw() {
	width, height := l.size()
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", l.drawn)
	}
	for _, note := range l.above {
		b.WriteString(note + "\n")
	}
	l.above = nil
	lines := l.lines(width, height)
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	l.drawn = len(lines)
	io.WriteString(l.w, b.String())
}

// lines are the rows as they look now; the last drawing shows all of them.
func (l *live) lines(width, height int) []string {
	if len(l.rows) == 0 {
		return nil
	}
	done, nameWidth, statusWidth := 0, 0, 0
	for _, r := range l.rows {
		if !r.working {
			done++
		}
		nameWidth = max(nameWidth, len(r.name))
		statusWidth = max(statusWidth, len(r.status))
	}
	shown, hidden := l.rows, 0
	if room := max(height-2, 1); !l.closed && len(shown) > room {
		shown = pick(l.rows, room-1)
		hidden = len(l.rows) - len(shown)
	}
	lines := []string{fmt.Sprintf("[+] %s %d/%d", l.title, done, len(l.rows))}
	for _, r := range shown {
		lines = append(lines, l.line(r, nameWidth, statusWidth, width))
	}
	if hidden > 0 {
		lines = append(lines, fmt.Sprintf(" ... and %d more", hidden))
	}
	return lines
}

// pick chooses the rows that are worth the room: failed ones, then working ones, then the latest; in their order.
func pick(rows []*row, room int) []*row {
	room = max(room, 0)
	chosen := map[*row]bool{}
	take := func(wanted func(*row) bool) {
		for i := len(rows) - 1; i >= 0 && len(chosen) < room; i-- {
			if wanted(rows[i]) {
				chosen[rows[i]] = true
			}
		}
	}
	take(func(r *row) bool { return r.failed })
	take(func(r *row) bool { return r.working })
	take(func(*row) bool { return true })
	var picked []*row
	for _, r := range rows {
		if chosen[r] {
			picked = append(picked, r)
		}
	}
	return picked
}

var spinner = []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")

func (l *live) line(r *row, nameWidth, statusWidth, width int) string {
	mark, code := "✔", green
	elapsed := r.ended.Sub(r.began)
	switch {
	case r.working:
		mark, code = string(spinner[l.frame%len(spinner)]), blue
		elapsed = l.now().Sub(r.began)
	case r.failed:
		mark, code = "✘", red
	}
	time := fmt.Sprintf("%.1fs", max(elapsed, 0).Seconds())
	middle := fmt.Sprintf("%-*s  %-*s", nameWidth, r.name, statusWidth, r.status)
	if extra := r.extra(); extra != "" {
		middle += "  " + extra
	}
	room := width - 3 - len(time) - 2
	text := clip(middle, room)
	padding := strings.Repeat(" ", max(room-len([]rune(text)), 0)+1)
	// The status is the part that is coloured, where it was not cut off.
	if i := nameWidth + 2; i+len(r.status) <= len(text) {
		text = text[:i] + paint(l.color, code, r.status) + text[i+len(r.status):]
	}
	return " " + paint(l.color, code, mark) + " " + text + padding + paint(l.color, blue, time)
}

// extra is what there is to say beyond the status: bytes of a pull, or why it failed.
func (r *row) extra() string {
	if r.failed {
		return strings.ReplaceAll(r.detail, "\n", " ")
	}
	if !r.working {
		return ""
	}
	if len(r.layers) == 0 {
		return r.detail
	}
	var done, total int64
	finished := 0
	for _, layer := range r.layers {
		if layer.phase == "done" || layer.phase == "exists" {
			finished++
		}
		if layer.phase == "downloading" {
			done += layer.done
		} else {
			done += layer.total // unpacked after it was downloaded
		}
		total += layer.total
	}
	return fmt.Sprintf("[%s] %s / %s, %d of %d layers", bar(done, total, 20),
		units.HumanSize(float64(done)), units.HumanSize(float64(total)), finished, len(r.layers))
}

func bar(done, total int64, width int) string {
	full := 0
	if total > 0 {
		full = int(min(done, total) * int64(width) / total)
	}
	return strings.Repeat("=", full) + strings.Repeat(" ", width-full)
}

// clip cuts a text to a width in characters.
func clip(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= max(width, 0) {
		return text
	}
	if width < 1 {
		return ""
	}
	return string(runes[:width-1]) + "…"
}
