package place

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A container may swap what was looked at for a link: the mode of what it leads to, on the host, stays.
func TestAModeIsNeverSetThroughALink(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(inside, "file")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(inside, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := chmod(fd, "file", unix.S_IFREG, 0o4777); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("the mode of a link: %v", err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode() != 0o600 {
		t.Errorf("outside: %v %v", info.Mode(), err)
	}
	if err := chmod(fd, "../outside", unix.S_IFREG, 0o640); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode() != 0o640 {
		t.Errorf("a file: %v %v", info.Mode(), err)
	}
}
