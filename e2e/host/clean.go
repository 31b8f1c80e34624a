package host

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// state is what a clean machine has no more of after a test than before: one line a thing, by its kind.
type state map[string][]string

// observe lists what Stack could leave behind.
func (h *Host) observe() state {
	h.T.Helper()
	return state{
		"mount":       h.lines(`cut -d' ' -f3- /proc/self/mountinfo`),
		"link":        h.lines(`ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/\1/'`),
		"route":       h.lines(`ip route; ip -6 route`),
		"nftables":    h.lines(`nft list tables`),
		"cgroup":      h.lines(`cd /sys/fs/cgroup && find . -mindepth 1 -type d ! -path '*/init' | sed -E 's,^\./(unified|systemd|[a-z_]+)/,/,' | sort -u`),
		"netns":       h.lines(`ls /run/netns 2>/dev/null || true`),
		"sysctl":      h.lines(`sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.route_localnet`),
		"loop device": h.lines(`losetup -n -O BACK-FILE | grep -F "$HOME" || true`),
		"process":     h.processes(),
		"file in the run folder": h.files(h.inside(h.RunDir), func(path string) bool {
			return path == "." || path == "shims" || path == "dns" || path == "secrets" || strings.HasSuffix(path, ".lock")
		}),
		"file in the root": h.files(h.inside(h.Root), func(path string) bool {
			top, _, below := strings.Cut(path, "/")
			return !below || top == "images" || top == "cache"
		}),
	}
}

func (h *Host) lines(script string) []string {
	h.T.Helper()
	out := h.Sh(script)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// processes lists the machine's processes but for its first one and those that list them, with zombies.
func (h *Host) processes() []string {
	h.T.Helper()
	var found []string
	for _, line := range h.lines(`ps -e -o pid=,ppid=,stat=,args= | grep -v -e "^ *$$ " -e "^ *[0-9]* *$$ " || true`) {
		fields := strings.Fields(line)
		if fields[0] != "1" {
			found = append(found, strings.Join(fields[2:], " "))
		}
	}
	return found
}

// inside is the path of a folder of the machine as the test program sees it.
func (h *Host) inside(path string) string {
	return filepath.Join("/proc", strconv.Itoa(h.machine.PID), "root", path)
}

func (h *Host) files(dir string, expected func(path string) bool) []string {
	var found []string
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile, or never made
		}
		rel, _ := filepath.Rel(dir, path)
		if !expected(rel) {
			found = append(found, rel)
		}
		if rel == "images" {
			return fs.SkipDir
		}
		return nil
	})
	return found
}

// finish takes every stack down, ends the daemon and fails the test for each thing that is left.
func (h *Host) finish() {
	if h.T.Failed() {
		h.dump()
	}
	if _, err := os.Stat(h.inside(h.RunDir)); err == nil {
		h.downAll()
		h.Try("daemon", "--stop")
	}
	h.AssertClean()
	for _, server := range h.servers {
		server.Stop()
	}
}

// downAll takes down what the test left up, with its volumes.
func (h *Host) downAll() {
	h.T.Helper()
	for _, s := range h.stacks() {
		if r := h.Try("-p", s, "down", "-v", "-t", "1", "--remove-orphans"); r.Code != 0 {
			h.T.Errorf("stack -p %s down: %v", s, r)
		}
	}
	for _, name := range strings.Fields(h.Try("volume", "ls", "-q").Stdout) { // of stacks whose down kept them
		if r := h.Try("volume", "rm", name); r.Code != 0 {
			h.T.Errorf("stack volume rm %s: %v", name, r)
		}
	}
}

// stacks lists the names of all stacks.
func (h *Host) stacks() []string {
	h.T.Helper()
	list := h.Try("ls", "-a", "--format", "json")
	var stacks []struct{ Name string }
	if err := json.Unmarshal([]byte(list.Stdout), &stacks); err != nil {
		h.T.Errorf("stack ls: %v\n%v", err, list)
	}
	var names []string
	for _, s := range stacks {
		names = append(names, s.Name)
	}
	return names
}

// AssertClean fails the test for everything on the machine that was not there when the test began. What the kernel takes
// away asynchronously gets a moment.
func (h *Host) AssertClean() {
	h.T.Helper()
	var left []string
	clean := func() bool {
		left = left[:0]
		for kind, now := range h.observe() {
			before := slices.Clone(h.before[kind])
			for _, line := range now {
				if i := slices.Index(before, line); i >= 0 {
					before = slices.Delete(before, i, i+1)
					continue
				}
				left = append(left, kind+": "+line)
			}
		}
		return len(left) == 0
	}
	if !h.within(5*time.Second, clean) {
		slices.Sort(left)
		h.T.Errorf("left on the machine:\n  %s", strings.Join(left, "\n  "))
	}
}

// dump prints the logs of the daemon and the shims of a failed test.
func (h *Host) dump() {
	logs := []string{filepath.Join(h.Root, "daemon.log")}
	shims, _ := filepath.Glob(h.inside(h.RunDir) + "/shims/*/log")
	for _, log := range append(logs, shims...) {
		f, err := os.Open(log)
		if err != nil {
			continue
		}
		var last []string
		for s := bufio.NewScanner(f); s.Scan(); {
			if last = append(last, s.Text()); len(last) > 60 {
				last = last[1:]
			}
		}
		f.Close()
		h.T.Logf("%s:\n%s", filepath.Base(filepath.Dir(log))+"/"+filepath.Base(log), strings.Join(last, "\n"))
	}
	for _, s := range h.stacks() {
		h.T.Logf("stack -p %s ps -a: %v", s, h.Try("-p", s, "ps", "-a"))
	}
}
