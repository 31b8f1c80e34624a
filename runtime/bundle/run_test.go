package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
	"github.com/stack-run/stack/voldriver/drivertest"
)

// TestRun starts what Make writes with a real OCI runtime (crun), and looks around from inside.
func TestRun(t *testing.T) {
	tests := []struct {
		name    string
		service spec.Service
		change  func(*Input)
		script  string
		want    string
	}{
		{"a user of the image", spec.Service{User: "web", GroupAdd: []string{"44"}}, nil,
			`id -u; id -g; id -G; echo $HOME; pwd; grep CapEff /proc/self/status`,
			"101\n102\n102 4 44\n/home/web\n/srv\nCapEff:\t0000000000000000"},
		{"the hardening", spec.Service{SecurityOpt: []string{"no-new-privileges:true"}}, nil,
			`grep -E "CapEff|CapBnd|NoNewPrivs|Seccomp:" /proc/self/status; cat /proc/interrupts /proc/timer_list /proc/keys 2>/dev/null | wc -c; echo 1 >/proc/sys/kernel/domainname; mount -t tmpfs x /tmp; ulimit -n`,
			"CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n0\n/bin/sh: can't create /proc/sys/kernel/domainname: Read-only file system\nmount: permission denied (are you root?)\n1024"},
		{"names and files", spec.Service{Hostname: "web", ExtraHosts: []string{"db=10.0.0.9"}}, func(in *Input) {
			in.Network.Hosts = []HostEntry{{netip.MustParseAddr("10.0.0.2"), []string{"web"}}}
			in.Network.Resolv = PrivateResolv(in.Service, Resolv{})
			in.Secrets = []File{{Name: "key", Target: "/run/secrets/key", Content: []byte("s3cret\n"), Mode: 0o400, UID: "101", GID: "102"}}
		}, `hostname; tail -2 /etc/hosts; cat /etc/hostname /etc/resolv.conf /run/secrets/key; stat -c '%u:%g %a' /run/secrets/key; echo x >/run/secrets/key`,
			"web\n10.0.0.9\tdb\n10.0.0.2\tweb\nweb\nnameserver 127.0.0.11\noptions ndots:0\ns3cret\n101:102 400\n/bin/sh: can't create /run/secrets/key: Read-only file system"},
		{"read-only root, tmpfs and limits", spec.Service{ReadOnly: true, ShmSize: 1 << 20, Ulimits: map[string]spec.Ulimit{"nofile": {Soft: 77, Hard: 88}}}, func(in *Input) {
			in.Mounts = []voldriver.Mount{{Type: "tmpfs", Source: "tmpfs", Destination: "/tmp", Options: []string{"noexec", "nosuid", "nodev", "size=65536", "mode=700"}}}
		}, `echo x >/file; echo x >/tmp/file && cat /tmp/file; stat -c %a /tmp; ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1 | awk '{print $2}'`,
			"/bin/sh: can't create /file: Read-only file system\nx\n700\n77\n88\n1024"},
		{"a device", spec.Service{Devices: []spec.Device{{Source: "/dev/zero", Target: "/dev/nothing", Permissions: "r"}}}, nil,
			`head -c 3 /dev/nothing | wc -c; ls /dev | tr '\n' ' '`,
			"3\ncore fd full mqueue nothing null ptmx pts random shm stderr stdin stdout tty urandom zero"},
		{"sysctls and memory", spec.Service{Sysctls: map[string]string{"net.core.somaxconn": "77"}, Resources: spec.Resources{Memory: 64 << 20, PIDs: 50}}, nil,
			`cat /proc/sys/net/core/somaxconn /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null`,
			"77\n0\n67108864\n50"},
		{"privileged", spec.Service{Privileged: true}, func(in *Input) { in.Host.Capabilities = []string{"CAP_SYS_ADMIN", "CAP_CHOWN"} },
			`grep -E "CapEff|Seccomp:" /proc/self/status; mkdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null; rmdir /sys/fs/cgroup/pids/x /sys/fs/cgroup/x 2>/dev/null; cat /proc/sys/kernel/hostname >/proc/sys/kernel/hostname && echo writable`,
			"CapEff:\t0000000000200001\nSeccomp:\t0\nwritable"},
		{"a user namespace", spec.Service{}, func(in *Input) {
			in.UIDs = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 20, Size: 1 << 16}}
			in.GIDs = in.UIDs
			in.Configs = []File{{Name: "key", Target: "/key", Content: []byte("s3cret\n"), Mode: 0o400, UID: "101"}}
		}, `id -u; head -1 /proc/self/uid_map | tr -s ' '; stat -c '%u:%g %a' /key /etc/hosts; echo x >>/etc/hosts && tail -1 /etc/hosts`,
			"0\n 0 1048576 65536\n101:0 400\n0:0 644\nx"},
	}
	h, err := DetectHost()
	if err != nil {
		t.Fatal(err)
	}
	h.AppArmor = "" // loading a profile would change the host
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := input(&test.service)
			in.Host, in.Dir, in.SecretsDir = h, t.TempDir(), filepath.Join(t.TempDir(), "secrets")
			in.CgroupPath = fmt.Sprintf("/stack-bundle-test-%d-%d", os.Getpid(), i)
			in.Network.Netns = ""
			in.Image = ocispec.ImageConfig{WorkingDir: "/srv"}
			test.service.Command = list("/bin/sh", "-c", test.script)
			if test.change != nil {
				test.change(&in)
			}
			b, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Write(); err != nil {
				t.Fatal(err)
			}
			rootfs(t, filepath.Join(in.Dir, "rootfs"))
			if len(in.UIDs) > 0 { // whoever makes the root file system gives it to the user namespace
				own(t, filepath.Join(in.Dir, "rootfs"), int(in.UIDs[0].HostID))
			}
			for _, dir := range []string{in.Dir, filepath.Dir(in.Dir)} { // root of a user namespace must get there
				if err := os.Chmod(dir, 0o711); err != nil {
					t.Fatal(err)
				}
			}
			if got := crun(t, in); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// rootfs has busybox and the image's files of the other tests.
func rootfs(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"bin", "etc", "tmp", "home/web"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal("this test needs busybox-static: ", err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields("sh id cat grep hostname head tail stat mount mkdir rmdir ls tr wc df awk") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range imageFiles {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func own(t *testing.T, root string, id int) {
	t.Helper()
	if err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, id, id))
	}); err != nil {
		t.Fatal(err)
	}
}

// crun runs the bundle in a mount namespace in which hybrid cgroups look like version 1, the only way crun takes them.
func crun(t *testing.T, in Input) string {
	t.Helper()
	var out bytes.Buffer
	t.Cleanup(func() { // crun leaves its cgroups behind when it refuses a configuration
		left, _ := filepath.Glob("/sys/fs/cgroup/*" + in.CgroupPath)
		for _, dir := range append(left, "/sys/fs/cgroup"+in.CgroupPath) {
			os.Remove(dir)
		}
	})
	drivertest.InNamespace(t, func() {
		const unified = "/sys/fs/cgroup/unified/cgroup.controllers"
		if _, err := os.Stat(unified); err == nil {
			empty := filepath.Join(t.TempDir(), "empty")
			if err := os.WriteFile(empty, nil, 0o644); err != nil {
				t.Error(err)
			}
			if err := unix.Mount(empty, unified, "", unix.MS_BIND, ""); err != nil {
				t.Error(err)
			}
		}
		cmd := exec.Command("crun", "--root", t.TempDir(), "run", "--bundle", in.Dir, filepath.Base(in.CgroupPath))
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Errorf("this test needs crun: %v", err)
		}
	})
	return strings.TrimSpace(out.String())
}
