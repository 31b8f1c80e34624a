package notice

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFoldersTellWhatTheyAreWatchedFor(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Add(dir, Content); err != nil {
		t.Fatal(err)
	}
	if err := n.Add(filepath.Join(dir, "nowhere"), Content); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	type seen struct {
		path   string
		folder bool
	}
	events, ended := make(chan seen, 100), make(chan struct{})
	go func() {
		defer close(ended)
		n.Follow(func(path string, folder bool) { events <- seen{path, folder} }, func() { t.Error("lost") })
	}()
	next := func(what string, want seen) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			select {
			case got := <-events:
				if got == want {
					return
				}
			case <-limit:
				t.Fatalf("nothing was told of %s", what)
			}
		}
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("a line"); err != nil {
		t.Fatal(err)
	}
	if len(events) > 0 {
		t.Errorf("a write to an open file, as of a log, is told: %v", <-events)
	}
	f.Close()
	next("what was written", seen{file, false})
	if err := os.Mkdir(filepath.Join(dir, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	next("a new folder", seen{filepath.Join(dir, "new"), true})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	next("a removal", seen{file, false})
	n.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on after Close")
	}
}

func TestMountsTellEveryChange(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := Mounts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	told, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for wait() == nil {
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	next := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing was told of %s", what)
		}
	}
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for range 100 {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatalf("a mount (needs root): %v", err)
		}
		next("a mount")
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		next("a mount that has gone")
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on after its context has ended")
	}
}
