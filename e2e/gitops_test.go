package e2e

import (
	"testing"

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
