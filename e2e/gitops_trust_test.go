package e2e

import (
	"path/filepath"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/status"
)

func TestOnlySignedCommitsThatSucceedOneAnotherAreApplied(t *testing.T) {
	h := follows(t)
	home := filepath.Dir(h.Dir)
	r := newRepo(h, "signed")
	h.Sh(`cd $HOME; for k in ada eve; do ssh-keygen -q -t ed25519 -N "" -C $k -f $k; done
		echo "ada@example.com namespaces=\"git\" $(cut -d' ' -f1,2 ada.pub)" >signers`)
	r.git("config", "gpg.format", "ssh")
	as := func(key string) []string { return []string{"-c", "user.signingKey=" + home + "/" + key} }
	push := func(key, message string) string {
		h.T.Helper()
		args := append(as(key), "commit", "-q", "--allow-empty", "-m", message)
		if key != "" {
			args = append(args, "-S")
		}
		r.git(args...)
		r.git("push", "-q", "-f", "origin", "HEAD:main")
		return r.git("rev-parse", "HEAD")
	}
	h.Write("signed.work/compose.yaml", quiet)
	r.git("add", "-A")
	first := push("ada", "first")
	h.Stack("gitops", "add", "signed", "--url", "file://"+r.bare, "--ref", "main", "--interval", "1s", "--verify-ssh", home+"/signers", "--wait")
	settled(h, "signed", first, status.Succeeded)
	contains(t, "who signed", h.Stack("gitops", "status", "signed"), "signed by ada@example.com")
	id := h.PsOf("signed", "a")[0].ID

	h.Write("signed.work/compose.yaml", `services: {a: {image: busybox, init: true, command: [sleep, "1000"]}}`)
	r.git("add", "-A")
	settled(h, "signed", push("", "not signed"), status.NotSigned)
	settled(h, "signed", push("eve", "by a stranger"), status.BadSignature, "not among the allowed signers")
	equal(t, "the container of what nobody vouches for", h.PsOf("signed", "a")[0].ID, id)

	good := push("ada", "by who may")
	settled(h, "signed", good, status.Succeeded)
	id = h.PsOf("signed", "a")[0].ID

	// The branch is forced to something else, though it is signed.
	r.git("reset", "-q", "--hard", first)
	settled(h, "signed", push("ada", "another past"), status.Rewritten, "force-pushed", "--allow-rewrite")
	equal(t, "the container of a branch that was rewritten", h.PsOf("signed", "a")[0].ID, id)
	h.Fails([]string{"gitops", "sync", "signed"}, status.Rewritten)
	h.Stack("gitops", "sync", "--allow-rewrite", "signed")
	settled(h, "signed", r.git("rev-parse", "HEAD"), status.Succeeded)
	// Moved backwards is rewritten, too.
	r.git("reset", "-q", "--hard", first)
	r.git("push", "-q", "-f", "origin", "HEAD:main")
	settled(h, "signed", first, status.Rewritten)
}

func TestSignedTagsWithinARangeAreFollowed(t *testing.T) {
	h := follows(t)
	home := filepath.Dir(h.Dir)
	r := newRepo(h, "tags")
	r.push("first", map[string]string{"compose.yaml": quiet})
	h.Sh(`mkdir -m 700 /tmp/g$$; mv /tmp/g$$ /run/gnupg-test
		export GNUPGHOME=/run/gnupg-test; gpg --batch --quiet --passphrase "" --quick-generate-key "Ada <ada@example.com>" ed25519 sign 0 2>/dev/null
		gpg --batch --armor --export >$HOME/ada.asc`)
	t.Cleanup(func() { h.Sh("GNUPGHOME=/run/gnupg-test gpgconf --kill all; rm -rf /run/gnupg-test") })
	tag := func(name string, flags ...string) string {
		h.Sh("GNUPGHOME=/run/gnupg-test git -C tags.work tag -m x " + flags[0] + " " + name + " && git -C tags.work push -q origin " + name)
		return r.git("rev-parse", name+"^{commit}")
	}
	one := tag("v1.0.0", "-s")
	h.Stack("gitops", "add", "tags", "--url", "file://"+r.bare, "--ref", "semver=>=1.0 <2", "--interval", "1s",
		"--verify-openpgp", home+"/ada.asc", "--verify-tag", "--wait")
	settled(h, "tags", one, status.Succeeded)
	r.push("second", nil)
	tag("v2.0.0", "-s") // beyond the range
	r.push("third", nil)
	settled(h, "tags", tag("v1.1.0", "-s"), status.Succeeded)
	r.push("fourth", nil)
	settled(h, "tags", tag("v1.2.0", "-a"), status.NotSigned)
}
