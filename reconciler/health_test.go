package reconciler

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
)

func TestHealthchecksAreCompletedByTheImage(t *testing.T) {
	defaults := healthcheck{interval: 30 * time.Second, timeout: 30 * time.Second, startInterval: 5 * time.Second, retries: 3}
	with := func(change func(*healthcheck)) *healthcheck { h := defaults; change(&h); return &h }
	for what, c := range map[string]struct {
		own     *spec.Healthcheck
		ofImage *image.Healthcheck
		want    *healthcheck
	}{
		"none":                        {},
		"the image's":                 {ofImage: &image.Healthcheck{Test: []string{"CMD", "a", "b"}}, want: with(func(h *healthcheck) { h.args = []string{"a", "b"} })},
		"the image's, by a shell":     {ofImage: &image.Healthcheck{Test: []string{"CMD-SHELL", "a b"}}, want: with(func(h *healthcheck) { h.args = []string{"/bin/sh", "-c", "a b"} })},
		"the image's, switched off":   {own: &spec.Healthcheck{Disable: true}, ofImage: &image.Healthcheck{Test: []string{"CMD", "a"}}},
		"the image's NONE":            {ofImage: &image.Healthcheck{Test: []string{"NONE"}}},
		"NONE instead of the image's": {own: &spec.Healthcheck{Test: []string{"NONE"}}, ofImage: &image.Healthcheck{Test: []string{"CMD", "a"}}},
		"times for the image's command": {
			own:     &spec.Healthcheck{Interval: time.Second, Retries: 7},
			ofImage: &image.Healthcheck{Test: []string{"CMD", "a"}, Interval: time.Minute, Timeout: 2 * time.Second},
			want: with(func(h *healthcheck) {
				h.args, h.interval, h.timeout, h.retries = []string{"a"}, time.Second, 2*time.Second, 7
			}),
		},
		"the file's command, the image's times": {
			own:     &spec.Healthcheck{Test: []string{"CMD", "b"}},
			ofImage: &image.Healthcheck{Test: []string{"CMD", "a"}, StartPeriod: time.Minute},
			want:    with(func(h *healthcheck) { h.args, h.startPeriod = []string{"b"}, time.Minute }),
		},
		"times without any command": {own: &spec.Healthcheck{Interval: time.Second}},
		"CMD without a command":     {own: &spec.Healthcheck{Test: []string{"CMD"}}},
	} {
		got, ok := mergeHealthcheck(c.own, c.ofImage)
		if ok != (c.want != nil) || ok && !reflect.DeepEqual(got, *c.want) {
			t.Errorf("%s: got %+v %t, want %+v", what, got, ok, c.want)
		}
	}
}

func checked(name, test string) *spec.Service {
	svc := service(name, "sleep")
	svc.Healthcheck = &spec.Healthcheck{
		Test: []string{"CMD", "/box", "cat", test}, Interval: 50 * time.Millisecond, Timeout: 5 * time.Second, Retries: 2,
	}
	return svc
}

func TestDependentsWaitForHealth(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Healthy, Required: true}}
	h.up(stackOf("one", checked("db", "/data/seed"), web))
	if s := h.one("one", "db"); s.Health != planner.Healthy || s.Probe == nil || s.Probe.ExitCode != 0 {
		t.Errorf("health %q, probe %+v", s.Health, s.Probe)
	}
	h.becomes("one", "web", "running", is(planner.Running))
}

func TestAnUnhealthyDependencySaysWhatItsCheckSaid(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Healthy, Required: true}}
	_, err := h.Up(h.Context(), stackOf("one", checked("db", "/no/such"), web), UpOptions{}, nil)
	mentions(t, err, "one-db-1 is unhealthy", "exit 1", "/no/such")
	var failed *ContainerError
	if !errors.As(err, &failed) || !errors.Is(err, ErrCondition) {
		t.Errorf("%T %v", err, err)
	}
	if s := h.one("one", "web"); s.State != planner.Created {
		t.Errorf("web is %s", s.State)
	}
}

func TestAWaitThatTakesTooLongSaysWhichContainerAndWhatIsKnownOfIt(t *testing.T) {
	h := newHost(t)
	db := checked("db", "/data/seed")
	db.Command, db.Restart = &[]string{"exit", "1"}, spec.Restart{Condition: spec.RestartAlways}
	desired := stackOf("one", db)
	h.up(desired)
	h.becomes("one", "db", "restarted", func(s Status) bool { return s.Restarts > 0 })
	_, err := h.Up(h.Context(), desired, UpOptions{Options: planner.Options{WaitHealthy: true}, WaitTimeout: 2 * time.Second}, nil)
	mentions(t, err, "container one-db-1 is not running and healthy in time: it ended and was restarted, ")
	var late *ContainerError
	if !errors.As(err, &late) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%T %v", err, err)
	}
}

func TestADependencyThatNeedNotBeThereHoldsNobodyUp(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	web.DependsOn = map[string]spec.Dependency{"db": {Condition: spec.Healthy, Required: false}}
	db := checked("db", "/data/seed")
	db.Command = &[]string{"exit", "1"}
	h.up(stackOf("one", db, web))
	h.becomes("one", "web", "running", is(planner.Running))
}

func TestHealthIsFoundAnewAfterARestart(t *testing.T) {
	h := newHost(t)
	db := checked("db", "/data/seed")
	db.Restart = spec.Restart{Condition: spec.RestartAlways}
	h.up(stackOf("one", db))
	healthy := func(s Status) bool { return s.Health == planner.Healthy && s.State == planner.Running }
	before := h.becomes("one", "db", "healthy", healthy)
	h.Must(h.engine.Signal(h.Context(), before.ID, 9))
	h.becomes("one", "db", "healthy again", func(s Status) bool { return healthy(s) && s.Restarts == 1 })
	h.close()
	h.open()
	h.Eventually("it is probed by the new daemon", func() bool { s := h.one("one", "db"); return healthy(s) && s.Probe != nil })
}

func TestAMigrationThatIsDoneHoldsNobodyUpAfterAStop(t *testing.T) {
	h := newHost(t)
	web := service("web", "sleep")
	web.DependsOn = map[string]spec.Dependency{"job": {Condition: spec.CompletedSuccessfully, Required: true}}
	s := stackOf("one", service("job", "exit", "0"), web)
	h.up(s)
	_, err := h.Do(h.Context(), "one", s, func(o *planner.Observed, d *spec.Stack) (planner.Plan, error) {
		return planner.Stop(o, d, planner.StopOptions{Timeout: &zero})
	}, nil)
	h.Must(err)
	h.Must(h.stopContainer(h.Context(), stopRequest{id: h.one("one", "job").ID}))
	if ok, err := h.holds(h.Context(), "one", "job", spec.CompletedSuccessfully); !ok || err != nil {
		t.Errorf("a stop undid the completion: %t %v", ok, err)
	}
	h.up(s)
	h.becomes("one", "web", "running", is(planner.Running))
}
