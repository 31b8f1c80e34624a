package notify

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
)

// received is a request as it came.
type received struct {
	path, body string
	header     http.Header
}

func receiver(t *testing.T, code int) (string, *received) {
	t.Helper()
	got := &received{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*got = received{r.Method + " " + r.URL.Path, string(data), r.Header}
		w.Header().Set("Location", "http://192.0.2.1/")
		w.WriteHeader(code)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var message = Message{
	Repository: "shop", Host: "web1", State: "failed", Reason: "ApplyFailed", Message: "service.web: <unhealthy>", Revision: "0123456789abcdef",
	Subject: "new page", Author: "Ada <ada@example.com>", Stacks: []string{"shop"}, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

func TestReceiversGetTheirForms(t *testing.T) {
	for format, want := range map[string]string{
		"slack": `{"text":"*shop on web1: failed*\n0123456789ab new page\nby Ada \u0026lt;ada@example.com\u0026gt;\nApplyFailed: service.web: \u0026lt;unhealthy\u0026gt;\nstacks: shop"}`,
		"ntfy":  "0123456789ab new page\nby Ada <ada@example.com>\nApplyFailed: service.web: <unhealthy>\nstacks: shop",
		"json": `{"repository":"shop","host":"web1","state":"failed","reason":"ApplyFailed","message":"service.web: \u003cunhealthy\u003e","revision":"0123456789abcdef",` +
			`"subject":"new page","author":"Ada \u003cada@example.com\u003e","stacks":["shop"],"time":"2026-01-02T03:04:05Z"}`,
	} {
		target, got := receiver(t, 200)
		if err := Send(t.Context(), declare.Notify{URLFile: secretFile(t, target+"/T0/B0"), TokenFile: secretFile(t, "tok"), Format: format}, message); err != nil {
			t.Fatal(err)
		}
		if got.path != "POST /T0/B0" || got.body != want || got.header.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s: %s %q\n%s", format, got.path, got.header.Get("Authorization"), got.body)
		}
		if format == "ntfy" && (got.header.Get("Title") != "shop on web1: failed" || got.header.Get("Priority") != "high") {
			t.Errorf("ntfy's headers: %v", got.header)
		}
	}
}

func TestServersGetCommitStatuses(t *testing.T) {
	for _, c := range []struct{ provider, state, header, value, body string }{
		{"github", Success, "Authorization", "Bearer tok", `{"context":"stack/web1","description":"revision 0123 is applied","state":"success"}`},
		{"gitea", Failure, "Authorization", "token tok", `{"context":"stack/web1","description":"revision 0123 is applied","state":"failure"}`},
		{"gitlab", Failure, "Private-Token", "tok", `{"description":"revision 0123 is applied","name":"stack/web1","state":"failed"}`},
		{"gitlab", Pending, "Private-Token", "tok", `{"description":"revision 0123 is applied","name":"stack/web1","state":"running"}`},
	} {
		target, got := receiver(t, 201)
		err := Report(t.Context(), declare.Report{Provider: c.provider, URL: target + "/api/repos/a/b/", TokenFile: secretFile(t, "tok")}, "web1", "0123", c.state, "revision 0123 is applied\nmore")
		if err != nil || got.path != "POST /api/repos/a/b/statuses/0123" || got.body != c.body || got.header.Get(c.header) != c.value {
			t.Errorf("%s: %v %s %s %v", c.provider, err, got.path, got.body, got.header)
		}
	}
}

func TestARefusalIsNoOutageAndNoErrorShowsTheURL(t *testing.T) {
	for code, refused := range map[int]bool{404: true, 302: true, 503: false, 429: false} {
		target, _ := receiver(t, code)
		err := Send(t.Context(), declare.Notify{URL: target + "/s3cr3t"}, message)
		if err == nil || errors.Is(err, ErrRefused) != refused || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%d: %v", code, err)
		}
	}
	err := Send(t.Context(), declare.Notify{URL: "http://127.0.0.1:1/s3cr3t"}, message)
	if err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("nobody listens: %v", err)
	}
}
