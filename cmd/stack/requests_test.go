package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// Each row is a command line and what it asks of the daemon.
func TestCommandLinesAskForWhatTheySay(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"up -d", `up demo {}`},
		{"up -d web", `up demo {"options":{"Services":["web"]}}`},
		{"up -d --scale web=3 --no-deps --force-recreate -t 5 web",
			`up demo {"options":{"Services":["web"],"NoDeps":true,"Scale":{"web":3},"ForceRecreate":true,"Timeout":5000000000}}`},
		{"up --wait --wait-timeout 9 --pull always --remove-orphans -V --quiet-pull",
			`up demo {"options":{"RemoveOrphans":true,"Pull":"always","RenewAnonVolumes":true,"WaitHealthy":true},"wait":true,"wait_timeout":9000000000,"quiet_pull":true}`},
		{"up -d --no-recreate --pull if_not_present -y --no-build", `up demo {"options":{"NoRecreate":true,"Pull":"missing"}}`},
		{"up -d --always-recreate-deps --no-start", `up demo {"options":{"AlwaysRecreateDeps":true,"NoStart":true}}`},
		{"create --scale db=0", `up demo {"command":"create","options":{"Scale":{"db":0},"NoStart":true}}`},
		{"scale web=2 db=1", `up demo {"command":"scale","options":{"Services":["db","web"],"Scale":{"db":1,"web":2},"NoRecreate":true}}`},
		{"plan --force-recreate", `plan demo {"ForceRecreate":true}`},
		{"plan -d --wait db", `plan demo {"Services":["db"],"WaitHealthy":true}`},
		{"--dry-run up web", `plan demo {"Services":["web"]}`},
		{"up --dry-run", `plan demo {}`},
		{"diff --from 2 --to 3", `diff demo no file {"from":2,"to":3}`},
		{"diff --from 2", `diff demo file {"from":2}`},
		{"-p other diff --from 2 --to 3", `diff other no file {"from":2,"to":3}`},
		{"down", `down demo file {}`},
		{"down -v --rmi local --remove-orphans -t 0", `down demo file {"timeout":0,"volumes":true,"images":"local","remove_orphans":true}`},
		{"-p other down", `down other no file {}`},
		{"-p other -f compose.yaml down web", `down other file {"services":["web"]}`},
		{"down --dry-run", `plan down demo {}`},
		{"stop -t 3 web", `stop demo file {"services":["web"],"timeout":3000000000}`},
		{"start --wait --wait-timeout 2", `start demo file {"wait":true,"wait_timeout":2000000000}`},
		{"restart --no-deps db", `restart demo file {"services":["db"],"no_deps":true}`},
		{"kill -s SIGHUP", `kill demo file {"signal":"SIGHUP"}`},
		{"pause", `pause demo file {}`},
		{"unpause web", `unpause demo file {"services":["web"]}`},
		{"rm -fsv db", `rm demo file {"services":["db"],"stop":true,"volumes":true}`},
		{"pull --policy missing --include-deps --ignore-pull-failures -q web",
			`pull {"services":["web"],"policy":"missing","include_deps":true,"ignore_failures":true}`},
		{"exec -e A=1 -u root -w /tmp --index 2 web ls -l", `exec demo {"service":"web","index":2,"args":["ls","-l"],"env":["A=1"],"cwd":"/tmp","user":"root","interactive":true}`},
		{"exec -d --privileged web sleep 1", `exec demo {"service":"web","args":["sleep","1"],"privileged":true,"interactive":true,"detach":true}`},
		{"logs --tail 5 -f web", `logs demo {"services":["web"],"tail":5,"follow":true}`},
		{"logs --since 2026-01-02T03:04:05Z", `logs demo {"since":"2026-01-02T03:04:05Z","tail":-1}`},
		{"image pull --platform linux/arm64 nginx", `image pull nginx linux/arm64`},
		{"image rm -f nginx", `image rm nginx true`},
		{"volume rm data", `volume rm data`},
		{"volume prune -af", `volume prune true`},
		{"network prune -f", `network prune`},
		{"daemon --stop", `shutdown`},
	} {
		t.Run(c.line, func(t *testing.T) {
			r := &recorder{}
			s := newSandbox(t, r, demo)
			if got := s.stack(strings.Fields(c.line)...); got.code != 0 {
				t.Fatalf("exit %d: %s", got.code, got.err)
			}
			if want := canonical(t, c.want); r.noted() != want {
				t.Errorf("asked for\n     %s\nwant %s", r.noted(), want)
			}
		})
	}
}

// canonical puts the fields of a call's JSON in the order in which the recorder notes them.
func canonical(t *testing.T, call string) string {
	t.Helper()
	name, text, ok := strings.Cut(call, "{")
	if !ok {
		return call
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte("{"+text), &fields); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return name + string(sorted)
}

func TestRunAsksForTheServiceAsTheCommandLineWantsIt(t *testing.T) {
	const file = `name: demo
services:
  web:
    image: nginx
    container_name: fixed
    restart: always
    command: [serve]
    ports: ["80:80"]
    environment: {A: "1", B: "2"}
    volumes: ["data:/data"]
volumes: {data: {}}
`
	for _, c := range []struct{ line, want string }{
		{"run -T web", `"command":["serve"],"environment":{"A":"1","B":"2"},"image":"nginx","name":"web"`},
		{"run -T --rm --name x web echo hi", `"command":["echo","hi"]`},
		{"run -T -e A=9 -e HOME_OF_TEST web", `"environment":{"A":"9","B":"2","HOME_OF_TEST":"here"}`},
		{"run -T --entrypoint 'sh -c' web", `"entrypoint":["sh","-c"]`},
		{"run -T -P web", `"ports":[{"mode":"ingress","protocol":"tcp","published":"80","target":80}]`},
		{"run -T -p 127.0.0.1:9000:80/udp web", `"ports":[{"host_ip":"127.0.0.1","protocol":"udp","published":"9000","target":80}]`},
		{"run -T -v other:/data:ro web", `"volumes":[{"read_only":true,"source":"other","target":"/data","type":"volume"}]`},
		{"run -T -v /srv:/srv web", `{"create_host_path":true,"source":"/srv","target":"/srv","type":"bind"}`},
		{"run -T -u 1000 -w /x -l a=b --cap-add NET_ADMIN --cap-drop ALL web", `"user":"1000",`},
		{"run -d web", `"restart":{"condition":"no"}`},
	} {
		t.Run(c.line, func(t *testing.T) {
			t.Setenv("HOME_OF_TEST", "here")
			r := &recorder{}
			s := newSandbox(t, r, file)
			if got := s.stack(words(c.line)...); got.code != 0 {
				t.Fatalf("exit %d: %s", got.code, got.err)
			}
			if !strings.Contains(r.noted(), c.want) {
				t.Errorf("asked for\n     %s\nwant %s", r.noted(), c.want)
			}
			if strings.Contains(r.noted(), "fixed") {
				t.Error("a one-off container takes the service's container_name")
			}
			if attached := strings.Contains(r.noted(), "attach demo c0ffee"); attached == strings.Contains(c.line, "-d ") {
				t.Errorf("attached: %t", attached)
			}
		})
	}
}

// words splits a command line at blanks outside single quotes.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

func TestCommandLinesThatCantBeObeyedAreRefused(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"plan --build", "image builds are not supported yet"},
		{"up --dry-run --build", "image builds are not supported yet"},
		{"up --build", "image builds are not supported yet"},
		{"up --watch", "none of the selected services is configured for watch"},
		{"up --force-recreate --no-recreate", "--force-recreate and --no-recreate are incompatible"},
		{"up --wait --abort-on-container-exit", "--wait cannot be combined"},
		{"up -d --exit-code-from web", "--detach cannot be combined"},
		{"up --exit-code-from nobody", "--exit-code-from nobody: no such service"},
		{"up --scale web", "write SERVICE=NUM"},
		{"up -d --scale nobody=1", "no such service"},
		{"up --pull sometimes", "use one of policy, always"},
		{"up --attach nobody", "cannot attach to services not included in up: nobody"},
		{"up -d nobody", "nobody"},
		{"down --rmi some", "use all or local"},
		{"--progress fancy ps", "use one of auto, tty"},
		{"--ansi maybe ps", "use one of auto, never, always"},
		{"-c remote ps", "there is no Docker engine"},
		{"ps --status fine", "use one of paused"},
		{"ps --filter color=red", "only status=STATE"},
		{"ps nobody", "no such service: nobody"},
		{"logs --tail some", "write a number of lines"},
		{"logs --since soon", "neither a time"},
		{"port web http", "is no port"},
		{"config --format xml", "use yaml or json"},
		{"-p Wrong! down", "can't be the name of a stack"},
		{"run -p 1:1 -P web", "--service-ports and --publish are incompatible"},
		{"cp a b", "does not exist yet"},
		{"upp", `unknown command "upp"; did you mean up?`},
		{"up --fast", "unknown flag: --fast; see stack up --help"},
		{"up --progress plain", "--progress stands before the verb: stack --progress ... up"},
		{"--dry-run pull", "`stack pull` has no plan to show"},
		{"volume prune --dry-run", "has no plan to show"},
		{"up -w -d", "--watch cannot be combined with --detach"},
		{"-f nowhere.yaml up", "nowhere.yaml"},
	} {
		t.Run(c.line, func(t *testing.T) {
			r := &recorder{}
			got := newSandbox(t, r, demo).stack(strings.Fields(c.line)...)
			if got.code != 1 || !strings.Contains(got.err, c.want) {
				t.Errorf("exit %d: %s\nwant %s", got.code, got.err, c.want)
			}
			if r.noted() != "" {
				t.Errorf("the daemon was asked for %s", r.noted())
			}
		})
	}
}

func TestCommandsOnWhatRunsNeedNoStackFile(t *testing.T) {
	for _, line := range []string{"-p demo down", "-p demo ps", "-p demo logs", "ls", "volume ls", "image ls", "version"} {
		t.Run(line, func(t *testing.T) {
			if got := newSandbox(t, &recorder{}, "").stack(strings.Fields(line)...); got.code != 0 {
				t.Errorf("exit %d: %s", got.code, got.err)
			}
		})
	}
	t.Run("by COMPOSE_PROJECT_NAME", func(t *testing.T) {
		r := &recorder{}
		s := newSandbox(t, r, "")
		t.Setenv("COMPOSE_PROJECT_NAME", "demo")
		if got := s.stack("down"); got.code != 0 || r.noted() != "down demo no file {}" {
			t.Errorf("exit %d: %s\n%s", got.code, got.err, r.noted())
		}
	})
	t.Run("up does", func(t *testing.T) {
		if got := newSandbox(t, &recorder{}, "").stack("up"); got.code != 1 || !strings.Contains(got.err, "compose.yaml") {
			t.Errorf("exit %d: %s", got.code, got.err)
		}
	})
}

func TestRmAsksFirst(t *testing.T) {
	for answer, asked := range map[string]bool{"y\n": true, "yes\n": true, "n\n": false, "": false} {
		r := &recorder{containers: exampleContainers()}
		got := newSandbox(t, r, demo).stackWithInput(answer, "rm")
		if (r.noted() != "") != asked {
			t.Errorf("answer %q: asked for %q", answer, r.noted())
		}
		if !strings.Contains(got.err, "Going to remove demo-db-1") || strings.Contains(got.err, "demo-web-1") {
			t.Errorf("it says %q", got.err)
		}
	}
}
