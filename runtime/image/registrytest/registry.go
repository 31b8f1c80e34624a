// Package registrytest starts real registries for tests: Debian's docker-registry on a loopback port, with a proxy in front
// where a test needs a bad connection. Images for it are made in process.
package registrytest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The login of registries started with Options.Login.
const (
	Username = "stack"
	Password = "secret"
	htpasswd = Username + ":$2y$05$ZL.3LCN3ffRIU23gpFd9H.a4oQwl9R0rU8Jfh7jbRcoFHMRSkw5JG\n"
)

// Options of a registry.
type Options struct {
	Login bool // ask for Username and Password
}

// Registry is a running registry. It ends with the test.
type Registry struct {
	Addr string // 127.0.0.1:port
	opts Options
}

// Start runs a registry with an empty store and waits until it answers.
func Start(t testing.TB, opts Options) *Registry {
	t.Helper()
	dir := t.TempDir()
	addr := freeAddr(t)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\nhttp:\n  addr: %s\n", filepath.Join(dir, "data"), addr)
	if opts.Login {
		users := filepath.Join(dir, "users")
		write(t, users, htpasswd)
		config += fmt.Sprintf("auth:\n  htpasswd: {realm: test, path: %s}\n", users)
	}
	write(t, filepath.Join(dir, "config.yml"), config)
	cmd := exec.Command("docker-registry", "serve", filepath.Join(dir, "config.yml"))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a killed test leaves none behind
	if err := cmd.Start(); err != nil {
		t.Fatalf("docker-registry (Debian package docker-registry): %v", err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
	})
	r := &Registry{Addr: addr, opts: opts}
	r.await(t, exited, log.Name())
	return r
}

func (r *Registry) await(t testing.TB, exited <-chan struct{}, log string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		resp, err := http.Get("http://" + r.Addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(log)
			t.Fatalf("docker-registry ended: %s", text)
		case <-deadline:
			t.Fatalf("docker-registry does not answer: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Ref is an image's reference in this registry.
func (r *Registry) Ref(image string) string { return r.Addr + "/" + image }

// Push stores an image as name (repository:tag), and returns its digest.
func (r *Registry) Push(t testing.TB, image string, img v1.Image) string {
	t.Helper()
	return r.push(t, image, img.Digest, func(ref name.Reference, opts ...remote.Option) error { return remote.Write(ref, img, opts...) })
}

// PushIndex stores an index and its images.
func (r *Registry) PushIndex(t testing.TB, image string, idx v1.ImageIndex) string {
	t.Helper()
	return r.push(t, image, idx.Digest, func(ref name.Reference, opts ...remote.Option) error {
		return remote.WriteIndex(ref, idx, opts...)
	})
}

func (r *Registry) push(t testing.TB, image string, digest func() (v1.Hash, error), write func(name.Reference, ...remote.Option) error) string {
	t.Helper()
	ref, err := name.ParseReference(r.Ref(image))
	if err != nil {
		t.Fatal(err)
	}
	auth := authn.Anonymous
	if r.opts.Login {
		auth = authn.FromConfig(authn.AuthConfig{Username: Username, Password: Password})
	}
	if err := write(ref, remote.WithAuth(auth)); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	d, err := digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// DockerConfig writes a docker configuration that holds the login, and returns its folder.
func (r *Registry) DockerConfig(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"),
		fmt.Sprintf(`{"auths": {%q: {"username": %q, "password": %q}}}`, r.Addr, Username, Password))
	return dir
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
