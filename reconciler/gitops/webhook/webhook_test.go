package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func signed(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestOnlyWhoKnowsTheSecretIsBelieved(t *testing.T) {
	const body, secret = `{"ref":"refs/heads/main"}`, "s3cr3t"
	good := signed(body, secret)
	// GitHub's own example of its documentation.
	const example, exampleSecret = "Hello, World!", "It's a Secret to Everybody"
	for _, c := range []struct {
		situation, header, value, body, secret string
		good                                   bool
	}{
		{"GitHub's example", "X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", example, exampleSecret, true},
		{"GitHub", "X-Hub-Signature-256", "sha256=" + good, body, secret, true},
		{"Gitea", "X-Gitea-Signature", good, body, secret, true},
		{"Forgejo", "X-Forgejo-Signature", good, body, secret, true},
		{"GitLab", "X-Gitlab-Token", secret, body, secret, true},
		{"another body", "X-Hub-Signature-256", "sha256=" + good, body + " ", secret, false},
		{"another secret", "X-Hub-Signature-256", "sha256=" + good, body, "other", false},
		{"no signature", "X-Other", good, body, secret, false},
		{"an empty one", "X-Hub-Signature-256", "sha256=", body, secret, false},
		{"half of one", "X-Gitea-Signature", good[:32], body, secret, false},
		{"no hex", "X-Gitea-Signature", strings.Repeat("z", 64), body, secret, false},
		{"another token", "X-Gitlab-Token", "s3cr3", body, secret, false},
		{"no secret set", "X-Gitea-Signature", signed(body, ""), body, "", false},
	} {
		h := http.Header{}
		h.Set(c.header, c.value)
		err := Verify(h, strings.NewReader(c.body), []byte(c.secret))
		if (err == nil) != c.good || err != nil && !errors.Is(err, ErrForged) {
			t.Errorf("%s: %v", c.situation, err)
		}
	}
}

func TestForgeriesAreLimitedByWhereTheyComeFrom(t *testing.T) {
	woken, counts := 0, map[string]int{}
	h := &Handler{
		Secret: func(name string) []byte { return map[string][]byte{"shop": []byte("s")}[name] },
		Wake:   func(string) { woken++ },
		Count:  func(outcome string) { counts[outcome]++ },
	}
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/{name}", h)
	post := func(from, name, token string) int {
		r := httptest.NewRequest("POST", "/hooks/"+name, strings.NewReader("{}"))
		r.RemoteAddr = from
		r.Header.Set("X-Gitlab-Token", token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	if a, b := post("192.0.2.1:1", "shop", "x"), post("192.0.2.1:1", "nosuch", "s"); a != 401 || b != 401 {
		t.Errorf("a forgery gets %d, an unknown repository %d", a, b)
	}
	for range 50 {
		post("192.0.2.1:1", "shop", "x")
	}
	if code := post("192.0.2.1:9", "shop", "x"); code != 429 {
		t.Errorf("after a flood its sender gets %d", code)
	}
	// Behind a proxy all callers have one address: whoever knows the secret is heard.
	if code := post("192.0.2.1:9", "shop", "s"); code != 202 || woken != 1 {
		t.Errorf("a genuine one from there gets %d, woken %d times", code, woken)
	}
	if code := post("192.0.2.2:1", "shop", "s"); code != 202 || woken != 2 {
		t.Errorf("somebody else gets %d, woken %d times", code, woken)
	}
	if counts["forged"] != forgeries || counts["limited"] != 43 || counts["accepted"] != 2 {
		t.Errorf("counted %v", counts)
	}
}
