package trust

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// sh runs a script in a folder of the test's own and returns what it prints.
func sh(t *testing.T, dir, script string) []byte {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GNUPGHOME="+dir+"/gnupg", "HOME="+dir)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%s: %v\n%s", script, err, exit.Stderr)
		}
		t.Fatal(err)
	}
	return out
}

const payload = "tree 0\nauthor Ada\n\nhello\n"

func put(t *testing.T, file, content string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// signSSH makes a key with ssh-keygen and its signature of the payload.
func signSSH(t *testing.T, dir, key, namespace string) []byte {
	t.Helper()
	put(t, filepath.Join(dir, "payload"), payload)
	return sh(t, dir, `[ -e `+key+` ] || ssh-keygen -q -t ed25519 -N "" -C `+key+` -f `+key+`
		rm -f payload.sig; ssh-keygen -q -Y sign -n `+namespace+` -f `+key+` payload 2>/dev/null; cat payload.sig`)
}

func TestSSHSignaturesCountByTheAllowedSigners(t *testing.T) {
	dir := t.TempDir()
	good, foreign, elsewhere := signSSH(t, dir, "ada", "git"), signSSH(t, dir, "eve", "git"), signSSH(t, dir, "ada", "file")
	public := strings.TrimSpace(string(sh(t, dir, "cut -d' ' -f1,2 ada.pub")))
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		situation, options, payload string
		signature                   []byte
		by                          string
		err                         error
	}{
		{"a signer's", "", payload, good, "ada@example.com", nil},
		{"within its time and namespace", `namespaces="file,git",valid-after="20260101Z",valid-before="20270101Z" `, payload, good, "ada@example.com", nil},
		{"something else signed", "", payload + "!", good, "", ErrSignature},
		{"a stranger's", "", payload, foreign, "", ErrSignature},
		{"made for files", "", payload, elsewhere, "", ErrSignature},
		{"a key that is not for git", `namespaces="file" `, payload, good, "", ErrSignature},
		{"a key of the past", `valid-before="20260201Z" `, payload, good, "", ErrSignature},
		{"a key of the future", `valid-after="202701010000Z" `, payload, good, "", ErrSignature},
		{"none", "", payload, nil, "", ErrUnsigned},
		{"no signature at all", "", payload, []byte("hello"), "", ErrSignature},
	} {
		keys, err := Load(declare.Verify{AllowedSigners: put(t, filepath.Join(dir, "allowed"), "# signers\n\nada@example.com "+c.options+public+"\n")})
		if err != nil {
			t.Fatalf("%s: %v", c.situation, err)
		}
		by, err := keys.Check([]byte(c.payload), c.signature, now)
		if by != c.by || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: signed by %q, error %v", c.situation, by, err)
		}
	}
}

func TestAllowedSignersThatCantBeHonouredAreRefusedByLine(t *testing.T) {
	dir := t.TempDir()
	signSSH(t, dir, "ada", "git")
	public := strings.TrimSpace(string(sh(t, dir, "cut -d' ' -f1,2 ada.pub")))
	for line, want := range map[string]string{
		"ada cert-authority " + public:       ":2: not a line of allowed signers: certificates are not supported",
		"ada valid-after=\"soon\" " + public: `:2: not a line of allowed signers: "soon" is not a time`,
		"ada":                                ":2: not a line",
	} {
		if _, err := Load(declare.Verify{AllowedSigners: put(t, filepath.Join(dir, "allowed"), "#\n"+line+"\n")}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", line, err, want)
		}
	}
}

func TestOpenPGPSignaturesCountByTheKeysGiven(t *testing.T) {
	dir, err := os.MkdirTemp("", "gpg") // the agent's socket has to have a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sh(t, dir, "gpgconf --kill all")
		os.RemoveAll(dir)
	})
	sh(t, dir, `mkdir -m 700 gnupg
		for name in ada eve; do gpg --batch --quiet --passphrase "" --quick-generate-key "$name <$name@example.com>" ed25519 sign 0; done
		gpg --batch --armor --export ada@example.com >ada.asc; gpg --batch --export ada@example.com >ada.gpg`)
	put(t, filepath.Join(dir, "payload"), payload)
	sign := func(name string) []byte {
		return sh(t, dir, "gpg --batch --quiet --armor --detach-sign -u "+name+"@example.com -o - payload")
	}
	for _, file := range []string{"ada.asc", "ada.gpg"} {
		keys, err := Load(declare.Verify{OpenPGP: []string{filepath.Join(dir, file)}})
		if err != nil {
			t.Fatal(err)
		}
		by, err := keys.Check([]byte(payload), sign("ada"), time.Now())
		if err != nil || !strings.HasPrefix(by, "ada <ada@example.com> (") {
			t.Errorf("%s: signed by %q, %v", file, by, err)
		}
		if _, err := keys.Check([]byte(payload+"!"), sign("ada"), time.Now()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: something else signed: %v", file, err)
		}
		if _, err := keys.Check([]byte(payload), sign("eve"), time.Now()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: a stranger's: %v", file, err)
		}
	}
}
