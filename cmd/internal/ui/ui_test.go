package ui

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

func event(kind string, action planner.Kind, name string) api.Event {
	return api.Event{Kind: kind, Action: string(action), Name: name}
}

// story is an up that pulls, waits and fails at the end.
func story() []api.Event {
	failed := event("fail", planner.StartContainer, "demo-web-1")
	failed.Error = &api.Error{Message: "port 80 is in use"}
	failed.Address = "service.web[1]"
	healthy := event("done", planner.Wait, "")
	healthy.Address, healthy.Text = "service.db", "Healthy"
	waiting := event("start", planner.Wait, "")
	waiting.Address = "service.db"
	return []api.Event{
		event("start", planner.PullImage, "nginx:alpine"),
		{Kind: "progress", Action: "pull", Name: "nginx:alpine", Layer: "sha256:1", Phase: "downloading", Done: 5_000_000, Total: 10_000_000},
		event("done", planner.PullImage, "nginx:alpine"),
		event("start", planner.CreateNetwork, "demo_default"),
		event("done", planner.CreateNetwork, "demo_default"),
		{Kind: "warning", Text: "an orphan is left alone"},
		waiting, healthy,
		event("start", planner.StartContainer, "demo-web-1"),
		failed,
	}
}

func TestPlainProgressIsALineAStep(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, Auto, "up", false) // a buffer is no terminal
	for _, e := range story() {
		p.Event(e)
	}
	p.Close()
	want := ` Image nginx:alpine  Pulling
 Image nginx:alpine  Pulled
 Network demo_default  Creating
 Network demo_default  Created
WARNING: an orphan is left alone
 Service db  Waiting
 Service db  Healthy
 Container demo-web-1  Starting
 Container demo-web-1  Error port 80 is in use
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestJSONProgressIsAnObjectAStep(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, JSON, "up", false)
	for _, e := range story() {
		p.Event(e)
	}
	for _, want := range []string{
		`{"id":"Image nginx:alpine","text":"Pulling","status":"Working","action":"pull"}`,
		`{"id":"sha256:1","parent_id":"Image nginx:alpine","text":"downloading","status":"Working","current":5000000,"total":10000000,"percent":50,"action":"pull"}`,
		`{"id":"Container demo-web-1","text":"Error","details":"port 80 is in use","status":"Error","address":"service.web[1]","action":"start"}`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

func TestQuietProgressSaysNothing(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, Quiet, "up", false)
	for _, e := range story() {
		p.Event(e)
	}
	p.Close()
	if out.Len() > 0 {
		t.Errorf("it says %q", out.String())
	}
}

// still is a live display that a test moves by hand.
func still(w *bytes.Buffer, width, height int) (*live, *time.Time) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &live{
		w: w, title: "up", now: func() time.Time { return now }, size: func() (int, int) { return width, height },
		byName: map[string]*row{}, after: &plain{w: w}, stop: make(chan struct{}), ended: closed(),
	}, &now
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestLiveProgressShowsALineASubject(t *testing.T) {
	var out bytes.Buffer
	l, now := still(&out, 72, 24)
	events := story()
	for _, e := range events[:2] {
		l.Event(e)
	}
	*now = now.Add(1500 * time.Millisecond)
	got := strings.Join(l.lines(l.size()), "\n")
	want := `[+] up 0/1
 ⠋ Image nginx:alpine  Pulling  [==========          ] 5MB / 10MB… 1.5s`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, e := range events[2:] {
		l.Event(e)
		*now = now.Add(100 * time.Millisecond)
	}
	l.Close()
	want = `WARNING: an orphan is left alone
[+] up 4/4
 ✔ Image nginx:alpine    Pulled                                    1.5s
 ✔ Network demo_default  Created                                   0.1s
 ✔ Service db            Healthy                                   0.1s
 ✘ Container demo-web-1  Error    port 80 is in use                0.1s
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	l.Event(event("start", planner.StopContainer, "demo-web-1"))
	if out.String() != " Container demo-web-1  Stopping\n" {
		t.Errorf("after Close: %q", out.String())
	}
}

func TestLiveProgressRedrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	l, _ := still(&out, 60, 24)
	l.Event(event("start", planner.StartContainer, "a"))
	l.Event(event("start", planner.StartContainer, "b"))
	l.draw()
	out.Reset()
	l.draw()
	if !strings.HasPrefix(out.String(), "\x1b[3A\r\x1b[J[+] up 0/2\n") {
		t.Errorf("got %q", out.String())
	}
}

func TestLiveProgressFitsTheScreen(t *testing.T) {
	var out bytes.Buffer
	l, _ := still(&out, 40, 8)
	for i := range 30 {
		kind := "done"
		if i == 3 {
			kind = "fail"
		}
		if i == 20 || i == 21 {
			kind = "start"
		}
		l.Event(event(kind, planner.StartContainer, fmt.Sprintf("demo-web-%d", i)))
	}
	lines := l.lines(40, 8)
	if len(lines) > 8 {
		t.Errorf("%d lines on a screen of 8", len(lines))
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{"[+] up 28/30", "demo-web-3 ", "demo-web-20 ", "demo-web-21 ", "demo-web-29 ", "... and 25 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, line := range lines {
		if n := len([]rune(line)); n > 40 {
			t.Errorf("%d characters on a screen of 40: %q", n, line)
		}
	}
	l.closed = true
	if got := len(l.lines(40, 8)); got != 31 {
		t.Errorf("the last drawing has %d lines, want all 31", got)
	}
}

func TestLogLinesStandBehindNames(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	line := func(container, stream, text string, partial bool) api.LogEntry {
		return api.LogEntry{Container: container, Stream: stream, Line: text, Time: at, Partial: partial}
	}
	entries := []api.LogEntry{
		line("demo-web-1", "stdout", "hello", false),
		line("custom", "stderr", "oops", false),
		line("demo-web-1", "stdout", "a long ", true),
		line("demo-web-1", "stdout", "line", false),
		{Container: "demo-web-1", Event: "start"},
		{Container: "demo-web-1", Event: "exit", ExitCode: 3},
	}
	for situation, c := range map[string]struct {
		o        LogOptions
		out, err string
	}{
		"plain": {LogOptions{Stack: "demo"},
			"web-1   | hello\nweb-1   | a long line\nweb-1   | exited with code 3\n", "custom  | oops\n"},
		"without names": {LogOptions{Stack: "demo", NoPrefix: true}, "hello\na long line\nweb-1 exited with code 3\n", "oops\n"},
		"with times": {LogOptions{Stack: "demo", NoPrefix: true, Timestamps: true},
			"2026-01-02T03:04:05.0000006Z hello\n2026-01-02T03:04:05.0000006Z a long line\nweb-1 exited with code 3\n", "2026-01-02T03:04:05.0000006Z oops\n"},
		"in colours": {LogOptions{Stack: "demo", Color: true},
			"\x1b[36mweb-1   | \x1b[0mhello\n\x1b[36mweb-1   | \x1b[0ma long line\n\x1b[36mweb-1   | \x1b[0mexited with code 3\n", "\x1b[33mcustom  | \x1b[0moops\n"},
	} {
		t.Run(situation, func(t *testing.T) {
			var out, errOut bytes.Buffer
			p := NewLogPrinter(&out, &errOut, c.o)
			p.Expect("demo-web-1", "custom")
			for _, e := range entries {
				p.Print(e)
			}
			if out.String() != c.out || errOut.String() != c.err {
				t.Errorf("got  %q %q\nwant %q %q", out.String(), errOut.String(), c.out, c.err)
			}
		})
	}
}

func TestErrorsSayWhereAndWhatToDo(t *testing.T) {
	for situation, c := range map[string]struct {
		err  error
		want string
	}{
		"findings": {
			spec.Diagnostics{
				{Severity: spec.Error, File: "compose.yaml", Line: 3, Column: 5, Path: "services.web.imagee", Summary: "unknown key", Remedy: "did you mean image?"},
				{Severity: spec.Warning, Summary: "version is obsolete"},
			},
			"error: compose.yaml:3:5: services.web.imagee: unknown key; did you mean image?\nwarning: version is obsolete\n",
		},
		"several failures": {
			&api.Error{Address: "service.a[1]", Message: "no", Logs: []string{"x", "y"}, Remedy: "try", Others: []api.Error{{Message: "also no"}}},
			"error: service.a[1]: no\n  | x\n  | y\n  try\nerror: also no\n",
		},
		"anything else": {errors.New("odd"), "error: odd\n"},
	} {
		var out bytes.Buffer
		PrintError(&out, fmt.Errorf("up: %w", c.err), false)
		want := strings.ReplaceAll(c.want, "error: odd", "error: up: odd")
		if out.String() != want {
			t.Errorf("%s: got\n%swant\n%s", situation, out.String(), want)
		}
	}
}

func TestErrorsForProgramsAreOneObject(t *testing.T) {
	var out bytes.Buffer
	PrintErrorJSON(&out, fmt.Errorf("up: %w", &api.Error{Code: api.Failed, Address: "service.a[1]", Message: "no", Logs: []string{"x"}}))
	PrintErrorJSON(&out, spec.Diagnostics{{Severity: spec.Error, File: "c.yaml", Line: 1, Column: 2, Summary: "bad"}})
	want := `{"error":true,"message":"up: no","code":"failed","address":"service.a[1]","logs":["x"]}
{"error":true,"message":"c.yaml:1:2: bad","findings":[{"severity":"error","file":"c.yaml","line":1,"column":2,"summary":"bad"}]}
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
