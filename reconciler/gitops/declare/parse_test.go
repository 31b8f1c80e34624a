package declare

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

func TestParseReadsEveryKey(t *testing.T) {
	got, err := Parse("gitops.yaml", []byte(`
labels: {role: web}
listen: 127.0.0.1:9180
ageKeys: [/etc/stack/age.key]
notify:
  - {name: ops, urlFile: /etc/stack/slack, format: slack, on: [failed], repositories: [shop], repeat: 6h}
  - {url: "https://ntfy.example.com/ops", tokenFile: /t}
repositories:
  base: {url: "https://git.example.com/base.git", ref: main}
  shop:
    url: ssh://git@git.example.com/shop.git
    ref: {semver: ">=1.2 <2"}
    path: "**/compose.yaml"
    sparse: [deploy]
    interval: 5m
    timeout: 30s
    maxSize: 1g
    auth: {sshKey: /k, knownHosts: /h}
    verify: {openpgp: [/a.asc], allowedSigners: /s, tag: true}
    allowRewrite: true
    profiles: [p]
    envFiles: [prod.env]
    hostFiles: [/etc/app]
    overrides: [{when: {role: web}, path: web, skip: ["db/**"], profiles: [w], envFiles: [web.env]}]
    prune: false
    pruneVolumes: true
    waitTimeout: 2m
    onFailure: rollback
    dependsOn: [base]
    suspend: true
    webhook: {secretFile: /w}
    report: {provider: github, url: "https://api.github.com/repos/a/b", tokenFile: /t, context: c}
`))
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := File{
		Labels: map[string]string{"role": "web"}, Listen: "127.0.0.1:9180", AgeKeys: []string{"/etc/stack/age.key"},
		Notify: []Notify{
			{Name: "ops", URLFile: "/etc/stack/slack", Format: "slack", On: []string{"failed"}, Repositories: []string{"shop"}, Repeat: Duration(6 * time.Hour)},
			{URL: "https://ntfy.example.com/ops", TokenFile: "/t"},
		},
		Repositories: map[string]Repository{
			"base": {Name: "base", URL: "https://git.example.com/base.git", Ref: Ref{Branch: "main"}},
			"shop": {
				Name: "shop", URL: "ssh://git@git.example.com/shop.git", Ref: Ref{SemVer: ">=1.2 <2"}, Path: "**/compose.yaml", Sparse: []string{"deploy"},
				Interval: Duration(5 * time.Minute), Timeout: Duration(30 * time.Second), MaxSize: 1 << 30,
				Auth:         Auth{SSHKey: "/k", KnownHosts: "/h"},
				Verify:       Verify{OpenPGP: []string{"/a.asc"}, AllowedSigners: "/s", Tag: true},
				AllowRewrite: true, Profiles: []string{"p"}, EnvFiles: []string{"prod.env"}, HostFiles: []string{"/etc/app"},
				Overrides: []Override{{When: map[string]string{"role": "web"}, Path: "web", Skip: []string{"db/**"}, Profiles: []string{"w"}, EnvFiles: []string{"web.env"}}},
				Prune:     &no, PruneVolumes: true, WaitTimeout: Duration(2 * time.Minute), OnFailure: Rollback, DependsOn: []string{"base"}, Suspend: true,
				Webhook: Webhook{SecretFile: "/w"},
				Report:  Report{Provider: "github", URL: "https://api.github.com/repos/a/b", TokenFile: "/t", Context: "c"},
			},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseRefusesWithPosition(t *testing.T) {
	for situation, c := range map[string]struct{ text, want string }{
		"an unknown key": {"repositorys: {}\n", "c:1:1: repositorys: unknown key; did you mean repositories?"},
		"an unknown key below": {"repositories:\n  a:\n    url: https://x/y\n    brunch: main\n",
			"c:4:5: repositories.a.brunch: unknown key; known keys: allowRewrite, auth, dependsOn, envFiles, hostFiles, interval, maxSize, onFailure, overrides, path, profiles, prune, pruneVolumes, ref, report, sparse, suspend, timeout, url, verify, waitTimeout, webhook"},
		"a key twice": {"listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "c:2:1: listen: given twice; remove one of them"},
		"no address":  {"listen: here\n", `c:1:1: listen: "here" is not an address; write it as 127.0.0.1:9180`},
		"no URL":      {"repositories: {a: {ref: main}}\n", `c:1:16: repositories.a.url: "" is not a URL; write it as https://host/path, ssh://user@host/path, file:///path or oci://registry/repository`},
		"a short ssh": {"repositories: {a: {url: \"git@host:ops/a.git\"}}\n", `c:1:20: repositories.a.url: "git@host:ops/a.git" is not a URL; write it as ssh://git@host/ops/a.git`},
		"a password":  {"repositories: {a: {url: \"https://me:pw@host/a\"}}\n", "c:1:20: repositories.a.url: credentials stand in the URL, where everyone reads them; name a file with them under auth (tokenFile, or username and passwordFile)"},
		"a transport": {"repositories: {a: {url: \"ext::sh -c id\"}}\n", `c:1:20: repositories.a.url: "ext" is not a way to fetch from; use https, http, ssh, git, file or oci` + "\n" + `c:1:20: repositories.a.url: "ext::sh -c id" names no host`},
		"a way out":   {"repositories: {a: {url: \"https://h/a\", path: ../b}}\n", `c:1:40: repositories.a.path: "../b" is not within the repository; name something below the repository's top`},
		"a token in the open": {"repositories: {a: {url: \"http://h/a\", auth: {tokenFile: /t}}}\n",
			"c:1:20: repositories.a.url: credentials would travel in the open; use https"},
		"credentials that nothing would use": {"repositories: {a: {url: \"git://h/a\", auth: {caFile: /c, sshKey: /k, username: u}}}\n",
			"c:1:38: repositories.a.auth: git has no use for ssh keys; leave sshKey and knownHosts away, or write the URL as ssh://user@host/path\n" +
				"c:1:45: repositories.a.auth.caFile: only servers of https URLs are checked by it; add the authority to those of this host, or leave it away\n" +
				"c:1:69: repositories.a.auth.username: a user's name alone is of no use; name a file with the password or a token under auth"},
		"a status of an artifact": {"repositories: {a: {url: \"oci://h/a\", report: {provider: gitea, url: \"https://h/a\", tokenFile: /t}}}\n",
			"c:1:38: repositories.a.report: an artifact is no commit that a status could be given to; leave it away"},
		"two refs":        {"repositories: {a: {url: \"https://h/a\", ref: {branch: b, tag: t}}}\n", "c:1:40: repositories.a.ref: give one of branch, tag, semver and commit"},
		"a circle":        {"repositories:\n  a: {url: \"https://h/a\", dependsOn: [b]}\n  b: {url: \"https://h/b\", dependsOn: [a]}\n", "c:2:27: repositories.a.dependsOn: a and b wait for each other\nc:3:27: repositories.b.dependsOn: b and a wait for each other"},
		"no such other":   {"repositories: {a: {url: \"https://h/a\", dependsOn: [x]}}\n", `c:1:40: repositories.a.dependsOn: no repository is called "x" here`},
		"not a duration":  {"repositories: {a: {url: \"https://h/a\", interval: often}}\n", "c:1:50: repositories.a.interval: not a duration; write it as 90s or 5m"},
		"a name":          {"repositories: {A b: {url: \"https://h/a\"}}\n", `c:1:16: repositories.A b: "A b" can't be the name of a repository: lower-case letters, digits, dashes and underscores make one; "ab" would do`},
		"malformed YAML":  {"listen: {\n", "c:1:1: did not find expected node content"},
		"a list expected": {"ageKeys: /a\n", "c:1:10: ageKeys: not a list; write it as [a, b]"},
	} {
		t.Run(situation, func(t *testing.T) {
			_, err := Parse("c", []byte(c.text))
			var found spec.Diagnostics
			if !errors.As(err, &found) {
				t.Fatalf("error is %v, want diagnostics", err)
			}
			if got := found.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("repositories: {a: {url: https://h/a, ref: {semver: '>1'}, overrides: [{when: {a: b}}]}}")
	f.Add("a: &a [*a]\n")
	f.Add("repositories: &r {a: *r}")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Parse("c", []byte(text))
		var found spec.Diagnostics
		if err != nil && (!errors.As(err, &found) || len(found) == 0) {
			t.Errorf("error is %v, want diagnostics", err)
		}
	})
}
