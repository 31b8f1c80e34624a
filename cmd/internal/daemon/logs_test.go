package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/logs"
)

// streamOf is a stream of lines, each of its letter's second: "ad" is one at 0 s and one at 3 s.
func streamOf(name, letters string, err error) *logStream {
	s := &logStream{entries: make(chan api.LogEntry, len(letters)), err: err}
	for _, r := range letters {
		s.entries <- api.LogEntry{Container: name, Line: string(r), Time: time.Unix(int64(r-'a'), 0)}
	}
	close(s.entries)
	return s
}

func TestLogsAreMergedByTime(t *testing.T) {
	for what, c := range map[string]struct {
		streams []string
		want    string
	}{
		"none":             {nil, ""},
		"one":              {[]string{"abc"}, "abc"},
		"two":              {[]string{"ace", "bdf"}, "abcdef"},
		"one without any":  {[]string{"", "ab", ""}, "ab"},
		"at the same time": {[]string{"aab", "ab"}, "aaabb"},
	} {
		var heads []*logStream
		for _, letters := range c.streams {
			heads = append(heads, streamOf("c", letters, nil))
		}
		var got strings.Builder
		err := merge(heads, func(e api.LogEntry) error { got.WriteString(e.Line); return nil })
		if err != nil || got.String() != c.want {
			t.Errorf("%s: %q %v, want %q", what, got.String(), err, c.want)
		}
	}
}

func TestALogThatCantBeReadIsAnError(t *testing.T) {
	odd := errors.New("odd")
	for what, letters := range map[string]string{"from its start": "", "after some lines": "ab"} {
		err := merge([]*logStream{streamOf("x", letters, odd), streamOf("y", "c", nil)}, func(api.LogEntry) error { return nil })
		if !errors.Is(err, odd) {
			t.Errorf("%s: %v", what, err)
		}
	}
	gone := errors.New("client gone")
	if err := merge([]*logStream{streamOf("x", "ab", nil)}, func(api.LogEntry) error { return gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

func TestWhichContainersLogsAreOf(t *testing.T) {
	web := reconciler.Status{State: planner.Running, View: runtime.View{Record: runtime.Record{ID: "abcdef", Name: "s-web-1", Service: "web"}}}
	run := web
	run.OneOff = true
	for what, c := range map[string]struct {
		req  api.LogRequest
		of   reconciler.Status
		want bool
	}{
		"all":                 {api.LogRequest{}, web, true},
		"its service":         {api.LogRequest{Services: []string{"db", "web"}}, web, true},
		"another service":     {api.LogRequest{Services: []string{"db"}}, web, false},
		"its name":            {api.LogRequest{Containers: []string{"s-web-1"}}, web, true},
		"the start of its id": {api.LogRequest{Containers: []string{"abc"}}, web, true},
		"another name":        {api.LogRequest{Containers: []string{"s-web-2"}}, web, false},
		"a one-off":           {api.LogRequest{}, run, false},
		"a one-off, too":      {api.LogRequest{OneOff: true}, run, true},
		"a one-off by name":   {api.LogRequest{Containers: []string{"s-web-1"}}, run, true},
	} {
		if got := selected(c.req, c.of); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func TestHowMuchOfALogIsRead(t *testing.T) {
	for asked, want := range map[int]int{-1: 0, 0: logs.TailNone, 5: 5} {
		if got := readOptions(api.LogRequest{Tail: asked}, "id").Tail; got != want {
			t.Errorf("tail %d: %d, want %d", asked, got, want)
		}
	}
}
