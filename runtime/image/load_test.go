package image_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

func TestLoadWhatToolsWrite(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "app:1", twoLayers(t))
	want := func() string {
		id, err := twoLayers(t).ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}()
	for what, write := range map[string]func(t *testing.T) []byte{
		"skopeo docker-archive": func(t *testing.T) []byte { return skopeo(t, reg.Ref("app:1"), "docker-archive", "example.com/app:1") },
		"skopeo oci-archive":    func(t *testing.T) []byte { return skopeo(t, reg.Ref("app:1"), "oci-archive", "example.com/app:1") },
		"crane":                 func(t *testing.T) []byte { return craneArchive(t, "example.com/app:1", twoLayers(t)) },
		"crane, packed":         func(t *testing.T) []byte { return packed(t, craneArchive(t, "example.com/app:1", twoLayers(t))) },
		"docker save, old":      func(t *testing.T) []byte { return oldDockerArchive(t, "example.com/app:1", twoLayers(t)) },
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t)
			archive := write(t)
			images, err := s.Load(ctx(t), bytes.NewReader(archive), image.LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			// skopeo turns the config into OCI's form, which makes it another image.
			if len(images) != 1 || (images[0].ID != want && what != "skopeo oci-archive") || !slices.Equal(images[0].Names, []string{"example.com/app:1"}) || len(images[0].RepoDigests) != 0 {
				t.Fatalf("loaded %+v", images)
			}
			checkTwoLayers(t, mountRootfs(t, s, images[0].ID, "c"))
			again, err := s.Load(ctx(t), bytes.NewReader(archive), image.LoadOptions{Name: "other"})
			if err != nil || again[0].ID != images[0].ID || !slices.Contains(again[0].Names, "docker.io/library/other:latest") {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func skopeo(t *testing.T, ref, format, name string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	out, err := exec.Command("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "docker://"+ref, format+":"+path+":"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo (Debian package skopeo): %v: %s", err, out)
	}
	return []byte(contentOf(t, path))
}

func craneArchive(t *testing.T, ref string, img v1.Image) []byte {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := tarball.Write(tag, img, &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// oldDockerArchive is what docker save wrote before it wrote OCI layouts: a folder a layer, layers not packed, and a link
// for one that occurs twice.
func oldDockerArchive(t *testing.T, ref string, img v1.Image) []byte {
	t.Helper()
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	entries := []registrytest.Entry{registrytest.File("config.json", string(config))}
	var paths []string
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		dir := strings.Repeat(string(rune('a'+i)), 64)
		entries = append(entries, registrytest.Dir(dir, 0o755), registrytest.File(dir+"/real.tar", string(body)),
			registrytest.Link(dir+"/layer.tar", "../"+dir+"/real.tar"))
		paths = append(paths, `"`+dir+`/layer.tar"`)
	}
	manifest := `[{"Config":"config.json","RepoTags":["` + ref + `"],"Layers":[` + strings.Join(paths, ",") + `]}]`
	return registrytest.Tar(t, append(entries, registrytest.File("manifest.json", manifest))...)
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLoadRootFilesystem(t *testing.T) {
	s := open(t)
	rootfs := registrytest.Tar(t, registrytest.Dir("bin", 0o755), registrytest.File("bin/app", "program"), registrytest.File("manifest.json", "{}"))
	config := image.Config{ImageConfig: ocispec.ImageConfig{Cmd: []string{"/bin/app"}}, Healthcheck: &image.Healthcheck{Test: []string{"NONE"}}}
	load := func(archive []byte, opts image.LoadOptions) (image.Image, error) {
		images, err := s.Load(ctx(t), bytes.NewReader(archive), opts)
		if err != nil {
			return image.Image{}, err
		}
		return images[0], nil
	}
	first, err := load(rootfs, image.LoadOptions{Name: "hello", Config: &config})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Config.Cmd, []string{"/bin/app"}) || first.Config.Healthcheck == nil || first.Names[0] != "docker.io/library/hello:latest" {
		t.Errorf("loaded %+v", first)
	}
	if again, err := load(packed(t, rootfs), image.LoadOptions{Name: "hello", Config: &config}); err != nil || again.ID != first.ID {
		t.Errorf("the same filesystem became another image: %v, %v", again.ID, err)
	}
	if got := contentOf(t, mountRootfs(t, s, first.ID, "c"), "bin/app"); got != "program" {
		t.Errorf("bin/app holds %q", got)
	}
	if _, err := load(rootfs, image.LoadOptions{}); !errors.Is(err, image.ErrInvalid) || !strings.Contains(err.Error(), "needs a name") {
		t.Errorf("without a name: %v", err)
	}
}

func TestLoadRefusesWhatIsNoImage(t *testing.T) {
	whole := craneArchive(t, "example.com/app:1", twoLayers(t))
	for what, archive := range map[string][]byte{
		"text":         []byte("#!/bin/sh\necho hello; this is no archive at all\n" + strings.Repeat("x", 1000)),
		"half":         whole[:len(whole)/2],
		"half, packed": packed(t, whole)[:300],
		"bad layer":    bytes.ReplaceAll(oldDockerArchive(t, "example.com/app:1", twoLayers(t)), []byte("in tmp"), []byte("in TMP")),
		"no layer": registrytest.Tar(t, registrytest.File("c", "{}"),
			registrytest.File("manifest.json", `[{"Config":"c","Layers":["gone.tar"]}]`)),
		"link to itself": registrytest.Tar(t, registrytest.Link("c", "c"), registrytest.File("manifest.json", `[{"Config":"c"}]`)),
		"bad index":      registrytest.Tar(t, registrytest.File("oci-layout", "{}"), registrytest.File("index.json", "[]")),
		"no images":      registrytest.Tar(t, registrytest.File("oci-layout", "{}"), registrytest.File("index.json", "{}")),
		"escaping digest": registrytest.Tar(t, registrytest.File("oci-layout", "{}"),
			registrytest.File("index.json", `{"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}`)),
	} {
		t.Run(what, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "images")
			s := openAt(t, root)
			_, err := s.Load(ctx(t), bytes.NewReader(archive), image.LoadOptions{})
			if !errors.Is(err, image.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if images, err := s.List(ctx(t)); err != nil || len(images) != 0 {
				t.Errorf("images %v, %v", images, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, root); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
