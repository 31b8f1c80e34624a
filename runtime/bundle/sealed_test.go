package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

func TestSecretVariablesAreInNoFileOfTheBundlesFolder(t *testing.T) {
	in := input(&spec.Service{Environment: map[string]string{"PLAIN": "yes"}})
	in.Dir, in.SecretsDir = t.TempDir(), filepath.Join(t.TempDir(), "tmpfs")
	in.SecretEnv = map[string]string{"PASSWORD": "hunter2"}
	for range 2 { // a restart writes it again
		b, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(b.Spec.Process.Env, "PASSWORD=hunter2") || !slices.Contains(b.Spec.Process.Env, "PLAIN=yes") {
			t.Errorf("environment %q", b.Spec.Process.Env)
		}
		if err := b.Write(); err != nil {
			t.Fatal(err)
		}
	}
	config, err := os.ReadFile(filepath.Join(in.Dir, ConfigName)) // as a runtime reads it
	if err != nil || !strings.Contains(string(config), "hunter2") {
		t.Errorf("the configuration: %v", err)
	}
	entries, err := os.ReadDir(in.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if data, err := os.ReadFile(filepath.Join(in.Dir, e.Name())); err != nil || strings.Contains(string(data), "hunter2") {
			t.Errorf("%s has the secret: %v", e.Name(), err)
		}
	}
	in.SecretEnv = nil // it is a secret no more
	b, err := Make(in)
	if err == nil {
		err = b.Write()
	}
	if st, statErr := os.Lstat(filepath.Join(in.Dir, ConfigName)); err != nil || statErr != nil || !st.Mode().IsRegular() {
		t.Errorf("the configuration without secrets: %v %v", err, statErr)
	}
}
