package watch

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestChangedInputsAreTold(t *testing.T) {
	dir := t.TempDir()
	file, absent, linked := filepath.Join(dir, "compose.yaml"), filepath.Join(dir, "a", "b", ".env"), filepath.Join(dir, "link")
	sh := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	sh("echo 1 > compose.yaml; mkdir elsewhere; echo 1 > elsewhere/target; ln -s elsewhere/target link")
	in, err := NewInputs()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	set := func(loaded time.Time) {
		t.Helper()
		if err := in.Set([]string{file, absent, linked}, loaded); err != nil {
			t.Fatal(err)
		}
	}
	told := func(after string) {
		t.Helper()
		select {
		case <-in.Changed():
		case <-time.After(10 * time.Second):
			t.Fatalf("not told after: %s", after)
		}
		set(time.Now())
	}
	set(time.Now())
	for _, script := range []string{
		"echo 2 > compose.yaml",
		"echo 3 > new; mv new compose.yaml",
		"mkdir -p a/b; echo A=b > a/b/.env",
		"echo A=c >> a/b/.env",
		"rm -r a",
		"mkdir a; mkdir a/b; echo A=d > a/b/.env",
		"echo 2 > elsewhere/target",
		"rm compose.yaml",
		"echo 4 > compose.yaml",
	} {
		sh(script)
		told(script)
	}
	// What changed while it was being loaded is not missed.
	began := time.Now()
	sh("echo 5 > compose.yaml")
	for len(in.changed) == 0 {
		time.Sleep(time.Millisecond) // until the event itself has been told, so that only Set can tell
	}
	<-in.Changed()
	set(began)
	told("a change before Set")
	// Neither other files nor a look at the file are changes.
	sh("echo x > other; cat compose.yaml > /dev/null; echo last > elsewhere/target")
	told("a change beside others' files")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
}
