package watch

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

func (b *bench) holds(file, want string) {
	b.t.Helper()
	b.eventually(file+" holds "+want, func() bool {
		content, _ := os.ReadFile(b.root + "/" + file)
		return strings.TrimSpace(string(content)) == want
	})
}

// A rule that is given to a watch at work, with an initial sync: the containers run already, and no start asks for it.
func TestANewRuleWithAnInitialSyncGivesAllToWhatRuns(t *testing.T) {
	b := watching(t, syncing1)
	b.sh("mkdir conf; echo before > conf/a; echo too > conf/b; chmod 755 .")
	b.same("/app")
	more := []spec.WatchRule{{Action: spec.WatchSync}, {Action: spec.WatchSyncExec, Path: "conf", Target: "/conf", InitialSync: true, Exec: &spec.WatchExec{Command: []string{"reload"}}}}
	b.services <- b.rules(more)
	b.holds("conf/a", "before")
	b.holds("conf/b", "too")
	b.done("exec web reload")
}

// Where a link points to is the loader's to say: the rule is about another folder then, and its containers have the old files.
func TestARuleThatIsAboutAnotherFolderGivesThatFoldersFiles(t *testing.T) {
	b := idle(t)
	b.sh("mkdir one two; echo 1 > one/same; echo 1 > one/only; echo 2 > two/same; echo 2 > two/new; echo x > two/x.log")
	b.start(spec.WatchRule{Action: spec.WatchSyncRestart, Path: "one", InitialSync: true})
	b.holds("app/only", "1")
	b.services <- b.rules([]spec.WatchRule{{Action: spec.WatchSyncRestart, Path: "two", Ignore: []string{"*.log"}}})
	b.eventually("the other folder's files", func() bool {
		return strings.Replace(listing(b.src+"/two"), "x.log -rw-r--r-- \"x\\n\"\n", "", 1) == listing(b.root+"/app")
	})
	b.done("restart web")
	b.sh("echo 3 > two/new; echo 3 > one/same")
	b.holds("app/new", "3")
	b.holds("app/same", "2")
}

func TestASyncIntoSeveralFoldersNamesAll(t *testing.T) {
	b := idle(t)
	b.sh("mkdir a b; echo 1 > a/f; echo 2 > b/g")
	b.start(spec.WatchRule{Action: spec.WatchSync, Path: "a", Target: "/a", InitialSync: true},
		spec.WatchRule{Action: spec.WatchSync, Path: "b", Target: "/b", InitialSync: true})
	b.eventually("told where all are", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.ContainsFunc(b.events, func(e Event) bool { return e.Kind == Synced && e.Written == 4 && e.To == "/a, /b" })
	})
}
