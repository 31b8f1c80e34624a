package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func TestHelloGreetsAndCountsItsVisitors(t *testing.T) {
	h := start(t)
	out := makeExample(h, "hello", "HELLO_PORT=8090")
	contains(t, "the page", out, "Hello from a container. You are visitor 1.")
	contains(t, "the page", h.Get("http://localhost:8090/"), "visitor 2")
	inExample(h, "hello", "down")
	out = makeExample(h, "hello", "HELLO_PORT=8090")
	contains(t, "the page after down and up", out, "visitor 3")
	makeExample(h, "hello", "down")
}

func TestWebDBCacheServesAPageThatReadsTheDatabase(t *testing.T) {
	h := start(t)
	makeExample(h, "web-db-cache")
	for _, service := range []string{"web", "app", "db", "cache"} {
		for _, c := range h.PsOf("web-db-cache", service) {
			if c.State != "running" || c.Health != "healthy" {
				t.Errorf("%s is %s, %s", c.Name, c.State, c.Health)
			}
		}
	}
	h.Sh(`curl -sS --fail -d 'remember the milk' http://localhost:8080/`)
	contains(t, "the page", h.Get("http://localhost:8080/"), "views: 1\n", "note: remember the milk\n")

	inExample(h, "web-db-cache", "down")
	makeExample(h, "web-db-cache")
	contains(t, "the page after down and up", h.Get("http://localhost:8080/"), "note: remember the milk\n")

	inExample(h, "web-db-cache", "up", "-d", "--wait", "--force-recreate")
	contains(t, "the page after a recreate", h.Get("http://localhost:8080/"), "note: remember the milk\n")

	before := inExample(h, "web-db-cache", "ps", "-q")
	out := inExample(h, "web-db-cache", "plan")
	contains(t, "plan", out, "Nothing to do")
	inExample(h, "web-db-cache", "up", "-d", "--wait")
	equal(t, "containers after an up with nothing to do", inExample(h, "web-db-cache", "ps", "-q"), before)
}

func TestAMigrationRunsOnceBeforeWhatNeedsIt(t *testing.T) {
	h := start(t)
	h.Copy("examples/one-shot-migrate")
	h.Stack("up", "-d")
	h.Eventually("the report is printed", func() bool {
		return strings.Contains(h.Stack("logs", "--no-log-prefix", "report"), "Mercury\nVenus\nEarth\n")
	})
	migrated := h.One("migrate")
	equal(t, "migrate", migrated.State, "exited")
	h.Stack("up", "-d")
	equal(t, "the migration after a second up", h.One("migrate").Status[:len("Exited (0)")], "Exited (0)")
	equal(t, "logs of the migration", h.Stack("logs", "--no-log-prefix", "migrate"), "CREATE TABLE\nINSERT 0 3\n")
	h.Write("schema.sql", "INSERT INTO planets VALUES (4, 'Mars');")
	h.Stack("up", "-d")
	h.Eventually("the changed migration ran", func() bool {
		return strings.Contains(h.Stack("logs", "--no-log-prefix", "migrate"), "INSERT 0 1\n")
	})
}

func TestAReverseProxyFindsEveryReplica(t *testing.T) {
	h := start(t)
	h.Copy("examples/reverse-proxy")
	h.Stack("up", "-d", "--wait")
	answers := func() int {
		return len(strings.Fields(h.Sh(`for i in $(seq 40); do curl -s --max-time 5 http://localhost:8080/ || true; done | grep served | sort -u`))) / 3
	}
	h.Eventually("three replicas answer", func() bool { return answers() == 3 })
	h.Stack("up", "-d", "--wait", "--scale", "app=5")
	h.Eventually("five replicas answer", func() bool { return answers() == 5 })
	h.Stack("up", "-d", "--wait", "--scale", "app=1")
	h.Eventually("one replica answers", func() bool { return answers() == 1 })
}

func TestRollingIsUpdatedAndWhatIsBrokenGoesBack(t *testing.T) {
	h := start(t)
	makeExample(h, "rolling", "image")
	h.Copy("examples/rolling")
	h.Stack("up", "-d", "--wait")
	equal(t, "the page", h.Get("http://localhost:8080/"), "version one\n")
	change := func(from, to string) { h.Sh(`sed -i 's/VERSION: ` + from + `/VERSION: ` + to + `/' compose.yaml`) }

	change("one", "two")
	r := h.Try("plan")
	equal(t, "plan", fmt.Sprint(r.Code), "2")
	contains(t, "plan", r.Stdout, `environment.VERSION: "one" → "two"`, "3 to recreate",
		"Rollout: service.web: start-first (rollout: auto, and two at a time do no harm), 1 of 3 at a time, watched for 2s, on failure rollback")
	h.Stack("up", "-d")
	equal(t, "the page after the update", h.Get("http://localhost:8080/"), "version two\n")

	change("two", "broken")
	good := h.Stack("ps", "-q")
	h.Fails([]string{"up", "-d"}, "unhealthy", "this version doesn't find its database", "version broken listens", "rolled back to revision 2")
	equal(t, "the page after the broken version", h.Get("http://localhost:8080/"), "version two\n")
	equal(t, "containers after the broken version", h.Stack("ps", "-q"), good)
	contains(t, "history", h.Stack("history"), "rolled back", "rollback")
}
