package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/status"
)

// liar stands before the web server and hands on what comes and goes, but for what the file "lie" says:
// claim A B: it says B where the server says A. other A B: it asks the server for A where the client asks for B. corrupt: a
// byte of each pack is another one. cut: half of each pack is missing. trickle: an answer comes byte by byte. Each lie that
// is told is noted in the file "told".
const liar = `
import http.client, http.server, time
def lie():
    try:
        with open("lie") as f: return f.read().split()
    except FileNotFoundError: return []
def note(what):
    with open("told", "a") as f: f.write(what + "\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        what, *ids = lie() or ["nothing"]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if what == "other" and ids[1].encode() in body:
            body = body.replace(ids[1].encode(), ids[0].encode()); note(what)
        names = ("content-type", "content-encoding", "accept", "git-protocol", "authorization")
        server = http.client.HTTPConnection("127.0.0.1", 8081)
        server.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() in names})
        r = server.getresponse()
        data = r.read()
        server.close()
        pack = data.find(b"PACK")
        if what == "claim" and ids[0].encode() in data:
            data = data.replace(ids[0].encode(), ids[1].encode()); note(what)
        if what == "corrupt" and pack >= 0:
            at = pack + 20
            data = data[:at] + bytes([data[at] ^ 0xff]) + data[at+1:]; note(what)
        if what == "cut" and pack >= 0:
            data = data[:pack + (len(data) - pack) // 2]; note(what)
        self.send_response(r.status)
        for k in ("Content-Type", "WWW-Authenticate"):
            if r.getheader(k): self.send_header(k, r.getheader(k))
        self.end_headers()
        if what != "trickle":
            self.wfile.write(data); return
        note(what)
        for b in data:
            self.wfile.write(bytes([b])); self.wfile.flush(); time.sleep(0.1)
    do_GET = do_POST = answer
    def log_message(self, *args): pass
    def handle(self):
        try: super().handle()
        except (BrokenPipeError, ConnectionResetError): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8082), Handler).serve_forever()
`

func TestAServerThatLiesOrTricklesChangesNothing(t *testing.T) {
	h := follows(t)
	home := filepath.Dir(h.Dir)
	r := newRepo(h, "shop")
	webServer(h)
	h.Write("liar.py", liar)
	h.Background(h.Command("python3", "liar.py"))
	h.Eventually("the liar listens", func() bool { return strings.Contains(h.Sh("ss -ltn"), ":8082") })
	good := r.push("good", map[string]string{"compose.yaml": quiet})
	follow := func(flags ...string) {
		t.Helper()
		h.Stack(append([]string{"gitops", "add", "shop", "--replace", "--url", "http://127.0.0.1:8082/shop.git", "--ref", "main", "--interval", "1h",
			"--username", "deploy", "--password-file", home + "/password"}, flags...)...)
	}
	follow("--wait")
	id := h.PsOf("shop", "a")[0].ID

	nobodys := strings.Repeat("5", 40)
	another := strings.Replace(quiet, "labels", "environment", 1) // a new container
	evil := r.push("evil", map[string]string{"compose.yaml": strings.Replace(another, `"1"`, `"evil"`, 1)})
	r.git("reset", "-q", "--hard", good)
	tell := func(lie string) { h.Sh("rm -f told; echo '" + lie + "' >lie.new; mv lie.new lie") }
	next := r.push("next", map[string]string{"compose.yaml": another})
	for _, c := range []struct {
		lie   string
		words []string
	}{
		{"claim " + next + " " + nobodys, []string{nobodys}},
		{"other " + evil + " " + next, []string{next}},
		{"corrupt", []string{"pack"}},
		{"cut", []string{"git fetch"}},
		{"trickle", []string{"in time", "timeout"}},
	} {
		tell(c.lie)
		if c.lie == "trickle" {
			follow("--timeout", "1s")
		}
		h.Fails([]string{"gitops", "sync", "shop"}, append(c.words, status.FetchFailed)...)
		if h.Sh("cat told") == "" {
			t.Errorf("%s: nobody asked", c.lie)
		}
		s := repository(h, "shop")
		if s.Applied.ID != good || s.Verdict != "" {
			t.Errorf("%s: %s is applied, the verdict is %q", c.lie, s.Applied.ID, s.Verdict)
		}
		if c := h.PsOf("shop", "a")[0]; c.ID != id || c.State != "running" {
			t.Errorf("the container is now %+v", c)
		}
	}
	h.Sh("rm lie")
	follow("--wait")
	settled(h, "shop", next, status.Succeeded)
	equal(t, "the variable of the honest revision", h.Stack("-p", "shop", "exec", "-T", "a", "sh", "-c", "echo $v"), "1\n")
	if left := h.Sh("find $STACK_ROOT/gitops/shop/git -name 'tmp_*' -o -name '*.lock'"); left != "" {
		t.Errorf("left are %s", left)
	}
}

func TestACertificateOfAPrivateAuthorityIsTrustedWhereItIsNamed(t *testing.T) {
	h := follows(t)
	home := filepath.Dir(h.Dir)
	r := newRepo(h, "shop")
	withTLS(h)
	webServer(h)
	first := r.push("first", map[string]string{"compose.yaml": quiet})
	add := []string{"gitops", "add", "shop", "--url", "https://127.0.0.1:8443/shop.git", "--ref", "main", "--interval", "1s", "--token-file", home + "/git-token", "--wait"}
	h.Fails(add, status.FetchFailed, "the server's certificate is not trusted", "--ca-file")
	equal(t, "stacks of a server that nobody vouches for", h.Stack("ls", "-a", "-q"), "")
	h.Stack(append(add, "--replace", "--ca-file", home+"/ca.pem")...)
	settled(h, "shop", first, status.Succeeded)
	settled(h, "shop", r.push("second", map[string]string{"compose.yaml": strings.Replace(quiet, `"1"`, `"2"`, 1)}), status.Succeeded)

	h.Sh("printf wrong >$HOME/git-token")
	becomes(h, "shop", status.FetchFailed)
	h.Sh("printf t0ken >$HOME/git-token") // it is read anew at each look
	h.Stack("gitops", "sync", "shop")
	h.Stack("gitops", "rm", "shop")

	h.Sh(`cat >$HOME/gitops.yaml <<.
repositories:
  shop: {url: "https://127.0.0.1:8443/shop.git", ref: main, auth: {tokenFile: $HOME/git-token, caFile: $HOME/ca.pem}}
.`)
	h.Eventually("the file declares it", func() bool { return strings.Contains(h.Stack("gitops", "ls"), "shop") })
	becomes(h, "shop", status.Succeeded)
	if shown := h.Sh("cat $STACK_ROOT/daemon.log; stack gitops status --format json shop; grep -r t0ken $STACK_ROOT/gitops || true"); strings.Contains(shown, "t0ken") {
		t.Errorf("the token shows:\n%s", shown)
	}
}
