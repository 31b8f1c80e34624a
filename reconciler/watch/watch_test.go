package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/watch/ignore"
	"github.com/stack-run/stack/runtime/place"
	"github.com/stack-run/stack/spec"
)

// bench is a watch of real files whose containers are folders: files are placed in them as in containers.
type bench struct {
	t          testing.TB
	src, root  string
	containers chan Container
	services   chan map[string]*spec.Service
	stop       func() error

	mu       sync.Mutex
	did      []string // restarts, commands, rebuilds
	events   []Event
	readOnly bool
	down     bool // nobody listens
	places   int
}

// watching starts a watch of one service, web, with rules; a rule without a path is about src.
func watching(t testing.TB, rules ...spec.WatchRule) *bench {
	t.Helper()
	b := idle(t)
	b.start(rules...)
	return b
}

// idle is a bench that watches nothing yet.
func idle(t testing.TB) *bench {
	t.Helper()
	b := &bench{
		t: t, src: filepath.Join(t.TempDir(), "src"), root: t.TempDir(),
		containers: make(chan Container), services: make(chan map[string]*spec.Service),
	}
	b.must(os.Mkdir(b.src, 0o755))
	return b
}

func (b *bench) rules(rules []spec.WatchRule) map[string]*spec.Service {
	for i := range rules {
		rules[i].Path = filepath.Join(b.src, rules[i].Path)
		if rules[i].Target == "" {
			rules[i].Target = "/app"
		}
	}
	return map[string]*spec.Service{"web": {Name: "web", Develop: &spec.Develop{Watch: rules}}}
}

func (b *bench) start(rules ...spec.WatchRule) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	o := Options{Target: b, Services: b.rules(rules), Report: func(e Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}}
	go func() { ended <- Run(ctx, o, b.containers, b.services) }()
	b.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	b.t.Cleanup(func() { b.must(b.stop()) })
	b.hear(Container{ID: "first", Service: "web", Started: time.Unix(1, 0)}) // taken in when the files are watched
}

func (b *bench) hear(c Container) {
	b.t.Helper()
	select {
	case b.containers <- c:
	case <-time.After(10 * time.Second):
		b.t.Fatal("the watch does not go on")
	}
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, what)
}

func (b *bench) Restart(_ context.Context, services []string) error {
	b.note("restart " + strings.Join(services, ","))
	return nil
}

func (b *bench) Rebuild(_ context.Context, services []string) error {
	b.note("rebuild " + strings.Join(services, ","))
	return nil
}

func (b *bench) Rebuilds(string) bool { return true }

func (b *bench) Exec(_ context.Context, service string, x *spec.WatchExec) error {
	b.note("exec " + service + " " + strings.Join(x.Command, " "))
	return nil
}

func (b *bench) Place(ctx context.Context, service string, _ []string, sets []Set) ([]Placed, error) {
	b.mu.Lock()
	b.places++
	down, readOnly := b.down, b.readOnly
	b.mu.Unlock()
	if down {
		return nil, errors.New("no daemon")
	}
	if readOnly {
		return []Placed{{Container: "web-1", Err: fmt.Errorf("%w: read-only", ErrCannotSync)}}, nil
	}
	root, err := syscall.Open(b.root, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(root)
	from, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(from)
	var own []place.Set
	for _, s := range sets {
		m, err := ignore.New(s.Source, s.Ignore...)
		if err != nil {
			return nil, err
		}
		own = append(own, place.Set{Source: s.Source, Target: s.Target, Paths: slices.Clone(s.Paths), Keep: func(rel string) bool { return m.Ignored(filepath.Join(s.Source, rel)) }})
	}
	r, err := place.Apply(ctx, root, from, place.Owner{}, "test", own)
	p := Placed{Container: "web-1", Written: r.Written, Unchanged: r.Unchanged, Removed: r.Removed, Skipped: r.Skipped, Bytes: r.Bytes, Err: err}
	for _, f := range r.Failures {
		p.Failures = append(p.Failures, f.Error())
	}
	return []Placed{p}, nil
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	path := filepath.Join(b.src, name)
	b.must(os.MkdirAll(filepath.Dir(path), 0o755))
	b.must(os.WriteFile(path, []byte(content), 0o644))
}

func (b *bench) sh(script string) {
	b.t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = b.src
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// eventually waits for what no event tells a test of.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Fatalf("not %s; did %v; told %+v", what, b.did, b.events)
		}
	}
}

// listing is all below a folder with types, modes and contents.
func listing(dir string) string {
	var out strings.Builder
	filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(&out, err)
			return nil
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return nil
		}
		fmt.Fprint(&out, rel, " ", info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, _ := os.ReadFile(p)
			fmt.Fprintf(&out, " %q", content)
		case info.Mode()&fs.ModeSymlink != 0:
			text, _ := os.Readlink(p)
			fmt.Fprint(&out, " -> ", text)
		}
		out.WriteByte('\n')
		return nil
	})
	return out.String()
}

func (b *bench) same(target string) {
	b.t.Helper()
	b.eventually("equal", func() bool { return listing(b.root+target) == listing(b.src) })
}

func (b *bench) done(want ...string) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("done: %q", want), func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Equal(b.did, want)
	})
}

func (b *bench) told(kind Kind, text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.events, func(e Event) bool { return e.Kind == kind && strings.Contains(fmt.Sprint(e.Text, e.Err), text) })
}

var syncing1 = spec.WatchRule{Action: spec.WatchSync}

func TestContainersFollowFiles(t *testing.T) {
	b := watching(t, syncing1)
	b.write("a", "one")
	b.sh("chmod 755 .")
	b.same("/app")
	for _, script := range []string{
		"echo two > a",                     // truncated and written
		"echo three > new; mv new a",       // renamed over, as editors do
		"mv a a~; echo four > a; rm a~",    // vim
		"mkdir -p d/e/f; echo 1 > d/e/f/1", // made and filled at once
		"mkdir x; for i in $(seq 50); do echo $i > x/$i; done; mv x y; echo changed > y/7",
		"echo in the moved one > y/new; mkdir y/sub; echo deep > y/sub/deep",
		"mv y/sub d/; echo more > d/sub/more; rm -r y",
		"ln -s d link; ln -sfn a link; ln -s /nowhere dangling",
		"chmod 600 a; touch b; chmod +x b",
		"rm a; mkdir a; echo dir > a/file",
		"rm -r a; echo file > a",
		"rm -rf d; mkdir d; echo again > d/x",
		"rm -r d && mkdir -p d/e && echo deep > d/e/x",
		": > empty; truncate -s 1M sparse; cp sparse copy",
		"mkdir m && cd m && for i in $(seq 20); do mkdir $i; echo $i > $i/f; done; rm -r 1*; cd ..; mv m n; mv n m; rm -r m/2",
	} {
		b.sh(script)
		b.same("/app")
	}
}

func TestAFolderThatComesAndGoes(t *testing.T) {
	b := watching(t, spec.WatchRule{Action: spec.WatchSync, Path: "not/yet"})
	b.sh("mkdir -p not/yet/deep; echo 1 > not/yet/deep/f")
	b.eventually("there", func() bool { return listing(b.root+"/app") == listing(b.src+"/not/yet") })
	b.sh("mv not gone; mkdir -p not/yet; echo 2 > not/yet/g")
	b.eventually("new", func() bool { return listing(b.root+"/app") == listing(b.src+"/not/yet") })
	b.sh("rm -r not; mkdir not; mkdir not/yet; echo 3 > not/yet/h")
	b.eventually("newer", func() bool { return listing(b.root+"/app") == listing(b.src+"/not/yet") })
}

func TestARuleMayBeAboutOneFile(t *testing.T) {
	b := watching(t, spec.WatchRule{Action: spec.WatchSync, Path: "conf", Target: "/etc/app.conf"})
	b.write("other", "x")
	b.write("conf", "one")
	b.eventually("there", func() bool { content, _ := os.ReadFile(b.root + "/etc/app.conf"); return string(content) == "one" })
	b.sh("echo two > new; mv new conf")
	b.eventually("new", func() bool { content, _ := os.ReadFile(b.root + "/etc/app.conf"); return string(content) == "two\n" })
	b.sh("rm conf")
	b.eventually("gone", func() bool { _, err := os.Stat(b.root + "/etc/app.conf"); return err != nil })
	if got := listing(b.root + "/etc"); strings.Count(got, "\n") != 1 {
		t.Errorf("in the folder: %s", got)
	}
}

func TestIgnoredFilesStayAway(t *testing.T) {
	b := watching(t, spec.WatchRule{Action: spec.WatchSync, Ignore: []string{"node_modules/", "*.log"}},
		spec.WatchRule{Action: spec.WatchRestart, Include: []string{"*.conf"}})
	must := b.root + "/app/node_modules/kept"
	b.must(os.MkdirAll(must, 0o755))
	b.sh("mkdir node_modules .git; echo x > node_modules/x; echo x > a.log; echo x > .git/HEAD; echo x > .a.swp; echo x > main")
	b.eventually("main there", func() bool { _, err := os.Stat(b.root + "/app/main"); return err == nil })
	b.sh("echo x > a.conf")
	b.done("restart web")
	got := listing(b.root + "/app")
	for _, name := range []string{"a.log", ".git", ".a.swp", "node_modules/x"} {
		if strings.Contains(got, name) {
			t.Errorf("%s was synced:\n%s", name, got)
		}
	}
	if _, err := os.Stat(must); err != nil {
		t.Error("what is ignored was removed")
	}
}

func TestActionsComeOnceWhenFilesAreQuiet(t *testing.T) {
	b := watching(t,
		spec.WatchRule{Action: spec.WatchSyncRestart, Path: "conf", Target: "/conf"},
		spec.WatchRule{Action: spec.WatchSyncExec, Path: "html", Target: "/html", Exec: &spec.WatchExec{Command: []string{"reload"}}},
		spec.WatchRule{Action: spec.WatchRestart, Path: "flags"},
		spec.WatchRule{Action: spec.WatchRebuild, Path: "package.json"})
	// Renamed into place, so that no pause of a busy machine comes between two files.
	b.sh("mkdir ../new; for i in $(seq 300); do echo $i > ../new/$i; done; cp -r ../new ../newer; mv ../new conf")
	b.done("restart web")
	b.sh("mv ../newer html")
	b.done("restart web", "exec web reload")
	if got := listing(b.root + "/html"); got != listing(b.src+"/html") {
		t.Error("the command ran before all files were there")
	}
	b.sh("mkdir ../both; echo 1 > ../both/flags; echo 2 > ../both/package.json; mv ../both/* .")
	b.done("restart web", "exec web reload", "rebuild web") // what is rebuilt is not restarted as well
	b.sh("touch -a conf/1; cat conf/* > /dev/null")         // read, not changed
	b.sh("echo 3 > flags")
	b.done("restart web", "exec web reload", "rebuild web", "restart web")
}

// A file that is written to for a while is synced when its writer closes it, and not before.
func TestAFileIsSyncedWhenItIsWhole(t *testing.T) {
	b := watching(t, syncing1)
	f, err := os.Create(b.src + "/f")
	b.must(err)
	for range 10 {
		_, err = f.WriteString("part ")
		b.must(err)
		time.Sleep(10 * time.Millisecond) // a slow writer is what this is about
		if content, err := os.ReadFile(b.root + "/app/f"); err == nil {
			t.Fatalf("synced while it was written: %q", content)
		}
	}
	b.must(f.Close())
	b.same("/app")
	if content, _ := os.ReadFile(b.root + "/app/f"); len(content) != 50 {
		t.Errorf("%q", content)
	}
}

func TestALogThatIsNeverClosedIsSyncedEvenSo(t *testing.T) {
	b := watching(t, syncing1)
	f, err := os.Create(b.src + "/log")
	b.must(err)
	defer f.Close()
	_, err = f.WriteString("line\n")
	b.must(err)
	b.same("/app")
}

func TestANewContainerGetsWhatWasChanged(t *testing.T) {
	b := watching(t, syncing1)
	b.write("a", "one")
	b.write("d/b", "two")
	b.same("/app")
	b.sh("rm a")
	b.same("/app")
	// A container made anew from the image: a file that was changed is the old one, one that was removed is there again.
	b.must(os.RemoveAll(b.root + "/app"))
	b.must(os.MkdirAll(b.root+"/app/d", 0o755))
	for name, content := range map[string]string{"a": "image's", "d/b": "image's", "own": "image's"} {
		b.must(os.WriteFile(b.root+"/app/"+name, []byte(content), 0o644))
	}
	b.hear(Container{ID: "second", Service: "web", Started: time.Unix(2, 0)})
	b.eventually("equal but for its own", func() bool {
		return strings.Replace(listing(b.root+"/app"), "own -rw-r--r-- \"image's\"\n", "", 1) == listing(b.src)
	})
	placed := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.places
	}
	places := placed()
	b.hear(Container{ID: "second", Service: "web", Started: time.Unix(2, 0)})
	b.hear(Container{ID: "other", Service: "db", Started: time.Unix(2, 0)})
	b.hear(Container{ID: "second", Service: "web", Started: time.Unix(2, 0)})
	if placed() != places {
		t.Error("a container that is known was synced again")
	}
}

func TestInitialSyncGivesAll(t *testing.T) {
	b := idle(t)
	b.sh("mkdir -p d node_modules; echo 1 > d/1; echo 2 > 2; chmod 755 .; echo x > node_modules/x")
	b.write("compose.yaml", "about the image")
	b.start(spec.WatchRule{Action: spec.WatchSync, InitialSync: true, Ignore: []string{"node_modules"}})
	b.sh("rm -r node_modules compose.yaml") // after the first container was heard of
	b.same("/app")
	if len(b.did) > 0 {
		t.Errorf("did %v", b.did)
	}
}

// The kernel's queue is bounded; while nobody reads it, more events get lost, and the watch has to look for itself.
func TestLostEventsLoseNoFile(t *testing.T) {
	b := watching(t, syncing1)
	b.sh("mkdir d; echo 1 > d/1; chmod 755 .")
	b.same("/app")
	setting, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	b.must(err)
	queue, err := strconv.Atoi(strings.TrimSpace(string(setting)))
	b.must(err)
	// Two folders whose files change in turn, so that no two events in a row are the same and melt into one.
	b.mu.Lock() // reports wait, and with them the reader
	b.sh("mkdir e; echo 1 > e/1")
	one, err := os.OpenFile(b.src+"/d/1", os.O_WRONLY, 0)
	b.must(err)
	two, err := os.OpenFile(b.src+"/d/2", os.O_WRONLY|os.O_CREATE, 0o644)
	b.must(err)
	for range 2 * queue {
		for _, f := range []*os.File{one, two} {
			_, err := f.WriteAt([]byte("2"), 0)
			b.must(err)
		}
	}
	b.must(one.Close())
	b.must(two.Close())
	b.sh("mkdir late; echo x > late/x; rm -r e")
	b.mu.Unlock()
	b.same("/app")
	b.sh("echo y > late/y") // the folder whose making was lost is watched
	b.same("/app")
}

func TestAReadOnlyContainerIsRebuiltInstead(t *testing.T) {
	b := watching(t, syncing1)
	b.mu.Lock()
	b.readOnly = true
	b.mu.Unlock()
	b.write("a", "one")
	b.done("rebuild web")
	if !b.told(Note, "rebuilding instead") {
		t.Errorf("told %+v", b.events)
	}
}

func TestADaemonThatComesBackGetsWhatItMissed(t *testing.T) {
	b := watching(t, syncing1)
	b.mu.Lock()
	b.down = true
	b.mu.Unlock()
	b.write("a", "one")
	b.eventually("told", func() bool { return b.told(Failed, "no daemon") })
	b.write("b", "two")
	b.mu.Lock()
	b.down = false
	b.mu.Unlock()
	b.sh("chmod 755 .")
	b.same("/app")
}

func TestRulesMayChange(t *testing.T) {
	b := watching(t, syncing1)
	b.write("a", "one")
	b.sh("chmod 755 .")
	b.same("/app")
	b.services <- b.rules([]spec.WatchRule{{Action: spec.WatchSync, Target: "/elsewhere"}, {Action: spec.WatchRestart, Path: "d"}})
	b.write("d/b", "two")
	b.done("restart web")
	b.eventually("elsewhere", func() bool { content, _ := os.ReadFile(b.root + "/elsewhere/d/b"); return string(content) == "two" })
	if _, err := os.Stat(b.root + "/app/d"); err == nil {
		t.Error("the old rule still holds")
	}
}

func TestBindMountedFilesAreLeftAlone(t *testing.T) {
	services := map[string]*spec.Service{"web": {
		Mounts:  []spec.Mount{{Type: spec.MountBind, Source: "/src", Target: "/app"}},
		Develop: &spec.Develop{Watch: []spec.WatchRule{{Path: "/src/web", Action: spec.WatchSync, Target: "/app/web"}, {Path: "/src", Action: spec.WatchRestart}}},
	}}
	rules, warnings, err := rulesOf(services)
	if err != nil || len(rules) != 1 || rules[0].Action != spec.WatchRestart || len(warnings) != 1 {
		t.Errorf("%d rules, %q, %v", len(rules), warnings, err)
	}
	if err := Run(context.Background(), Options{Report: func(Event) {}, Services: map[string]*spec.Service{"db": {}}}, nil, nil); !errors.Is(err, ErrNothing) {
		t.Errorf("%v", err)
	}
}
