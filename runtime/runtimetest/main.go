// Package runtimetest gives tests what containers need: the shim's program, a small image in a store, folders, a network
// namespace to themselves, and a look at what is left in the kernel after them.
package runtimetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stack-run/stack/netdriver/drivertest"
)

// programs is the environment variable with the folder of the built programs.
const programs = "STACK_TEST_PROGRAMS"

// Main builds the shim and the program of the containers, runs a package's tests in a network namespace of their own, and
// removes what it built. Call it from TestMain. Needs root, gcc and libseccomp.
func Main(m *testing.M) {
	if os.Getenv(programs) != "" {
		drivertest.Main(m)
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, fmt.Errorf("containers need root")
	}
	dir, err := os.MkdirTemp("", "stack-programs-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	_, file, _, _ := runtime.Caller(0)
	repository := filepath.Join(filepath.Dir(file), "..", "..")
	if err := build(repository, filepath.Join(dir, "stack-shim"), "./cmd/stack-shim", "CGO_ENABLED=1",
		"-tags", "seccomp osusergo netgo", "-ldflags", "-s -w -extldflags -static"); err != nil {
		return 1, err
	}
	if err := build(repository, filepath.Join(dir, "box"), "./runtime/shim/server/testdata/box", "CGO_ENABLED=0", "-ldflags", "-s -w"); err != nil {
		return 1, err
	}
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Env = append(os.Environ(), programs+"="+dir)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	runtime.LockOSThread() // the signal comes when the thread that started them ends
	tests.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = tests.Run()
	var failed *exec.ExitError
	if errors.As(err, &failed) && failed.Exited() {
		return failed.ExitCode(), nil // the tests have said why
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

func build(repository, out, pkg, env string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), env)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return nil
}
