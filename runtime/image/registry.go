package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registryClient talks to registries: which host to ask, how to log in, and over what.
type registryClient struct {
	opts  Options
	keys  authn.Keychain
	base  *http.Transport
	https http.RoundTripper // refuses plain HTTP
	plain http.RoundTripper // allows it

	mu     sync.Mutex
	logins map[string]login
}

// login is a finished handshake with one repository, kept since it costs one to three round trips.
type login struct {
	rt    http.RoundTripper
	until time.Time
}

const loginLife = 2 * time.Minute

func newRegistryClient(opts Options) *registryClient {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DialContext = (&net.Dialer{Timeout: min(10*time.Second, opts.Stall), KeepAlive: 15 * time.Second}).DialContext
	base.TLSHandshakeTimeout = min(10*time.Second, opts.Stall)
	base.ResponseHeaderTimeout = opts.Stall
	base.MaxIdleConnsPerHost = opts.Parallel + 2
	base.IdleConnTimeout = 30 * time.Second
	base.DisableCompression = true // what is hashed is what was sent
	base.ReadBufferSize = 128 << 10
	return &registryClient{
		opts: opts, keys: dockerKeychain{opts.DockerConfig}, base: base,
		https: schemeGuard{base}, plain: base, logins: map[string]login{},
	}
}

// host is one place that may serve a repository: a mirror or the registry itself.
type host struct {
	repo   name.Repository
	plain  bool // plain HTTP is allowed
	mirror string
}

// String names the host in messages.
func (h host) String() string {
	if h.mirror != "" {
		return "mirror " + h.mirror
	}
	return "registry " + h.repo.RegistryStr()
}

// hosts lists where ref may come from, in the order to ask.
func (c *registryClient) hosts(ref Reference) ([]host, error) {
	conf := c.opts.Registries[ref.Registry()]
	var hosts []host
	for _, mirror := range conf.Mirrors {
		h, err := mirrorHost(mirror, ref.Path())
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	plain := conf.PlainHTTP || isLoopback(ref.Registry())
	repo, err := newRepository(ref.Registry(), ref.Path(), plain)
	if err != nil {
		return nil, faultf(ErrInvalid, "registry %s: %w", ref.Registry(), err)
	}
	return append(hosts, host{repo: repo, plain: plain}), nil
}

// mirrorHost reads a mirror's URL. A path in it stands before the repository's name, as proxying registries want it.
func mirrorHost(mirror, path string) (host, error) {
	u, err := url.Parse(mirror)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return host{}, fmt.Errorf("registry mirror %q: want an http:// or https:// URL", mirror)
	}
	prefix := strings.Trim(strings.TrimPrefix(strings.Trim(u.Path, "/")+"/", "v2/"), "/")
	if prefix != "" {
		path = prefix + "/" + path
	}
	plain := u.Scheme == "http"
	repo, err := newRepository(u.Host, path, plain)
	if err != nil {
		return host{}, fmt.Errorf("registry mirror %q: %w", mirror, err)
	}
	return host{repo: repo, plain: plain, mirror: mirror}, nil
}

func newRepository(registry, path string, plain bool) (name.Repository, error) {
	opts := []name.Option{name.WeakValidation}
	if plain {
		opts = append(opts, name.Insecure)
	}
	reg, err := name.NewRegistry(registry, opts...)
	if err != nil {
		return name.Repository{}, err
	}
	return reg.Repo(path), nil
}

func isLoopback(registry string) bool {
	h := registry
	if bare, _, err := net.SplitHostPort(registry); err == nil {
		h = bare
	}
	ip := net.ParseIP(strings.Trim(h, "[]"))
	return h == "localhost" || (ip != nil && ip.IsLoopback())
}

// schemeGuard refuses plain HTTP to hosts nobody allowed it for: neither a fallback nor a redirect may drop TLS.
type schemeGuard struct{ inner http.RoundTripper }

func (g schemeGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, faultf(ErrUnavailable, "%s: plain HTTP is allowed on loopback only, or with `plainHTTP: true` for the registry", r.URL.Host)
	}
	return g.inner.RoundTrip(r)
}

// login makes the handshake with h and returns a transport that carries its credentials.
func (c *registryClient) login(ctx context.Context, h host) (http.RoundTripper, error) {
	key := h.repo.String() + fmt.Sprint(h.plain)
	c.mu.Lock()
	have, ok := c.logins[key]
	c.mu.Unlock()
	if ok && time.Now().Before(have.until) {
		return have.rt, nil
	}
	auth, err := authn.Resolve(ctx, c.keys, h.repo)
	if err != nil {
		return nil, faultf(ErrUnauthorized, "credentials for %s: %w", h.repo.RegistryStr(), err)
	}
	rt := c.https
	if h.plain {
		rt = c.plain
	}
	if rt, err = transport.NewWithContext(ctx, h.repo.Registry, auth, rt, []string{h.repo.Scope(transport.PullScope)}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins[key] = login{rt, time.Now().Add(loginLife)}
	return rt, nil
}

// forget drops a login that was refused, so that the next try reads the credentials anew.
func (c *registryClient) forget(h host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.logins, h.repo.String()+fmt.Sprint(h.plain))
}

// manifest is a document as a host served it, verified against the digest asked for.
type manifest struct {
	desc ocispec.Descriptor
	body []byte
	from []host // the host that served it first, then those that were not asked
}

const remoteTries = 3

// overHosts asks one host after the other until one answers, retrying each a few times where the failure may pass. Its
// error is the registry's own, being the last and the one that counts, with what the mirrors said before it.
func (c *registryClient) overHosts(ctx context.Context, hosts []host, ask func(context.Context, host, http.RoundTripper) error) error {
	var passed []error
	for i, h := range hosts {
		err := c.retry(ctx, h, ask)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if i == len(hosts)-1 {
			if kind := kindOf(err); len(passed) > 0 && kind != nil {
				return &fault{kind, errors.Join(append([]error{err}, passed...)...)}
			}
			return err
		}
		c.opts.Logf("%v passed over: %v", h, err)
		passed = append(passed, &plainText{fmt.Sprintf("(%v: %v)", h, err)})
	}
	return nil
}

// plainText is an error that says something without being matched by errors.Is.
type plainText struct{ text string }

func (p *plainText) Error() string { return p.text }

func (c *registryClient) retry(ctx context.Context, h host, ask func(context.Context, host, http.RoundTripper) error) error {
	for try := 1; ; try++ {
		err := c.once(ctx, h, ask)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = classifyRemote(err)
		if errors.Is(err, ErrUnauthorized) {
			c.forget(h)
		}
		// A mirror is passed over rather than waited for, and a refused connection will be refused again.
		if h.mirror != "" || try == remoteTries || !errors.Is(err, ErrUnavailable) || isRefused(err) || isStalled(err) {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// once logs in and asks. The documents asked for are small, so that a bound on the whole tells a stalled host.
func (c *registryClient) once(ctx context.Context, h host, ask func(context.Context, host, http.RoundTripper) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*c.opts.Stall, errStalled)
	defer cancel()
	rt, err := c.login(ctx, h)
	if err != nil {
		return err
	}
	return ask(ctx, h, rt)
}

// resolve asks for the digest ref points to, without the document where the host allows it.
func (c *registryClient) resolve(ctx context.Context, ref Reference) (digest.Digest, error) {
	hosts, err := c.hosts(ref)
	if err != nil {
		return "", err
	}
	var found digest.Digest
	err = c.overHosts(ctx, hosts, func(ctx context.Context, h host, rt http.RoundTripper) error {
		opts := []remote.Option{remote.WithContext(ctx), remote.WithTransport(rt)}
		if desc, err := remote.Head(h.reference(ref), opts...); err == nil {
			found = digest.Digest(desc.Digest.String())
			return nil
		}
		desc, err := remote.Get(h.reference(ref), opts...)
		if err == nil {
			found = digest.Digest(desc.Digest.String())
		}
		return err
	})
	return found, err
}

// manifest fetches the document ref points to from the first of hosts that has it.
func (c *registryClient) manifest(ctx context.Context, hosts []host, ref Reference) (manifest, error) {
	var m manifest
	err := c.overHosts(ctx, hosts, func(ctx context.Context, h host, rt http.RoundTripper) error {
		desc, err := remote.Get(h.reference(ref), remote.WithContext(ctx), remote.WithTransport(rt))
		if err != nil {
			return err
		}
		if int64(len(desc.Manifest)) > c.opts.Limits.ConfigBytes {
			return faultf(ErrInvalid, "manifest of %d bytes from %v", len(desc.Manifest), h)
		}
		m.body = desc.Manifest
		m.desc = ocispec.Descriptor{MediaType: string(desc.MediaType), Digest: digest.Digest(desc.Digest.String()), Size: desc.Size}
		if want := ref.Digest(); want != "" && want.Algorithm().FromBytes(m.body) != want {
			return faultf(ErrInvalid, "%v sent a manifest that does not match %s", h, want)
		}
		m.from = append([]host{h}, without(hosts, h)...)
		return nil
	})
	return m, err
}

func without(hosts []host, h host) []host {
	var rest []host
	for _, o := range hosts {
		if o != h {
			rest = append(rest, o)
		}
	}
	return rest
}

// reference is ref as this host knows it.
func (h host) reference(ref Reference) name.Reference {
	if d := ref.Digest(); d != "" {
		return h.repo.Digest(d.String())
	}
	return h.repo.Tag(ref.Tag())
}
