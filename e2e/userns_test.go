package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// Where the ids of containers with userns_mode: auto begin on the host.
const firstID = 1 << 20

// around sets the mode of the folder that the daemon's root is in.
func around(h *host.Host, mode os.FileMode) {
	h.T.Helper()
	if err := os.Chmod(filepath.Dir(h.Root), mode); err != nil {
		h.T.Fatal(err)
	}
}

// owner is who owns a file of the host: user and group.
func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Uid, " ", st.Gid)
}

func TestAContainerHasIDsOfItsOwn(t *testing.T) {
	h := start(t)
	h.Write("secret.txt", "s3cret")
	h.Write("private/file", "root only")
	for path, mode := range map[string]os.FileMode{"private/file": 0o600, "private": 0o755, "private/open": 0o777} {
		if mode == 0o777 {
			h.Write(path+"/x", "")
		}
		if err := os.Chmod(filepath.Join(h.Dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	const file = `
services:
  a:
    image: busybox
    userns_mode: auto
    init: true
    cap_add: [NET_ADMIN]
    command: [sleep, infinity]
    volumes: [data:/data, ./private:/private]
    secrets: [{source: key, mode: 0400, uid: "1000"}]
    healthcheck: {test: [CMD, test, -e, /etc/passwd], interval: 1s}
    ports: ["8081:80"]
  plain: {image: busybox, init: true, command: [sleep, infinity], volumes: [data:/data]}
volumes: {data: {}}
secrets: {key: {file: ./secret.txt}}
`
	h.Write("", file)
	around(h, 0o700)
	h.Fails([]string{"up", "-d"}, "userns_mode", "chmod o+x")
	around(h, 0o711)
	h.Stack("up", "-d", "--wait")

	equal(t, "the user inside", h.In("a", "id", "-u"), "0")
	contains(t, "the map", strings.Join(strings.Fields(h.In("a", "cat", "/proc/self/uid_map")), " "), "0 1048576 65536")
	contains(t, "who runs", strings.Join(strings.Fields(h.Sh("grep -h ^Uid /proc/[0-9]*/status | sort -u")), " "), "Uid: 1048576 1048576 1048576 1048576")

	// The root filesystem.
	equal(t, "owners in the image", h.In("a", "stat", "-c", "%u:%g", "/", "/bin", "/etc/passwd", "/etc/hosts"), "0:0\n0:0\n0:0\n0:0")
	h.In("a", "sh", "-euc", `echo x >/file; echo y >>/etc/passwd; mkdir /dir; chown 1000:1001 /file; ln /file /dir/link; rm -r /dir; echo z >/data/new; chown 7:8 /data/new`)
	equal(t, "owners of new files", h.In("a", "stat", "-c", "%u:%g", "/file", "/etc/passwd", "/data", "/data/new"), "1000:1001\n0:0\n0:0\n7:8")
	upper := h.Sh("ls -d $STACK_ROOT/stacks/*/containers/*/upper/file")
	equal(t, "owner of a file on the host", owner(t, upper), fmt.Sprint(firstID+1000, " ", firstID+1001))

	// The volume belongs to the same users for a container without ids of its own, and on the host.
	equal(t, "owner of a volume's file elsewhere", h.In("plain", "stat", "-c", "%u:%g", "/data/new"), "7:8")
	equal(t, "owner of a volume's file on the host", owner(t, h.Sh("ls -d $STACK_ROOT/volumes/*/_data/new")), "7 8")

	// What is the host's is a stranger's.
	if r := h.Try("exec", "-T", "a", "cat", "/private/file"); r.Code == 0 {
		t.Error("it reads a file of the host's root")
	}
	if r := h.Try("exec", "-T", "a", "chown", "0", "/private/open/x"); r.Code == 0 {
		t.Error("it takes a file of the host's root")
	}
	h.In("a", "sh", "-c", "echo mine >/private/open/mine")
	equal(t, "owner of its file on the host", owner(t, filepath.Join(h.Dir, "private/open/mine")), fmt.Sprint(firstID, " ", firstID))

	equal(t, "the secret", h.In("a", "stat", "-c", "%u:%g %a", "/run/secrets/key"), "1000:0 400")
	equal(t, "the secret", h.In("a", "cat", "/run/secrets/key"), "s3cret")

	// The network is the container's.
	h.In("a", "sh", "-euc", `ping -c1 -W5 plain >/dev/null; ip link set lo down; ip link set lo up; echo hi >/tmp/index.html`)
	h.Stack("exec", "-T", "-d", "a", "httpd", "-f", "-p", "80", "-h", "/tmp")
	h.Eventually("the page on the published port", func() bool {
		return strings.Contains(h.Run(h.Command("curl", "-s", "--max-time", "2", "http://127.0.0.1:8081/")).Stdout, "hi")
	})
	equal(t, "what root may", h.In("a", "sh", "-c", "ls -ld /sys/class/net/eth0 >/dev/null && echo sys; ls /dev/shm | wc -l; echo x >/dev/shm/x && echo shm; echo out >/dev/stdout"), "sys\n0\nshm\nout")
	equal(t, "another user", h.Stack("exec", "-T", "-u", "1000:1001", "a", "sh", "-c", "id -u; echo out >/dev/stdout"), "1000\nout\n")

	// Nobody else gets to what is in there.
	for _, path := range []string{filepath.Dir(upper), filepath.Dir(filepath.Dir(upper)) + "/container.json"} {
		if r := h.Run(h.Command("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", "cat", path)); !strings.Contains(r.Stderr, "Permission denied") {
			t.Errorf("a user of the host at %s: %v", path, r)
		}
	}
	if r := h.Run(h.Command("setpriv", "--reuid", fmt.Sprint(firstID), "--regid", fmt.Sprint(firstID), "--clear-groups", "cat", filepath.Dir(filepath.Dir(upper))+"/container.json", h.Sh("ls -d $STACK_ROOT/stacks/*/containers"))); !strings.Contains(r.Stderr, "container.json: Permission denied") {
		t.Errorf("the container's root on the host: %v", r)
	}

	// A restart keeps what was written, for the same owners.
	h.Stack("restart", "-t", "0", "a")
	equal(t, "after a restart", h.In("a", "stat", "-c", "%u:%g", "/file", "/data/new", "/"), "1000:1001\n7:8\n0:0")

	// Going back to the host's ids makes a new container; the volume is as it was.
	h.Write("", strings.Replace(file, "userns_mode: auto", "userns_mode: host", 1))
	h.Stack("up", "-d", "--wait")
	equal(t, "after going back", h.In("a", "stat", "-c", "%u:%g", "/data/new", "/etc/passwd"), "7:8\n0:0")
	contains(t, "the map after going back", strings.Join(strings.Fields(h.In("a", "cat", "/proc/self/uid_map")), " "), "0 0 4294967295")
}

func TestIDsOfItsOwnBesideOtherOptions(t *testing.T) {
	h := start(t)
	h.Up(`
x-base: &base {image: busybox, userns_mode: auto, init: true, command: [sleep, infinity]}
services:
  host: {<<: *base, network_mode: host}
  none: {<<: *base, network_mode: none, read_only: true, tmpfs: [/tmp], user: "1000:1001"}
  privileged: {<<: *base, privileged: true}
  python: {<<: *base, image: "python:3", user: "1000:1001"}
  tty: {<<: *base, tty: true}
  owner: {<<: *base, ipc: shareable}
  sharer: {<<: *base, network_mode: "service:owner", pid: "service:owner", ipc: "service:owner"}
`)
	for _, service := range []string{"host", "none", "privileged", "python", "tty", "owner", "sharer"} {
		contains(t, "the map of "+service, strings.Join(strings.Fields(h.In(service, "cat", "/proc/self/uid_map")), " "), "0 1048576 65536")
	}
	equal(t, "the host's network", h.In("host", "readlink", "/proc/self/ns/net"), h.Sh("readlink /proc/self/ns/net"))
	equal(t, "user", h.In("none", "sh", "-c", "id -u; echo x >/tmp/x; stat -c %u:%g /tmp/x; echo x 2>/dev/null >/x || echo read-only"), "1000\n1000:1001\nread-only")
	h.In("python", "python3", "-c", `
import socket
ping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
ping.settimeout(10)
ping.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ("127.0.0.1", 0))
ping.recv(99)
socket.socket().bind(("", 80))`)
	equal(t, "shared namespaces", h.In("sharer", "sh", "-c", "cd /proc/self/ns; ls -l net pid ipc user | sed s/.*-.//"), h.In("owner", "sh", "-c", "cd /proc/self/ns; ls -l net pid ipc user | sed s/.*-.//"))
	h.In("owner", "sh", "-c", "echo hi >/dev/shm/x")
	equal(t, "shared memory", h.In("sharer", "cat", "/dev/shm/x"), "hi")
	equal(t, "privileged", h.In("privileged", "sh", "-c", "mount -t tmpfs x /mnt 2>/dev/null || mkdir /m && mount -t tmpfs x /m && echo mounted; cat /proc/sys/vm/swappiness 2>/dev/null >/proc/sys/vm/swappiness || echo no"), "mounted\nno")

	for name, c := range map[string]struct{ file, words string }{
		"pid of a container with other ids": {`{a: {image: busybox, command: [sleep, infinity]}, b: {image: busybox, userns_mode: auto, network_mode: "service:a"}}`, "userns_mode: auto"},
		"pid without the network":           {`{a: {image: busybox, userns_mode: auto, command: [sleep, infinity]}, b: {image: busybox, userns_mode: auto, pid: "service:a"}}`, "network_mode: service:a"},
		"the host's processes":              {`{a: {image: busybox, userns_mode: auto, pid: host}}`, "pid"},
		"the host's ipc":                    {`{a: {image: busybox, userns_mode: auto, ipc: host}}`, "ipc"},
	} {
		h.Write("bad.yaml", "name: bad\nservices: "+c.file)
		t.Log(name)
		h.Fails([]string{"-f", "bad.yaml", "up", "-d"}, c.words)
	}
	h.Stack("-f", "bad.yaml", "-p", "bad", "down", "-t", "0")
}
