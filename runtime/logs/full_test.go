package logs_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/logs"
)

func TestAFullDiskLosesLinesAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatalf("a small file system (this needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "json.log")
	w := open(t, logs.Config{Path: path})
	s := w.Stream(logs.Stdout)
	long := strings.Repeat("x", 1000) + "\n"
	var want []string
	for len(want) < 100 {
		if err := s.Write([]byte(long)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			break
		}
		want = append(want, long)
	}
	if err := s.Write([]byte(long + long)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64k"); err != nil {
		t.Fatal(err)
	}
	write(t, s, "again\n")
	want = append(want, "stack: 3 log entries were lost here: they could not be written\n", "again\n")
	if got := read(t, path, logs.Options{}); !slices.Equal(got, want) {
		t.Errorf("read %d lines, want %d: the last %q", len(got), len(want), got[max(0, len(got)-2):])
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
