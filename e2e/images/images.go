// Package images makes the images of real servers that the tests pull: nginx, redis, PostgreSQL, Python and busybox, from
// Debian's packages, with the configuration and the entrypoints' behaviour of the official images of the same names.
//
// They are pushed once into the storage of a Debian docker-registry, kept in a cache folder outside the repository
// ($STACK_E2E_CACHE, or stack-e2e in the user's cache folder) by the hash of their recipes. A registry serves them from
// there under their usual names, so that unmodified stack files come up.
package images

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// recipes/<image>/setup runs as root in the image's root filesystem, after the files of recipes/<image>/root were copied.
//
//go:embed all:recipes
var recipes embed.FS

// Storage returns the folder of a registry's storage that holds every image, making what is missing. It takes about a
// minute the first time and needs root, apt and the network then. Safe to call from several processes.
func Storage(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	key, err := recipesHash()
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	done := filepath.Join(cache, "registry-"+key)
	if _, err := os.Stat(done); err == nil {
		return done, nil
	}
	making, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(making)
	if err := makeAll(ctx, cache, making); err != nil {
		return "", fmt.Errorf("making the test images: %w", err)
	}
	return done, os.Rename(filepath.Join(making, "storage"), done)
}

// makeAll builds every image in dir and pushes it to a registry with its storage in dir/storage.
func makeAll(ctx context.Context, cache, dir string) error {
	base, err := debianBase(ctx, cache)
	if err != nil {
		return err
	}
	registry, err := Start(ctx, Registry{Storage: filepath.Join(dir, "storage")})
	if err != nil {
		return err
	}
	defer registry.Stop()
	baseLayer, err := layer(base + ".tar")
	if err != nil {
		return err
	}
	for _, image := range all {
		layers := []v1.Layer{}
		if image.onDebian {
			layers = append(layers, baseLayer)
		}
		tar, err := build(ctx, image, base, filepath.Join(dir, image.recipe))
		if err != nil {
			return fmt.Errorf("%s: %w", image.recipe, err)
		}
		own, err := layer(tar)
		if err != nil {
			return err
		}
		if err := push(ctx, registry.Addr, image, append(layers, own)); err != nil {
			return fmt.Errorf("%s: %w", image.recipe, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, image.recipe)); err != nil {
			return err
		}
	}
	return nil
}

// debianBase makes a small Debian once: <cache>/debian-<hash> as a folder and as <folder>.tar.
func debianBase(ctx context.Context, cache string) (string, error) {
	script, err := recipes.ReadFile("recipes/debian")
	if err != nil {
		return "", err
	}
	base := filepath.Join(cache, fmt.Sprintf("debian-%.6x", sha256.Sum256(script)))
	if _, err := os.Stat(base); err == nil {
		return base, nil
	}
	making := base + ".making"
	if err := run(ctx, string(script), "BASE="+making, "TAR="+base+".tar"); err != nil {
		return "", fmt.Errorf("debian: %w", err)
	}
	return base, os.Rename(making, base)
}

// build makes an image's own layer below dir and returns its tar archive.
func build(ctx context.Context, image image, base, dir string) (string, error) {
	if !image.onDebian {
		base = filepath.Join(dir, "nothing")
	}
	for _, d := range []string{base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "merged")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	recipe, err := fs.Sub(recipes, "recipes/"+image.recipe)
	if err != nil {
		return "", err
	}
	if root, err := fs.Sub(recipe, "root"); err == nil {
		if _, err := fs.Stat(root, "."); err == nil {
			if err := os.CopyFS(filepath.Join(dir, "upper"), root); err != nil {
				return "", err
			}
		}
	}
	setup, err := fs.ReadFile(recipe, "setup")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "setup"), setup, 0o755); err != nil {
		return "", err
	}
	script, err := recipes.ReadFile("recipes/layer")
	if err != nil {
		return "", err
	}
	tar := filepath.Join(dir, "layer.tar")
	return tar, run(ctx, string(script), "BASE="+base, "DIR="+dir, "TAR="+tar)
}

// run runs a script in a mount and process namespace of its own, so that nothing of it outlives it.
func run(ctx context.Context, script string, env ...string) error {
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"bash", "-euo", "pipefail", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, out.Bytes())
	}
	return nil
}

func layer(tar string) (v1.Layer, error) {
	return tarball.LayerFromFile(tar, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
}

func push(ctx context.Context, registry string, image image, layers []v1.Layer) error {
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", "amd64", image.config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	for _, tag := range image.tags {
		ref, err := name.ParseReference(registry+"/library/"+tag, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img, remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// recipesHash covers everything that decides what the images hold, but for the versions of Debian's packages.
func recipesHash() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(recipes, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := recipes.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(content), content)
		return err
	})
	for _, image := range all {
		config, _ := json.Marshal(image.config)
		fmt.Fprintf(h, "%s %v %v %s\n", image.recipe, image.tags, image.onDebian, config)
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), err
}

func cacheDir() (string, error) {
	dir := os.Getenv("STACK_E2E_CACHE")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			user = "/var/tmp" // CI runs without HOME
		}
		dir = filepath.Join(user, "stack-e2e")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// lock takes the file's lock, waiting for other processes.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// DockerRoot returns a folder with a root file system that has Debian's Docker engine and Compose, for comparisons. Copy it.
func DockerRoot(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	script, err := recipes.ReadFile("recipes/docker")
	if err != nil {
		return "", err
	}
	root := filepath.Join(cache, fmt.Sprintf("docker-%.6x", sha256.Sum256(script)))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := run(ctx, string(script), "ROOT="+root+".making"); err != nil {
		return "", fmt.Errorf("docker: %w", err)
	}
	return root, os.Rename(root+".making", root)
}

// Unpack writes the root file system of an image, such as busybox:latest, to a folder.
func Unpack(ctx context.Context, tag, dir string) error {
	storage, err := Storage(ctx)
	if err != nil {
		return err
	}
	registry, err := Start(ctx, Registry{Storage: storage})
	if err != nil {
		return err
	}
	defer registry.Stop()
	ref, err := name.ParseReference(registry.Addr+"/library/"+tag, name.Insecure)
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	content := mutate.Extract(img)
	defer content.Close()
	tar := exec.CommandContext(ctx, "tar", "-C", dir, "-xpf", "-")
	tar.Stdin = content
	return tar.Run()
}
