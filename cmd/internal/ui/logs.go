package ui

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
)

// LogPrinter prints the log entries of several containers, each line behind the name of its container.
type LogPrinter struct {
	out, err io.Writer
	o        LogOptions

	mu    sync.Mutex
	width int
	codes map[string]string // colour of each name
	open  map[string]bool   // containers whose last line had no end yet
}

// LogOptions of a LogPrinter.
type LogOptions struct {
	Stack      string // its name is left out of the prefixes
	Color      bool
	NoPrefix   bool
	Timestamps bool
}

// NewLogPrinter prints standard output on out and standard error on err.
func NewLogPrinter(out, err io.Writer, o LogOptions) *LogPrinter {
	return &LogPrinter{out: out, err: err, o: o, codes: map[string]string{}, open: map[string]bool{}}
}

// The colours of prefixes, given out in turn.
var rainbow = []string{"36", "33", "32", "35", "34", "96", "93", "92", "95", "94"}

// Expect makes the prefixes wide enough for these containers before their first line.
func (p *LogPrinter) Expect(containers ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range containers {
		p.register(p.short(c))
	}
}

// Print prints one entry; events are printed as a line of their own.
func (p *LogPrinter) Print(e api.LogEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.short(e.Container)
	if e.Hook != "" {
		name += " ->" // as docker compose marks it
	}
	p.register(name)
	switch e.Event {
	case "":
	case "exit":
		p.line(p.out, name, fmt.Sprintf("exited with code %d", e.ExitCode))
		return
	default:
		return
	}

	w := p.out
	if e.Stream == "stderr" {
		w = p.err
	}
	text := e.Line
	stream := e.Container + e.Hook + e.Stream
	if p.o.Timestamps && !p.open[stream] {
		text = e.Time.UTC().Format(time.RFC3339Nano) + " " + text
	}
	// A long line comes in parts; the parts after the first have no prefix of their own.
	if p.open[stream] {
		io.WriteString(w, text+end(e.Partial))
	} else {
		io.WriteString(w, p.prefix(name)+text+end(e.Partial))
	}
	if e.Partial {
		p.open[stream] = true
	} else {
		delete(p.open, stream)
	}
}

func end(partial bool) string {
	if partial {
		return ""
	}
	return "\n"
}

// line prints what is said about a container rather than by it.
func (p *LogPrinter) line(w io.Writer, name, text string) {
	if p.o.NoPrefix {
		fmt.Fprintf(w, "%s %s\n", name, text)
		return
	}
	fmt.Fprintf(w, "%s%s\n", p.prefix(name), text)
}

func (p *LogPrinter) prefix(name string) string {
	if p.o.NoPrefix {
		return ""
	}
	return paint(p.o.Color, p.codes[name], fmt.Sprintf("%-*s | ", p.width, name))
}

func (p *LogPrinter) register(name string) {
	if _, ok := p.codes[name]; ok {
		return
	}
	p.codes[name] = rainbow[len(p.codes)%len(rainbow)]
	p.width = max(p.width, len(name)+1)
}

// short is web-1 for demo-web-1; a container_name stays as it is.
func (p *LogPrinter) short(container string) string {
	return strings.TrimPrefix(container, p.o.Stack+"-")
}
