package reconciler

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

func TestBackoffDoublesUpToAMinute(t *testing.T) {
	var got []time.Duration
	for failures := range 12 {
		got = append(got, backoff(spec.Restart{}, failures))
	}
	want := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, 51200 * time.Millisecond, time.Minute, time.Minute}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := backoff(spec.Restart{Delay: 5 * time.Second}, 9); got != 5*time.Second {
		t.Errorf("with a delay of its own: %s", got)
	}
	if got := backoff(spec.Restart{}, 1<<30); got != time.Minute {
		t.Errorf("after very many: %s", got)
	}
}

// ended is a container whose run ended.
func ended(condition string, code int, change ...func(*runtime.View)) runtime.View {
	v := runtime.View{Record: runtime.Record{Phase: runtime.Made, Intent: runtime.IntentRun}}
	v.Spec.Restart = spec.Restart{Condition: condition}
	v.State = shim.State{Status: shim.Exited, Started: time.Unix(100, 0), Finished: time.Unix(101, 0), ExitCode: code}
	for _, f := range change {
		f(&v)
	}
	return v
}

func TestRestartPolicies(t *testing.T) {
	stopped := func(v *runtime.View) { v.Intent = runtime.IntentStop }
	never := func(v *runtime.View) { v.Intent = runtime.IntentNone }
	half := func(v *runtime.View) { v.Phase = runtime.Removing }
	lost := func(v *runtime.View) { v.State.Error = runtime.ShimLost }
	rebooted := func(v *runtime.View) { v.State.Error = runtime.HostRestarted }
	oneOff := func(v *runtime.View) { v.OneOff = true }
	tried := func(attempts, most int) func(*runtime.View) {
		return func(v *runtime.View) { v.Attempts, v.Spec.Restart.MaxAttempts = attempts, most }
	}
	for what, c := range map[string]struct {
		v    runtime.View
		want bool
	}{
		"no":                                     {ended(spec.RestartNo, 1), false},
		"always, success":                        {ended(spec.RestartAlways, 0), true},
		"always, failure":                        {ended(spec.RestartAlways, 1), true},
		"always, stopped by a user":              {ended(spec.RestartAlways, 137, stopped), false},
		"always, never started":                  {ended(spec.RestartAlways, 0, never), false},
		"always, half-removed":                   {ended(spec.RestartAlways, 1, half), false},
		"unless-stopped":                         {ended(spec.RestartUnlessStopped, 0), true},
		"unless-stopped, stopped":                {ended(spec.RestartUnlessStopped, 0, stopped), false},
		"on-failure, success":                    {ended(spec.RestartOnFailure, 0), false},
		"on-failure, failure":                    {ended(spec.RestartOnFailure, 1), true},
		"on-failure, attempts left":              {ended(spec.RestartOnFailure, 1, tried(2, 3)), true},
		"on-failure, no attempts left":           {ended(spec.RestartOnFailure, 1, tried(3, 3)), false},
		"always, no attempts left":               {ended(spec.RestartAlways, 0, tried(3, 3)), false},
		"no, but its shim was lost":              {ended(spec.RestartNo, 137, lost), true},
		"no, stopped, and its shim was lost":     {ended(spec.RestartNo, 137, lost, stopped), false},
		"one-off, its shim was lost":             {ended(spec.RestartNo, 137, lost, oneOff), false},
		"no, after a reboot":                     {ended(spec.RestartNo, 137, rebooted), false},
		"always, after a reboot":                 {ended(spec.RestartAlways, 137, rebooted), true},
		"no, its shim was lost with no attempts": {ended(spec.RestartNo, 137, lost, tried(3, 3)), true},
	} {
		if got := shouldRestart(c.v); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func TestStates(t *testing.T) {
	with := func(status shim.Status, intent runtime.Intent, condition string, started bool) runtime.View {
		v := ended(condition, 1)
		v.State.Status, v.Intent = status, intent
		if !started {
			v.State = shim.State{Status: status}
		}
		return v
	}
	for what, c := range map[string]struct {
		v          runtime.View
		restarting bool
		want       string
	}{
		"made":                               {v: with("", runtime.IntentNone, spec.RestartAlways, false), want: planner.Created},
		"its network made, not started":      {v: with(shim.Sandboxed, runtime.IntentNone, spec.RestartNo, false), want: planner.Created},
		"running":                            {v: with(shim.Running, runtime.IntentRun, spec.RestartNo, true), want: planner.Running},
		"running, told to stop":              {v: with(shim.Running, runtime.IntentStop, spec.RestartNo, true), want: planner.Running},
		"paused":                             {v: with(shim.Paused, runtime.IntentRun, spec.RestartNo, true), want: planner.Paused},
		"ended":                              {v: with(shim.Exited, runtime.IntentRun, spec.RestartNo, true), want: planner.Exited},
		"ended, not judged yet":              {v: with(shim.Exited, runtime.IntentRun, spec.RestartAlways, true), want: planner.Restarting},
		"its last attempt is on its way":     {v: with(shim.Exited, runtime.IntentRun, spec.RestartNo, true), restarting: true, want: planner.Restarting},
		"stopped while it was to be started": {v: with(shim.Exited, runtime.IntentStop, spec.RestartAlways, true), restarting: true, want: planner.Exited},
		"half-made":                          {v: func() runtime.View { v := ended(spec.RestartNo, 0); v.Phase = runtime.Making; return v }(), want: planner.Broken},
	} {
		if got := state(c.v, c.restarting, false); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
}

func TestHostPorts(t *testing.T) {
	for what, c := range map[string]struct {
		port spec.Port
		want netdriver.Port
		bad  bool
	}{
		"any port":          {port: spec.Port{Target: 80, Protocol: "tcp"}, want: netdriver.Port{Target: 80, Protocol: "tcp"}},
		"one port":          {port: spec.Port{Target: 80, Published: "8080"}, want: netdriver.Port{Target: 80, HostPort: 8080}},
		"one of a range":    {port: spec.Port{Target: 80, Published: "8000-8010"}, want: netdriver.Port{Target: 80, HostPort: 8000, HostPortEnd: 8010}},
		"a range of one":    {port: spec.Port{Target: 80, Published: "8000-8000"}, want: netdriver.Port{Target: 80, HostPort: 8000}},
		"an address":        {port: spec.Port{Target: 80, HostIP: "127.0.0.1"}, want: netdriver.Port{Target: 80, HostIP: netip.MustParseAddr("127.0.0.1")}},
		"an IPv6 address":   {port: spec.Port{Target: 80, HostIP: "[::1]"}, want: netdriver.Port{Target: 80, HostIP: netip.IPv6Loopback()}},
		"a name as address": {port: spec.Port{Target: 80, HostIP: "localhost"}, bad: true},
		"too large":         {port: spec.Port{Target: 80, Published: "65536"}, bad: true},
		"no number":         {port: spec.Port{Target: 80, Published: "http"}, bad: true},
	} {
		got, err := hostPorts([]spec.Port{c.port})
		if c.bad {
			mentions(t, err, "ports:")
			continue
		}
		if err != nil || !reflect.DeepEqual(got, []netdriver.Port{c.want}) {
			t.Errorf("%s: %+v %v", what, got, err)
		}
	}
}

func TestSubnets(t *testing.T) {
	got, err := subnet(spec.IPAMPool{Subnet: "10.1.2.3/24", IPRange: "10.1.2.128/25", Gateway: "10.1.2.254", Aux: map[string]string{"router": "10.1.2.9"}})
	want := netdriver.Subnet{
		Prefix: netip.MustParsePrefix("10.1.2.0/24"), Range: netip.MustParsePrefix("10.1.2.128/25"), Gateway: netip.MustParseAddr("10.1.2.254"),
		Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.1.2.9")},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for what, pool := range map[string]spec.IPAMPool{
		"subnet": {Subnet: "10.1.2.3"}, "ip_range": {IPRange: "x"}, "gateway": {Gateway: "10.1.2.0/24"}, "aux_addresses.a": {Aux: map[string]string{"a": "b"}},
	} {
		_, err := subnet(pool)
		mentions(t, err, what)
	}
}

func TestTheOrderOfNetworks(t *testing.T) {
	svc := &spec.Service{Networks: map[string]*spec.Attachment{"b": nil, "a": {}, "z": {Priority: 10}, "y": {Priority: -1}}}
	if got, want := networkOrder(svc), []string{"z", "a", "b", "y"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := networkOrder(&spec.Service{NetworkMode: "bridge"}); !slices.Equal(got, []string{"bridge"}) {
		t.Errorf("network_mode bridge: %v", got)
	}
}

func TestNamesOnANetwork(t *testing.T) {
	rec := &runtime.Record{Name: "s-web-1", ID: "0123456789abcdef"}
	svc := &spec.Service{Name: "web"}
	att := &spec.Attachment{Aliases: []string{"www", "web", "api"}}
	for what, c := range map[string]struct {
		c    creation
		want []string
	}{
		"a replica":                {creation{service: svc}, []string{"web", "0123456789ab", "api", "s-web-1", "www"}},
		"a one-off":                {creation{service: svc, oneOff: true, noAliases: true}, []string{"s-web-1", "0123456789ab"}},
		"a one-off, --use-aliases": {creation{service: svc, oneOff: true}, []string{"web", "0123456789ab", "api", "s-web-1", "www"}},
	} {
		got := endpointNames(c.c, rec, att)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestLabelsAreComposes(t *testing.T) {
	svc := &spec.Service{Name: "web", Labels: map[string]string{"own": "1", "both": "file"}, DependsOn: map[string]spec.Dependency{
		"db": {Condition: spec.Healthy, Restart: true}, "cache": {Condition: spec.Started},
	}}
	img := image.Image{ID: "sha256:1", Config: image.Config{ImageConfig: ocispec.ImageConfig{Labels: map[string]string{"both": "image", "img": "2"}}}}
	got := labels(creation{stack: &spec.Stack{Name: "s", WorkingDir: "/w", Files: []string{"/w/a", "/w/b"}}, service: svc, replica: 2}, img)
	for name, want := range map[string]string{
		"own": "1", "both": "file", "img": "2",
		"com.docker.compose.project": "s", "com.docker.compose.service": "web", "com.docker.compose.container-number": "2",
		"com.docker.compose.oneoff": "False", "com.docker.compose.project.config_files": "/w/a,/w/b",
		"com.docker.compose.project.working_dir": "/w", "com.docker.compose.image": "sha256:1",
		"com.docker.compose.depends_on": "cache:service_started:false,db:service_healthy:true",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

func TestVolumesThatGoWithTheirContainer(t *testing.T) {
	v := runtime.View{Record: runtime.Record{Stack: "s", ID: "id", Phase: runtime.Made}}
	shm, own := voldriver.AnonymousName("s", "id", "/dev/shm"), voldriver.AnonymousName("s", "id", "/data")
	v.Anonymous = []string{own, "inherited", shm}
	v.MountSpecs = []spec.Mount{{Type: spec.MountVolume, Target: "/data"}, {Type: spec.MountVolume, Source: "named", Target: "/n"}, {Type: spec.MountTmpfs, Target: "/t"}}
	making := v
	making.Phase = runtime.Making
	for what, c := range map[string]struct {
		v       runtime.View
		volumes bool
		want    []string
	}{
		"with its volumes":    {v, true, []string{own, "inherited", shm}},
		"without its volumes": {v, false, []string{shm}},
		"half-made":           {making, true, []string{own}},
	} {
		if got := disposable(c.v, c.volumes); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
}

func TestWhyAContainerDidNotEndByItself(t *testing.T) {
	ended := func(intent runtime.Intent, state shim.State) runtime.View {
		state.Status = shim.Exited
		return runtime.View{Record: runtime.Record{Intent: intent}, State: state}
	}
	for situation, c := range map[string]struct {
		v    runtime.View
		want string
	}{
		"by itself":                       {ended(runtime.IntentRun, shim.State{ExitCode: 1}), ""},
		"killed by somebody":              {ended(runtime.IntentRun, shim.State{ExitCode: 137, Killed: true}), "killed from outside"},
		"with its shim":                   {ended(runtime.IntentRun, shim.State{Error: runtime.ShimLost}), "its shim was killed"},
		"stopped, after its grace period": {ended(runtime.IntentStop, shim.State{ExitCode: 137, Killed: true}), ""},
	} {
		if got := broken(c.v); got != c.want {
			t.Errorf("%s: %q, want %q", situation, got, c.want)
		}
	}
}
