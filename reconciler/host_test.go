package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/netdriver/drivers"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/runtimetest"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/builtin"
)

func TestMain(m *testing.M) { runtimetest.Main(m) }

// host is everything that a daemon drives, with real containers and networks.
type host struct {
	*runtimetest.Host
	*Reconciler
	clock Clock        // nil: the host's
	hears func(string) // what the daemon says; nil: nobody
}

// Logf is what the daemon says.
func (h *host) Logf(format string, args ...any) {
	if h.hears != nil {
		h.hears(fmt.Sprintf(format, args...))
	}
	h.Host.Logf(format, args...)
}

func newHost(t *testing.T) *host {
	h := &host{Host: runtimetest.New(t)}
	t.Cleanup(h.finish)
	h.open()
	return h
}

// open starts a daemon's parts.
func (h *host) open() {
	h.Helper()
	if h.Images == nil {
		h.OpenImages()
	}
	networks, err := drivers.Open(netdriver.Options{Root: filepath.Join(h.Root, "networks"), RunDir: h.RunDir, Seed: h.Root, Logf: h.Logf})
	h.Must(err)
	volumes, err := builtin.Open(voldriver.Options{Root: filepath.Join(h.Root, "volumes"), Logf: h.Logf})
	h.Must(err)
	engine, err := runtime.Open(h.Options())
	h.Must(err)
	h.Reconciler, err = New(context.Background(), Options{
		Root: h.Root, Engine: engine, Images: h.Images, Networks: networks, Volumes: volumes, Logf: h.Logf, Clock: h.clock,
	})
	h.Must(err)
}

// close ends the daemon; its containers go on.
func (h *host) close() {
	h.Helper()
	h.Reconciler.Close()
	h.engine.Close()
	h.Must(h.networks.Close())
	h.CloseImages()
}

func (h *host) finish() {
	names, err := h.Stacks()
	h.Must(err)
	for _, name := range names {
		h.down(name)
	}
	volumes, err := h.volumes.List()
	h.Must(err)
	for _, v := range volumes {
		h.Must(h.volumes.Remove(context.Background(), v.Name))
	}
	h.close()
	links, err := netlink.LinkList()
	h.Must(err)
	for _, l := range links {
		if l.Attrs().Name != "lo" {
			h.Errorf("link %s is left behind", l.Attrs().Name)
		}
	}
}

// down removes a stack with its volumes.
func (h *host) down(name string) {
	h.Helper()
	_, err := h.Down(h.Context(), name, nil, planner.DownOptions{Volumes: true, RemoveOrphans: true, Timeout: &zero}, nil)
	h.Must(err)
	h.Must(h.Forget(h.Context(), name))
}

// Up takes a stack as requests bring it: it is the reconciler's own, whatever the test does with it afterwards.
func (h *host) Up(ctx context.Context, desired *spec.Stack, opts UpOptions, sink Sink) (int, error) {
	data, err := json.Marshal(desired)
	h.Must(err)
	own := &spec.Stack{}
	h.Must(json.Unmarshal(data, own))
	return h.Reconciler.Up(ctx, own, opts, sink)
}

// service is a service of the host's image.
func service(name string, command ...string) *spec.Service {
	return &spec.Service{
		Name: name, Image: runtimetest.Image, Replicas: 1, Command: &command, Restart: spec.Restart{Condition: spec.RestartNo},
		Networks: map[string]*spec.Attachment{"default": nil}, StopGrace: ptr(time.Second),
	}
}

func ptr[T any](v T) *T { return &v }

// stackOf is a stack of services on one network.
func stackOf(name string, services ...*spec.Service) *spec.Stack {
	s := &spec.Stack{
		Name: name, WorkingDir: "/", Services: map[string]*spec.Service{},
		Networks: map[string]*spec.Network{"default": {Key: "default", Name: name + "_default"}},
	}
	for _, svc := range services {
		s.Services[svc.Name] = svc
	}
	return s
}

// up brings a stack up and fails the test when that fails.
func (h *host) up(s *spec.Stack) int {
	h.Helper()
	n, err := h.Up(h.Context(), s, UpOptions{}, nil)
	h.Must(err)
	return n
}

// one is the only container of a service.
func (h *host) one(stack, service string) Status {
	h.Helper()
	all := slices.DeleteFunc(h.Containers(stack), func(s Status) bool { return s.Service != service })
	if len(all) != 1 {
		h.Fatalf("service %s has %d containers", service, len(all))
	}
	return all[0]
}

// becomes waits for a container to be as wanted.
func (h *host) becomes(stack, service, what string, ok func(Status) bool) Status {
	h.Helper()
	limit := time.After(30 * time.Second)
	for {
		changed := h.Changed(stack)
		s := h.one(stack, service)
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-limit:
			h.Fatalf("service %s never became %s; it is %s, health %q, %d restarts", service, what, s.State, s.Health, s.Restarts)
		}
	}
}

func is(state string) func(Status) bool { return func(s Status) bool { return s.State == state } }

// mentions fails unless an error says all of it.
func mentions(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}
