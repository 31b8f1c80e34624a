// Package ui is what a user sees: progress, logs, tables and errors, on a terminal and without one.
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/stack-run/stack/cmd/internal/api"
)

// Mode of progress output: the values of --progress.
type Mode string

// Auto is TTY on a terminal and Plain elsewhere.
const (
	Auto  Mode = "auto"
	TTY   Mode = "tty"
	Plain Mode = "plain"
	JSON  Mode = "json"
	Quiet Mode = "quiet"
)

// Modes are all values of --progress.
var Modes = []Mode{Auto, TTY, Plain, JSON, Quiet}

// Progress shows the events of an operation as they come. Its methods may be called from several goroutines.
type Progress interface {
	Event(api.Event)
	// Close ends the display; what is on the screen stays. Events after it are shown as plain lines.
	Close()
}

// NewProgress shows progress on w in a mode. Title is the verb in the live display's first line.
func NewProgress(w io.Writer, mode Mode, title string, color bool) Progress {
	if mode == Auto || mode == "" {
		mode = Plain
		if IsTerminal(w) {
			mode = TTY
		}
	}
	switch mode {
	case TTY:
		return newLive(w, title, color)
	case JSON:
		return &jsonLines{w: w}
	case Quiet:
		return quiet{}
	default:
		return &plain{w: w}
	}
}

// quiet shows nothing; errors reach the user as the operation's own.
type quiet struct{}

func (quiet) Event(api.Event) {}
func (quiet) Close()          {}

// plain prints a line for each step, for logs and pipes.
type plain struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *plain) Close() {}

func (p *plain) Event(e api.Event) {
	var line string
	switch e.Kind {
	case "start", "done":
		line = fmt.Sprintf(" %s  %s", subject(e), status(e))
	case "fail":
		line = fmt.Sprintf(" %s  Error %s", subject(e), failure(e))
	case "note":
		line = e.Text
	case "warning":
		line = "WARNING: " + e.Text
	default:
		return // bytes of a pull are worth nothing in a log
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, line)
}

// jsonLines prints one JSON object an event: the fields of `docker compose --progress json`, and the address and reason.
type jsonLines struct {
	mu sync.Mutex
	w  io.Writer
}

type jsonEvent struct {
	ID       string `json:"id,omitempty"`
	ParentID string `json:"parent_id,omitempty"` // a layer's image
	Text     string `json:"text,omitempty"`
	Details  string `json:"details,omitempty"`
	Status   string `json:"status,omitempty"` // Working, Done, Warning, Error
	Current  int64  `json:"current,omitempty"`
	Total    int64  `json:"total,omitempty"`
	Percent  int    `json:"percent,omitempty"`
	Address  string `json:"address,omitempty"`
	Action   string `json:"action,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func (p *jsonLines) Close() {}

func (p *jsonLines) Event(e api.Event) {
	out := jsonEvent{ID: subject(e), Address: e.Address, Action: e.Action, Reason: e.Reason, Status: "Working"}
	switch e.Kind {
	case "start":
		out.Text = status(e)
	case "done":
		out.Text, out.Status = status(e), "Done"
	case "fail":
		out.Text, out.Details, out.Status = status(e), failure(e), "Error"
	case "warning":
		out.Text, out.Status = e.Text, "Warning"
	case "note":
		out.Text, out.Status = e.Text, "Done"
	case "progress":
		if e.Layer != "" {
			out.ID, out.ParentID = e.Layer, out.ID
		}
		out.Text, out.Current, out.Total = e.Phase, e.Done, e.Total
		if e.Total > 0 {
			out.Percent = int(e.Done * 100 / e.Total)
		}
	default:
		return
	}
	line, err := json.Marshal(out)
	if err != nil {
		return // strings and numbers always encode
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.w.Write(append(line, '\n'))
}
