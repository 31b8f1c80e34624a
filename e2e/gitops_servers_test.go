package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/status"
)

const quiet = `services: {a: {image: busybox, init: true, command: [sleep, infinity], labels: {v: "1"}}}` + "\n"

func TestEveryKindOfGitServerIsFollowedAndAnOutageRestartsNothing(t *testing.T) {
	h := follows(t)
	home := filepath.Dir(h.Dir)
	repos := map[string]*repo{}
	for _, name := range []string{"daemon", "web", "ssh", "file"} {
		repos[name] = newRepo(h, name)
		repos[name].push("first", map[string]string{"compose.yaml": quiet})
	}
	stopDaemon, stopWeb := gitDaemon(h), webServer(h)
	sshServer(h)
	for name, flags := range map[string][]string{
		"daemon": {"--url", "git://127.0.0.1/daemon.git"},
		"web":    {"--url", "http://127.0.0.1:8081/web.git", "--username", "deploy", "--password-file", home + "/password"},
		"ssh":    {"--url", "ssh://root@127.0.0.1:2222/ssh.git", "--ssh-key", home + "/id", "--known-hosts", home + "/known_hosts"},
		"file":   {"--url", "file://" + repos["file"].bare},
	} {
		h.Stack(append([]string{"gitops", "add", name, "--ref", "main", "--interval", "1s", "--wait"}, flags...)...)
		settled(h, name, repos[name].push("second", map[string]string{"compose.yaml": strings.Replace(quiet, `"1"`, `"2"`, 1)}), status.Succeeded)
	}
	id := h.PsOf("web", "a")[0].ID

	stopDaemon()
	stopWeb()
	for _, name := range []string{"daemon", "web"} {
		becomes(h, name, status.FetchFailed)
		equal(t, "the state of what runs", h.PsOf(name, "a")[0].State, "running")
	}
	equal(t, "the container of a repository whose server is down", h.PsOf("web", "a")[0].ID, id)
	if r := h.Try("gitops", "status", "web"); r.Code != 2 {
		t.Errorf("status of what is not ready: %v", r)
	}
	gitDaemon(h)
	webServer(h)
	for _, name := range []string{"daemon", "web"} {
		h.Stack("gitops", "sync", name)
		becomes(h, name, status.Succeeded)
	}

	for situation, flags := range map[string][]string{
		"a wrong password":        {"--url", "http://127.0.0.1:8081/web.git", "--username", "deploy", "--password-file", "/etc/hostname"},
		"a key nobody knows":      {"--url", "ssh://root@127.0.0.1:2222/ssh.git", "--ssh-key", home + "/other", "--known-hosts", home + "/known_hosts"},
		"a server with other key": {"--url", "ssh://root@127.0.0.1:2222/ssh.git", "--ssh-key", home + "/id", "--known-hosts", home + "/wrong_hosts"},
	} {
		r := h.Try(append([]string{"gitops", "add", "bad", "--replace", "--ref", "main", "--wait"}, flags...)...)
		if r.Code != 1 || !strings.Contains(r.Stderr, status.FetchFailed) {
			t.Errorf("%s: %v", situation, r)
		}
	}
	everything := h.Sh(`cat $STACK_ROOT/daemon.log; for r in web bad; do stack gitops status --format json $r || true; stack gitops events $r; done; grep -r pa55word $STACK_ROOT/gitops || true`)
	if strings.Contains(everything, "pa55word") || strings.Contains(everything, "ZGVwbG95OnBhNTV3b3Jk") {
		t.Errorf("the password shows:\n%s", everything)
	}
}
