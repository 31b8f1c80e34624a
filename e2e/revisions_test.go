package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/images"
)

const ownRegistry = "127.0.0.1:5001"

// configured is a service with a config and an image whose name is moved.
const configured = `
services:
  a:
    image: ` + ownRegistry + `/app:1
    pull_policy: always
    init: true
    command: [sleep, infinity]
    environment: {API_TOKEN: hunter2, LEVEL: info}
    configs: [{source: site, target: /etc/site}]
configs: {site: {file: ./site.conf}}
`

func TestHistoryTellsWhatWasAppliedAndRollbackBringsItBack(t *testing.T) {
	h := start(t)
	h.Registry(images.Registry{Addr: ownRegistry, Storage: filepath.Join(h.Dir, "registry")})
	push := func(image string) {
		t.Helper()
		h.Sh(`skopeo copy -q --src-tls-verify=false --dest-tls-verify=false docker://127.0.0.1:5000/library/` + image + ` docker://` + ownRegistry + `/app:1`)
	}
	isRedis := func() bool { return h.In("a", "sh", "-c", "command -v redis-server || echo none") != "none" }

	push("busybox:latest")
	h.Write("site.conf", "colour blue\nsize 1\n")
	h.Up(configured)
	push("redis:alpine")
	h.Write("site.conf", "colour green\nsize 1\n")
	h.Up(strings.Replace(configured, "LEVEL: info", "LEVEL: debug", 1))
	h.Stack("up", "-d") // nothing to do, no revision
	if !isRedis() {
		t.Fatal("the image behind the name did not change")
	}

	equal(t, "history -q", h.Stack("history", "-q"), "2\n1\n")
	contains(t, "history", h.Stack("history"), "REVISION", "root", "up", "converged")
	shown := h.Stack("history", "show", "2")
	contains(t, "history show", shown, "# Revision 2", "-colour blue", "+colour green", `"info"`, `"debug"`, ownRegistry+"/app:1@sha256:")
	diff := h.Try("diff", "--from", "1", "--to", "2")
	contains(t, "diff --from 1 --to 2", diff.Stdout, "service.a", "config.site", "-colour blue", "+colour green", "sha256:")
	if diff.Code != 2 {
		t.Errorf("exit code %d of a diff: %v", diff.Code, diff)
	}
	if strings.Contains(shown+diff.Stdout, "hunter2") {
		t.Errorf("a secret is shown:\n%s\n%s", shown, diff.Stdout)
	}
	contains(t, "diff --from 1 with the file", h.Try("diff", "--from", "1").Stdout, "environment.LEVEL", "-colour blue")
	h.Fails([]string{"history", "show", "7"}, "no such revision", "stack history")

	// The old image goes, so that it must be pulled by digest; and the config's file is something else by now.
	old := h.Sh(`stack history --format '{{.Revision}} {{.Images.a}}' | awk '$1 == 1 {print $2}'`)
	h.Stack("image", "rm", old)
	h.Write("site.conf", "colour red\n")
	plan := h.Try("rollback", "--dry-run")
	contains(t, "rollback --dry-run", plan.Stdout, "would pull", "service.a[1]", "-colour green", "+colour blue")
	if !isRedis() {
		t.Fatal("--dry-run changed something")
	}
	h.Stack("rollback", "--wait")
	if isRedis() {
		t.Error("the image was not brought back")
	}
	equal(t, "the config", h.In("a", "cat", "/etc/site"), "colour blue\nsize 1")
	contains(t, "history", h.Stack("history", "--format", "{{.Revision}} {{.Command}} {{.Ref}} {{.Outcome}}"), "3 rollback revision 1 converged")
	h.Stack("rollback", "2")
	equal(t, "the config of revision 2", h.In("a", "cat", "/etc/site"), "colour green\nsize 1")
}

func TestARevisionShownIsAStackFileThatChangesNothing(t *testing.T) {
	h := start(t)
	h.Up(`
services:
  a: {image: busybox, init: true, command: [sh, -c, "echo $$HOME; sleep infinity"], stop_grace_period: 2s, mem_limit: 64m, volumes: [data:/d], depends_on: [b]}
  b: {image: busybox, init: true, command: [sleep, infinity], healthcheck: {test: ["CMD", "true"], interval: 1m30s}, restart: "on-failure:3"}
volumes: {data: }
`)
	h.Write("shown.yaml", strings.ReplaceAll(h.Stack("history", "show"), "@sha256:", "#"))
	h.Sh(`sed -i 's/#[0-9a-f]*$//' shown.yaml`) // the digest would be another reference
	if r := h.Try("-f", "shown.yaml", "plan"); r.Code != 0 {
		t.Errorf("the file that history show prints: %v\n%s", r, h.Sh(`cat shown.yaml`))
	}
}

func TestASavedPlanIsDoneExactlyOrRefused(t *testing.T) {
	h := start(t)
	h.Write("", sleeper)
	plan := func(file string) {
		t.Helper()
		if r := h.Try("plan", "-o", file); r.Code != 2 {
			t.Fatalf("plan: %v", r)
		}
	}
	plan("first")               // its pull comes in between
	h.Write("", "services: {}") // what the file says by now doesn't count
	h.Stack("up", "-d", "--plan", "first")
	h.Write("", sleeper)
	id := h.One("a").ID

	h.Write("", strings.Replace(sleeper, "blue", "green", 1))
	plan("second")
	h.Stack("stop", "a")
	h.Fails([]string{"up", "-d", "--plan", "second"}, "out of date", "service.a[1]", "make a new plan")
	h.Stack("start", "a")
	h.Stack("up", "-d", "--plan", "second")
	equal(t, "the colour", h.In("a", "sh", "-c", "echo $COLOR"), "green")
	if h.One("a").ID == id {
		t.Error("it is the same container")
	}
	h.Fails([]string{"up", "-d", "--plan", "second"}, "out of date", "revision 1")
}

func TestConfirmAsksOnATerminal(t *testing.T) {
	h := start(t)
	h.Write("", sleeper)
	h.Fails([]string{"up", "-d", "--confirm"}, "terminal", "-y")
	no := h.Run(h.Command("bash", "-c", `echo n | script -qefc "stack up -d --confirm" /dev/null`))
	contains(t, "the question", no.Stdout, "service.a[1]", "[y/N]", "nothing was done")
	if no.Code != 1 || len(h.Ps()) != 0 {
		t.Errorf("not confirmed, and yet: %v, %v", no, h.Ps())
	}
	yes := h.Run(h.Command("bash", "-c", `echo y | script -qefc "stack up -d --confirm" /dev/null`))
	if yes.Code != 0 || len(h.Ps()) != 1 {
		t.Errorf("confirmed: %v, %v", yes, h.Ps())
	}
	nothing := h.Try("up", "-d", "--confirm", "-y")
	contains(t, "with nothing to do", nothing.Stdout, "Nothing to do")
}

func TestPlansOfAllKindsTouchNothing(t *testing.T) {
	h := start(t)
	h.Write("site.conf", "colour blue\n")
	file := `
services:
  a: {image: busybox, init: true, command: [sleep, infinity], configs: [{source: site, target: /etc/site}], volumes: [data:/d]}
configs: {site: {file: ./site.conf}}
volumes: {data: }
`
	h.Up(file)
	h.Write("site.conf", "colour green\n")
	h.Write("", strings.Replace(file, "configs: {site", "  b: {image: redis:alpine, volumes: [more:/d], networks: [other]}\nnetworks: {other: }\nconfigs: {site", 1)+"  more:\n")
	h.Sh(`sed -i 's/^volumes: .*/volumes:\n  data:/' compose.yaml`)
	h.Unchanged(func() {
		r := h.Try("plan", "--explain", "service.a", "--explain", "image.redis:alpine", "-o", "plan")
		contains(t, "the plan", r.Stdout, "would pull", "service.b[1]", "network.other", "volume.more", "-colour blue", "+colour green",
			"service.a[1]: recreate: content changed", "image.redis:alpine: would pull: missing")
		if r.Code != 2 {
			t.Errorf("exit code: %v", r)
		}
		for _, args := range [][]string{
			{"plan", "--format", "json"}, {"plan", "--pull", "always"}, {"diff"}, {"diff", "--from", "1"}, {"up", "--dry-run"},
			{"down", "--dry-run"}, {"history"}, {"history", "show"},
		} {
			if r := h.Try(args...); r.Code == 1 {
				t.Errorf("stack %s: %v", strings.Join(args, " "), r)
			}
		}
	})
}

func TestPlansAsJSONSayTheirFormat(t *testing.T) {
	h := start(t)
	h.Write("", sleeper)
	var plan struct {
		FormatVersion int `json:"format_version"`
		Changes       bool
		Actions       []struct{ Kind, Address, Reason string }
	}
	r := h.Try("plan", "--format", "json")
	if err := json.Unmarshal([]byte(r.Stdout), &plan); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if plan.FormatVersion != 1 || !plan.Changes || len(plan.Actions) == 0 || plan.Actions[0].Kind != "pull" {
		t.Errorf("the plan is %+v", plan)
	}
}

// The file stays as it is, and what its tag points to changes: that is a revision, and the one before it can be gone back to.
func TestAnImageThatMovedUnderItsTagIsARevisionThatCanBeGoneBackFrom(t *testing.T) {
	h := start(t)
	h.Registry(images.Registry{Addr: ownRegistry, Storage: filepath.Join(h.Dir, "registry")})
	push := func(image string) {
		h.Sh(`skopeo copy -q --src-tls-verify=false --dest-tls-verify=false docker://127.0.0.1:5000/library/` + image + ` docker://` + ownRegistry + `/app:1`)
	}
	push("busybox:latest")
	file := `services: {a: {image: "` + ownRegistry + `/app:1", pull_policy: always, init: true, command: [sleep, infinity]}}`
	h.Up(file)
	hasRedis := func() bool { return h.Try("exec", "-T", "a", "sh", "-c", "command -v redis-server").Code == 0 }
	push("redis:alpine")
	h.Up(file)
	if !hasRedis() {
		t.Fatal("the new image was not taken")
	}
	equal(t, "revisions", h.Sh(`stack history -q | tr '\n' ' '`), "2 1 ")
	h.Stack("rollback")
	if hasRedis() {
		t.Error("the image did not go back")
	}
}
