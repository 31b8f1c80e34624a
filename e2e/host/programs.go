package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// repository is the folder of the module.
func repository(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no source position")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Corpus is the folder of real stack files beside the repository, or empty where there is none.
func Corpus(t testing.TB) string {
	dir := os.Getenv("STACK_CORPUS")
	if dir == "" {
		dir = filepath.Join(repository(t), "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

var build struct {
	sync.Once
	out []byte
	err error
}

// programs is the folder with stack and stack-shim, built by make from the current sources; STACK_E2E_BIN names one with
// programs to test instead.
func programs(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("STACK_E2E_BIN"); dir != "" {
		return dir
	}
	dir := repository(t)
	build.Do(func() {
		lock, err := os.Open(filepath.Join(dir, "Makefile")) // several test programs build at once
		if err != nil {
			build.err = err
			return
		}
		defer lock.Close()
		if build.err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); build.err == nil {
			build.out, build.err = exec.Command("make", "-s", "-C", dir, "all").CombinedOutput()
		}
	})
	if build.err != nil {
		t.Fatalf("building: %v\n%s", build.err, build.out)
	}
	return filepath.Join(dir, "bin")
}
