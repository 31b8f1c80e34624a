package gitops

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/notify"
)

func TestAnOutageIsToldAfterThreeFailuresInARowOnceOrAsOftenAsAsked(t *testing.T) {
	l := newLab(t)
	l.Close()
	got := map[string]chan string{"/once": make(chan string, 100), "/again": make(chan string, 100)}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m notify.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		got[r.URL.Path] <- m.State + " " + m.Reason
	}))
	t.Cleanup(receiver.Close)
	file := "notify: [{url: " + receiver.URL + "/once}, {url: " + receiver.URL + "/again, repeat: 1ns, on: [failed, recovered]}]\n"
	if err := os.WriteFile(filepath.Join(l.dir, ".gitops.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	l.start()
	arrives := func(path, want string) {
		t.Helper()
		select {
		case m := <-got[path]:
			if m != want {
				t.Fatalf("%s is told %q, not %q", path, m, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is not told %q", path, want)
		}
	}
	l.commit(map[string]string{"x/compose.yaml": stack("one")})
	l.follow(nil)
	l.sync()
	arrives("/once", "applied Succeeded")

	server := filepath.Join(l.dir, ".git")
	for outage, failures := range []int{2, 5} {
		if err := os.Rename(server, server+".away"); err != nil {
			t.Fatal(err)
		}
		for s, _ := l.sync(); s.Failures < failures; {
			s, _ = l.sync()
		}
		if outage == 1 { // the other one was too short to tell
			arrives("/once", "failed FetchFailed")
			for range failures - 2 {
				arrives("/again", "failed FetchFailed")
			}
		}
		if err := os.Rename(server+".away", server); err != nil {
			t.Fatal(err)
		}
		l.sync()
		l.sync()
		if outage == 1 {
			arrives("/once", "recovered Succeeded")
			arrives("/again", "recovered Succeeded")
		}
	}
	l.Close() // nothing is on its way any more
	var more []string
	for path, c := range got {
		for len(c) > 0 {
			more = append(more, path+" "+<-c)
		}
	}
	if slices.Sort(more); len(more) > 0 {
		t.Errorf("they were told more: %s", strings.Join(more, ", "))
	}
}
