package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// watched runs a watch in the background and returns what it has printed so far.
func watched(h *host.Host, args ...string) (printed func() string, stop func()) {
	h.T.Helper()
	log := filepath.Join(h.Dir, "..", "watch.log")
	out, err := os.Create(log)
	if err != nil {
		h.T.Fatal(err)
	}
	cmd := h.Command(append([]string{"stack"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	end := h.Background(cmd)
	printed = func() string {
		text, err := os.ReadFile(log)
		if err != nil {
			h.T.Fatal(err)
		}
		return string(text)
	}
	h.T.Cleanup(func() {
		if h.T.Failed() {
			h.T.Logf("the watch printed: %s", printed())
		}
	})
	h.Eventually("the watch is enabled", func() bool { return strings.Contains(printed(), "Watch enabled") })
	return printed, end
}

// trees are equal on the host and in a container: names, types, modes, contents.
func sameTrees(h *host.Host, src, service, target string) func() bool {
	const list = `find . -mindepth 1 -exec stat -c '%n %f' {} + | sort; find . -type f -exec md5sum {} + | sort`
	return func() bool {
		h.T.Helper()
		r := h.Try("exec", "-T", service, "sh", "-c", "cd "+target+" && { "+list+"; }")
		return r.Code == 0 && strings.TrimSpace(r.Stdout) == strings.TrimSpace(h.Sh("cd "+src+" && { "+list+"; }"))
	}
}

func TestWatchSyncsFilesIntoContainers(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    user: "1234:567"
    volumes: [data:/app/data]
    tmpfs: [/app/tmp]
    scale: 2
    develop:
      watch:
        - {path: ./src, target: /app, action: sync, ignore: [node_modules/]}
  own:
    image: busybox
    init: true
    command: [sleep, infinity]
    userns_mode: auto
    tmpfs: [/app/tmp]
    develop: {watch: [{path: ./src, target: /app, action: sync}]}
volumes: {data: }
`)
	h.Sh("mkdir -p src")
	printed, stop := watched(h, "watch")
	h.Sh("cd src; mkdir -p a/b data tmp node_modules; echo hello > a/b/f; chmod 600 a/b/f; echo v > data/v; echo t > tmp/t; ln -s b/f a/link; echo x > node_modules/x")
	for _, index := range []string{"1", "2"} {
		in := func(script string) string { return h.Stack("exec", "-T", "--index", index, "web", "sh", "-c", script) }
		h.Eventually("the files are there", func() bool {
			return h.Try("exec", "-T", "--index", index, "web", "sh", "-c", "cat /app/a/link && ls /app/data/v /app/tmp/t").Code == 0
		})
		equal(t, "a file's owner and mode", in("stat -c '%u:%g %a' /app/a/b/f"), "1234:567 600\n")
		equal(t, "what is ignored", in("ls /app/node_modules 2>/dev/null || echo none"), "none\n")
	}
	// A container with ids of its own gets files of its own root, on its own tmpfs too.
	h.Eventually("the files are there", func() bool { return h.Try("exec", "-T", "own", "ls", "/app/tmp/t", "/app/node_modules/x").Code == 0 })
	equal(t, "owners", h.In("own", "stat", "-c", "%u:%g", "/app/a/b/f", "/app/tmp/t"), "0:0\n0:0")
	h.Sh("cd src; rm -r a; mkdir a; echo new > a/g; rm -r node_modules")
	h.Eventually("equal", sameTrees(h, "src", "own", "/app"))
	h.Sh("rm src/data/v")
	h.Eventually("the volume follows", func() bool { return h.Try("exec", "-T", "web", "ls", "/app/data/v").Code != 0 })
	contains(t, "what was told", printed(), "synced", "→ /app")
	stop()
	equal(t, "containers after the watch", h.One("own").State, "running")
}

func TestWatchOutlivesRestartsRecreatesAndTheDaemon(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "mkdir -p /app; sleep infinity"]
    develop: {watch: [{path: ./src, target: /app, action: sync}]}
`)
	h.Sh("mkdir -p src; echo before > src/untouched")
	printed, _ := watched(h, "watch")
	h.Sh("rm src/untouched; mkdir src/d; echo 1 > src/d/1")
	h.Eventually("equal", sameTrees(h, "src", "web", "/app"))
	for _, during := range []string{"restart -t 0 web", "up -d -t 0 --force-recreate", "restart -t 0 web"} {
		cmd := h.Command(append([]string{"stack"}, strings.Fields(during)...)...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 50 {
				h.Sh("cd src; echo " + during + " > d/1; mkdir -p e; for i in $(seq 20); do echo $i > e/" + string(rune('a'+i%26)) + "$i; done")
			}
		}()
		if r := h.Run(cmd); r.Code != 0 {
			t.Fatal(r)
		}
		<-done
		h.Eventually("equal after "+during, sameTrees(h, "src", "web", "/app"))
	}
	// More changes than the kernel's queue holds, while the watch can't take them.
	watching := strings.TrimSpace(h.Sh("pgrep -f '^stack watch'"))
	h.Sh("mkdir src/lost; echo 1 > src/lost/one; echo 2 > src/lost/two")
	h.Eventually("equal", sameTrees(h, "src", "web", "/app"))
	h.Sh("kill -STOP " + watching)
	h.Eventually("all its threads have stopped", func() bool {
		return h.Sh("cat /proc/"+watching+"/task/*/status | grep State: | grep -vc 'T (stopped)' || true") == "0"
	})
	overflow(t, filepath.Join(h.Dir, "src", "lost"))
	h.Sh("rm -r src/e; mkdir src/late; echo late > src/late/f; kill -CONT " + watching)
	h.Eventually("equal after events were lost", sameTrees(h, "src", "web", "/app"))
	h.Eventually("it is told", func() bool { return strings.Contains(printed(), "more changed at once than the kernel could tell") })
	h.Sh("echo later > src/late/f")
	h.Eventually("equal in a folder whose making was not told", sameTrees(h, "src", "web", "/app"))
	h.Kill(h.DaemonPID())
	h.Sh("echo killed > src/d/1; rm -r src/lost")
	h.Stack("ps") // the next daemon
	h.Eventually("equal after the daemon was killed", sameTrees(h, "src", "web", "/app"))
}

// overflow writes to two files in turn, so that no two events in a row are the same and melt into one, until the queue of
// whoever watches them and reads none has run over.
func overflow(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	var files [2]*os.File
	for i, name := range []string{"one", "two"} {
		if files[i], err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	for i := range limit + 100 {
		if _, err := files[i%2].WriteAt([]byte{'a' + byte(i%26)}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchRestartsRunsCommandsAndRebuilds(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "echo started; sleep infinity"]
    stop_signal: SIGKILL
    develop:
      watch:
        - {path: ./conf, target: /conf, action: sync+restart}
        - {path: ./html, target: /html, action: sync+exec, exec: {command: [sh, -c, 'echo "reload as $$(id -un) in $$PWD: $$(cat /html/page)"'], user: nobody, working_dir: /tmp}}
        - {path: ./flags, action: restart}
  built:
    image: made
    build: .
    x-stack: &build {build: "mkdir -p root; cp version root; cp -a ../busybox/. root; echo built; tar -C root -cf image.tar . && stack image load --name $$STACK_IMAGE -i image.tar"}
    init: true
    command: [sleep, infinity]
    stop_signal: SIGKILL
    develop: {watch: [{path: ./version, action: rebuild}, {path: ./src, target: /src, action: sync}]}
  twin:
    image: made
    build: .
    x-stack: *build
    command: [sleep, infinity]
    stop_signal: SIGKILL
    develop: {watch: [{path: ./version, action: rebuild}]}
  other: {image: busybox, init: true, command: [sleep, infinity]}
`)
	h.Sh("mkdir -p conf html ../busybox/bin; cp $(command -v busybox) ../busybox/bin/busybox; for i in sleep cat sh; do ln -s busybox ../busybox/bin/$i; done; echo 1 > version; echo x > flags; mkdir src; echo 'src/*.tmp' > .dockerignore")
	wouldBuild := func(reason string, args ...string) {
		t.Helper()
		r := h.Try(args...)
		if want := "image.made  would build  " + reason; !strings.Contains(strings.Join(strings.Fields(r.Stdout), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%v says\n%v\nwithout: %s", args, r, want)
		}
	}
	wouldBuild("missing", "plan", "built")
	wouldBuild("missing", "--dry-run", "up", "built")
	if strings.Contains(h.Sh("ls"), "root") {
		t.Error("a plan has built")
	}
	printed, stop := watched(h, "watch")
	wouldBuild("requested: --build", "plan", "--build", "built")
	h.Fails([]string{"plan", "--build", "-o", "saved", "built"}, "would be built", "without --build")
	equal(t, "the built image", h.In("built", "cat", "/version"), "1")
	other, built := h.One("other").ID, h.One("built").ID
	starts := func() int { return strings.Count(h.Stack("logs", "--no-log-prefix", "web"), "started") }
	h.Sh("echo a > conf/a; echo b > conf/b")
	h.Eventually("restarted", func() bool { return starts() == 2 && h.Try("exec", "-T", "web", "cat", "/conf/b").Stdout == "b\n" })
	h.Sh("echo welcome > html/page")
	h.Eventually("reloaded", func() bool { return strings.Contains(printed(), "web | reload as nobody in /tmp: welcome") })
	h.Sh("echo y > flags")
	h.Eventually("restarted again", func() bool { return starts() == 3 })
	h.Sh("echo 2 > version")
	rebuilt := func(version string) func() bool {
		return func() bool {
			for _, name := range []string{"built", "twin"} {
				if h.Try("exec", "-T", name, "cat", "/version").Stdout != version+"\n" {
					return false
				}
			}
			return true
		}
	}
	h.Eventually("rebuilt", rebuilt("2"))
	h.Eventually("told", func() bool { return strings.Contains(printed(), "twin  rebuilt") })
	contains(t, "what was told", printed(), "rebuilding", "built  rebuilt", "restarted")
	equal(t, "builds of the image that two services share", fmt.Sprint(strings.Count(printed(), " | built\n")), "2") // at the start, and once more
	if h.One("built").ID == built {
		t.Error("the container is the old one")
	}
	equal(t, "a service that is not concerned", h.One("other").ID, other)
	unnamed := `stack image ls | grep -c '<none>' || true`
	equal(t, "images without a name", h.Sh(unnamed), "0")
	h.Sh("echo 1 > src/b.tmp; echo 1 > src/a")
	h.Eventually("synced", func() bool { return h.Try("exec", "-T", "built", "cat", "/src/a").Code == 0 })
	equal(t, "what .dockerignore leaves out", h.In("built", "sh", "-c", "cd /src; echo *"), "a")
	stop()

	printed, _ = watched(h, "watch", "--quiet", "--prune=false", "built")
	h.Sh("echo 3 > version")
	h.Eventually("rebuilt", func() bool { return h.Try("exec", "-T", "built", "cat", "/version").Stdout == "3\n" })
	if strings.Contains(printed(), "| built") {
		t.Error("the output of a quiet build is shown")
	}
	if h.Sh(unnamed) == "0" {
		t.Error("the replaced image is gone")
	}
}

func TestWatchAppliesTheStackFile(t *testing.T) {
	h := start(t)
	file := func(color string) {
		h.Write("", `
include: [more.yaml]
services:
  web:
    image: busybox
    init: true
    command: [sleep, infinity]
    stop_signal: SIGKILL
    environment: {COLOR: `+color+`, SIZE: "${SIZE:-none}"}
    env_file: [shape.env]
    configs: [{source: page, target: /page}]
    secrets: [key]
    develop: {watch: [{path: ./src, target: /app, action: sync}, {path: ./current, target: /linked, action: sync}]}
  other: {image: busybox, init: true, command: [sleep, infinity]}
configs: {page: {file: ./page}}
secrets: {key: {file: ./key}}
`)
	}
	file("blue")
	h.Write("more.yaml", `services: {more: {image: busybox, init: true, command: [sleep, "1000"], stop_signal: SIGKILL}}`)
	h.Sh("echo SHAPE=round > shape.env; echo a > key; mkdir -p src v1 v2; ln -s v1 current; echo one > page; echo 1 > v1/f; echo 2 > v2/f")
	printed, stop := watched(h, "watch")
	h.Sh("echo kept > src/f")
	h.Eventually("synced", sameTrees(h, "src", "web", "/app"))
	other := h.One("other").ID
	says := func(want string) func() bool {
		return func() bool {
			return h.Try("exec", "-T", "web", "sh", "-c", "echo $COLOR $SIZE; cat /page /app/f").Stdout == want
		}
	}
	file("red")
	h.Eventually("red", says("red none\none\nkept\n")) // what was synced is there in the new container
	contains(t, "the plan", printed(), "Stack file changed", "environment.COLOR", "Applied")
	h.Sh("echo two > page")
	h.Eventually("another page", says("red none\ntwo\nkept\n"))
	h.Sh("echo SIZE=big > .env")
	h.Eventually("another size", says("red big\ntwo\nkept\n"))
	before := []string{h.One("web").ID, h.One("more").ID}
	h.Sh("echo SHAPE=square > shape.env")
	h.Eventually("another env file", func() bool { return h.Try("exec", "-T", "web", "sh", "-c", "echo $SHAPE").Stdout == "square\n" })
	h.Sh("echo b > key")
	h.Eventually("another secret", func() bool { return h.Try("exec", "-T", "web", "cat", "/run/secrets/key").Stdout == "b\n" })
	h.Sh("sed -i s/1000/2000/ more.yaml")
	h.Eventually("another included file", func() bool {
		return strings.Contains(h.Try("exec", "-T", "more", "cat", "/proc/1/cmdline").Stdout, "2000")
	})
	web := h.One("web").ID
	if web == before[0] || h.One("more").ID == before[1] {
		t.Error("a container is the old one")
	}

	file("green, broken: [")
	h.Eventually("the mistake is told", func() bool { return strings.Contains(printed(), "compose.yaml:8:5: not valid YAML") })
	contains(t, "what was told", printed(), "all stays as it is")
	equal(t, "the container", h.PsOf("work", "web")[0].ID, web)
	h.Sh("echo still > src/g")
	h.Eventually("files are synced still", func() bool { return h.Try("-p", "work", "exec", "-T", "web", "cat", "/app/g").Stdout == "still\n" })
	file("red")
	h.Eventually("the mended file is told", func() bool { return strings.Contains(printed(), "good again") })
	h.Sh("ln -sfn v2 current")
	h.Eventually("a link that points elsewhere is followed", sameTrees(h, "v2", "web", "/linked"))
	equal(t, "the container", h.One("web").ID, web)
	file("green")
	h.Eventually("green", says("green big\ntwo\nkept\n"))
	equal(t, "a service that is not concerned", h.One("other").ID, other)
	stop()
}

func TestWatchSaysWhatItCantDo(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    develop:
      watch:
        - {path: ./a, action: rebuild}
`)
	h.Fails([]string{"watch"}, "compose.yaml:7:23: ", "nothing can rebuild the service", "x-stack: {build: COMMAND}")
	h.Write("", `services: {web: {image: busybox}}`)
	h.Fails([]string{"watch"}, "none of the selected services is configured for watch")
	h.Fails([]string{"up", "--watch"}, "none of the selected services is configured for watch")
	if len(h.Ps()) > 0 {
		t.Error("something was made")
	}
	h.Write("", `
services:
  web:
    image: busybox
    init: true
    read_only: true
    command: [sleep, infinity]
    develop: {watch: [{path: ./src, target: /app, action: sync}]}
`)
	h.Sh("mkdir -p src")
	printed, _ := watched(h, "watch", "--no-up")
	if len(h.Ps()) > 0 {
		t.Error("--no-up has made something")
	}
	h.Stack("up", "-d")
	h.Sh("echo x > src/f")
	h.Eventually("told with a remedy", func() bool { return strings.Contains(printed(), "sync into a volume or a tmpfs") })
	contains(t, "what was told", printed(), "read-only file system")
}

func TestUpWatchShowsOutputAndStopsOnCtrlC(t *testing.T) {
	h := start(t)
	h.Write("", `
services:
  web:
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; echo started; while :; do cat /app/f 2>/dev/null && rm /app/f; sleep 0.1; done"]
    develop: {watch: [{path: ./src, target: /app, action: sync+restart}]}
`)
	h.Sh("mkdir -p src")
	log := filepath.Join(h.Dir, "..", "up.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command("stack", "up", "--watch")
	cmd.Stdout, cmd.Stderr = out, out
	h.Background(cmd)
	printed := func() string {
		text, _ := os.ReadFile(log)
		return string(text)
	}
	h.Eventually("up and watched", func() bool {
		return strings.Contains(printed(), "Watch enabled") && strings.Contains(printed(), "| started")
	})
	h.Sh("echo from the file > src/f")
	h.Eventually("restarted", func() bool { return strings.Count(printed(), "| started") == 2 })
	h.Eventually("the file arrived", func() bool { return strings.Contains(printed(), "| from the file") })
	h.Sh("echo once more > src/f")
	h.Eventually("restarted again", func() bool { return strings.Count(printed(), "| started") == 3 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	h.Eventually("stopped", func() bool { return h.One("web").State == "exited" })
	contains(t, "the end", printed(), "Gracefully stopping")
}

func TestTheDevLoopServesWhatIsSaved(t *testing.T) {
	h := start(t)
	h.Copy("examples/dev-loop")
	printed, stop := watched(h, "watch")
	page := func(path, want string) func() bool {
		return func() bool { return strings.Contains(h.Sh("curl -sSi http://localhost:8080"+path+" || true"), want) }
	}
	h.Eventually("the page and the configuration of the folder are served", func() bool { return page("/", "Edit me")() && page("/", "X-Mood: calm")() })
	h.Sh("echo edited > site/index.html; echo secret > site/next.draft")
	h.Eventually("the edited page is served", page("/", "edited"))
	h.Sh("sed -i s/calm/sunny/ nginx.conf")
	h.Eventually("the edited configuration is loaded", page("/", "X-Mood: sunny"))
	h.Sh("sed -i s/hello/goodbye/ compose.yaml")
	h.Eventually("the edited stack file is applied", page("/greeting.txt", "goodbye"))
	h.Eventually("what was edited before is there still", func() bool { return page("/", "edited")() && page("/", "X-Mood: sunny")() })
	contains(t, "an ignored file", h.Sh("curl -sSi http://localhost:8080/next.draft"), "404")
	contains(t, "the watch", printed(), "Plan: 1 to recreate")
	stop()
}
