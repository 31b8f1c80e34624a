package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/ui"
	"github.com/stack-run/stack/reconciler/watch"
)

// watchView shows what a watch does, one line each. On a terminal the line of a file that is saved again and again is
// written over, with a count.
type watchView struct {
	c    *cli
	live bool

	mu    sync.Mutex
	last  string // what the last line was about, when it may be written over
	times int
	rows  int // of the screen that it takes
}

func newWatchView(c *cli) *watchView { return &watchView{c: c, live: ui.IsTerminal(c.out)} }

// mark begins each line of a watch, as Compose's do.
const mark = "⦿"

func (v *watchView) line(service, text string) { v.print(service, text, "") }

// took prints a line with how long something took.
func (v *watchView) took(service, text string, d time.Duration) {
	v.print(service, text+"  "+duration(d), "")
}

func (v *watchView) print(service, text, same string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if service != "" {
		text = service + "  " + text
	}
	over := ""
	if v.live && same != "" && same == v.last {
		v.times++
		over = fmt.Sprintf("\x1b[%dA\r\x1b[J", v.rows)
		text += fmt.Sprintf("  ×%d", v.times)
	} else {
		v.times = 1
	}
	v.last = same
	text = fmt.Sprintf(" %s %s", mark, text)
	if v.live {
		v.rows = ui.Rows(v.c.out, text)
	}
	fmt.Fprintf(v.c.out, "%s%s\n", over, text)
}

// event shows what the watcher tells.
func (v *watchView) event(e watch.Event) {
	switch e.Kind {
	case watch.Watching:
		v.line("", "Watch enabled")
	case watch.Synced:
		v.synced(e)
	case watch.Restarting:
		v.line(e.Service, "restarting")
	case watch.Restarted:
		v.took(e.Service, "restarted", e.Took)
	case watch.Executing:
		v.line(e.Service, "running its command")
	case watch.Executed:
		v.took(e.Service, "command done", e.Took)
	case watch.Rebuilding:
		v.line(e.Service, "rebuilding")
	case watch.Rebuilt:
		v.took(e.Service, "rebuilt", e.Took)
	case watch.Note:
		text := e.Text
		if e.Err != nil {
			text = fmt.Sprintf("%v; %s", e.Err, text)
		}
		v.line(e.Service, text)
	case watch.Warning:
		v.line(e.Service, "WARNING: "+e.Text)
	case watch.Failed:
		v.line(e.Service, e.Text+" failed:")
		v.problem(e.Err)
	}
}

func (v *watchView) synced(e watch.Event) {
	what := fmt.Sprintf("%d files", e.Written)
	switch {
	case e.Count == 1:
		what = asTyped(e.Paths[0])
	case e.Count == len(e.Paths):
		names := make([]string, len(e.Paths))
		for i, path := range e.Paths {
			names[i] = asTyped(path)
		}
		what = strings.Join(names, ", ")
	}
	text := "synced " + what + " → " + e.To
	if e.Count == 1 && e.Written == 0 {
		text = "removed " + e.To
	} else if e.Removed > 0 {
		text += fmt.Sprintf(" (%d removed)", e.Removed)
	}
	if e.Skipped > 0 {
		text += fmt.Sprintf(" (%d devices, sockets or pipes left out)", e.Skipped)
	}
	v.print(e.Container, text+"  "+duration(e.Took), e.Container+"\x00"+text)
	for _, failure := range e.Failures {
		v.line(e.Container, "WARNING: "+failure)
	}
}

// failed shows why a changed stack file was not applied.
func (v *watchView) failed(err error) {
	var kept keptState
	if errors.As(err, &kept) {
		v.line("", "Stack file changed, and can't be applied: all stays as it is")
		err = kept.error
	}
	v.problem(err)
}

func (v *watchView) problem(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = ""
	ui.PrintError(v.c.err, err, v.c.colorOn(v.c.err))
}

// output shows what a command or a build prints.
func (v *watchView) output(service string) io.WriteCloser {
	return &prefixed{w: viewWriter{v}, prefix: service + " | "}
}

// viewWriter writes whole lines among the view's own.
type viewWriter struct{ v *watchView }

func (w viewWriter) Write(p []byte) (int, error) {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	w.v.last = ""
	return w.v.c.out.Write(p)
}

// asTyped is a path as the user would write it from where they are.
func asTyped(path string) string {
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && !strings.HasPrefix(rel, "../") {
			return rel
		}
	}
	return path
}

func duration(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
