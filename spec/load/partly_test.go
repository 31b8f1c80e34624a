package load

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// kept is a load that is kept, of files that can then be changed.
type kept struct {
	dir, store string
	o          Options
}

// keep loads what is in directories. They must be settled.
func keep(t *testing.T, dir string, o Options) *kept {
	t.Helper()
	o.WorkingDir = dir
	k := &kept{dir: dir, store: t.TempDir(), o: o}
	Cached(t.Context(), k.store, "1", k.o) // what is refused isn't kept
	return k
}

func (k *kept) edit(t *testing.T, changes files) {
	t.Helper()
	for name, content := range changes {
		check(t, os.WriteFile(filepath.Join(k.dir, name), []byte(content), 0o644))
	}
}

// load loads again, by what was kept, and compares with a load that knows nothing of it.
func (k *kept) load(t *testing.T) (partly, good bool) {
	t.Helper()
	got, gotErr := Cached(t.Context(), k.store, "1", k.o)
	want, wantErr := Load(t.Context(), k.o)
	if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
		t.Errorf("error\n%v\nwant\n%v", gotErr, wantErr)
	}
	if gotErr != nil || wantErr != nil {
		return false, false
	}
	if g, w := asJSON(t, got.Stack), asJSON(t, want.Stack); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if g, w := fmt.Sprint(got.Warnings), fmt.Sprint(want.Warnings); g != w {
		t.Errorf("warnings %s\nwant %s", g, w)
	}
	for _, file := range want.Inputs {
		if got.Inputs != nil && !strings.Contains(fmt.Sprint(got.Inputs), file) {
			t.Errorf("%s is no input", file)
		}
	}
	return got.project == nil, true
}

const fleet = `# a comment
version: "3.8"
x-common: &common
  restart: always
  environment: &env {A: "1"}
services:
  web:
    <<: *common
    image: web:${TAG:-1}
    ports: ["80:80"]
    networks: [front]
  app:
    image: app
    depends_on: [db, queue]
    networks: [front, back]
    secrets: [key]
    container_name: the-app
    develop: {watch: [{path: ./src, target: /src, action: sync}]}
  # the database
  db:
    image: db
    environment: *env
    env_file: db.env
    volumes: [data:/data]
    networks: [back]
  queue: {image: queue, networks: [back]}
  sidecar: {image: sidecar, network_mode: "service:app"}
  logger:
    image: logger
    configs: [{source: conf, target: /etc/conf}]
  one: {image: one}
  two: {image: two}
  three: {image: three}
  four: {image: four}
networks: {front: , back: , spare: }
volumes: {data: , more: }
secrets: {key: {file: key.txt}}
configs: {conf: {content: "a=${TAG:-1}"}}
`

// What has changed is loaded by itself and the rest taken from the load before; the result is that of a whole load.
func TestAChangeOfOneServiceLoadsLikeTheWhole(t *testing.T) {
	swap := func(pairs ...string) files {
		changed := strings.NewReplacer(pairs...).Replace(fleet)
		if changed == fleet {
			t.Fatalf("nothing to replace: %q", pairs)
		}
		return files{"compose.yaml": changed}
	}
	cases := []struct {
		name   string
		change files
		o      Options
		partly bool
	}{
		{"an image", swap("image: one", "image: uno"), Options{}, true},
		{"lines before and after", swap("image: one", "image: uno\n", "# a comment", "# two\n# comments"), Options{}, true},
		{"a comment only", swap("# the database", "# the base of data\n\n"), Options{}, true},
		{"a style only", swap("image: one", `image: "one"`), Options{}, true},
		{"two of them", swap("image: one", "image: uno", "image: db", "image: db:2"), Options{}, true},
		{"with dependencies", swap("image: app", "image: app:2"), Options{}, true},
		{"a dependency more", swap("image: logger", "image: logger\n    depends_on: {app: {condition: service_healthy}}"), Options{}, true},
		{"a service shares its network", swap("image: sidecar", "image: sidecar:2"), Options{}, true},
		{"a network more", swap("networks: [front]", "networks: [front, spare]"), Options{}, true},
		{"the last that used a volume", swap("    volumes: [data:/data]\n", ""), Options{}, true},
		{"another volume", swap("data:/data", "more:/data"), Options{}, true},
		{"no secret any more", swap("    secrets: [key]\n", ""), Options{}, true},
		{"the default network no more", swap("{image: one}", "{image: one, network_mode: none}"), Options{}, true},
		{"an env file more", swap("image: logger", "image: logger\n    env_file: db.env"), Options{}, true},
		{"a new service", swap("  one:", "  zero: {image: zero, depends_on: [one]}\n  one:"), Options{}, true},
		{"named ones", swap("image: one", "image: uno"), Options{Services: []string{"one", "app"}}, true},
		{"observed", swap("image: one", "image: uno"), Options{Observing: true}, true},
		{"a rule of develop moves", swap("image: app", "image: app\n"), Options{}, true},
		{"a hook", swap("image: logger", "image: logger\n    pre_start: [{command: [x], volumes: [more:/m]}]"), Options{}, true},

		{"a service less", swap("  two: {image: two}\n", ""), Options{}, false},
		{"a service less that others need", swap("  queue: {image: queue, networks: [back]}\n", ""), Options{}, false},
		{"a name that is new to none", swap("  two:", "  too:"), Options{}, false},
		{"an anchor", swap(`{A: "1"}`, `{A: "2"}`), Options{}, false},
		{"a network", swap("back: ,", "back: {internal: true},"), Options{}, false},
		{"a config's content", swap("a=$", "b=$"), Options{}, false},
		{"a profile", swap("{image: one}", "{image: one, profiles: [p]}"), Options{}, false},
		{"extends", swap("{image: one}", "{image: one, extends: two}"), Options{}, false},
		{"another file, too", files{"compose.yaml": swap("image: one", "image: uno")["compose.yaml"], "db.env": "B=9"}, Options{}, false},
		{"an override appears", files{"compose.override.yaml": "services: {one: {image: uno}}"}, Options{}, false},
		{"an unknown name", swap("image: one", "image: uno"), Options{Services: []string{"nobody"}}, false},
		{"everything", files{"compose.yaml": regexp.MustCompile(`image: (\w+)`).ReplaceAllString(fleet, "image: x$1")}, Options{}, false},
		{"an alias to what is gone", swap("{image: one}", "&one {image: one}", "{image: two}", "*one"), Options{}, false},
		{"two in a line", swap("  one: {image: one}\n  two: {image: two}\n", "  ? one\n  : {image: uno}\n  two: {image: two}\n"), Options{}, true},

		{"an error", swap("image: one", "imag: one"), Options{}, false},
		{"a wrong value", swap("{image: one}", "{image: one, ports: [x]}"), Options{}, false},
		{"an unknown dependency", swap("{image: one}", "{image: one, depends_on: [nobody]}"), Options{}, false},
		{"an unknown network", swap("{image: one}", "{image: one, networks: [nowhere]}"), Options{}, false},
		{"a circle", swap("image: queue", "image: queue, depends_on: [app]"), Options{}, false},
		{"a port that another has", swap("{image: one}", `{image: one, ports: ["80:90"]}`), Options{}, false},
		{"a name that another has", swap("{image: one}", "{image: one, container_name: the-app}"), Options{}, false},
		{"a variable that is not set", swap("image: one", "image: one$NOBODY"), Options{}, false},
		{"a variable that must be set", swap("image: one", "image: ${NOBODY:?no}"), Options{}, false},
		{"a warning", swap("{image: one}", "{image: one, volumes: [/var/run/docker.sock:/s]}"), Options{}, false},
		{"a missing env file", swap("{image: one}", "{image: one, env_file: none.env}"), Options{}, false},
		{"broken YAML", swap("{image: one}", "{image: one"), Options{}, false},
		{"twice the same", swap("  two:", "  one:"), Options{}, false},
	}
	situations := make([]*kept, len(cases))
	for i := range cases {
		situations[i] = &kept{dir: files{"compose.yaml": fleet, "db.env": "B=2", "key.txt": "k"}.write(t)}
	}
	waitSettled(t, situations[len(cases)-1].dir)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			k := keep(t, situations[i].dir, c.o)
			k.edit(t, c.change)
			if partly, _ := k.load(t); partly != c.partly {
				t.Errorf("partly: %v, want %v", partly, c.partly)
			}
		})
	}
}

// A change of a service can be one of another, where a key entangles the two.
func TestServicesThatAreAboutOthersAreLoadedAsAWhole(t *testing.T) {
	for name, c := range map[string]struct{ before, from, to string }{
		"profiles": {"services:\n  a: {image: a, profiles: [p]}\n  b: {image: b, depends_on: {a: {condition: service_started, required: false}}}\n  c: {image: c}\n", "[p]", "[q]"},
		"jobs":     {"services:\n  a: {image: a}\n  b: {image: b}\njobs:\n  j: {image: j, depends_on: [a], triggers: {schedule: ['0 4 * * *']}}\n", "image: a", "image: aa"},
		"extends":  {"services:\n  a: {image: a}\n  b: {extends: {service: a}}\n  c: {image: c}\n", "image: a", "image: aa"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := files{"compose.yaml": c.before}.write(t)
			waitSettled(t, dir)
			k := keep(t, dir, Options{Profiles: []string{"p"}})
			k.edit(t, files{"compose.yaml": strings.Replace(c.before, c.from, c.to, 1)})
			if partly, good := k.load(t); partly || !good {
				t.Errorf("partly: %v, good: %v", partly, good)
			}
		})
	}
}

func TestFilesWithoutServicesAreLoadedAsAWhole(t *testing.T) {
	for _, content := range []string{"x-note: a\n", "services: {}\nx-note: a\n", "services:\nvolumes: {v: }\n", "services:\n  a: !reset null\nvolumes: {v: }\n"} {
		dir := files{"compose.yaml": content}.write(t)
		waitSettled(t, dir)
		k := keep(t, dir, Options{Observing: true})
		k.edit(t, files{"compose.yaml": "# a comment\n" + content})
		if partly, _ := k.load(t); partly {
			t.Errorf("%q: partly", content)
		}
	}
}

func TestAChangeInOneOfSeveralFiles(t *testing.T) {
	base := "services:\n  a: {image: a}\n  b:\n    image: b\n    command: [one, two]\n    ports: [\"1:1\"]\n  c: {image: c}\n  d: {image: d}\n"
	over := "services:\n  b:\n    environment: {X: y}\n    ports: [\"2:2\"]\n  d: {init: true}\n"
	for i, change := range []files{
		{"compose.yaml": strings.Replace(base, "image: b", "image: bb", 1)},
		{"compose.override.yaml": strings.Replace(over, "X: y", "X: z", 1)},
		{"compose.yaml": strings.Replace(base, "image: c", "image: cc", 1)},
		{"compose.override.yaml": over + "  a: {init: true}\n"},
		{"compose.override.yaml": strings.Replace(over, "ports:", "ports: !override", 1)},
		{"compose.override.yaml": strings.Replace(over, "ports: [\"2:2\"]", "command: !reset null", 1)},
		{"compose.yaml": strings.Replace(base, "image: b", "image: bb", 1), "compose.override.yaml": strings.Replace(over, "X: y", "X: z", 1)},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir := files{"compose.yaml": base, "compose.override.yaml": over}.write(t)
			waitSettled(t, dir)
			k := keep(t, dir, Options{})
			k.edit(t, change)
			if partly, _ := k.load(t); !partly {
				t.Error("loaded as a whole")
			}
		})
	}
}

// What was kept of a load serves many changes, one after the other, and so does what a part was made of.
func TestChangesOneAfterTheOther(t *testing.T) {
	dir := files{"compose.yaml": fleet, "db.env": "B=2", "key.txt": "k"}.write(t)
	waitSettled(t, dir)
	k := keep(t, dir, Options{})
	for i := range 4 {
		k.edit(t, files{"compose.yaml": strings.NewReplacer("image: two", fmt.Sprintf("image: two:%d", i), "image: one", fmt.Sprintf("\n    image: one:%d", i/2)).Replace(fleet)})
		waitSettled(t, dir)
		if partly, _ := k.load(t); !partly {
			t.Errorf("change %d: loaded as a whole", i)
		}
		if again, err := Cached(t.Context(), k.store, "1", k.o); err != nil || again.Inputs != nil {
			t.Errorf("change %d: the result was not kept: %v", i, err)
		}
	}
}

// A random service of each file of the corpus is changed.
func TestChangesInTheCorpus(t *testing.T) {
	dir := corpus()
	if dir == "" {
		t.Log("no corpus beside the repository: nothing to load")
		return
	}
	begin := regexp.MustCompile(`(?m)^services:.*\n(?:\s*(?:#.*)?\n)*( +)\S`)
	r := rand.New(rand.NewPCG(1, 2))
	partly, changes := 0, 0
	for _, e := range manifest(t, dir) {
		o := e.prepare(t, dir)
		waitSettled(t, o.WorkingDir)
		k := keep(t, o.WorkingDir, o)
		main := filepath.Join(o.WorkingDir, o.Files[0])
		before, err := os.ReadFile(main)
		check(t, err)
		m := begin.FindSubmatch(before)
		if m == nil {
			continue
		}
		keys := regexp.MustCompile(`(?m)^`+string(m[1])+`[\w.-]+:[ \t]*\r?$`).FindAllIndex(before, -1)
		for range min(len(keys), 1) {
			at := keys[r.IntN(len(keys))][1]
			inside := string(m[1]) + string(m[1])
			after := string(before[:at]) + "\n" + inside + "stop_signal: SIGUSR1" + string(before[at:])
			check(t, os.WriteFile(main, []byte(after), 0o644))
			changes++
			if saved, _ := k.load(t); saved {
				partly++
			}
			if t.Failed() {
				t.Fatalf("%s:\n%s", e.id, after)
			}
		}
	}
	t.Logf("%d of %d changes needed no whole load", partly, changes)
	if partly < 8 {
		t.Error("hardly any change was loaded by itself: there is little to compare")
	}
}

// Random services in random files, changed at random.
func TestRandomChangesLoadLikeTheWhole(t *testing.T) {
	const rounds = 25
	r := rand.New(rand.NewPCG(7, 11))
	type round struct {
		dir    string
		before []string
	}
	all := make([]round, rounds)
	for i := range all {
		n := 8 + r.IntN(8)
		all[i].before = make([]string, n)
		for s := range n {
			all[i].before[s] = randomService(r, s, n)
		}
		all[i].dir = files{"compose.yaml": randomFile(all[i].before), "a.env": "E=1", "b.env": "E=2", "s.txt": "s"}.write(t)
	}
	waitSettled(t, all[rounds-1].dir)
	partly, refused := 0, 0
	for _, round := range all {
		k := keep(t, round.dir, Options{Environ: []string{"SET=1"}})
		for range 3 {
			s := r.IntN(len(round.before))
			round.before[s] = randomService(r, s, len(round.before))
			if r.IntN(6) == 0 {
				round.before = append(round.before, randomService(r, len(round.before), len(round.before)))
			}
			k.edit(t, files{"compose.yaml": randomFile(round.before)})
			saved, good := k.load(t)
			if saved {
				partly++
			}
			if !good {
				refused++
			}
			if t.Failed() {
				t.Fatalf("after:\n%s", randomFile(round.before))
			}
		}
	}
	t.Logf("of %d changes %d needed no whole load, %d were refused", 3*rounds, partly, refused)
	if partly < rounds || refused < 5 {
		t.Error("the changes are not of all kinds")
	}
}

func randomFile(services []string) string {
	return "x-e: &e {K: v}\nservices:\n" + strings.Join(services, "") +
		"networks: {n0: , n1: {internal: true}, n2: }\nvolumes: {v0: , v1: , v2: }\nsecrets: {s0: {file: s.txt}}\nconfigs: {c0: {content: hi}}\n"
}

func randomService(r *rand.Rand, i, n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  s%d:\n    image: i%d\n", i, r.IntN(3))
	attributes := []string{
		"    environment: {A: \"%d\"}\n", "    env_file: [a.env]\n", "    env_file: b.env\n", "    environment: *e\n", "    command: echo %d\n",
		"    volumes: [\"v%d:/data\"]\n", "    secrets: [s0]\n", "    configs: [c0]\n", "    networks: [n%d]\n", "    networks: {n0: {aliases: [x%d]}, n1: }\n",
		"    ports: [\"%d:80\"]\n", "    labels: [\"l=%d\"]\n", "    init: true\n", "    hostname: \"${SET}-%d\"\n", "    restart: always\n",
		"    healthcheck: {test: [CMD, \"true\"], retries: %d}\n", "    scale: %d\n", "    deploy: {replicas: %d}\n", "    # note %d\n\n", "    user: |\n      u%d\n",
	}
	used := map[string]bool{}
	add := func(text string) {
		key, _, _ := strings.Cut(strings.TrimSpace(text), ":")
		if !used[key] {
			used[key] = true
			b.WriteString(text)
		}
	}
	for range r.IntN(6) {
		text := attributes[r.IntN(len(attributes))]
		if strings.Contains(text, "%d") {
			text = fmt.Sprintf(text, r.IntN(3))
		}
		add(text)
	}
	if i > 0 && r.IntN(3) == 0 {
		add(fmt.Sprintf("    depends_on: [s%d]\n", r.IntN(i)))
	}
	switch r.IntN(150) {
	case 0:
		add(fmt.Sprintf("    depends_on: [s%d]\n", r.IntN(n+1)))
	case 1:
		add("    container_name: same\n")
	case 2:
		add("    hostname: $UNSET\n")
	case 3:
		add("    network_mode: service:s0\n")
	case 4:
		add("    volumes_from: [s0]\n")
	case 5:
		add("    links: [\"s0:alias\"]\n")
	case 6:
		add("    imag: y\n")
	case 7:
		add("    profiles: [p]\n")
	}
	return b.String()
}
