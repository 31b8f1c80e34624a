package planner

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
	"gopkg.in/yaml.v3"
)

// situation is a desired state, what is there, and a command, as testdata writes them down.
type situation struct {
	desired  *spec.Stack
	observed *Observed
	raw      map[string]any // the desired state as written: services of observed containers start from it
}

// parseDesired reads a desired state: the attributes of the stack file in their short forms, with the defaults that
// loading fills in.
func parseDesired(t testing.TB, text string) *situation {
	t.Helper()
	raw := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatalf("desired: %v", err)
	}
	s := &situation{raw: raw, desired: &spec.Stack{
		Name: "demo", Services: map[string]*spec.Service{}, Disabled: map[string][]string{},
		Networks: map[string]*spec.Network{}, Volumes: map[string]*spec.Volume{},
	}}
	recode(t, section(raw, "networks"), &s.desired.Networks)
	recode(t, section(raw, "volumes"), &s.desired.Volumes)
	recode(t, raw["disabled"], &s.desired.Disabled)
	for name := range section(raw, "services") {
		service := s.service(t, name, nil)
		s.desired.Services[name] = &service
	}
	recode(t, raw["jobs"], &s.desired.Jobs)
	for name, j := range s.desired.Jobs {
		j.Name = name
	}
	for key, n := range s.desired.Networks {
		if n == nil {
			n = &spec.Network{}
			s.desired.Networks[key] = n
		}
		n.Key = key
		if n.Name == "" {
			n.Name = "demo_" + key
		}
	}
	for key, v := range s.desired.Volumes {
		if v == nil {
			v = &spec.Volume{}
			s.desired.Volumes[key] = v
		}
		v.Key = key
		if v.Name == "" {
			v.Name = "demo_" + key
		}
	}
	return s
}

func section(raw map[string]any, key string) map[string]any {
	m, _ := raw[key].(map[string]any)
	return m
}

func recode(t testing.TB, from, to any) {
	t.Helper()
	b, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) == "null" {
		return
	}
	if err := json.Unmarshal(b, to); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// service is one of the stack file, with some attributes other than there.
func (s *situation) service(t testing.TB, name string, other map[string]any) spec.Service {
	t.Helper()
	attrs := map[string]any{"name": name, "image": "app", "replicas": 1, "restart": "no"}
	if raw, ok := section(s.raw, "services")[name].(map[string]any); ok {
		maps.Copy(attrs, raw)
	}
	maps.Copy(attrs, other)
	if policy, ok := attrs["restart"].(string); ok {
		attrs["restart"] = map[string]any{"condition": policy}
	}
	if list, ok := attrs["networks"].([]any); ok {
		attachments := map[string]any{}
		for _, key := range list {
			attachments[key.(string)] = map[string]any{}
		}
		attrs["networks"] = attachments
	}
	if attrs["networks"] == nil && attrs["network_mode"] == nil {
		attrs["networks"] = map[string]any{"default": map[string]any{}}
	}
	for key := range section(attrs, "networks") {
		if _, ok := s.desired.Networks[key]; !ok {
			s.desired.Networks[key] = nil
		}
	}
	for _, config := range []string{"update_config", "rollback_config"} {
		if c, ok := attrs[config].(map[string]any); ok {
			attrs[config] = rollout(t, c)
		}
	}
	attrs["depends_on"] = dependsOn(attrs["depends_on"])
	if list, ok := attrs["volumes"].([]any); ok {
		for i, v := range list {
			if short, ok := v.(string); ok {
				source, target, _ := strings.Cut(short, ":")
				list[i] = map[string]any{"type": "volume", "source": source, "target": target}
				if _, ok := s.desired.Volumes[source]; !ok {
					s.desired.Volumes[source] = nil
				}
			}
		}
	}
	if list, ok := attrs["ports"].([]any); ok {
		for i, p := range list {
			if short, ok := p.(string); ok {
				published, target, _ := strings.Cut(short, ":")
				port, _ := strconv.Atoi(target)
				list[i] = map[string]any{"published": published, "target": port, "protocol": "tcp"}
			}
		}
	}
	var service spec.Service
	recode(t, attrs, &service)
	return service
}

// rollout fills in the defaults and reads durations.
func rollout(t testing.TB, written map[string]any) map[string]any {
	all := map[string]any{"parallelism": 1, "failure_action": "pause", "monitor": "5s"}
	maps.Copy(all, written)
	for key, v := range all {
		if text, ok := v.(string); ok && (key == "monitor" || key == "delay") {
			d, err := time.ParseDuration(text)
			if err != nil {
				t.Fatal(err)
			}
			all[key] = d
		}
	}
	return all
}

func dependsOn(v any) map[string]any {
	deps := map[string]any{}
	switch v := v.(type) {
	case []any:
		for _, name := range v {
			deps[name.(string)] = map[string]any{"condition": spec.Started, "required": true}
		}
	case map[string]any:
		for name, d := range v {
			dep := map[string]any{"condition": spec.Started, "required": true}
			maps.Copy(dep, d.(map[string]any))
			if condition := dep["condition"].(string); !strings.HasPrefix(condition, "service_") {
				dep["condition"] = "service_" + condition
			}
			deps[name] = dep
		}
	}
	return deps
}

// parseObserved reads what is there, a line each:
//
//	all                              every network, volume and image of the desired state
//	no image|network|volume NAME     but not this one
//	image REF id=ID stale volumes=PATHS
//	network KEY name= id= digest=other stack= drift= users=
//	volume KEY name= digest=other stack= users= drift= damage=
//	foreign NAME=ID                  a running container of another stack
//	taken NAME=WHO
//	job NAME suspended {attributes that differ}
//	other STACK/SERVICE STATE [healthy ...] exit=N stopped needs=STACK/SERVICE    a service of another stack
//	paused SERVICE=WHY               a rollout that failed
//	SERVICE[N] STATE [healthy|unhealthy|starting] exit=N stopped due updating drained oneoff hooks initialized succeeds=ID name= id= image= ns= nets= vols= drift= lost= broken= job= {attributes that differ}
func (s *situation) parseObserved(t testing.TB, text string) {
	t.Helper()
	s.observed = &Observed{
		Stack: s.desired.Name, Networks: map[string]*Network{}, Volumes: map[string]*Volume{}, Images: map[string]*Image{},
		Foreign: map[string]string{}, TakenNames: map[string]string{}, Paused: map[string]string{},
		Others: map[string]*Other{}, Jobs: map[string]*Job{},
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		line, braced, _ := strings.Cut(line, "{")
		words := strings.Fields(line)
		values, flags := options(words[1:])
		switch words[0] {
		case "all":
			s.observeAll()
		case "no":
			switch words[1] {
			case "image":
				delete(s.observed.Images, words[2])
			case "network":
				delete(s.observed.Networks, "demo_"+words[2])
			case "volume":
				delete(s.observed.Volumes, "demo_"+words[2])
			}
		case "image":
			s.observed.Images[words[1]] = &Image{ID: or(values["id"], "sha256:"+words[1]), Stale: slices.Contains(flags, "stale"), Volumes: list(values["volumes"])}
		case "network":
			s.observeNetwork(words[1], values)
		case "volume":
			s.observeVolume(words[1], values)
		case "foreign":
			maps.Copy(s.observed.Foreign, values)
		case "job":
			s.observeJob(t, words[1], flags, braced)
		case "other":
			s.observeOther(words[1], flags[1:], values)
		case "paused":
			maps.Copy(s.observed.Paused, values)
		case "taken":
			maps.Copy(s.observed.TakenNames, values)
		default:
			s.observeContainer(t, words[0], flags, values, braced)
		}
	}
}

func options(words []string) (values map[string]string, flags []string) {
	values = map[string]string{}
	for _, w := range words {
		if key, value, ok := strings.Cut(w, "="); ok {
			values[key] = value
		} else {
			flags = append(flags, w)
		}
	}
	return values, flags
}

func or(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

func set(names []string) map[string]bool {
	m := map[string]bool{}
	for _, name := range names {
		m[name] = true
	}
	return m
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func (s *situation) observeAll() {
	for key := range s.desired.Networks {
		s.observeNetwork(key, nil)
	}
	for key := range s.desired.Volumes {
		s.observeVolume(key, nil)
	}
	for _, service := range s.desired.Services {
		s.observed.Images[service.Image] = &Image{ID: "sha256:" + service.Image}
	}
}

func (s *situation) observeNetwork(key string, values map[string]string) {
	n := &Network{Name: "demo_" + key, ID: or(values["id"], "net-"+key), Stack: "demo", Drift: list(values["drift"]), Users: list(values["users"])}
	if d := s.desired.Networks[key]; d != nil {
		n.Name, n.Digest = d.Name, NetworkDigest(*d)
	}
	n.Digest, n.Stack, n.Name = or(values["digest"], n.Digest), or(values["stack"], n.Stack), or(values["name"], n.Name)
	s.observed.Networks[n.Name] = n
}

func (s *situation) observeVolume(key string, values map[string]string) {
	v := &Volume{Name: "demo_" + key, Stack: "demo", Users: list(values["users"]), Drift: list(values["drift"]), Damage: list(values["damage"])}
	if d := s.desired.Volumes[key]; d != nil {
		v.Name, v.Digest = d.Name, VolumeDigest(*d)
	}
	v.Digest, v.Stack, v.Name = or(values["digest"], v.Digest), or(values["stack"], v.Stack), or(values["name"], v.Name)
	s.observed.Volumes[v.Name] = v
}

func (s *situation) observeJob(t testing.TB, name string, flags []string, braced string) {
	t.Helper()
	var job spec.Job
	if desired := s.desired.Jobs[name]; desired != nil {
		recode(t, desired, &job)
	}
	if braced != "" {
		other := map[string]any{}
		if err := yaml.Unmarshal([]byte("{"+braced), &other); err != nil {
			t.Fatal(err)
		}
		recode(t, other, &job)
	}
	s.observed.Jobs[name] = &Job{Spec: job, Suspended: slices.Contains(flags, "suspended")}
}

func (s *situation) observeOther(name string, flags []string, values map[string]string) {
	stack, service, _ := strings.Cut(name, "/")
	other := s.observed.Others[stack]
	if other == nil {
		other = &Other{Desired: &spec.Stack{Name: stack, Services: map[string]*spec.Service{}}}
		s.observed.Others[stack] = other
	}
	desired := &spec.Service{Name: service}
	other.Desired.Services[service] = desired
	if needs := values["needs"]; needs != "" {
		desired.Policy = &spec.Policy{DependsOn: map[string]spec.Dependency{needs: {Condition: spec.Started, Required: true}}}
	}
	if len(flags) == 0 {
		return
	}
	c := Container{ID: "o-" + service, Name: stack + "-" + service + "-1", Service: service, Replica: 1, State: flags[0], Stopped: slices.Contains(flags, "stopped")}
	c.ExitCode, _ = strconv.Atoi(values["exit"])
	if slices.Contains(flags, Healthy) {
		c.Health = Healthy
	}
	other.Containers = append(other.Containers, c)
}

func (s *situation) observeContainer(t testing.TB, word string, flags []string, values map[string]string, braced string) {
	t.Helper()
	address, err := spec.ParseAddress("service." + word)
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]any{}
	if braced != "" {
		if err := yaml.Unmarshal([]byte("{"+braced), &other); err != nil {
			t.Fatalf("%s: %v", braced, err)
		}
	}
	c := Container{
		ID: or(values["id"], fmt.Sprintf("c-%s-%d", address.Name, address.Replica)), Service: address.Name, Replica: address.Replica,
		Spec: s.service(t, address.Name, other), State: flags[0],
		OneOff: slices.Contains(flags, "oneoff") || values["job"] != "", Stopped: slices.Contains(flags, "stopped"), Updating: slices.Contains(flags, "updating"),
		HooksPending: slices.Contains(flags, "hooks"), Job: values["job"], Due: slices.Contains(flags, "due"), Drift: list(values["drift"]),
		Lost: values["lost"], Broken: values["broken"], Initialized: slices.Contains(flags, "initialized"),
		Succeeds: values["succeeds"], Drained: slices.Contains(flags, "drained"),
		NamespaceOf: list(values["ns"]), Networks: map[string]string{}, Volumes: list(values["vols"]),
		Created: time.Unix(int64(len(s.observed.Containers)), 0),
	}
	c.Name = or(values["name"], c.Spec.ContainerNameOf("demo", c.Replica))
	c.ImageID = or(values["image"], "sha256:"+c.Spec.Image)
	c.ExitCode, _ = strconv.Atoi(values["exit"])
	for _, health := range []string{Starting, Healthy, Unhealthy} {
		if slices.Contains(flags, health) {
			c.Health = health
		}
	}
	keys := slices.Sorted(maps.Keys(c.Spec.Networks))
	if nets, ok := values["nets"]; ok {
		keys = list(nets)
	}
	for _, key := range keys {
		key, id, given := strings.Cut(key, ":")
		name := "demo_" + key
		if n := s.desired.Networks[key]; n != nil {
			name = n.Name
		}
		if !given {
			id = "net-" + key
			if n := s.observed.Networks[name]; n != nil {
				id = n.ID
			}
		}
		c.Networks[name] = id
	}
	if _, given := values["vols"]; !given {
		for _, key := range namedVolumes(&c.Spec) {
			if v := s.desired.Volumes[key]; v != nil {
				c.Volumes = append(c.Volumes, v.Name)
			}
		}
	}
	s.observed.Containers = append(s.observed.Containers, c)
}

// run plans a command line such as "up --no-deps web".
func (s *situation) run(t testing.TB, command string) (Plan, error) {
	t.Helper()
	words := strings.Fields(command)
	values, flags := options(words[1:])
	on := func(flag string) bool { return slices.Contains(flags, flag) }
	var services []string
	for _, w := range flags {
		if !strings.HasPrefix(w, "-") {
			services = append(services, w)
		}
	}
	desired := s.desired
	if on("--no-file") {
		desired = nil
	}
	var timeout *time.Duration
	if v, ok := values["--timeout"]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		timeout = &d
	}
	switch words[0] {
	case "up":
		opts := Options{
			Services: services, NoDeps: on("--no-deps"), ForceRecreate: on("--force-recreate"), NoRecreate: on("--no-recreate"),
			AlwaysRecreateDeps: on("--always-recreate-deps"), RemoveOrphans: on("--remove-orphans"), IgnoreOrphans: on("--ignore-orphans"),
			NoStart: on("--no-start"), Pull: values["--pull"], Build: Building(values["--build"]), RenewAnonVolumes: on("--renew-anon-volumes"), Timeout: timeout,
			OneOff: values["--one-off"], WaitHealthy: on("--wait"), KeepStopped: on("--loop"), RollBack: list(values["--roll-back"]), Scale: map[string]int{}, Pulled: map[string]bool{},
		}
		for _, pair := range list(values["--scale"]) {
			name, n, _ := strings.Cut(pair, ":")
			opts.Scale[name], _ = strconv.Atoi(n)
		}
		for _, ref := range list(values["--pulled"]) {
			opts.Pulled[ref] = true
		}
		opts.AsIs, opts.Idle = set(list(values["--as-is"])), set(list(values["--idle"]))
		return Up(desired, s.observed, opts)
	case "down":
		return Down(s.observed, desired, DownOptions{
			Services: services, Volumes: on("-v"), Images: values["--rmi"], RemoveOrphans: on("--remove-orphans"), Timeout: timeout,
		})
	case "stop":
		return Stop(s.observed, desired, StopOptions{Services: services, Timeout: timeout})
	case "start":
		return Start(s.observed, desired, StartOptions{Services: services, Wait: on("--wait")})
	case "restart":
		return Restart(s.observed, desired, RestartOptions{Services: services, NoDeps: on("--no-deps"), Timeout: timeout})
	case "kill":
		return Kill(s.observed, desired, KillOptions{Services: services, Signal: values["--signal"], RemoveOrphans: on("--remove-orphans")})
	case "rm":
		return Remove(s.observed, desired, RemoveOptions{Services: services, Stop: on("--stop"), Volumes: on("-v"), Timeout: timeout})
	case "pause":
		return Pause(s.observed, desired, services)
	case "unpause":
		return Unpause(s.observed, desired, services)
	}
	t.Fatalf("no such command: %s", command)
	return Plan{}, nil
}
