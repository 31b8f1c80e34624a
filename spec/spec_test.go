package spec

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

func web() *Service {
	return &Service{
		Name: "web", Image: "nginx:1", Replicas: 1,
		Environment: map[string]string{"LOG_LEVEL": "info"},
		Ports:       []Port{{Published: "80", Target: 80, Protocol: "tcp"}, {Published: "443", Target: 443, Protocol: "tcp"}},
		Secrets:     []FileMount{{Source: "key", Target: "/run/secrets/key", Digest: "sha256:aaaaaaaaaaaaaaaa"}},
		Configs:     []FileMount{{Source: "site", Target: "/site", Digest: "sha256:bbbbbbbbbbbbbbbbbb"}},
		Restart:     Restart{Condition: RestartNo},
	}
}

func TestDigestChangesOnlyWithWhatContainersAreMadeFrom(t *testing.T) {
	grace := time.Second
	for name, c := range map[string]struct {
		change   func(*Service)
		recreate bool
	}{
		"image":                   {func(s *Service) { s.Image = "nginx:2" }, true},
		"one variable":            {func(s *Service) { s.Environment = map[string]string{"LOG_LEVEL": "debug"} }, true},
		"a hook after the start":  {func(s *Service) { s.PostStart = []Hook{{Command: []string{"a"}}} }, true},
		"a hook before the start": {func(s *Service) { s.PreStart = []InitContainer{{}} }, true},
		"a hook before the stop":  {func(s *Service) { s.PreStop = []Hook{{Command: []string{"a"}}} }, false},
		"content of a secret":     {func(s *Service) { s.Secrets = []FileMount{{Source: "key", Target: "/run/secrets/key", Digest: "x"}} }, true},
		"command set to nothing":  {func(s *Service) { s.Command = &[]string{} }, true},
		"a port":                  {func(s *Service) { s.Ports = s.Ports[1:] }, false},
		"a network":               {func(s *Service) { s.Networks = map[string]*Attachment{"front": nil} }, false},
		"the network mode":        {func(s *Service) { s.NetworkMode = "host" }, true},
		"limits":                  {func(s *Service) { s.Resources.Memory = 1 << 30 }, false},
		"logging":                 {func(s *Service) { s.Logging = &Logging{Options: map[string]string{"max-size": "1m"}} }, false},
		"labels":                  {func(s *Service) { s.Labels = map[string]string{"a": "b"} }, false},
		"replicas":                {func(s *Service) { s.Replicas = 3 }, false},
		"depends_on":              {func(s *Service) { s.DependsOn = map[string]Dependency{"db": {}} }, false},
		"pull_policy":             {func(s *Service) { s.PullPolicy = "always" }, false},
		"profiles":                {func(s *Service) { s.Profiles = []string{"p"} }, false},
		"restart":                 {func(s *Service) { s.Restart.Condition = RestartAlways }, false},
		"healthcheck":             {func(s *Service) { s.Healthcheck = &Healthcheck{Disable: true} }, false},
		"stop_signal":             {func(s *Service) { s.StopSignal = "SIGINT" }, false},
		"stop_grace_period":       {func(s *Service) { s.StopGrace = &grace }, false},
		"how it is rolled out":    {func(s *Service) { s.UpdateConfig, s.RollbackConfig = &Rollout{Order: StartFirst}, &Rollout{} }, false},
		"what watch does":         {func(s *Service) { s.Develop = &Develop{Watch: []WatchRule{{Path: "/src", Action: WatchRestart}}} }, false},
		"its virtual address":     {func(s *Service) { s.EndpointMode = VIP }, true},
		"place in the stack file": {func(s *Service) { s.Position = "f:1:1" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := web()
			c.change(changed)
			if got := changed.Digest() != web().Digest(); got != c.recreate {
				t.Errorf("digest changed: %v, want %v", got, c.recreate)
			}
		})
	}
}

func TestDiffNamesTheFieldsThatDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Service)
		want   []string
	}{
		"nothing":                  {func(*Service) {}, nil},
		"the place in the file":    {func(s *Service) { s.Position = "f:1:1" }, nil},
		"a variable":               {func(s *Service) { s.Environment["LOG_LEVEL"] = "debug" }, []string{`environment.LOG_LEVEL: "info" -> "debug"`}},
		"a network more":           {func(s *Service) { s.Networks = map[string]*Attachment{"more": {}} }, []string{`networks.more: (none) -> {}`}},
		"a variable more":          {func(s *Service) { s.Environment["A"] = "" }, []string{`environment.A: (none) -> ""`}},
		"the first map of a kind":  {func(s *Service) { s.Labels = map[string]string{"a": "b"} }, []string{`labels.a: (none) -> "b"`}},
		"a network without a word": {func(s *Service) { s.Networks = map[string]*Attachment{"front": nil} }, []string{`networks.front: (none) -> {}`}},
		"a command":                {func(s *Service) { s.Command = &[]string{"a", "b"} }, []string{`command: (none) -> ["a","b"]`}},
		"a port's number":          {func(s *Service) { s.Ports[1].Published = "8443" }, []string{`ports[1].published: "443" -> "8443"`}},
		"a port less":              {func(s *Service) { s.Ports = s.Ports[1:] }, []string{`ports[0]: {"protocol":"tcp","published":"80","target":80} -> (none)`}},
		"a secret's content":       {func(s *Service) { s.Secrets[0].Digest = "sha256:cc" }, []string{`secrets.key.content: "(secret)" -> "(secret)"`}},
		"a config's content":       {func(s *Service) { s.Configs[0].Digest = "sha256:cc" }, []string{`configs.site.content: "bbbbbbbbbbbb" -> "cc"`}},
		"a size beyond floats":     {func(s *Service) { s.Resources.Memory = 1<<62 + 1 }, []string{`resources.mem_limit: (none) -> 4611686018427387905`}},
		"two fields, sorted": {func(s *Service) { s.User, s.Image = "1", "x" },
			[]string{`image: "nginx:1" -> "x"`, `user: (none) -> "1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := web()
			c.change(changed)
			var got []string
			for _, d := range Diff(web(), changed) {
				got = append(got, d.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestDiffOfAServiceThatCameListsItsFields(t *testing.T) {
	got := Diff(nil, &Service{Name: "a", Image: "x"})
	want := []Change{{Path: "image", New: `"x"`}, {Path: "name", New: `"a"`}, {Path: "replicas", New: "0"}, {Path: "restart.condition", New: `""`}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func on(names ...string) *Service {
	s := &Service{DependsOn: map[string]Dependency{}}
	for _, n := range names {
		s.DependsOn[n] = Dependency{Condition: Started, Required: true}
	}
	return s
}

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		services map[string]*Service
		want     []string
		cycle    []string
	}{
		"alphabetical without dependencies": {map[string]*Service{"b": on(), "a": on()}, []string{"a", "b"}, nil},
		"dependencies first":                {map[string]*Service{"a": on("c"), "b": on("a"), "c": on()}, []string{"c", "a", "b"}, nil},
		"an absent one is passed over":      {map[string]*Service{"a": on("gone")}, []string{"a"}, nil},
		"a link is a dependency":            {map[string]*Service{"a": {Links: []string{"b:db"}}, "b": on()}, []string{"b", "a"}, nil},
		"a shared namespace is one":         {map[string]*Service{"a": {PID: "service:b"}, "b": on()}, []string{"b", "a"}, nil},
		"volumes_from is one":               {map[string]*Service{"a": {VolumesFrom: []string{"b:ro", "container:x"}}, "b": on()}, []string{"b", "a"}, nil},
		"itself":                            {map[string]*Service{"a": on("a")}, nil, []string{"a", "a"}},
		"in a circle":                       {map[string]*Service{"a": on("b"), "b": on("c"), "c": on("b")}, nil, []string{"b", "c", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Order(c.services)
			var cycle *CycleError
			if errors.As(err, &cycle) != (c.cycle != nil) || cycle != nil && !slices.Equal(cycle.Path, c.cycle) {
				t.Fatalf("error %v, want the circle %v", err, c.cycle)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestSelect(t *testing.T) {
	stack := &Stack{
		Services: map[string]*Service{
			"web":  {Name: "web", DependsOn: on("db").DependsOn, Networks: map[string]*Attachment{"front": {}}},
			"db":   {Name: "db", Networks: map[string]*Attachment{"back": {}}, Mounts: []Mount{{Type: MountVolume, Source: "data"}}},
			"cron": {Name: "cron", Networks: map[string]*Attachment{"back": {}}},
		},
		Disabled: map[string][]string{"debug": {"tools"}},
		Networks: map[string]*Network{"front": {}, "back": {}},
		Volumes:  map[string]*Volume{"data": {}, "unused": {}},
	}
	for name, c := range map[string]struct {
		names    []string
		withDeps bool
		services []string
		networks int
		volumes  int
	}{
		"all without names":         {nil, true, []string{"cron", "db", "web"}, 2, 2},
		"with dependencies":         {[]string{"web"}, true, []string{"db", "web"}, 2, 1},
		"without dependencies":      {[]string{"web"}, false, []string{"web"}, 1, 0},
		"one that depends on none":  {[]string{"cron"}, true, []string{"cron"}, 1, 0},
		"two, one the other's need": {[]string{"db", "web"}, true, []string{"db", "web"}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := stack.Select(c.names, c.withDeps)
			if err != nil {
				t.Fatal(err)
			}
			if order, _ := Order(got.Services); !slices.Equal(slices.Sorted(slices.Values(order)), c.services) {
				t.Errorf("services %v, want %v", order, c.services)
			}
			if len(got.Networks) != c.networks || len(got.Volumes) != c.volumes {
				t.Errorf("%d networks and %d volumes, want %d and %d", len(got.Networks), len(got.Volumes), c.networks, c.volumes)
			}
			for _, s := range got.Services {
				for dep := range s.DependsOn {
					if got.Services[dep] == nil {
						t.Errorf("%s still depends on %s, which is not selected", s.Name, dep)
					}
				}
			}
		})
	}
	if len(stack.Services["web"].DependsOn) != 1 {
		t.Error("selecting changed the stack")
	}

	var unknown *UnknownServiceError
	if _, err := stack.Select([]string{"wbe"}, true); !errors.As(err, &unknown) || unknown.Similar != "web" {
		t.Errorf("a mistyped name: %v", err)
	}
	if _, err := stack.Select([]string{"debug"}, true); !errors.As(err, &unknown) || !slices.Equal(unknown.Profiles, []string{"tools"}) {
		t.Errorf("a disabled service: %v", err)
	}
}

func TestAddressesReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Address{
		"service.web":         ServiceAddress("web"),
		"service.web[2]":      ReplicaAddress("web", 2),
		"service.a.b[12]":     ReplicaAddress("a.b", 12),
		"network.front":       NetworkAddress("front"),
		"volume.data":         VolumeAddress("data"),
		"image.ghcr.io/x/y:1": ImageAddress("ghcr.io/x/y:1"),
		"secret.key":          SecretAddress("key"),
		"config.site":         ConfigAddress("site"),
	} {
		got, err := ParseAddress(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "web", "service.", "thing.x", "service.web[99999999999999999999]"} {
		if a, err := ParseAddress(text); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %+v, %v", text, a, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("service.web[2]")
	f.Add("image.a[1]")
	f.Add("service.a[0]")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAddress(text)
		if err == nil && a.String() != text {
			t.Errorf("%q is read as %+v, which is written %q", text, a, a)
		}
	})
}

func TestClosest(t *testing.T) {
	candidates := []string{"image", "init", "ipc", "environment", "env_file", "expose"}
	for word, want := range map[string]string{
		"imgae": "image", "enviroment": "environment", "envfile": "env_file", "expsoe": "expose", "quux": "", "i": "", "": "",
	} {
		if got := Closest(word, candidates); got != want {
			t.Errorf("closest to %q: %q, want %q", word, got, want)
		}
	}
}

func TestNormalizeName(t *testing.T) {
	for in, want := range map[string]string{"My App": "myapp", "_x-1": "x-1", "Überfall": "berfall", "...": ""} {
		if got := NormalizeName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDiagnosticsSayWhereAndHowBad(t *testing.T) {
	ds := Diagnostics{
		{Severity: Error, File: "f", Line: 1, Column: 2, Path: "services.web", Summary: "bad", Remedy: "mend it"},
		{Severity: Warning, Summary: "odd"},
	}
	if got, want := ds.Error(), "f:1:2: services.web: bad; mend it\nwarning: odd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !ds.HasErrors() || ds[1:].HasErrors() {
		t.Error("HasErrors does not tell errors from warnings")
	}
}

func TestADiffTellsNoSecretOfAPreStartHook(t *testing.T) {
	with := func(digest string) *Service {
		s := web()
		hook := InitContainer{Service: *web()}
		hook.Secrets = []FileMount{{Source: "key", Target: "/run/secrets/key", Digest: digest}}
		s.PreStart = []InitContainer{hook}
		return s
	}
	changes := Diff(with("sha256:aaaa"), with("sha256:bbbb"))
	if len(changes) != 1 || changes[0].Path != "pre_start[0].secrets.key.content" || changes[0].Old != `"(secret)"` || changes[0].New != `"(secret)"` {
		t.Errorf("the changes are %+v", changes)
	}
	labelled := with("sha256:aaaa")
	labelled.PreStart[0].Labels = map[string]string{"a": "b"}
	if labelled.Digest() != with("sha256:aaaa").Digest() {
		t.Error("what changes in place for a service makes a new container when a hook inherits it")
	}
}
