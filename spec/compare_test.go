package spec

import (
	"fmt"
	"strings"
	"testing"
)

func TestCompareTellsWhatDiffersInEachResource(t *testing.T) {
	old := &Stack{
		Name: "demo",
		Services: map[string]*Service{
			"web": {Name: "web", Image: "app:1", Position: "a:1:1"},
			"old": {Name: "old", Image: "app:1"},
		},
		Jobs:     map[string]*Job{"backup": {Service: Service{Name: "backup", Image: "app:1"}, Triggers: Triggers{Schedule: []Schedule{{Cron: "0 3 * * *"}}}}},
		Networks: map[string]*Network{"front": {Key: "front", Name: "demo_front"}},
		Volumes:  map[string]*Volume{"data": {Key: "data", Name: "demo_data"}},
		Configs:  map[string]*File{"site": {Name: "site", File: "/site", Digest: "sha256:aaaaaaaaaaaaaaaa"}},
		Secrets:  map[string]*File{"key": {Name: "key", Content: []byte("a"), Digest: "sha256:aaaaaaaaaaaaaaaa"}},
	}
	new := &Stack{
		Name: "demo",
		Services: map[string]*Service{
			"web": {Name: "web", Image: "app:2", Position: "a:2:1"},
			"new": {Name: "new", Image: "app:1"},
		},
		Jobs:     map[string]*Job{"backup": {Service: Service{Name: "backup", Image: "app:1"}, Triggers: Triggers{Schedule: []Schedule{{Cron: "0 4 * * *"}}}}},
		Networks: map[string]*Network{"front": {Key: "front", Name: "demo_front", Internal: true}},
		Volumes:  map[string]*Volume{"data": {Key: "data", Name: "demo_data"}},
		Configs:  map[string]*File{"site": {Name: "site", File: "/site", Digest: "sha256:bbbbbbbbbbbbbbbb"}},
		Secrets:  map[string]*File{"key": {Name: "key", Content: []byte("b"), Digest: "sha256:bbbbbbbbbbbbbbbb"}},
		Policy:   StackPolicy{History: 3},
	}
	var got strings.Builder
	for _, d := range Compare(old, new) {
		fmt.Fprintf(&got, "%s %s\n", d.Verb, d.Address)
		for _, ch := range d.Changes {
			if d.Verb == Changed {
				fmt.Fprintf(&got, "  %s\n", ch)
			}
		}
	}
	const want = `added service.new
removed service.old
changed service.web
  image: "app:1" -> "app:2"
changed job.backup
  triggers.schedule[0].cron: "0 3 * * *" -> "0 4 * * *"
changed network.front
  internal: (none) -> true
changed config.site
  content: "aaaaaaaaaaaa" -> "bbbbbbbbbbbb"
changed secret.key
  content: "(secret)" -> "(secret)"
changed stack
  x-stack.history: (none) -> 3
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if same := Compare(old, old); len(same) > 0 {
		t.Errorf("a stack differs from itself: %+v", same)
	}
}

func TestWhatLooksLikeASecretIsRedacted(t *testing.T) {
	for _, c := range []struct {
		change Change
		want   string
	}{
		{Change{Path: "environment.LOG_LEVEL", Old: `"info"`, New: `"debug"`}, `environment.LOG_LEVEL: "info" -> "debug"`},
		{Change{Path: "environment.DB_PASSWORD", Old: `"a"`, New: `"b"`}, `environment.DB_PASSWORD: "(redacted)" -> "(redacted)"`},
		{Change{Path: "environment.API_KEY", New: `"b"`}, `environment.API_KEY: (none) -> "(redacted)"`},
		{Change{Path: "environment.GITHUB_TOKEN", Old: `"b"`}, `environment.GITHUB_TOKEN: "(redacted)" -> (none)`},
		{Change{Path: "environment.MYSQL_PASS", New: `"b"`}, `environment.MYSQL_PASS: (none) -> "(redacted)"`},
		{Change{Path: "environment.COMPASS", New: `"north"`}, `environment.COMPASS: (none) -> "north"`},
		{Change{Path: "environment.DB_PASSWORD_FILE", New: `"/run/secrets/db"`}, `environment.DB_PASSWORD_FILE: (none) -> "/run/secrets/db"`},
		{Change{Path: "environment.URL", New: `"postgres://app:hunter2@db/app"`}, `environment.URL: (none) -> "postgres://app:(redacted)@db/app"`},
		{Change{Path: "command", New: `["redis-server","--requirepass","x","--token=abc"]`}, `command: (none) -> ["redis-server","--requirepass","x","--token=(redacted)"]`},
		{Change{Path: "logging.options.splunk-token", New: `"x"`}, `logging.options.splunk-token: (none) -> "(redacted)"`},
	} {
		if got := c.change.Redact().String(); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
	diff := Change{Text: "@@ -1,3 +1,3 @@\n level: info\n-db_password: hunter1\n+db_password: hunter2\n \"api_key\" = \"hunter3\"\n+see https://a:hunter4@b\n"}
	const want = "@@ -1,3 +1,3 @@\n level: info\n-db_password: (redacted)\n+db_password: (redacted)\n \"api_key\" = (redacted)\n+see https://a:(redacted)@b\n"
	if got := diff.Redact().Text; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s := &Stack{
		Configs: map[string]*File{"c": {Content: []byte("password=hunter2\n")}},
		Services: map[string]*Service{"web": {
			Name: "web", Environment: map[string]string{"TOKEN": "hunter2", "URL": "http://a:hunter2@b"}, Command: &[]string{"--password=hunter2"},
		}},
		Jobs:    map[string]*Job{"backup": {Service: Service{Name: "backup", Environment: map[string]string{"RESTIC_PASSWORD": "hunter2"}}}},
		Volumes: map[string]*Volume{"nas": {DriverOpts: map[string]string{"o": "username=a,password=hunter2"}}},
		Secrets: map[string]*File{"s": {Content: []byte("hunter2")}},
	}
	if got := string(s.Redact().Configs["c"].Content); got != "password=(redacted)\n" {
		t.Errorf("the config holds %q", got)
	}
	if text := string(mustJSON(s.Redact())); strings.Contains(text, "hunter") || strings.Contains(text, "aHVudGVy") {
		t.Errorf("the secret is still there: %s", text)
	}
	if !strings.Contains(string(mustJSON(s)), "hunter2") {
		t.Error("the stack itself was changed")
	}
}

func TestJobsAreComparedAndRedacted(t *testing.T) {
	job := func(cron, password string) *Stack {
		j := &Job{Triggers: Triggers{Schedule: []Schedule{{Cron: cron}}}, Runs: RunPolicy{Retries: 2}}
		j.Name, j.Environment = "backup", map[string]string{"DB_PASSWORD": password}
		return &Stack{Jobs: map[string]*Job{"backup": j}}
	}
	all := Compare(job("0 4 * * *", "one"), job("0 5 * * *", "one"))
	if len(all) != 1 || all[0].Address != "job.backup" || all[0].Verb != Changed || all[0].Changes[0].Path != "triggers.schedule[0].cron" {
		t.Errorf("the differences are %+v", all)
	}
	shown := job("0 4 * * *", "hunter2").Redact().Jobs["backup"]
	if shown.Environment["DB_PASSWORD"] != redacted || shown.Runs.Retries != 2 || shown.Triggers.Schedule[0].Cron != "0 4 * * *" {
		t.Errorf("shown is %+v", shown)
	}
}
