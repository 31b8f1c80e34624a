package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stack-run/stack/runtime/logs"
)

// logged is a container of a service that has a log with one line: its id.
func logged(t *testing.T, e *Engine, id, service string, created time.Time) View {
	t.Helper()
	v := View{Record: Record{ID: id, Name: "s-" + service + "-1", Stack: "s", Service: service, Replica: 1, Created: created}, Dir: e.containerDir("s", id)}
	if err := os.MkdirAll(filepath.Dir(logPath(v)), 0o700); err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf(`{"log":"%s\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}`+"\n", id)
	if err := os.WriteFile(logPath(v), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

// kept are the ids of the retained logs of a service.
func kept(t *testing.T, e *Engine, service string) (ids []string) {
	t.Helper()
	all, err := e.RetainedLogs("s")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Service == service {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func TestTheLogOfAReplacedContainerIsKeptAndRead(t *testing.T) {
	e := &Engine{opts: Options{Root: t.TempDir()}}
	v := logged(t, e, "a", "web", time.Unix(1, 0))
	for range 2 { // a removal that a crash interrupted is done again
		if err := e.retain(v); err != nil {
			t.Fatal(err)
		}
	}
	read := ""
	err := e.RetainedLog(t.Context(), "s", "a", logs.Options{}, func(entry logs.Entry) error { read += string(entry.Line); return nil })
	if err != nil || read != "a\n" {
		t.Errorf("read %q, %v", read, err)
	}
	if _, err := os.Stat(filepath.Dir(logPath(v))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is still with the container: %v", err)
	}
	if err := e.RetainedLog(t.Context(), "s", "b", logs.Options{}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a log that is not kept: %v", err)
	}
}

func TestLogsOfReplacedContainersAreKeptByNumberAndAge(t *testing.T) {
	e := &Engine{opts: Options{Root: t.TempDir(), LogRetain: time.Hour}}
	for i := range retainedMost + 3 {
		if err := e.retain(logged(t, e, fmt.Sprintf("web%02d", i), "web", time.Unix(int64(i), 0))); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.retain(logged(t, e, "db", "db", time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	if ids := kept(t, e, "web"); len(ids) != retainedMost || ids[0] != "web03" {
		t.Errorf("kept of web: %v", ids)
	}
	if ids := kept(t, e, "db"); len(ids) != 1 {
		t.Errorf("kept of db: %v", ids)
	}
	e.opts.LogRetain = time.Nanosecond
	if err := e.retain(logged(t, e, "late", "web", time.Unix(99, 0))); err != nil {
		t.Fatal(err)
	}
	if ids := append(kept(t, e, "web"), kept(t, e, "db")...); len(ids) != 0 {
		t.Errorf("kept beyond their time: %v", ids)
	}
}
