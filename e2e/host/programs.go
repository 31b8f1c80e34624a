package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// Repository is the folder of the module.
func Repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Corpus is the folder of real stack files beside the repository ($STACK_CORPUS names another), or empty where there is none.
func Corpus() string {
	dir := os.Getenv("STACK_CORPUS")
	if dir == "" {
		dir = filepath.Join(Repository(), "..", "shared", "corpus")
	}
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// Programs is the folder with stack and stack-shim, built by make from the current sources; $STACK_E2E_BIN names one with
// programs to use instead.
func Programs() (string, error) {
	if dir := os.Getenv("STACK_E2E_BIN"); dir != "" {
		return dir, nil
	}
	return filepath.Join(Repository(), "bin"), build()
}

var build = sync.OnceValue(func() error {
	lock, err := os.Open(filepath.Join(Repository(), "Makefile")) // several test programs build at once
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	out, err := exec.Command("make", "-s", "-C", Repository(), "all").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building: %w\n%s", err, out)
	}
	return nil
})
