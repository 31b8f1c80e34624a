package bundle

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs/validate"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// TestTheEmbeddedRuntimeTakesIt gives what Make makes to the runtime library of the shim, which checks it and knows every
// mount option.
func TestTheEmbeddedRuntimeTakesIt(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1 << 20, Size: 1 << 16}}
	for name, change := range map[string]func(*Input){
		"plain":      func(*Input) {},
		"privileged": func(in *Input) { in.Service.Privileged = true },
		"the host's everything": func(in *Input) {
			in.Network = Network{Mode: HostNet}
			in.Service.PID, in.Service.IPC, in.Service.UTS, in.Service.Cgroup = "host", "host", "host", "host"
		},
		"another's namespaces": func(in *Input) {
			in.Network = Network{Mode: Shared, Netns: "/proc/self/ns/net", FilesFrom: "/other"}
			in.Service.PID, in.Service.IPC = "service:a", "service:a"
			in.PIDPath, in.IPCPath, in.ShmPath = "/proc/self/ns/pid", "/proc/self/ns/ipc", "/dev/shm"
		},
		"a user namespace": func(in *Input) { in.UIDs, in.GIDs = ids, ids },
		"limits, devices and parameters": func(in *Input) {
			in.Service.Resources = spec.Resources{NanoCPUs: 1e9, Memory: 64 << 20, PIDs: 5, CPUSet: "0"}
			in.Service.Devices = []spec.Device{{Source: "/dev/null", Target: "/dev/nothing", Permissions: "rw"}}
			in.Service.DeviceCgroupRules = []string{"c 1:* rmw"}
			in.Service.Sysctls = map[string]string{"kernel.msgmax": "1", "net.core.somaxconn": "5"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(&spec.Service{Hostname: "h"})
			if name == "the host's everything" {
				in.Service.Hostname = ""
			}
			in.Dir, in.Network.Netns = t.TempDir(), ""
			in.Mounts = []voldriver.Mount{
				{Type: "bind", Source: "/", Destination: "/all", Options: []string{"rbind", "rprivate", "rro"}},
				{Type: "bind", Source: "/", Destination: "/volume", Options: []string{"rbind", "rprivate", "ro"}, Volume: "v"},
			}
			in.Secrets = []File{{Name: "k", Target: "/run/secrets/k"}}
			change(&in)
			b, err := Make(in)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(in.Dir, "rootfs"), 0o755); err != nil {
				t.Fatal(err)
			}
			config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: in.ID, Spec: b.Spec})
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Validate(config); err != nil {
				t.Error(err)
			}
			for _, m := range config.Mounts {
				if m.Device == "bind" && m.Data != "" {
					t.Errorf("mount at %s: it does not know %q", m.Destination, m.Data)
				}
			}
		})
	}
}
