package bundle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

var image = ocispec.ImageConfig{
	Env:        []string{"PATH=/opt/bin:/bin", "LANG=C"},
	Entrypoint: []string{"/entry"},
	Cmd:        []string{"serve"},
	WorkingDir: "/srv",
}

var imageFiles = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n",
	"/etc/group":  "root:x:0:\nweb:x:102:\nlogs:x:4:web\nvideo:x:44:\n",
}

// host is a roomy one, so that a test says what it takes away.
func host() Host {
	return Host{
		Hostname: "machine", SwapLimit: true, Seccomp: true, Init: "/usr/bin/tini-static",
		Capabilities: knownCapabilities(),
		Limits:       map[string]uint64{"RLIMIT_NOFILE": 20000},
	}
}

func input(s *spec.Service) Input {
	return Input{
		Service: s, Image: image, ID: id, Name: "shop-web-1", Stack: "shop", Replica: 1,
		Dir: "/bundle", CgroupPath: "/stack/shop/x", SecretsDir: "/secrets", Host: host(),
		Network: Network{Mode: Private, Netns: "/proc/1/fd/9"},
		ReadFile: func(path string) ([]byte, error) {
			if text, ok := imageFiles[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		},
	}
}

func list(items ...string) *[]string { return &items }

// TestMake reads like the stack file on one side and the OCI configuration on the other.
func TestMake(t *testing.T) {
	yes := true
	swappiness := int64(0)
	tests := []struct {
		name    string
		service spec.Service
		change  func(*Input)
		got     func(*Bundle) any
		want    any
	}{
		{"the image's command", spec.Service{}, nil, args, []string{"/entry", "serve"}},
		{"command: replaces the image's command", spec.Service{Command: list("a", "b")}, nil, args, []string{"/entry", "a", "b"}},
		{"an empty command: clears the image's", spec.Service{Command: list()}, nil, args, []string{"/entry"}},
		{"entrypoint: makes the image's command meaningless", spec.Service{Entrypoint: list("x")}, nil, args, []string{"x"}},
		{"an empty entrypoint: keeps the image's command", spec.Service{Entrypoint: list()}, nil, args, []string{"serve"}},
		{"entrypoint: and command:", spec.Service{Entrypoint: list("x"), Command: list("y")}, nil, args, []string{"x", "y"}},
		{"init: true", spec.Service{Init: &yes}, nil, args, []string{"/sbin/docker-init", "--", "/entry", "serve"}},

		{"environment overlays the image's", spec.Service{Environment: map[string]string{"LANG": "de", "A": "1"}}, nil, env,
			[]string{"PATH=/opt/bin:/bin", "HOSTNAME=0123456789ab", "LANG=de", "A=1", "HOME=/root"}},
		{"tty: true sets TERM", spec.Service{TTY: true, Hostname: "h"}, nil, env,
			[]string{"PATH=/opt/bin:/bin", "HOSTNAME=h", "TERM=xterm", "LANG=C", "HOME=/root"}},
		{"the image's working directory", spec.Service{}, nil, func(b *Bundle) any { return b.Spec.Process.Cwd }, "/srv"},
		{"working_dir", spec.Service{WorkingDir: "/x/../y"}, nil, func(b *Bundle) any { return b.Spec.Process.Cwd }, "/y"},

		{"user: root by default", spec.Service{}, nil, identity, specs.User{AdditionalGids: []uint32{0}}},
		{"user: by name, with its groups", spec.Service{User: "web"}, nil, identity, specs.User{UID: 101, GID: 102, AdditionalGids: []uint32{102, 4}}},
		{"user: by number without an entry", spec.Service{User: "7000"}, nil, identity, specs.User{UID: 7000, AdditionalGids: []uint32{0}}},
		{"user: with a group has only that group", spec.Service{User: "web:video"}, nil, identity, specs.User{UID: 101, GID: 44, AdditionalGids: []uint32{44}}},
		{"user: numbers", spec.Service{User: "1:2"}, nil, identity, specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{2}}},
		{"group_add by name and number", spec.Service{User: "1:2", GroupAdd: []string{"video", "99"}}, nil, identity, specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{2, 44, 99}}},
		{"HOME is the user's", spec.Service{User: "web"}, nil, func(b *Bundle) any { return last(b.Spec.Process.Env) }, "HOME=/home/web"},

		{"default capabilities", spec.Service{}, nil, bounding, defaultCapabilities},
		{"another user starts with none of them", spec.Service{User: "web"}, nil, func(b *Bundle) any { return len(b.Spec.Process.Capabilities.Effective) }, 0},
		{"cap_drop: ALL with cap_add", spec.Service{CapDrop: []string{"all"}, CapAdd: []string{"net_admin", "CAP_CHOWN"}}, nil, bounding, []string{"CAP_NET_ADMIN", "CAP_CHOWN"}},
		{"cap_drop: one", spec.Service{CapDrop: []string{"NET_RAW"}}, nil, func(b *Bundle) any { return slices.Contains(bounding(b).([]string), "CAP_NET_RAW") }, false},
		{"cap_add: ALL but one", spec.Service{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}, nil, func(b *Bundle) any { return len(bounding(b).([]string)) }, len(knownCapabilities()) - 1},
		{"privileged has all there are", spec.Service{Privileged: true}, func(in *Input) { in.Host.Capabilities = []string{"CAP_CHOWN"} }, bounding, []string{"CAP_CHOWN"}},

		{"files: what a service of the host gets", spec.Service{}, nil, rlimitsOf, []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288}}},
		{"ulimits", spec.Service{Ulimits: map[string]spec.Ulimit{"nofile": {Soft: 5, Hard: 6}, "memlock": {Soft: -1, Hard: -1}}}, nil, rlimitsOf,
			[]specs.POSIXRlimit{{Type: "RLIMIT_MEMLOCK", Soft: math.MaxUint64, Hard: math.MaxUint64}, {Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}}},
		{"ulimits: not above what this process has, with a word", spec.Service{Ulimits: map[string]spec.Ulimit{"nofile": {Soft: 65536, Hard: 65536}}}, without("CAP_SYS_RESOURCE"),
			func(b *Bundle) any { return []any{rlimitsOf(b), len(b.Warnings)} }, []any{[]specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 20000, Hard: 20000}}, 1}},
		{"oom_score_adj", spec.Service{OOMScoreAdj: -500}, nil, func(b *Bundle) any { return *b.Spec.Process.OOMScoreAdj }, -500},
		{"oom_score_adj below what is possible, with a word", spec.Service{OOMScoreAdj: -500}, without("CAP_SYS_RESOURCE"),
			func(b *Bundle) any { return []any{b.Spec.Process.OOMScoreAdj == nil, len(b.Warnings)} }, []any{true, 1}},

		{"namespaces on cgroup v1", spec.Service{}, nil, namespaces, "mount network=/proc/1/fd/9 pid ipc uts"},
		{"namespaces on cgroup v2", spec.Service{}, func(in *Input) { in.Host.CgroupV2 = true }, namespaces, "mount network=/proc/1/fd/9 pid ipc uts cgroup"},
		{"the host's everything", spec.Service{PID: "host", IPC: "host", UTS: "host", Cgroup: "host", NetworkMode: "host"},
			func(in *Input) { in.Network = Network{Mode: HostNet} }, namespaces, "mount"},
		{"pid and ipc of another service", spec.Service{PID: "service:a", IPC: "service:a"},
			func(in *Input) { in.PIDPath, in.IPCPath, in.ShmPath = "/p", "/i", "/s" }, namespaces, "mount network=/proc/1/fd/9 pid=/p ipc=/i uts"},
		{"user namespace", spec.Service{}, func(in *Input) { in.UIDs = []specs.LinuxIDMapping{{HostID: 1, Size: 9}} }, namespaces, "mount user network=/proc/1/fd/9 pid ipc uts"},
		{"hostname and domainname", spec.Service{Hostname: "a", Domainname: "b.c"}, nil, func(b *Bundle) any { return b.Spec.Hostname + "." + b.Spec.Domainname }, "a.b.c"},
		{"on the host's network the host's name", spec.Service{}, func(in *Input) { in.Network = Network{Mode: HostNet} }, func(b *Bundle) any { return b.Spec.Hostname }, "machine"},

		{"sysctls of a network namespace that exists are its maker's", spec.Service{Sysctls: map[string]string{"net.core.somaxconn": "9", "kernel.msgmax": "1"}}, nil,
			func(b *Bundle) any { return b.Spec.Linux.Sysctl }, map[string]string{"kernel.msgmax": "1"}},
		{"sysctls of a new network namespace", spec.Service{Sysctls: map[string]string{"net/core/somaxconn": "9"}}, func(in *Input) { in.Network.Netns = "" },
			func(b *Bundle) any { return b.Spec.Linux.Sysctl }, map[string]string{"net.core.somaxconn": "9", "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}},

		{"shm_size", spec.Service{ShmSize: 1 << 20}, nil, at("/dev/shm"), "tmpfs shm nosuid,noexec,nodev,mode=1777,size=1048576"},
		{"ipc: shareable", spec.Service{IPC: "shareable"}, func(in *Input) { in.ShmPath = "/shm/1" }, at("/dev/shm"), "bind /shm/1 rbind,nosuid,noexec,nodev"},
		{"ipc: none", spec.Service{IPC: "none"}, nil, at("/dev/shm"), ""},
		{"ipc: host", spec.Service{IPC: "host"}, nil, at("/dev/shm"), "bind /dev/shm rbind,nosuid,noexec,nodev"},
		{"a volume wins over /dev/shm", spec.Service{}, mounted("/v", "/dev/shm/"), at("/dev/shm"), "bind /v rbind"},
		{"a volume wins over our hosts file", spec.Service{}, mounted("/v", "/etc/hosts"), at("/etc/hosts"), "bind /v rbind"},
		{"a volume on /dev takes what is below away", spec.Service{}, mounted("/v", "/dev"), at("/dev/pts"), ""},
		{"our hosts file", spec.Service{}, nil, at("/etc/hosts"), "bind /bundle/hosts rbind,rprivate"},
		{"our hosts file, read_only", spec.Service{ReadOnly: true}, nil, at("/etc/hosts"), "bind /bundle/hosts rbind,rprivate,ro"},
		{"the hosts file of a shared network", spec.Service{}, func(in *Input) { in.Network.Mode, in.Network.FilesFrom = Shared, "/other" }, at("/etc/hosts"), "bind /other/hosts rbind,rprivate"},
		{"/sys", spec.Service{}, nil, at("/sys"), "sysfs sysfs nosuid,noexec,nodev,ro"},
		{"/sys/fs/cgroup", spec.Service{}, nil, at("/sys/fs/cgroup"), "cgroup cgroup nosuid,noexec,nodev,ro"},
		{"/sys/fs/cgroup privileged", spec.Service{Privileged: true}, nil, at("/sys/fs/cgroup"), "cgroup cgroup nosuid,noexec,nodev"},
		{"/sys in a user namespace on the host's network", spec.Service{}, func(in *Input) {
			in.UIDs, in.Network = []specs.LinuxIDMapping{{HostID: 1, Size: 9}}, Network{Mode: HostNet}
		}, at("/sys"), "bind /sys rbind,nosuid,noexec,nodev,ro"},
		{"read_only root", spec.Service{ReadOnly: true}, nil, func(b *Bundle) any { return b.Spec.Root.Readonly }, true},
		{"parents are mounted before children", spec.Service{}, func(in *Input) {
			in.Mounts = []voldriver.Mount{bind("/3", "/a/b/c"), bind("/2", "/a/b"), bind("/1", "/z")}
		}, func(b *Bundle) any {
			var order []string
			for _, m := range b.Spec.Mounts {
				if len(m.Source) == 2 {
					order = append(order, m.Destination)
				}
			}
			return order
		}, []string{"/z", "/a/b", "/a/b/c"}},
		{"a volume in a user namespace has the image's owners", spec.Service{}, func(in *Input) {
			in.UIDs = []specs.LinuxIDMapping{{HostID: 1, Size: 9}}
			in.Mounts = []voldriver.Mount{{Type: "bind", Source: "/v", Destination: "/z", Options: []string{"rbind"}, Volume: "data"}, bind("/b", "/y")}
		}, func(b *Bundle) any { return []any{at("/z")(b), at("/y")(b)} }, []any{"bind /v rbind,idmap", "bind /b rbind"}},
		{"a shared bind needs a shared root", spec.Service{}, func(in *Input) { in.Mounts = []voldriver.Mount{bind("/1", "/z", "rshared")} },
			func(b *Bundle) any { return b.Spec.Linux.RootfsPropagation }, "shared"},

		{"secrets", spec.Service{}, func(in *Input) {
			in.Secrets = []File{{Name: "k", Target: "/run/secrets/k", Content: []byte("x"), UID: "5", GID: "6", Mode: 0o400}}
		}, func(b *Bundle) any { return []any{at("/run/secrets/k")(b), b.Files[3]} },
			[]any{"bind /secrets/secrets-0 bind,rprivate,ro,nosuid,nodev,noexec", HostFile{"/secrets/secrets-0", []byte("x"), 0o400, 5, 6}}},
		{"configs in a user namespace", spec.Service{}, func(in *Input) {
			in.UIDs = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			in.GIDs = in.UIDs
			in.Configs = []File{{Name: "k", Target: "/c", UID: "5"}}
		}, func(b *Bundle) any { return b.Files[3] }, HostFile{"/secrets/configs-0", nil, 0o444, 100005, 100000}},

		{"devices", spec.Service{Devices: []spec.Device{{Source: "/dev/null", Target: "/dev/nothing", Permissions: "r"}}}, nil,
			func(b *Bundle) any { return []string{b.Spec.Linux.Devices[0].Path, rules(b)} }, []string{"/dev/nothing", "deny a *:* rwm; allow c 1:3 r"}},
		{"device_cgroup_rules", spec.Service{DeviceCgroupRules: []string{"c 1:* mr", "a *:* rwm"}}, nil,
			func(b *Bundle) any { return rules(b) }, "deny a *:* rwm; allow c 1:* mr; allow a *:* rwm"},
		{"privileged may use all devices", spec.Service{Privileged: true}, nil, func(b *Bundle) any { return rules(b) }, "allow a *:* rwm"},

		{"masked paths", spec.Service{}, nil, masks, len(maskedPaths) + len(throttles()) + len(readonlyPaths)},
		{"systempaths=unconfined", spec.Service{SecurityOpt: []string{"systempaths=unconfined"}}, nil, masks, 0},
		{"privileged masks nothing", spec.Service{Privileged: true}, nil, masks, 0},
		{"no-new-privileges", spec.Service{SecurityOpt: []string{"no-new-privileges"}}, nil, nnp, true},
		{"no-new-privileges:true", spec.Service{SecurityOpt: []string{"no-new-privileges:true"}}, nil, nnp, true},
		{"no-new-privileges=false", spec.Service{SecurityOpt: []string{"no-new-privileges=false"}}, nil, nnp, false},
		{"the default seccomp profile denies", spec.Service{}, nil, allows("reboot"), false},
		{"the default seccomp profile allows what a capability is for", spec.Service{CapAdd: []string{"SYS_BOOT"}}, nil, allows("reboot"), true},
		{"seccomp=unconfined", spec.Service{SecurityOpt: []string{"seccomp=unconfined"}}, nil, func(b *Bundle) any { return b.Spec.Linux.Seccomp == nil }, true},
		{"seccomp:unconfined", spec.Service{SecurityOpt: []string{"seccomp:unconfined"}}, nil, func(b *Bundle) any { return b.Spec.Linux.Seccomp == nil }, true},
		{"privileged has no seccomp", spec.Service{Privileged: true}, nil, func(b *Bundle) any { return b.Spec.Linux.Seccomp == nil }, true},
		{"no AppArmor on the host", spec.Service{}, nil, func(b *Bundle) any { return b.Spec.Process.ApparmorProfile }, ""},
		{"AppArmor on the host", spec.Service{}, armored, func(b *Bundle) any { return b.Spec.Process.ApparmorProfile }, DefaultAppArmor},
		{"apparmor=unconfined", spec.Service{SecurityOpt: []string{"apparmor=unconfined"}}, armored, func(b *Bundle) any { return b.Spec.Process.ApparmorProfile }, "unconfined"},
		{"privileged on a host with AppArmor", spec.Service{Privileged: true}, armored, func(b *Bundle) any { return b.Spec.Process.ApparmorProfile }, "unconfined"},

		{"limits", spec.Service{Resources: spec.Resources{NanoCPUs: 15e8, CPUShares: 512, CPUSet: "0-1", Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwappiness: &swappiness, PIDs: 10}}, nil, resources,
			`{"memory":{"limit":67108864,"reservation":33554432,"swap":134217728,"swappiness":0},"cpu":{"shares":512,"quota":150000,"period":100000,"cpus":"0-1"},"pids":{"limit":10}}`},
		{"no limits", spec.Service{}, nil, resources, `{"memory":{},"cpu":{}}`},
		{"swap without accounting", spec.Service{Resources: spec.Resources{Memory: 64 << 20}}, func(in *Input) { in.Host.SwapLimit = false }, resources,
			`{"memory":{"limit":67108864},"cpu":{}}`},
		{"cgroup_parent", spec.Service{CgroupParent: "mine"}, nil, func(b *Bundle) any { return b.Spec.Linux.CgroupsPath }, "/mine/" + id},
		{"annotations", spec.Service{Annotations: map[string]string{"a": "b"}}, nil, func(b *Bundle) any { return b.Spec.Annotations }, map[string]string{"a": "b"}},

		{"stop signal of the image", spec.Service{}, func(in *Input) { in.Image.StopSignal = "SIGQUIT" }, func(b *Bundle) any { return b.StopSignal }, syscall.SIGQUIT},
		{"stop_signal", spec.Service{StopSignal: "15"}, nil, func(b *Bundle) any { return b.StopSignal }, syscall.SIGTERM},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := input(&test.service)
			if test.change != nil {
				test.change(&in)
			}
			b, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := show(t, test.got(b)), show(t, test.want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestRefused says which attribute is to blame.
func TestRefused(t *testing.T) {
	yes := true
	swappiness := int64(101)
	tests := []struct {
		name      string
		service   spec.Service
		change    func(*Input)
		attribute string
		is        error
	}{
		{"nothing to run", spec.Service{}, func(in *Input) { in.Image = ocispec.ImageConfig{} }, "command", ErrInvalid},
		{"unknown user", spec.Service{User: "nobody-here"}, nil, "user", ErrInvalid},
		{"unknown user of the image", spec.Service{}, func(in *Input) { in.Image.User = "nobody-here" }, "user (of the image)", ErrInvalid},
		{"unknown group", spec.Service{User: "web:nogroup-here"}, nil, "user", ErrInvalid},
		{"unknown group_add", spec.Service{GroupAdd: []string{"nogroup-here"}}, nil, "group_add", ErrInvalid},
		{"huge uid", spec.Service{User: "4294967295"}, nil, "user", ErrInvalid},
		{"relative working_dir", spec.Service{WorkingDir: "x"}, nil, "working_dir", ErrInvalid},
		{"unknown capability", spec.Service{CapAdd: []string{"FLY"}}, nil, "cap_add", ErrInvalid},
		{"init without an init program", spec.Service{Init: &yes}, func(in *Input) { in.Host.Init = "" }, "init", ErrUnsupported},
		{"unknown ulimit", spec.Service{Ulimits: map[string]spec.Ulimit{"wings": {}}}, nil, "ulimits.wings", ErrInvalid},
		{"soft ulimit above hard", spec.Service{Ulimits: map[string]spec.Ulimit{"nofile": {Soft: -1, Hard: 5}}}, nil, "ulimits.nofile", ErrInvalid},
		{"sysctl of the host", spec.Service{Sysctls: map[string]string{"vm.max_map_count": "1"}}, nil, "sysctls.vm.max_map_count", ErrInvalid},
		{"network sysctl on the host's network", spec.Service{Sysctls: map[string]string{"net.core.somaxconn": "1"}}, func(in *Input) { in.Network = Network{Mode: HostNet} }, "sysctls.net.core.somaxconn", ErrInvalid},
		{"ipc sysctl with ipc: host", spec.Service{IPC: "host", Sysctls: map[string]string{"kernel.sem": "1"}}, nil, "sysctls.kernel.sem", ErrInvalid},
		{"hostname with uts: host", spec.Service{UTS: "host", Hostname: "x"}, nil, "uts", ErrInvalid},
		{"unknown pid mode", spec.Service{PID: "x"}, nil, "pid", ErrInvalid},
		{"missing device", spec.Service{Devices: []spec.Device{{Source: "/dev/no-such"}}}, nil, "devices[0]", ErrInvalid},
		{"not a device", spec.Service{Devices: []spec.Device{{Source: "/etc/passwd"}}}, nil, "devices[0]", ErrInvalid},
		{"bad device rule", spec.Service{DeviceCgroupRules: []string{"c 1:3"}}, nil, "device_cgroup_rules[0]", ErrInvalid},
		{"unknown security option", spec.Service{SecurityOpt: []string{"magic=on"}}, nil, "security_opt[0]", ErrInvalid},
		{"missing seccomp profile", spec.Service{SecurityOpt: []string{"seccomp=/no/such.json"}}, nil, "security_opt", ErrInvalid},
		{"tiny memory", spec.Service{Resources: spec.Resources{Memory: 1 << 20}}, nil, "mem_limit", ErrInvalid},
		{"reservation above limit", spec.Service{Resources: spec.Resources{Memory: 8 << 20, MemoryReservation: 9 << 20}}, nil, "mem_reservation", ErrInvalid},
		{"swap below memory", spec.Service{Resources: spec.Resources{Memory: 8 << 20, MemorySwap: 7 << 20}}, nil, "memswap_limit", ErrInvalid},
		{"swappiness", spec.Service{Resources: spec.Resources{MemorySwappiness: &swappiness}}, nil, "mem_swappiness", ErrInvalid},
		{"cpus beside a quota", spec.Service{Resources: spec.Resources{NanoCPUs: 1e9, CPUQuota: 5000}}, nil, "cpus", ErrInvalid},
		{"unknown stop signal", spec.Service{StopSignal: "SIGHELLO"}, nil, "stop_signal", ErrInvalid},
		{"mount over the root", spec.Service{}, mounted("/v", "/"), "volumes", ErrInvalid},
		{"two mounts at one place", spec.Service{}, func(in *Input) { in.Mounts = []voldriver.Mount{bind("/1", "/z"), bind("/2", "/z/")} }, "volumes", ErrInvalid},
		{"secret owner by name", spec.Service{}, func(in *Input) { in.Secrets = []File{{Target: "/s", UID: "web"}} }, "secrets[0].uid", ErrInvalid},
		{"secret on a volume", spec.Service{}, func(in *Input) {
			in.Mounts, in.Secrets = []voldriver.Mount{bind("/1", "/z")}, []File{{Target: "/z"}}
		}, "secrets", ErrInvalid},
		{"bad extra host", spec.Service{ExtraHosts: []string{"a=b"}}, nil, "extra_hosts[0]", ErrInvalid},
		{"no host gateway", spec.Service{ExtraHosts: []string{"a=host-gateway"}}, nil, "extra_hosts[0]", ErrUnsupported},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := input(&test.service)
			if test.change != nil {
				test.change(&in)
			}
			_, err := Make(in)
			var attribute *AttributeError
			if !errors.As(err, &attribute) || attribute.Attribute != test.attribute || !errors.Is(err, test.is) {
				t.Errorf("got %v, want %v at %s", err, test.is, test.attribute)
			}
		})
	}
}

func TestAllThatIsWrongIsReportedAtOnce(t *testing.T) {
	_, err := Make(input(&spec.Service{User: "nobody-here", PID: "x", StopSignal: "y"}))
	for _, attribute := range []string{"user", "pid", "stop_signal"} {
		if err == nil || !strings.Contains(err.Error(), attribute+":") {
			t.Errorf("%s is missing in %v", attribute, err)
		}
	}
}

func TestASeccompProfileOfTheStack(t *testing.T) {
	in := input(&spec.Service{SecurityOpt: []string{"seccomp=profile.json"}})
	in.WorkingDir = t.TempDir()
	path := filepath.Join(in.WorkingDir, "profile.json")
	if err := os.WriteFile(path, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Make(in)
	if err != nil || b.Spec.Linux.Seccomp.DefaultAction != specs.ActAllow || b.Spec.Linux.Seccomp.Syscalls[0].Names[0] != "chmod" {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(in); !errors.Is(err, ErrInvalid) {
		t.Errorf("broken: %v", err)
	}
}

func TestDetectHost(t *testing.T) {
	h, err := DetectHost()
	if err != nil {
		t.Fatal(err)
	}
	if h.Hostname == "" || !slices.Contains(h.Capabilities, "CAP_CHOWN") || h.Limits["RLIMIT_NOFILE"] == 0 || !h.Seccomp {
		t.Errorf("%+v", h)
	}
}

// Views of a bundle, for the tables above.

func args(b *Bundle) any      { return b.Spec.Process.Args }
func env(b *Bundle) any       { return b.Spec.Process.Env }
func identity(b *Bundle) any  { return b.Spec.Process.User }
func bounding(b *Bundle) any  { return b.Spec.Process.Capabilities.Bounding }
func rlimitsOf(b *Bundle) any { return b.Spec.Process.Rlimits }
func nnp(b *Bundle) any       { return b.Spec.Process.NoNewPrivileges }
func masks(b *Bundle) any     { return len(b.Spec.Linux.MaskedPaths) + len(b.Spec.Linux.ReadonlyPaths) }
func last(s []string) string  { return s[len(s)-1] }

func namespaces(b *Bundle) any {
	var out []string
	for _, n := range b.Spec.Linux.Namespaces {
		text := string(n.Type)
		if n.Path != "" {
			text += "=" + n.Path
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func at(destination string) func(*Bundle) any {
	return func(b *Bundle) any {
		text := ""
		for _, m := range b.Spec.Mounts {
			if m.Destination == destination {
				text += m.Type + " " + m.Source + " " + strings.Join(m.Options, ",")
			}
		}
		return text
	}
}

func rules(b *Bundle) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		text, _ := json.Marshal(*n)
		return string(text)
	}
	var out []string
	for _, r := range b.Spec.Linux.Resources.Devices {
		verb, kind := "deny", r.Type
		if r.Allow {
			verb = "allow"
		}
		if kind == "" {
			kind = "a"
		}
		out = append(out, verb+" "+kind+" "+number(r.Major)+":"+number(r.Minor)+" "+r.Access)
	}
	return strings.Join(out, "; ")
}

func resources(b *Bundle) any {
	r := *b.Spec.Linux.Resources
	r.Devices = nil
	text, _ := json.Marshal(r)
	return json.RawMessage(text)
}

func allows(call string) func(*Bundle) any {
	return func(b *Bundle) any {
		return slices.ContainsFunc(b.Spec.Linux.Seccomp.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && slices.Contains(s.Names, call)
		})
	}
}

func bind(source, destination string, options ...string) voldriver.Mount {
	return voldriver.Mount{Type: "bind", Source: source, Destination: destination, Options: append([]string{"rbind"}, options...)}
}

func mounted(source, destination string) func(*Input) {
	return func(in *Input) { in.Mounts = []voldriver.Mount{bind(source, destination)} }
}

func without(c string) func(*Input) {
	return func(in *Input) {
		in.Host.Capabilities = slices.DeleteFunc(in.Host.Capabilities, func(have string) bool { return have == c })
	}
}

func armored(in *Input) { in.Host.AppArmor = DefaultAppArmor }

func show(t *testing.T, v any) string {
	t.Helper()
	if raw, ok := v.(string); ok {
		return raw
	}
	if raw, ok := v.(json.RawMessage); ok {
		return string(raw)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
