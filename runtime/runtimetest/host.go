package runtimetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
)

// Image is the image in every Host's store. Its entrypoint /box takes commands like "sleep", "exit 3", "echo x"; several are
// separated by ";". Its volume is /data.
const Image = "docker.io/library/box:1"

// Host is the folders of one daemon and its image store.
type Host struct {
	testing.TB
	Root, RunDir string
	Images       *image.Store
	ImageID      string
}

// New makes a host. When the test ends nothing of it may be left in the kernel; who uses it cleans up by Cleanup
// functions registered after this call.
func New(t testing.TB) *Host {
	t.Helper()
	h := &Host{TB: t, Root: t.TempDir(), RunDir: t.TempDir()}
	for dir := h.Root; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		h.Must(os.Chmod(dir, 0o711))
	}
	t.Cleanup(h.clean)
	h.OpenImages()
	loaded, err := h.Images.Load(h.Context(), bytes.NewReader(h.Rootfs()), image.LoadOptions{
		Name:   Image,
		Config: &image.Config{ImageConfig: ocispec.ImageConfig{Entrypoint: []string{"/box"}, Volumes: map[string]struct{}{"/data": {}}}},
	})
	h.Must(err)
	h.ImageID = loaded[0].ID
	return h
}

// OpenImages opens the store, again after CloseImages.
func (h *Host) OpenImages() {
	h.Helper()
	store, err := image.Open(h.Context(), image.Options{Root: filepath.Join(h.Root, "images"), Logf: h.logf})
	h.Must(err)
	h.Images = store
}

// CloseImages closes the store as the end of a daemon does.
func (h *Host) CloseImages() {
	h.Helper()
	if h.Images != nil {
		h.Must(h.Images.Close())
		h.Images = nil
	}
}

// Options for an engine of this host.
func (h *Host) Options() runtime.Options {
	return runtime.Options{
		Root: h.Root, RunDir: h.RunDir, Images: h.Images, ShimProgram: filepath.Join(os.Getenv(programs), "stack-shim"), Logf: h.logf,
	}
}

func (h *Host) logf(format string, args ...any) { h.Logf(format, args...) }

// Rootfs is the archive of the image's root filesystem.
func (h *Host) Rootfs() []byte {
	box, err := os.ReadFile(filepath.Join(os.Getenv(programs), "box"))
	h.Must(err)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range []string{"etc/", "tmp/", "proc/", "sys/", "dev/", "data/"} {
		h.Must(w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	for name, content := range map[string][]byte{"box": box, "etc/passwd": []byte("root:x:0:0::/root:/box\n"), "data/seed": []byte("seed")} {
		h.Must(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}))
		_, err := w.Write(content)
		h.Must(err)
	}
	h.Must(w.Close())
	return out.Bytes()
}

// Context ends with the test, or after a minute.
func (h *Host) Context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	h.Cleanup(cancel)
	return ctx
}

// Must fails the test on an error.
func (h *Host) Must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// Eventually waits for what comes without a word.
func (h *Host) Eventually(what string, ok func() bool) {
	h.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	h.Fatalf("never came: %s", what)
}

// ShimPID is the process of a stack's shim; 0 when there is none.
func (h *Host) ShimPID(stack string) int {
	data, err := os.ReadFile(filepath.Join(h.RunDir, "shims", stack, shim.PIDName))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(data))
	return pid
}

// KillShim kills a stack's shim as nobody is asked for: kill -9.
func (h *Host) KillShim(stack string) {
	h.Helper()
	pid := h.ShimPID(stack)
	if pid == 0 {
		h.Fatalf("stack %s has no shim", stack)
	}
	h.Must(syscall.Kill(pid, syscall.SIGKILL))
}

// Alive tells whether a process runs; a zombie does not.
func Alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	i := bytes.LastIndexByte(data, ')')
	return i > 0 && len(data) > i+2 && data[i+2] != 'Z'
}

func (h *Host) clean() {
	h.CloseImages()
	if left := h.Leftovers(); len(left) > 0 {
		h.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// Leftovers lists what is there of this host's containers: shims, cgroups, mounts, folders.
func (h *Host) Leftovers() (left []string) {
	sum := sha256.Sum256([]byte(h.Root))
	name := "stack-" + hex.EncodeToString(sum[:4])
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name, "/sys/fs/cgroup/" + name} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	h.Must(err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, h.Root) || strings.Contains(line, h.RunDir) {
			left = append(left, line)
		}
	}
	for _, pattern := range []string{h.Root + "/stacks/*", h.RunDir + "/shims/[^.]*", h.RunDir + "/secrets/*", h.RunDir + "/dns/*/*"} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	programs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range programs {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(h.RunDir)) {
			left = append(left, path+": "+string(bytes.ReplaceAll(data, []byte{0}, []byte(" "))))
		}
	}
	return left
}
