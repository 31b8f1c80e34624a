package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

func TestARevisionThatFailsIsHeldOrRolledBackAsToldAndTriedOnce(t *testing.T) {
	h := follows(t)
	stack := func(check string) string {
		return `services: {a: {image: busybox, init: true, command: [sleep, infinity], environment: {CHECK: "` + check + `"}, healthcheck: {test: [CMD, "` + check + `"], interval: 500ms, retries: 1}}}`
	}
	repos := map[string]*repo{}
	for name, onFailure := range map[string]string{"held": "hold", "back": "rollback"} {
		r := newRepo(h, name)
		repos[name] = r
		good := r.push("good", map[string]string{"compose.yaml": stack("true")})
		h.Stack("gitops", "add", name, "--url", "file://"+r.bare, "--ref", "main", "--interval", "1s", "--on-failure", onFailure, "--wait")
		settled(h, name, good, status.Succeeded)
	}
	for name, c := range map[string]struct{ reason, check, outcome string }{
		"held": {status.ApplyFailed, "false", status.StackFailed}, "back": {status.RolledBack, "true", status.StackRolledBack},
	} {
		r := repos[name]
		bad := r.push("bad", map[string]string{"compose.yaml": stack("false")})
		settled(h, name, bad, c.reason, "unhealthy")
		equal(t, "the check that "+name+" runs with", h.Stack("-p", name, "exec", "-T", "a", "sh", "-c", "echo $CHECK"), c.check+"\n")
		// It is looked at again, and not tried again.
		since := time.Now()
		h.Eventually("the interval has passed twice", func() bool { return repository(h, name).LastRun.After(since.Add(1500 * time.Millisecond)) })
		s := repository(h, name)
		if n := len(s.History); n != 2 {
			t.Errorf("%s was attempted %d times: %+v", name, n, s.History)
		}
		equal(t, "the stack "+name, s.Stack(name).Outcome, c.outcome)
		settled(h, name, r.push("good again", map[string]string{"compose.yaml": stack("true")}), status.Succeeded)
	}
}

func TestOfAHundredStacksACommitTouchesOne(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "fleet")
	stack := func(i int, v string) string {
		return fmt.Sprintf("name: s%02d\nservices: {a: {image: busybox, init: true, command: [sleep, infinity], stop_signal: KILL, labels: {v: %q}, network_mode: none, volumes: [\"data:/data\"]}}\nvolumes: {data: {}}\n", i, v)
	}
	files := map[string]string{}
	for i := range 100 {
		files[fmt.Sprintf("stacks/s%02d/compose.yaml", i)] = stack(i, "1")
	}
	first := r.push("all", files)
	began := time.Now()
	h.Stack("gitops", "add", "fleet", "--url", "file://"+r.bare, "--ref", "main", "--path", "stacks/**/compose.yaml", "--interval", "1h", "--wait")
	settled(h, "fleet", first, status.Succeeded)
	t.Logf("100 stacks from nothing: %v", time.Since(began))
	before := h.Sh("stack ls -q | while read s; do stack -p $s ps -q; done | sort")

	one := r.push("one of them", map[string]string{"stacks/s42/compose.yaml": strings.Replace(stack(42, "1"), "labels", "environment", 1)})
	began = time.Now()
	h.Stack("gitops", "sync", "fleet")
	t.Logf("a commit that touches one of 100, sync (looks at all): %v", time.Since(began))
	s := repository(h, "fleet")
	last := s.History[len(s.History)-1]
	if last.Revision.ID != one || len(last.Stacks) != 1 || last.Stacks[0] != "s42" {
		t.Errorf("history says %+v", last)
	}
	after := h.Sh("stack ls -q | while read s; do stack -p $s ps -q; done | sort")
	changed := 0
	for _, id := range strings.Fields(after) {
		if !strings.Contains(before, id) {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d containers are new", changed)
	}

	// By its interval it loads and looks at that one only.
	h.Stack("gitops", "add", "fleet", "--replace", "--url", "file://"+r.bare, "--ref", "main", "--path", "stacks/**/compose.yaml", "--interval", "1s", "--wait")
	two := r.push("one more", map[string]string{"stacks/s42/compose.yaml": stack(42, "3")})
	settled(h, "fleet", two, status.Succeeded)
	s = repository(h, "fleet")
	last = s.History[len(s.History)-1]
	t.Logf("a commit that touches one of 100, by interval: %v", last.Took)
	if last.Revision.ID != two || len(last.Stacks) != 1 || last.Stacks[0] != "s42" {
		t.Errorf("history says %+v", last)
	}

	// A stack that leaves is taken down; its volume stays.
	settled(h, "fleet", r.push("one leaves", map[string]string{"stacks/s07": ""}), status.Succeeded)
	if left := h.Sh("stack ls -a -q | grep -c s07 || true"); left != "0" {
		t.Error("a stack that left the repository is there")
	}
	contains(t, "volumes", h.Stack("volume", "ls", "-q"), "s07_data")
}

func TestHostsTakeWhatTheirLabelsSayInTheOrderOfDependenciesUnlessSuspended(t *testing.T) {
	h := follows(t)
	base, apps := newRepo(h, "base"), newRepo(h, "apps")
	base.push("broken", map[string]string{"compose.yaml": "services: {a: {imaje: x}}"})
	service := func(name string) string {
		return "name: " + name + "\nservices:\n  a: {image: busybox, init: true, command: [sleep, infinity], environment: {SITE: \"${SITE:-nowhere}\"}}\n" +
			"  extra: {image: busybox, init: true, command: [sleep, infinity], profiles: [extra]}\n"
	}
	apps.push("apps", map[string]string{"web/compose.yaml": service("web"), "db/compose.yaml": service("db"), "berlin.env": "SITE=berlin\n"})
	h.Sh(`cat >$HOME/gitops.yaml <<.
labels: {site: berlin, role: web}
repositories:
  base: {url: "file://` + base.bare + `", ref: main, interval: 1s}
  apps:
    url: file://` + apps.bare + `
    ref: main
    interval: 1s
    path: "*/compose.yaml"
    dependsOn: [base]
    overrides:
      - {when: {site: berlin}, envFiles: [berlin.env]}
      - {when: {role: web}, skip: ["db/**"], profiles: [extra]}
      - {when: {role: db}, skip: ["web/**"]}
.`)
	h.Stack("ls")
	becomes(h, "base", status.InvalidStack)
	becomes(h, "apps", status.DependencyNotReady)
	equal(t, "stacks before what they depend on", h.Stack("ls", "-a", "-q"), "")

	base.push("base", map[string]string{"compose.yaml": quiet})
	becomes(h, "apps", status.Succeeded)
	equal(t, "stacks of this host", h.Stack("ls", "-q"), "base\nweb\n")
	equal(t, "its variable", h.Stack("-p", "web", "exec", "-T", "a", "sh", "-c", "echo $SITE"), "berlin\n")
	if n := len(h.PsOf("web")); n != 2 {
		t.Errorf("web has %d containers with its profile", n)
	}

	h.Stack("gitops", "suspend", "apps")
	next := apps.push("next", map[string]string{"web/compose.yaml": strings.Replace(service("web"), "SITE:-", "PLACE:-", 1)})
	since := time.Now()
	h.Eventually("the other repository was looked at", func() bool { return repository(h, "base").LastRun.After(since.Add(1500 * time.Millisecond)) })
	equal(t, "the variable of what is suspended", h.Stack("-p", "web", "exec", "-T", "a", "sh", "-c", "echo $SITE"), "berlin\n")
	h.Fails([]string{"gitops", "sync", "apps"}, "suspended", "resume")
	h.Stack("gitops", "resume", "apps")
	settled(h, "apps", next, status.Succeeded)
	equal(t, "the variable after it goes on", h.Stack("-p", "web", "exec", "-T", "a", "sh", "-c", "echo $SITE"), "nowhere\n")

	// Another host: its labels change, and so does what it runs.
	h.Sh("sed -i 's/role: web}$/role: db}/' $HOME/gitops.yaml")
	h.Eventually("the stacks of the other host", func() bool { return h.Stack("ls", "-q") == "base\ndb\n" })

	// A file that is broken changes nothing, and says where.
	h.Sh("echo 'lables: {}' >>$HOME/gitops.yaml")
	h.Eventually("the file is said to be broken", func() bool {
		return strings.Contains(h.Try("gitops", "ls").Stderr, "gitops.yaml:") && strings.Contains(h.Try("gitops", "ls").Stderr, "did you mean labels?")
	})
	equal(t, "the stacks under a broken file", h.Stack("ls", "-q"), "base\ndb\n")
}

func TestADaemonKilledAtAnyMomentOfARevisionGoesOnWithIt(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "shop")
	r.push("first", map[string]string{"compose.yaml": web("index.html"), "www/index.html": "0"})
	h.Stack("gitops", "add", "shop", "--url", "file://"+r.bare, "--ref", "main", "--interval", "1s", "--wait")
	for i := 1; i <= 12; i++ {
		commit := r.push(fmt.Sprint(i), map[string]string{"www/index.html": fmt.Sprint(i)})
		pid := h.DaemonPID()
		h.Sh(fmt.Sprintf("(stack gitops sync shop >/dev/null 2>&1 </dev/null &); sleep %.2f", 0.04*float64(i)))
		h.Kill(pid)
		h.Stack("ls") // the next daemon
		settled(h, "shop", commit, status.Succeeded)
		equal(t, "the page", h.Get("http://127.0.0.1:8080/"), fmt.Sprint(i))
	}
	if n := h.Sh("ls $STACK_ROOT/gitops/shop/revisions | grep -c json"); n > "2" {
		t.Errorf("%s revisions are kept", n)
	}
}

func TestADiskFilledByAFetchKeepsTheLastGoodState(t *testing.T) {
	h := follows(t, host.SmallRoot(48<<20))
	r := newRepo(h, "shop")
	first := r.push("first", map[string]string{"compose.yaml": quiet})
	h.Stack("gitops", "add", "shop", "--url", "file://"+r.bare, "--ref", "main", "--interval", "1s", "--wait")
	settled(h, "shop", first, status.Succeeded)
	id := h.PsOf("shop", "a")[0].ID
	h.Sh("head -c 80M /dev/urandom >shop.work/noise")
	r.push("too much for the disk", nil)
	becomes(h, "shop", status.NoSpace)
	equal(t, "the container beside a full disk", h.PsOf("shop", "a")[0].ID, id)
	good := r.push("less", map[string]string{"noise": ""})
	settled(h, "shop", good, status.Succeeded)
	equal(t, "the container after it", h.PsOf("shop", "a")[0].ID, id)

	h.Stack("gitops", "add", "shop", "--replace", "--url", "file://"+r.bare, "--ref", "main", "--interval", "1s", "--max-size", "1000000", "--wait")
	h.Sh("head -c 3M /dev/urandom >shop.work/noise")
	r.push("more than is allowed", nil)
	becomes(h, "shop", status.TooLarge)
	h.Sh("truncate -s 64M shop.work/noise") // it packs well
	bomb := r.push("a few KB that would be 64 MB", nil)
	h.Eventually("what would be too large is refused", func() bool {
		s := repository(h, "shop")
		return s.Attempted.ID == bomb && s.Condition(status.Fetched).Reason == status.TooLarge
	})
	equal(t, "the container beside a repository that is too large", h.PsOf("shop", "a")[0].ID, id)
	h.Sh("du -sm $STACK_ROOT/gitops >&2; test $(du -sm $STACK_ROOT/gitops | cut -f1) -le 7")
}
