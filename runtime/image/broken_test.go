package image_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

// bigLayer does not compress, so that offsets into it are offsets into what is sent.
func bigLayer(t *testing.T, size int) v1.Layer {
	t.Helper()
	body := make([]byte, size)
	rand.Read(body)
	return registrytest.Layer(t, registrytest.Tar(t, registrytest.File("big", string(body))))
}

// digestOf is how a proxy knows a layer.
func digestOf(t *testing.T, l v1.Layer) string {
	t.Helper()
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func quick(o *image.Options) { o.Stall = 300 * time.Millisecond }

func TestBrokenConnectionIsResumed(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 3<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	for what, bad := range map[string]func(p *registrytest.Proxy, w http.ResponseWriter, r *http.Request){
		"dropped": func(p *registrytest.Proxy, w http.ResponseWriter, r *http.Request) { p.DropAfter(w, r, 1<<20) },
		"stalled": func(p *registrytest.Proxy, w http.ResponseWriter, r *http.Request) { p.StallAfter(w, r, 1<<20) },
	} {
		t.Run(what, func(t *testing.T) {
			proxy := reg.Proxy(t)
			var times atomic.Int32
			proxy.OnBlob(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, digestOf(t, layer)) && times.Add(1) <= 2 {
					bad(proxy, w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
			s := open(t, quick)
			img := pull(t, s, proxy.Ref("app:1"))
			if fi := contentOf(t, mountRootfs(t, s, img.ID, "c"), "big"); len(fi) != 3<<20 {
				t.Errorf("big has %d bytes", len(fi))
			}
			resumed := 0
			for _, r := range proxy.Ranges() {
				if strings.HasPrefix(r, "bytes=") {
					resumed++
				}
			}
			if resumed != 2 {
				t.Errorf("requests with ranges %q, want two resumed", proxy.Ranges())
			}
		})
	}
}

func TestHostWithoutRangesIsReadAgain(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 2<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	proxy := reg.Proxy(t)
	var times atomic.Int32
	proxy.OnBlob(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		if strings.HasSuffix(r.URL.Path, digestOf(t, layer)) && times.Add(1) == 1 {
			proxy.DropAfter(w, r, 1<<20)
			return
		}
		next.ServeHTTP(w, r)
	})
	pull(t, open(t), proxy.Ref("app:1"))
}

func TestSilentRegistryIsAnError(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 2<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	for what, silence := range map[string]func(p *registrytest.Proxy){
		"at once": func(p *registrytest.Proxy) {
			p.OnAny(func(w http.ResponseWriter, r *http.Request, _ http.Handler) { p.StallAfter(w, r, 0) })
		},
		"in a layer, without progress": func(p *registrytest.Proxy) {
			p.OnBlob(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, digestOf(t, layer)) {
					<-r.Context().Done()
					return
				}
				next.ServeHTTP(w, r)
			})
		},
	} {
		t.Run(what, func(t *testing.T) {
			proxy := reg.Proxy(t)
			silence(proxy)
			s := open(t, quick)
			start := time.Now()
			_, err := s.Pull(ctx(t), proxy.Ref("app:1"), image.PullOptions{})
			if !errors.Is(err, image.ErrUnavailable) || time.Since(start) > 10*time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		})
	}
}

func TestInterruptedPullIsTakenUpAgain(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 4<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	proxy := reg.Proxy(t)
	stalled := make(chan struct{})
	proxy.OnBlob(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, digestOf(t, layer)) {
			close(stalled)
			proxy.StallAfter(w, r, 3<<20)
			return
		}
		next.ServeHTTP(w, r)
	})
	root := filepath.Join(t.TempDir(), "images")
	s := openAt(t, root)
	c, cancel := context.WithCancel(ctx(t))
	arrived := make(chan struct{}, 1)
	go func() {
		<-arrived
		cancel()
	}()
	_, err := s.Pull(c, proxy.Ref("app:1"), image.PullOptions{Progress: func(p image.Progress) {
		if p.Phase == "downloading" && p.Done >= 2<<20 {
			select {
			case arrived <- struct{}{}:
			default:
			}
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if _, err := s.Get(ctx(t), proxy.Ref("app:1"), ""); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("half an image can be found: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	proxy.OnBlob(nil)
	s = openAt(t, root)
	// A removal in between must not take what was fetched.
	if _, err := s.Prune(ctx(t), true); err != nil {
		t.Fatal(err)
	}
	before := len(proxy.Ranges())
	img := pull(t, s, proxy.Ref("app:1"))
	after := proxy.Ranges()[before:]
	if len(after) != 1 || !strings.HasPrefix(after[0], "bytes=") || after[0] < "bytes=2" {
		t.Errorf("the second pull asked for %q, want the rest of the layer alone", after)
	}
	if got := contentOf(t, mountRootfs(t, s, img.ID, "c"), "big"); len(got) != 4<<20 {
		t.Errorf("big has %d bytes", len(got))
	}
}

func TestFalseBytesAreRefused(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	layer := bigLayer(t, 1<<20)
	reg.Push(t, "app:1", registrytest.Image(t, v1.Config{}, layer))
	isLayer := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, digestOf(t, layer)) }
	rewrite := func(change func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !isLayer(r) {
				next.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			w.Write(change(rec.Body.Bytes()))
		}
	}
	for what, handle := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"other bytes": rewrite(func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b }),
		"too many":    rewrite(func(b []byte) []byte { return append(bytes.Clone(b), "more"...) }),
	} {
		t.Run(what, func(t *testing.T) {
			proxy := reg.Proxy(t)
			proxy.OnBlob(handle)
			root := filepath.Join(t.TempDir(), "images")
			s := openAt(t, root)
			_, err := s.Pull(ctx(t), proxy.Ref("app:1"), image.PullOptions{})
			if !errors.Is(err, image.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, root); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
		t.Run(what+", from a mirror", func(t *testing.T) {
			mirror, origin := reg.Proxy(t), reg.Proxy(t)
			mirror.OnBlob(handle)
			s := open(t, func(o *image.Options) {
				o.Registries = map[string]image.Registry{origin.Addr: {Mirrors: []string{"http://" + mirror.Addr}}}
			})
			pull(t, s, origin.Ref("app:1")) // the registry itself is honest
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	open1 := registrytest.Start(t, registrytest.Options{})
	closed := registrytest.Start(t, registrytest.Options{Login: true})
	closed.Push(t, "secret:1", twoLayers(t))
	arm := registrytest.Image(t, v1.Config{})
	open1.PushIndex(t, "arm:1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}}))
	s := open(t)
	for _, c := range []struct {
		what, ref, platform string
		kind                error
		says                string
	}{
		{"no such repository", open1.Ref("gone:1"), "", image.ErrNotFound, "stack image load"},
		{"no such digest", open1.Ref("gone@sha256:" + strings.Repeat("0", 64)), "", image.ErrNotFound, "stack image load"},
		{"login needed", closed.Ref("secret:1"), "", image.ErrUnauthorized, "docker login"},
		{"nobody there", "127.0.0.1:1/app:1", "", image.ErrUnavailable, "check the network"},
		{"other platform", open1.Ref("arm:1"), "linux/amd64", image.ErrPlatform, "it has linux/arm64"},
		{"malformed", "Not A Name", "", image.ErrInvalid, "[registry/]name"},
		{"malformed platform", open1.Ref("arm:1"), "a/b/c/d", image.ErrPlatform, "a/b/c/d"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := s.Pull(ctx(t), c.ref, image.PullOptions{Platform: c.platform})
			var e *image.Error
			if !errors.Is(err, c.kind) || !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "image ") {
				t.Errorf("got %v", err)
			}
		})
	}
	withLogin := open(t, func(o *image.Options) { o.DockerConfig = closed.DockerConfig(t) })
	pull(t, withLogin, closed.Ref("secret:1"))
}

func TestMirrorsComeFirst(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	other := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "library/nginx:alpine", twoLayers(t))
	reg.Push(t, "cache/library/redis:7", twoLayers(t))
	s := open(t, func(o *image.Options) {
		o.Registries = map[string]image.Registry{"docker.io": {Mirrors: []string{
			"http://127.0.0.1:1", "http://" + other.Addr, "http://" + reg.Addr, "http://" + reg.Addr + "/cache"}}}
	})
	img := pull(t, s, "nginx:alpine")
	if img.Names[0] != "docker.io/library/nginx:alpine" || !strings.HasPrefix(img.RepoDigests[0], "docker.io/library/nginx@sha256:") {
		t.Errorf("names %v %v", img.Names, img.RepoDigests)
	}
	if d, err := s.Resolve(ctx(t), "nginx:alpine", ""); err != nil || d != img.Digest {
		t.Errorf("resolved to %s, %v; pulled %s", d, err, img.Digest)
	}
	pull(t, s, "redis:7@"+img.Digest)
	if got, err := s.Get(ctx(t), "redis:7@"+img.Digest, ""); err != nil || got.ID != img.ID {
		t.Errorf("by tag and digest: %v, %v", got.ID, err)
	}
}

func TestPlainHTTPIsForLoopbackAlone(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	reg.Push(t, "app:1", twoLayers(t))
	_, port, _ := strings.Cut(reg.Addr, ":")
	// Not a loopback name, though it leads there.
	named := "0.0.0.0:" + port + "/app:1"
	_, err := open(t).Pull(ctx(t), named, image.PullOptions{})
	if !errors.Is(err, image.ErrUnavailable) {
		t.Errorf("without permission: %v", err)
	}
	s := open(t, func(o *image.Options) { o.Registries = map[string]image.Registry{"0.0.0.0:" + port: {PlainHTTP: true}} })
	pull(t, s, named)
}
