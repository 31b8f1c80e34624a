package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
)

func TestWrite(t *testing.T) {
	in := input(&spec.Service{})
	in.Dir, in.SecretsDir = t.TempDir(), filepath.Join(t.TempDir(), "deep", "secrets")
	in.Secrets = []File{{Name: "k", Target: "/k", Content: []byte("one"), Mode: 0o440, UID: "7", GID: "8"}}
	for i, content := range []string{"one", "two", "two", "two"} { // again, over what is there
		in.Secrets[0].Content = []byte(content)
		if i == 3 {
			in.Secrets[0].UID = "9" // nothing else changes
		}
		b, err := Make(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Write(); err != nil {
			t.Fatal(err)
		}
		secret := filepath.Join(in.SecretsDir, "secrets-0")
		st, err := os.Stat(secret)
		if err != nil {
			t.Fatal(err)
		}
		owner := st.Sys().(*syscall.Stat_t)
		if got, _ := os.ReadFile(secret); string(got) != content || st.Mode() != 0o440 || owner.Uid != []uint32{7, 7, 7, 9}[i] || owner.Gid != 8 {
			t.Errorf("secret is %q %v %d:%d", got, st.Mode(), owner.Uid, owner.Gid)
		}
		var config specs.Spec
		text, err := os.ReadFile(filepath.Join(in.Dir, ConfigName))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &config); err != nil || config.Root.Path != filepath.Join(in.Dir, "rootfs") {
			t.Errorf("config.json: %v, root %v", err, config.Root)
		}
	}
	if st, _ := os.Stat(in.SecretsDir); st.Mode().Perm() != 0o700 {
		t.Errorf("the secrets' folder has mode %v", st.Mode())
	}
	for _, dir := range []string{in.Dir, in.SecretsDir} {
		if left, _ := filepath.Glob(filepath.Join(dir, "*.new")); left != nil {
			t.Errorf("left behind: %v", left)
		}
	}
}
