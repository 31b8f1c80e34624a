package cache

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

const slot, key = Key("slot"), Key("key")

// situation is an entry over one file, made after the file's last change as the kernel's clock sees it.
func situation(t *testing.T) (dir, file string) {
	t.Helper()
	dir, file = filepath.Join(t.TempDir(), "cache"), filepath.Join(t.TempDir(), "compose.yaml")
	write1(t, file, "one")
	started := afterChange(t, file)
	entry := Entry{Stack: &spec.Stack{Name: "shop"}, Warnings: spec.Diagnostics{{Summary: "odd"}}}
	if err := Store(dir, slot, key, entry, nil, []string{file, file + ".absent", filepath.Dir(file)}, started); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// entry is what a slot has, nil if that does not hold.
func entry(dir string, slot, key Key) *Entry {
	found, ok := Lookup(dir, slot, key)
	if !ok || len(found.Changed) > 0 {
		return nil
	}
	return found.Entry()
}

func write1(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// afterChange returns a time at which the file's last change was over for certain.
func afterChange(t *testing.T, file string) time.Time {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	for time.Since(info.ModTime()) < 2*tick {
		<-time.After(time.Millisecond)
	}
	return time.Now()
}

func TestLookup(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir, file string)
		slot   Key
		key    Key
		found  bool
	}{
		"nothing changed":              {nil, slot, key, true},
		"touched, with the same words": {func(t *testing.T, _, file string) { write1(t, file, "one") }, slot, key, true},
		"replaced, with the same":      {func(t *testing.T, _, file string) { write1(t, file+".new", "one"); rename(t, file+".new", file) }, slot, key, true},
		"other words, same length":     {func(t *testing.T, _, file string) { write1(t, file, "two") }, slot, key, false},
		"longer":                       {func(t *testing.T, _, file string) { write1(t, file, "ones") }, slot, key, false},
		"gone":                         {func(t *testing.T, _, file string) { os.Remove(file) }, slot, key, false},
		"now a directory":              {func(t *testing.T, _, file string) { os.Remove(file); os.Mkdir(file, 0o755) }, slot, key, false},
		"an absent file appeared":      {func(t *testing.T, _, file string) { write1(t, file+".absent", "") }, slot, key, false},
		"another key":                  {nil, slot, "other", false},
		"another slot":                 {nil, "other", key, false},
		"half an entry":                {func(t *testing.T, dir, _ string) { truncate(t, path(dir, slot)) }, slot, key, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := situation(t)
			if c.change != nil {
				c.change(t, dir, file)
			}
			e := entry(dir, c.slot, c.key)
			if ok := e != nil; ok != c.found {
				t.Fatalf("found %v, want %v", ok, c.found)
			}
			if c.found && (e.Stack.Name != "shop" || e.Warnings[0].Summary != "odd") {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, file string) {
	t.Helper()
	if err := os.Truncate(file, 20); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsKeptOfALoadThatAChangeFellInto(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "compose.yaml")
	started := time.Now()
	write1(t, file, "one")
	if err := Store(dir, slot, key, Entry{Stack: &spec.Stack{}}, nil, []string{file}, started); err != nil {
		t.Fatal(err)
	}
	if entry(dir, slot, key) != nil {
		t.Error("kept")
	}
}

func TestEntriesAreForTheirOwnerOnlyAndReplaceEachOther(t *testing.T) {
	dir, file := situation(t)
	if err := Store(dir, slot, "newer", Entry{Stack: &spec.Stack{}}, nil, []string{file}, afterChange(t, file)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, p := range []string{dir, path(dir, slot)} {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	if entry(dir, slot, key) != nil {
		t.Error("the old entry is still there")
	}
}

func TestAPlaceThatCantBeWrittenIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write1(t, file, "")
	if err := Store(filepath.Join(file, "below"), slot, key, Entry{Stack: &spec.Stack{}}, nil, nil, time.Now()); err == nil {
		t.Error("no error")
	}
}

func TestKeysDifferWithEveryPart(t *testing.T) {
	seen := map[Key]bool{}
	for _, parts := range [][]any{{"1", []string{"a=b"}}, {"2", []string{"a=b"}}, {"1", []string{"a=c"}}, {"1", []string{"a", "b"}}, {"1"}} {
		k, err := NewKey(parts...)
		if err != nil || seen[k] {
			t.Errorf("%v: %s, %v", parts, k, err)
		}
		seen[k] = true
	}
}
