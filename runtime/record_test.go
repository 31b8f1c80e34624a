package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestARecordIsTheLastWholeLineOfItsFile(t *testing.T) {
	dir := t.TempDir()
	lines := 0
	for i := range 2*recordLines + 3 {
		r := &Record{ID: "a", Name: "web", Restarts: i}
		var err error
		if lines, err = writeRecord(dir, r, lines); err != nil {
			t.Fatal(err)
		}
		got, err := readRecord(dir)
		if err != nil || got.Restarts != i {
			t.Fatalf("after change %d: read %+v, %v", i, got, err)
		}
	}
	if lines != 3 {
		t.Errorf("the file has %d lines, want 3 after it was written anew twice", lines)
	}
	path := filepath.Join(dir, recordName)
	if err := appendFile(path, []byte(`{"id":"a","restarts":99`)); err != nil { // torn by a crash
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err != nil || got.Restarts != 2*recordLines+2 {
		t.Errorf("with a torn line: read %+v, %v", got, err)
	}
	if err := os.WriteFile(path, []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readRecord(dir); err == nil {
		t.Errorf("a file with nothing whole gave %+v", got)
	}
}
