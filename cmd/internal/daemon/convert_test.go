package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/voldriver"
)

// empty is a backend whose engine has no containers.
func empty(t *testing.T) *backend {
	t.Helper()
	engine, err := runtime.Open(runtime.Options{Root: t.TempDir(), RunDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return &backend{parts: &parts{engine: engine}, options: Options{Logf: func(string, ...any) {}}}
}

func action(address string, err error) error {
	return &reconciler.ActionError{Action: planner.Action{Address: address}, Err: err}
}

func TestErrorsNameTheAddressTheCauseAndTheRemedy(t *testing.T) {
	b := empty(t)
	failed := func(reason, detail string, err error) error {
		return &reconciler.ContainerError{Container: runtime.View{Record: runtime.Record{Name: "s-db-1"}}, Reason: reason, Detail: detail, Err: err}
	}
	port := &netdriver.PortInUseError{Protocol: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:80"), PID: 7, Program: "nginx"}
	for what, c := range map[string]struct {
		err      error
		code     api.Code
		address  string
		message  []string
		remedy   string
		exitCode int
	}{
		"a port in use": {
			err: action("service.web[1]", port), code: api.Conflict, address: "service.web[1]",
			message: []string{"0.0.0.0:80", "nginx", "7"}, remedy: "another host port",
		},
		"a subnet that overlaps": {err: action("network.front", fmt.Errorf("10.0.0.0/8: %w", netdriver.ErrOverlap)), code: api.Conflict, address: "network.front", message: []string{"10.0.0.0/8"}, remedy: "another subnet"},
		"a volume that differs":  {err: action("volume.data", fmt.Errorf("data: %w", voldriver.ErrConflict)), code: api.Conflict, address: "volume.data", remedy: "stack volume rm"},
		"an image's own remedy": {
			err:  action("image.redis", &image.Error{Ref: "redis", Kind: image.ErrUnauthorized, Remedy: "log in"}),
			code: api.Denied, address: "image.redis", message: []string{"redis"}, remedy: "log in",
		},
		"a planner's problem": {
			err:  planner.Problems{{Kind: planner.ErrImageMissing, Address: "service.web", Summary: "no image", Remedy: "pull it", Position: "compose.yaml:3:5"}},
			code: api.Invalid, address: "service.web", message: []string{"compose.yaml:3:5: no image"}, remedy: "pull it",
		},
		"a fault of the file": {
			err:  &reconciler.AddressError{Address: "service.web", Position: "compose.yaml:3:5", Err: errors.New("no such runtime")},
			code: api.Invalid, address: "service.web", message: []string{"compose.yaml:3:5: no such runtime"},
		},
		"a command that is not in the image": {
			err:  action("service.web[1]", failed("can't start", "", fmt.Errorf("start: %w", shim.ErrNoCommand))),
			code: api.Failed, address: "service.web[1]", remedy: "`command`", exitCode: 127,
		},
		"an unhealthy dependency": {
			err:  action("service.db", failed("is unhealthy", "its health check failed: exit 1: refused", reconciler.ErrCondition)),
			code: api.Failed, address: "service.db",
			message: []string{"dependency failed to start: container s-db-1 is unhealthy: its health check failed: exit 1: refused"},
		},
		"a full disk": {err: action("service.web[1]", fmt.Errorf("write: %w", syscall.ENOSPC)), code: api.NoSpace, address: "service.web[1]", remedy: "make room"},
		"a wait that took long": {
			err:  action("service.db", failed("is not healthy in time", "it ended and was restarted, 4 times so far", context.DeadlineExceeded)),
			code: api.Timeout, address: "service.db", message: []string{"container s-db-1 is not healthy in time: it ended and was restarted, 4 times so far"},
		},
		"a client that is gone":   {err: context.Canceled, code: api.Canceled},
		"two wrapped in one":      {err: fmt.Errorf("runtime %q: %w: %w", "x", runtime.ErrRuntime, errors.New("not there")), code: api.Invalid, message: []string{`runtime "x"`, "not there"}},
		"nothing anybody expects": {err: errors.New("odd"), code: api.Internal, message: []string{"odd"}},
	} {
		got := b.failure(context.Background(), c.err)
		if got.Code != c.code || got.Address != c.address || got.ExitCode != c.exitCode || len(got.Others) > 0 {
			t.Errorf("%s: %+v", what, got)
		}
		for _, word := range c.message {
			if !strings.Contains(got.Message, word) {
				t.Errorf("%s: message %q lacks %q", what, got.Message, word)
			}
		}
		if !strings.Contains(got.Remedy, c.remedy) || c.remedy == "" && got.Remedy != "" {
			t.Errorf("%s: remedy %q, want one with %q", what, got.Remedy, c.remedy)
		}
	}
}

func TestAllFailuresOfAnOperationComeTogether(t *testing.T) {
	err := reconciler.Errors{
		action("service.a[1]", netdriver.ErrPortInUse),
		planner.Problems{{Kind: planner.ErrScale, Address: "service.b", Summary: "one"}, {Kind: planner.ErrScale, Address: "service.c", Summary: "two"}},
		action("service.d[1]", errors.New("x")),
	}
	got := empty(t).failure(context.Background(), err)
	addresses := []string{got.Address}
	for _, other := range got.Others {
		addresses = append(addresses, other.Address)
		if len(other.Others) > 0 {
			t.Errorf("%s has others of its own", other.Address)
		}
	}
	if want := []string{"service.a[1]", "service.b", "service.c", "service.d[1]"}; !reflect.DeepEqual(addresses, want) {
		t.Errorf("got %v, want %v", addresses, want)
	}
}

func TestPublishedPortsAreOneLineAnAddress(t *testing.T) {
	ep := netdriver.Endpoint{Ports: []netdriver.Port{
		{HostPort: 80, Target: 8080, Protocol: "tcp"},
		{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, Target: 53, Protocol: "udp"},
	}}
	want := []api.PublishedPort{
		{HostIP: "0.0.0.0", Published: 80, Target: 8080, Protocol: "tcp"},
		{HostIP: "::", Published: 80, Target: 8080, Protocol: "tcp"},
		{HostIP: "127.0.0.1", Published: 53, Target: 53, Protocol: "udp"},
	}
	if got := published(ep); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
