package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// signatures are how each kind of server signs a webhook: a header, made of the body's digest by the secret, or of the secret.
var signatures = map[string]string{
	"GitHub": "X-Hub-Signature-256: sha256=$digest", "GitLab": "X-Gitlab-Token: $secret",
	"Gitea": "X-Gitea-Signature: $digest", "Forgejo": "X-Forgejo-Signature: $digest",
}

// hook sends a webhook as a kind of server does and returns the status code.
func hook(h *host.Host, server, name, secret string) string {
	h.T.Helper()
	return h.Sh(fmt.Sprintf(`body='{"ref":"refs/heads/main"}'; secret='%s'; digest=$(printf %%s "$body" | openssl dgst -sha256 -hmac "$secret" | sed 's/.* //')
		curl -s -o /dev/null -w '%%{http_code}' --max-time 10 -H "%s" -d "$body" http://127.0.0.1:9180/hooks/%s`, secret, signatures[server], name))
}

// receiver writes each request that it gets to a file of its own: received/N. With a file "down" it answers 503.
const receiver = `
import http.server, itertools, json, os
count = itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if os.path.exists("down"):
            self.send_response(503); self.end_headers(); return
        with open("received/%03d" % next(count), "w") as f:
            json.dump({"path": self.path, "body": body, "headers": dict(self.headers)}, f)
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9199), Handler).serve_forever()
`

func TestAWebhookConvergesAtOnceAndForgeriesDoNothing(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "shop")
	first := r.push("first", map[string]string{"compose.yaml": web("index.html"), "www/index.html": "one"})
	webServer(h)
	h.Sh(`printf s3cr3t >$HOME/hook; cat >$HOME/gitops.yaml <<.
listen: 127.0.0.1:9180
repositories:
  shop: {url: "http://127.0.0.1:8081/shop.git", ref: main, interval: 1h, auth: {username: deploy, passwordFile: $HOME/password}, webhook: {secretFile: $HOME/hook}}
.`)
	h.Stack("ls")
	settled(h, "shop", first, status.Succeeded)

	// A label is changed under the running container, a variable needs a new one that is healthy again.
	for _, edit := range []string{"labels", "environment"} {
		var took []time.Duration
		for i, server := range []string{"GitHub", "GitLab", "Gitea", "Forgejo", "GitHub"} {
			text := strings.Replace(web("index.html"), "ports:", fmt.Sprintf("%s: {V: \"%d\"}\n    ports:", edit, i), 1)
			commit := r.push(edit, map[string]string{"compose.yaml": text})
			time.Sleep(hookPause) // the distance that webhooks are kept at; a measurement, not a wait for something
			began := time.Now()
			equal(t, "the answer to a webhook", hook(h, server, "shop", "s3cr3t"), "202")
			file := filepath.Join(h.Root, "gitops/shop/state.json")
			h.Eventually("the webhook's commit is applied", func() bool {
				return h.Sh(`grep -o '"applied":{"id":"[0-9a-f]*"' `+file) == `"applied":{"id":"`+commit+`"`
			})
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("webhook to converged, %s changed: median %v, longest %v", edit, took[len(took)/2], took[len(took)-1])
		if took[0] > 10*time.Second { // within a second where nobody else is at work; the interval is an hour
			t.Errorf("webhook to converged took at least %v", took[0])
		}
	}

	before := len(repository(h, "shop").History)
	r.push("not announced", map[string]string{"www/index.html": "two"})
	for server := range signatures {
		equal(t, "the answer to a forgery of "+server, hook(h, server, "shop", "guess"), "401")
	}
	equal(t, "the answer to a webhook of nobody's", hook(h, "GitHub", "nosuch", "s3cr3t"), "401")
	flood := h.Sh(`for i in $(seq 200); do curl -s -o /dev/null -w '%{http_code}\n' -d x -H 'X-Gitlab-Token: no' http://127.0.0.1:9180/hooks/shop; done | sort | uniq -c | tr -s ' '`)
	contains(t, "the answers to a flood", flood, " 429")
	equal(t, "the page after forgeries", h.Get("http://127.0.0.1:8080/"), "one")
	if after := len(repository(h, "shop").History); after != before {
		t.Errorf("forgeries made %d attempts", after-before)
	}
	for _, metrics := range []string{h.Get("http://127.0.0.1:9180/metrics"), h.Sh("curl -s --unix-socket $STACK_RUN/stack.sock http://stack/metrics")} {
		contains(t, "metrics", metrics, `stack_gitops_reconciliations_total{outcome="applied",repository="shop"} 11`, `stack_gitops_ready{reason="Succeeded",repository="shop"} 1`,
			`stack_containers{stack="shop",state="running"} 1`, `stack_gitops_webhooks_total{outcome="accepted"} 10`)
	}
}

func TestDriftOfAFollowedStackIsRepairedAndCounted(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "shop")
	first := r.push("first", map[string]string{"compose.yaml": quiet})
	h.Stack("gitops", "add", "shop", "--url", "file://"+r.bare, "--ref", "main", "--interval", "1h", "--wait")
	settled(h, "shop", first, status.Succeeded)
	h.Sh(`kill -9 $(pgrep -f 'sleep infinity' | head -1)`)
	h.Eventually("the repair is counted", func() bool {
		return strings.Contains(h.Sh("curl -s --unix-socket $STACK_RUN/stack.sock http://stack/metrics"), `outcome="done",stack="shop"} 1`)
	})
	h.Eventually("the container runs", func() bool { return h.PsOf("shop", "a")[0].State == "running" })
	h.Stack("-p", "shop", "down") // by hand: the repository still wants it
	h.Stack("gitops", "sync", "shop")
	equal(t, "the stack after it was taken down by hand", h.PsOf("shop", "a")[0].State, "running")
}

// hookPause is a little more than webhooks of one repository are apart.
const hookPause = 1100 * time.Millisecond

func TestReceiversHearOfChangesOfStateOnce(t *testing.T) {
	h := follows(t)
	r := newRepo(h, "shop")
	first := r.push("first", map[string]string{"compose.yaml": quiet})
	h.Sh("mkdir received; printf tok >$HOME/token")
	h.Write("receiver.py", receiver)
	h.Background(h.Command("python3", "receiver.py"))
	h.Eventually("the receiver listens", func() bool { return strings.Contains(h.Sh("ss -ltn"), ":9199") })
	h.Sh(`cat >$HOME/gitops.yaml <<.
notify:
  - {name: chat, url: "http://127.0.0.1:9199/slack", format: slack}
  - {name: phone, url: "http://127.0.0.1:9199/ntfy", format: ntfy, on: [failed]}
repositories:
  shop: {url: "file://` + r.bare + `", ref: main, interval: 1s, report: {provider: gitea, url: "http://127.0.0.1:9199/api/repos/a/b", tokenFile: $HOME/token}}
.`)
	h.Stack("ls")
	received := func() string { return h.Sh("cat received/* 2>/dev/null || true") }
	count := func(path string) int { return strings.Count(received(), `"path": "`+path) }
	arrives := func(path string, n int) {
		t.Helper()
		h.Eventually(fmt.Sprintf("%d requests to %s", n, path), func() bool { return count(path) >= n })
	}
	settled(h, "shop", first, status.Succeeded)
	arrives("/slack", 1)
	arrives("/api/repos/a/b/statuses/"+first, 1)
	h.Sh("touch down")
	broken := r.push("broken", map[string]string{"compose.yaml": "services: {a: {imaje: busybox}}"})
	settled(h, "shop", broken, status.InvalidStack)
	h.Sh("rm down") // what could not be delivered is tried again
	arrives("/slack", 2)
	arrives("/ntfy", 1)
	arrives("/api/repos/a/b/statuses/"+broken, 1)
	h.Eventually("it was looked at again", func() bool { return repository(h, "shop").LastRun.After(time.Now().Add(-500 * time.Millisecond)) })
	fixed := r.push("fixed", map[string]string{"compose.yaml": quiet})
	settled(h, "shop", fixed, status.Succeeded)
	arrives("/slack", 3)
	arrives("/api/repos/a/b/statuses/"+fixed, 1)
	if a, b := count("/slack"), count("/ntfy"); a != 3 || b != 1 {
		t.Errorf("the chat got %d messages and the phone %d", a, b)
	}
	contains(t, "what was received", received(), ": applied*", ": failed*", ": recovered*", "InvalidStack", `\"state\":\"success\"`, `\"state\":\"failure\"`, "token tok")
}
