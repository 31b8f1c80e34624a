package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

// repo is a bare repository on the machine and somebody's clone of it.
type repo struct {
	h    *host.Host
	bare string
	work string // relative to the machine's working folder
}

func newRepo(h *host.Host, name string) *repo {
	h.T.Helper()
	r := &repo{h: h, bare: filepath.Join(filepath.Dir(h.Dir), "git", name+".git"), work: name + ".work"}
	h.Sh(fmt.Sprintf(`export GIT_CONFIG_GLOBAL=$HOME/.gitconfig
		git config --global user.name Ada; git config --global user.email ada@example.com; git config --global init.defaultBranch main
		git config --global safe.directory '*'; git config --global gc.auto 0; git config --global commit.gpgSign false
		git init -q --bare %[1]s; git -C %[1]s config uploadpack.allowFilter true; git -C %[1]s config uploadpack.allowAnySHA1InWant true
		touch %[1]s/git-daemon-export-ok; git -C %[1]s update-server-info
		git clone -q %[1]s %[2]s 2>/dev/null`, r.bare, r.work))
	return r
}

// push writes files, an empty one away, commits and pushes; it returns the commit's id.
func (r *repo) push(message string, files map[string]string, commitFlags ...string) string {
	r.h.T.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name] == "" {
			r.git("rm", "-q", "-r", name)
			continue
		}
		r.h.Write(filepath.Join(r.work, name), files[name])
	}
	r.git("add", "-A")
	r.git(append([]string{"commit", "-q", "--allow-empty", "-m", message}, commitFlags...)...)
	r.git("push", "-q", "-f", "origin", "HEAD:main")
	return r.git("rev-parse", "HEAD")
}

// git runs git in the clone.
func (r *repo) git(args ...string) string {
	r.h.T.Helper()
	result := r.h.Run(r.h.Command(append([]string{"git", "-C", r.work}, args...)...))
	if result.Code != 0 {
		r.h.T.Fatalf("git %s: %v", strings.Join(args, " "), result)
	}
	return strings.TrimSpace(result.Stdout)
}

// gitDaemon serves the machine's repositories at git://127.0.0.1/NAME.git.
func gitDaemon(h *host.Host) (stop func()) {
	h.T.Helper()
	base := filepath.Join(filepath.Dir(h.Dir), "git")
	stop = h.Background(h.Command("/usr/lib/git-core/git-daemon", "--reuseaddr", "--listen=127.0.0.1", "--base-path="+base, base))
	h.Eventually("git daemon listens", func() bool { return strings.Contains(h.Sh("ss -ltn"), "127.0.0.1:9418") })
	return stop
}

// follows starts a test whose repositories are let go of, with their stacks, when it ends.
func follows(t *testing.T, options ...host.Option) *host.Host {
	t.Helper()
	h := start(t, options...)
	t.Cleanup(func() {
		h.Sh("rm -f $HOME/gitops.yaml")
		h.Eventually("nothing is declared", func() bool {
			return h.Sh(`stack gitops ls --format json | grep -c '"declared"' || true`) == "0"
		})
		for _, name := range strings.Fields(h.Sh("stack gitops ls -q")) {
			h.Sh("stack gitops rm -v " + name)
		}
	})
	return h
}

// repository asks for all that is known of one.
func repository(h *host.Host, name string) status.Repository {
	h.T.Helper()
	var r status.Repository
	out := h.Try("gitops", "status", "--format", "json", name).Stdout
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.T.Fatalf("gitops status: %v in %q", err, out)
	}
	return r
}

// settles waits until a repository has said its last word about a commit, and returns the Ready condition.
func settles(h *host.Host, name, commit string) status.Condition {
	h.T.Helper()
	var c status.Condition
	h.Eventually("the repository "+name+" is done with "+commit, func() bool {
		r := repository(h, name)
		c = r.Condition(status.Ready)
		applied := c.Status == status.True && c.Message == "revision "+r.Applied.Short()+" is applied"
		return r.Attempted.ID == commit && (r.Applied.ID == commit && applied || r.Verdict == commit && c.Status == status.False)
	})
	return c
}

// settled is settles with what is expected.
func settled(h *host.Host, name, commit, reason string, words ...string) {
	h.T.Helper()
	c := settles(h, name, commit)
	if c.Reason != reason {
		h.T.Fatalf("%s is %s, not %s: %s", name, c.Reason, reason, c.Message)
	}
	contains(h.T.(*testing.T), "the condition", c.Message, words...)
}

// becomes waits until a repository is ready, or not, for a reason.
func becomes(h *host.Host, name, reason string) status.Condition {
	h.T.Helper()
	var c status.Condition
	h.Eventually(name+" becomes "+reason, func() bool {
		r := repository(h, name)
		c = r.Condition(status.Ready)
		return c.Reason == reason
	})
	return c
}

// webServer serves the machine's repositories by git's own CGI program behind nginx, for those with a password:
// http://127.0.0.1:8081/NAME.git. User and password are deploy and pa55word; the token t0ken is another way in.
func webServer(h *host.Host) (stop func()) {
	h.T.Helper()
	dir := filepath.Dir(h.Dir)
	h.Sh(fmt.Sprintf(`mkdir -p %[1]s/nginx/servers; chmod 777 %[1]s/nginx
for u in deploy:pa55word x-access-token:t0ken; do printf '%%s:%%s\n' ${u%%%%:*} "$(openssl passwd -apr1 ${u##*:})"; done >%[1]s/nginx/htpasswd
cat >%[1]s/nginx/nginx.conf <<'.'
daemon off; master_process off; pid %[1]s/nginx/pid; error_log %[1]s/nginx/error.log;
events {}
http {
  access_log off; client_body_temp_path %[1]s/nginx; proxy_temp_path %[1]s/nginx; fastcgi_temp_path %[1]s/nginx; uwsgi_temp_path %[1]s/nginx; scgi_temp_path %[1]s/nginx;
  auth_basic git; auth_basic_user_file %[1]s/nginx/htpasswd;
  server {
    listen 127.0.0.1:8081;
    include %[1]s/nginx/git.conf;
  }
  include %[1]s/nginx/servers/*.conf;
}
.
cat >%[1]s/nginx/git.conf <<'.'
location / {
  include /etc/nginx/fastcgi_params;
  fastcgi_pass unix:%[1]s/nginx/fcgi.sock;
  fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend;
  fastcgi_param GIT_HTTP_EXPORT_ALL "";
  fastcgi_param GIT_PROJECT_ROOT %[1]s/git;
  fastcgi_param PATH_INFO $uri;
  fastcgi_param HOME %[1]s;
  fastcgi_param GIT_CONFIG_GLOBAL %[1]s/.gitconfig;
  fastcgi_read_timeout 600;
}
.
`, dir))
	fcgi := h.Background(h.Command("fcgiwrap", "-s", "unix:"+dir+"/nginx/fcgi.sock"))
	h.Eventually("fcgiwrap listens", func() bool { return h.Sh("ls "+dir+"/nginx/fcgi.sock 2>/dev/null || true") != "" })
	nginx := h.Background(h.Command("nginx", "-c", dir+"/nginx/nginx.conf"))
	h.Eventually("nginx listens", func() bool { return strings.Contains(h.Sh("ss -ltn"), "127.0.0.1:8081") })
	h.Sh("printf pa55word >$HOME/password; printf t0ken >$HOME/git-token")
	return func() {
		nginx()
		fcgi()
		h.Sh("rm -f " + dir + "/nginx/fcgi.sock")
	}
}

// withTLS has webServer serve https://127.0.0.1:8443/NAME.git too, with a certificate of $HOME/ca.pem, an authority that nobody
// knows. It comes before it.
func withTLS(h *host.Host) {
	h.T.Helper()
	dir := filepath.Dir(h.Dir)
	h.Sh(fmt.Sprintf(`cd %[1]s; mkdir -p nginx/servers
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=git -keyout nginx/key.pem -out nginx/request.pem 2>/dev/null
openssl x509 -req -in nginx/request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile <(echo subjectAltName=IP:127.0.0.1) -out nginx/cert.pem 2>/dev/null
cat >nginx/servers/tls.conf <<.
server {
  listen 127.0.0.1:8443 ssl;
  ssl_certificate %[1]s/nginx/cert.pem; ssl_certificate_key %[1]s/nginx/key.pem;
  include %[1]s/nginx/git.conf;
}
.
`, dir))
}

// sshServer serves the machine's repositories at ssh://root@127.0.0.1:2222/NAME; the key is $HOME/id, the server's key in
// $HOME/known_hosts. Nothing but git may be run.
func sshServer(h *host.Host) {
	h.T.Helper()
	dir := filepath.Dir(h.Dir)
	h.Sh(fmt.Sprintf(`cd %[1]s; mkdir -p ssh /run/sshd; for k in ssh/host id other; do ssh-keygen -q -t ed25519 -N "" -f $k; done
		cp id.pub ssh/authorized; chmod 600 ssh/authorized
		echo "[127.0.0.1]:2222 $(cut -d' ' -f1,2 ssh/host.pub)" >known_hosts; echo "[127.0.0.1]:2222 $(cut -d' ' -f1,2 other.pub)" >wrong_hosts
		cat >ssh/config <<.
Port 2222
ListenAddress 127.0.0.1
HostKey %[1]s/ssh/host
AuthorizedKeysFile %[1]s/ssh/authorized
PermitRootLogin forced-commands-only
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
ForceCommand sh -c 'cd %[1]s/git && eval "\$(echo "\$SSH_ORIGINAL_COMMAND" | sed s,/,%[1]s/git/,)"'
.
`, dir))
	h.Sh("sed -i 's/^/command=\"x\" /' " + dir + "/ssh/authorized") // forced-commands-only asks for one; ForceCommand replaces it
	h.Background(h.Command("/usr/sbin/sshd", "-D", "-e", "-f", dir+"/ssh/config"))
	h.Eventually("sshd listens", func() bool { return strings.Contains(h.Sh("ss -ltn"), "127.0.0.1:2222") })
}
