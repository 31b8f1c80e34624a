package load

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

func (c *converter) service(s types.ServiceConfig) *spec.Service {
	return c.workload([]string{"services", s.Name}, s)
}

// workload is what stands at a place in the files and becomes containers.
func (c *converter) workload(at []string, s types.ServiceConfig) *spec.Service {
	out := &spec.Service{
		Name:          s.Name,
		Image:         s.Image,
		Platform:      s.Platform,
		PullPolicy:    c.pullPolicy(at, s),
		PullAge:       pullAge(s),
		ContainerName: s.ContainerName,
		Replicas:      s.GetScale(),
		Attach:        s.Attach,

		Command:     command(s.Command),
		Entrypoint:  command(s.Entrypoint),
		Environment: s.Environment.ToMapping(),
		User:        s.User,
		GroupAdd:    s.GroupAdd,
		WorkingDir:  s.WorkingDir,
		Hostname:    s.Hostname,
		Domainname:  s.DomainName,
		Labels:      s.Labels,
		Annotations: s.Annotations,
		TTY:         s.Tty,
		StdinOpen:   s.StdinOpen,
		Init:        s.Init,
		ReadOnly:    s.ReadOnly,

		Ports:         c.ports(at, s),
		Expose:        c.expose(at, s.Expose),
		NetworkMode:   s.NetworkMode,
		Networks:      attachments(s),
		DNS:           s.DNS,
		DNSSearch:     s.DNSSearch,
		DNSOpt:        s.DNSOpts,
		ExtraHosts:    sortedHosts(s.ExtraHosts),
		Links:         links(s.Links),
		ExternalLinks: s.ExternalLinks,
		MacAddress:    s.MacAddress,

		Mounts:      c.mounts(at, s),
		VolumesFrom: s.VolumesFrom,

		DependsOn:   dependencies(s.DependsOn),
		Healthcheck: healthcheck(s.HealthCheck),
		Restart:     c.restart(at, s),
		StopSignal:  s.StopSignal,
		PreStart:    c.preStart(at, s),
		OneShot:     s.Deploy != nil && strings.HasSuffix(s.Deploy.Mode, "-job"),
		PostStart:   c.hooks(join(at, spec.PostStart), s.PostStart),
		PreStop:     c.hooks(join(at, spec.PreStop), s.PreStop),
		Logging:     c.logging(at, s.Logging),
		Profiles:    s.Profiles,

		Runtime:           s.Runtime,
		Privileged:        s.Privileged,
		CapAdd:            s.CapAdd,
		CapDrop:           s.CapDrop,
		SecurityOpt:       c.securityOpts(at, s.SecurityOpt),
		Devices:           c.devices(at, s.Devices),
		DeviceCgroupRules: s.DeviceCgroupRules,
		Sysctls:           s.Sysctls,
		Ulimits:           ulimits(s.Ulimits),
		ShmSize:           int64(s.ShmSize),
		PID:               s.Pid,
		IPC:               s.Ipc,
		UTS:               s.Uts,
		Cgroup:            s.Cgroup,
		CgroupParent:      s.CgroupParent,
		UsernsMode:        s.UserNSMode,
		Resources:         c.resources(at, s),
		OOMKillDisable:    s.OomKillDisable,
		OOMScoreAdj:       int(s.OomScoreAdj),
		Policy:            c.policy(at, s),
		Develop:           c.develop(at, s),
	}
	out.Position = c.position(at)
	if s.StopGracePeriod != nil {
		grace := time.Duration(*s.StopGracePeriod)
		out.StopGrace = &grace
	}
	for _, m := range s.Secrets {
		out.Secrets = append(out.Secrets, fileMount(types.FileReferenceConfig(m), "/run/secrets/", c.stack.Secrets))
	}
	for _, m := range s.Configs {
		out.Configs = append(out.Configs, fileMount(types.FileReferenceConfig(m), "/", c.stack.Configs))
	}
	c.rollouts(at, s, out)
	c.built(s, out)
	c.checkImage(at, s.Image)
	c.checkAddresses(at, out)
	c.checkModes(at, out)
	c.checkDeploy(at, s)
	return out
}

func (c *converter) checkImage(at []string, image string) {
	if image == "" {
		return // a build, which is refused elsewhere
	}
	if err := checkImage(image); err != nil {
		c.absent(join(at, "image"), "invalid image %q: %v", image, err)
	}
}

const pullPolicyRemedy = "use always, missing, never, daily, weekly or every_<duration>"

func (c *converter) pullPolicy(at []string, s types.ServiceConfig) string {
	policy, _, err := s.GetPullPolicy()
	switch {
	case err != nil:
		c.refuse(join(at, "pull_policy"), pullPolicyRemedy, "%v", err)
	case policy == types.PullPolicyBuild && s.Image != "":
		c.warn(join(at, "pull_policy"), "", "image builds are not supported yet: the image %s is pulled if it is missing", s.Image)
		return types.PullPolicyMissing
	case policy == types.PullPolicyBuild:
		c.refuse(join(at, "pull_policy"), "use always, missing or never", "image builds are not supported yet")
	case s.PullPolicy == types.PullPolicyRefresh:
		c.refuse(join(at, "pull_policy"), "use daily, weekly or every_<duration>", "the pull policy refresh is not supported yet")
	}
	return s.PullPolicy
}

// pullAge is the age of the policies that have one.
func pullAge(s types.ServiceConfig) time.Duration {
	_, age, err := s.GetPullPolicy()
	if err != nil {
		return 0 // refused by pullPolicy
	}
	return age
}

// command keeps apart what is not given (nil) and what is given as empty.
func command(words types.ShellCommand) *[]string {
	if words == nil {
		return nil
	}
	list := []string(words)
	return &list
}

func attachments(s types.ServiceConfig) map[string]*spec.Attachment {
	if s.NetworkMode != "" || len(s.Networks) == 0 {
		return nil
	}
	all := make(map[string]*spec.Attachment, len(s.Networks))
	for key, n := range s.Networks {
		all[key] = &spec.Attachment{}
		if n == nil {
			continue
		}
		*all[key] = spec.Attachment{
			Aliases:       n.Aliases,
			IPv4:          n.Ipv4Address,
			IPv6:          n.Ipv6Address,
			LinkLocal:     n.LinkLocalIPs,
			MacAddress:    n.MacAddress,
			InterfaceName: n.InterfaceName,
			Priority:      n.Priority,
			GwPriority:    n.GatewayPriority,
			DriverOpts:    n.DriverOpts,
		}
	}
	return all
}

func sortedHosts(hosts types.HostsList) []string {
	if len(hosts) == 0 {
		return nil
	}
	list := hosts.AsList("=")
	slices.Sort(list)
	return list
}

func links(list []string) []string {
	var all []string
	for _, link := range list {
		if !strings.Contains(link, ":") {
			link += ":" + link
		}
		all = append(all, link)
	}
	return all
}

func dependencies(deps types.DependsOnConfig) map[string]spec.Dependency {
	if len(deps) == 0 {
		return nil
	}
	all := make(map[string]spec.Dependency, len(deps))
	for name, d := range deps {
		all[name] = spec.Dependency{Condition: d.Condition, Restart: d.Restart, Required: d.Required}
	}
	return all
}

func healthcheck(h *types.HealthCheckConfig) *spec.Healthcheck {
	if h == nil {
		return nil
	}
	out := &spec.Healthcheck{
		Test:          h.Test,
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
		Disable:       h.Disable || len(h.Test) > 0 && h.Test[0] == "NONE",
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

// restart is deploy.restart_policy where there is one, else `restart`.
func (c *converter) restart(at []string, s types.ServiceConfig) spec.Restart {
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		p := s.Deploy.RestartPolicy
		r := spec.Restart{Condition: c.condition(join(at, "deploy", "restart_policy", "condition"), p.Condition, spec.RestartAlways)}
		if p.MaxAttempts != nil {
			r.MaxAttempts = int(*p.MaxAttempts)
		}
		r.Delay, r.Window = duration(p.Delay), duration(p.Window)
		return r
	}
	name, attempts, limited := strings.Cut(s.Restart, ":")
	r := spec.Restart{Condition: c.condition(join(at, "restart"), name, spec.RestartNo)}
	if limited {
		n, err := strconv.Atoi(attempts)
		if err != nil || n < 0 || r.Condition != spec.RestartOnFailure {
			c.refuse(join(at, "restart"), "write on-failure:<number>", "invalid restart policy %q", s.Restart)
		}
		r.MaxAttempts = n
	}
	return r
}

// condition reads the words of `restart` and those of deploy.restart_policy alike, as Compose does.
func (c *converter) condition(path []string, word, otherwise string) string {
	switch word {
	case "":
		return otherwise
	case "none", spec.RestartNo:
		return spec.RestartNo
	case "any", spec.RestartAlways:
		return spec.RestartAlways
	case spec.RestartOnFailure, spec.RestartUnlessStopped:
		return word
	}
	c.refuse(path, `use "no", always, on-failure or unless-stopped`, "invalid restart policy %q", word)
	return otherwise
}

// fileMount places a secret or config; a target that is no path from the root is a name in the usual directory.
func fileMount(m types.FileReferenceConfig, dir string, files map[string]*spec.File) spec.FileMount {
	target := m.Target
	if target == "" {
		target = m.Source
	}
	if !path.IsAbs(target) {
		target = dir + target
	}
	out := spec.FileMount{Source: m.Source, Target: path.Clean(target), UID: m.UID, GID: m.GID}
	if m.Mode != nil {
		mode := uint32(*m.Mode)
		out.Mode = &mode
	}
	if f := files[m.Source]; f != nil {
		out.Digest = f.Digest
	}
	return out
}

// securityOpts checks the options and puts the content of a seccomp profile in the place of its file's name, as
// Compose does: the profile is part of the container.
func (c *converter) securityOpts(at, opts []string) []string {
	var all []string
	for i, opt := range opts {
		here := join(at, "security_opt", strconv.Itoa(i))
		name, value, _ := strings.Cut(strings.Replace(opt, ":", "=", 1), "=")
		switch name {
		case "no-new-privileges", "apparmor":
		case "label":
			c.warn(here, "", "SELinux labels are not applied")
		case "systempaths":
			if value != "unconfined" {
				c.refuse(here, "write systempaths=unconfined", "invalid security option %q", opt)
			}
		case "seccomp":
			if value == "unconfined" || value == "builtin" || strings.HasPrefix(value, "{") {
				break
			}
			file := value
			if !filepath.IsAbs(file) {
				file = filepath.Join(c.project.WorkingDir, file)
			}
			c.tree.read = append(c.tree.read, file)
			profile, err := os.ReadFile(file)
			if err != nil {
				c.absent(here, "can't read the seccomp profile %s: %s", file, cause(err))
				break
			}
			opt = "seccomp=" + string(profile)
		default:
			c.refuse(here, "use no-new-privileges, seccomp, apparmor or systempaths", "the security option %q is not supported", opt)
		}
		all = append(all, opt)
	}
	return all
}

func (c *converter) devices(at []string, devices []types.DeviceMapping) []spec.Device {
	var all []spec.Device
	for i, d := range devices {
		here := join(at, "devices", strconv.Itoa(i))
		if !strings.HasPrefix(d.Source, "/") {
			c.refuse(here, "name a device file, such as /dev/ttyUSB0", "the device %q is not a path: device interfaces (CDI) are not supported yet", d.Source)
			continue
		}
		device := spec.Device{Source: d.Source, Target: d.Target, Permissions: d.Permissions}
		if device.Target == "" {
			device.Target = device.Source
		}
		if device.Permissions == "" {
			device.Permissions = "rwm"
		}
		if strings.Trim(device.Permissions, "rwm") != "" {
			c.refuse(here, "use r, w and m", "invalid device permissions %q", device.Permissions)
		}
		all = append(all, device)
	}
	return all
}

func ulimits(limits map[string]*types.UlimitsConfig) map[string]spec.Ulimit {
	if len(limits) == 0 {
		return nil
	}
	all := make(map[string]spec.Ulimit, len(limits))
	for name, u := range limits {
		switch {
		case u == nil:
		case u.Single != 0:
			all[name] = spec.Ulimit{Soft: int64(u.Single), Hard: int64(u.Single)}
		default:
			all[name] = spec.Ulimit{Soft: int64(u.Soft), Hard: int64(u.Hard)}
		}
	}
	return all
}
