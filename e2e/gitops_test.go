package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// web is a stack file of one service that serves a page.
func web(page string) string {
	return `
services:
  web:
    image: busybox
    init: true
    command: [httpd, -f, -p, "80", -h, /www]
    ports: ["127.0.0.1:8080:80"]
    volumes: ["./www:/www:ro"]
    healthcheck: {test: [CMD, wget, -q, -O, "-", "http://127.0.0.1/` + page + `"], interval: 1s, retries: 2}
`
}

func TestAPushedCommitIsAppliedABrokenOneHeldAndARevertIsNoRedeploy(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "shop")
	first := r.push("first", map[string]string{"compose.yaml": web("index.html"), "www/index.html": "one"})
	gitDaemon(h)
	h.Stack("gitops", "add", "shop", "--url", "git://127.0.0.1/shop.git", "--ref", "main", "--interval", "1s", "--wait")
	settled(h, "shop", first, status.Succeeded)
	equal(t, "the page", h.Get("http://127.0.0.1:8080/"), "one")
	id := h.PsOf("shop", "web")[0].ID

	other := r.push("nothing of the stack", map[string]string{"README.md": "hello"})
	settled(h, "shop", other, status.Succeeded)
	equal(t, "the container after a commit that is not about it", h.PsOf("shop", "web")[0].ID, id)

	second := r.push("second", map[string]string{"www/index.html": "two"})
	settled(h, "shop", second, status.Succeeded)
	equal(t, "the page of the second commit", h.Get("http://127.0.0.1:8080/"), "two")
	id = h.PsOf("shop", "web")[0].ID

	broken := r.push("broken", map[string]string{"compose.yaml": "services: {web: {imaje: busybox}}"})
	settled(h, "shop", broken, status.InvalidStack, "compose.yaml:1:", "imaje")
	equal(t, "the container of a stack whose file broke", h.PsOf("shop", "web")[0].ID, id)
	equal(t, "the page of a stack whose file broke", h.Get("http://127.0.0.1:8080/"), "two")

	r.git("revert", "--no-edit", "HEAD")
	r.git("push", "-q", "origin", "HEAD:main")
	settled(h, "shop", r.git("rev-parse", "HEAD"), status.Succeeded)
	equal(t, "the container after a revert to what runs", h.PsOf("shop", "web")[0].ID, id)

	history := h.Stack("gitops", "history", "shop")
	contains(t, "history", history, "Ada <ada@example.com>", "second", "broken", status.InvalidStack)
}

func TestEncryptedSecretsReachContainersAndNoDisk(t *testing.T) {
	h := follows(t)
	fixture := func(name string) string {
		data, err := os.ReadFile(filepath.Join(host.Repository(), "reconciler/gitops/sops/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	r := newRepo(h, "vault")
	stack := `
services:
  app:
    image: busybox
    init: true
    restart: always
    command: [sh, -c, "echo started; sleep infinity"]
    env_file: db.env
    environment: {PLAIN: "yes"}
    secrets: [password]
  other: {image: busybox, init: true, restart: always, command: [sleep, infinity]}
secrets: {password: {file: password.txt}}
`
	commit := r.push("encrypted", map[string]string{"compose.yaml": stack, "db.env": fixture("encrypted/db.env"), "password.txt": fixture("encrypted/password.txt")})
	url := "file://" + r.bare
	h.Sh(`cat >$HOME/gitops.yaml <<.
repositories: {vault: {url: "` + url + `", ref: main, interval: 1s}}
.`)
	h.Stack("ls") // the daemon starts
	settled(h, "vault", commit, status.DecryptFailed, "db.env", "ageKeys")

	h.Sh(`cat >$HOME/key <<'.'
` + fixture("key.txt") + `.
sed -i "1i ageKeys: [$HOME/key]" $HOME/gitops.yaml`)
	becomes(h, "vault", status.Succeeded)
	app := func() string {
		return h.Stack("-p", "vault", "exec", "-T", "app", "sh", "-c", `printf '%s|%s|%s|' "$DB_PASSWORD" "$PORT" "$PLAIN"; env | grep -ci '^sops' ; cat /run/secrets/password`)
	}
	const want = "open sesame=1|5432|yes|0\nhunter2\n"
	if got := app(); got != want {
		t.Errorf("the container sees %q, want %q", got, want)
	}
	onDisk := func() string {
		return h.Sh(`grep -rlE 'open sesame|hunter2' $STACK_ROOT --exclude-dir=images || true`)
	}
	equal(t, "files on the disk with a secret", onDisk(), "")
	for _, args := range [][]string{{"gitops", "status", "vault"}, {"gitops", "events", "vault"}, {"-p", "vault", "ps", "--format", "json"}} {
		if out := h.Stack(args...); strings.Contains(out, "sesame") || strings.Contains(out, "hunter2") {
			t.Errorf("stack %v shows a secret: %s", args, out)
		}
	}
	id := h.PsOf("vault", "other")[0].ID

	h.Reboot() // the tmpfs is empty
	h.Stack("ls")
	h.Eventually("the containers are back", func() bool {
		for _, c := range h.PsOf("vault") {
			if c.State != "running" {
				return false
			}
		}
		return true
	})
	equal(t, "what the container sees after a reboot", app(), want)
	equal(t, "files on the disk with a secret after a reboot", onDisk(), "")

	// A secret is rotated: what has it is made anew, and nothing else.
	rotated := r.push("rotate", map[string]string{"password.txt": fixture("encrypted/secret.bin")})
	settled(h, "vault", rotated, status.Succeeded)
	contains(t, "the rotated secret", h.Stack("-p", "vault", "exec", "-T", "app", "cat", "/run/secrets/password"), "just bytes")
	equal(t, "the container without secrets", h.PsOf("vault", "other")[0].ID, id)

	tampered := r.push("tamper", map[string]string{"db.env": strings.Replace(fixture("encrypted/db.env"), "PORT=", "PORT=1#", 1)})
	settled(h, "vault", tampered, status.DecryptFailed, "db.env", "changed after it was encrypted")
	contains(t, "what goes on running", h.Stack("-p", "vault", "exec", "-T", "app", "sh", "-c", "echo $PORT"), "5432")
}
