// Package spec is the desired state: what a stack file asks for, resolved and checked.
//
// The types here are plain data. They are made from stack files by spec/load, compared by planner, kept as revisions
// by reconciler, and turned into containers by runtime. JSON keys are the attribute names of the Compose
// Specification, so that a path into the JSON ("environment.LOG_LEVEL") is a path into the stack file.
// Durations are nanoseconds, sizes are bytes.
package spec

import "time"

// Stack is the desired state of one stack: everything that `up` needs to know, with nothing left to interpolate.
type Stack struct {
	Name       string   `json:"name"`
	WorkingDir string   `json:"working_dir"`
	Files      []string `json:"files,omitempty"` // absolute paths of the stack files, in the order they were merged
	Profiles   []string `json:"profiles,omitempty"`

	Services map[string]*Service `json:"services,omitempty"` // enabled services only
	Jobs     map[string]*Job     `json:"jobs,omitempty"`     // enabled ones
	// Disabled are the services and jobs that no active profile enables, with the profiles that would.
	Disabled map[string][]string `json:"disabled,omitempty"`
	Networks map[string]*Network `json:"networks,omitempty"` // by the key used in the file; "default" included when used
	Volumes  map[string]*Volume  `json:"volumes,omitempty"`
	Secrets  map[string]*File    `json:"secrets,omitempty"`
	Configs  map[string]*File    `json:"configs,omitempty"`
	Policy   StackPolicy         `json:"x-stack,omitzero"`
}

// Service is one service, resolved. A zero field means that the file does not say.
type Service struct {
	Name       string `json:"name"`
	Image      string `json:"image,omitempty"`
	Platform   string `json:"platform,omitempty"`
	PullPolicy string `json:"pull_policy,omitempty"` // "", always, never, missing, if_not_present, daily, weekly, every_<duration>
	// PullAge is how old a pulled image may be with the policies daily, weekly and every_<duration>; else 0.
	PullAge       time.Duration `json:"pull_age,omitempty"`
	ContainerName string        `json:"container_name,omitempty"`
	Replicas      int           `json:"replicas"`
	// Position of the service's key in the stack file, for diagnostics: file:line:column.
	Position string `json:"position,omitempty"`

	// Command and Entrypoint: nil takes the image's, an empty list clears it.
	Command     *[]string         `json:"command,omitempty"`
	Entrypoint  *[]string         `json:"entrypoint,omitempty"`
	Environment map[string]string `json:"environment,omitempty"` // env_file merged in
	// SecretEnvironment are variables whose values must be in no record: name to the file on a tmpfs that the value is read
	// from when a container starts. The file is named by a keyed digest of the value.
	SecretEnvironment map[string]string `json:"secret_environment,omitempty"`
	User              string            `json:"user,omitempty"`
	GroupAdd          []string          `json:"group_add,omitempty"`
	WorkingDir        string            `json:"working_dir,omitempty"`
	Hostname          string            `json:"hostname,omitempty"`
	Domainname        string            `json:"domainname,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	TTY               bool              `json:"tty,omitempty"`
	StdinOpen         bool              `json:"stdin_open,omitempty"`
	Init              *bool             `json:"init,omitempty"`
	ReadOnly          bool              `json:"read_only,omitempty"`

	Ports         []Port                 `json:"ports,omitempty"`        // ranges expanded: one entry, one target port
	Expose        []string               `json:"expose,omitempty"`       // "80/tcp"
	NetworkMode   string                 `json:"network_mode,omitempty"` // "", bridge, host, none, service:NAME, container:NAME
	Networks      map[string]*Attachment `json:"networks,omitempty"`     // by network key; empty with a NetworkMode
	DNS           []string               `json:"dns,omitempty"`
	DNSSearch     []string               `json:"dns_search,omitempty"`
	DNSOpt        []string               `json:"dns_opt,omitempty"`
	ExtraHosts    []string               `json:"extra_hosts,omitempty"` // "name=address"; the address may be host-gateway
	Links         []string               `json:"links,omitempty"`       // "service:alias", always with the alias
	ExternalLinks []string               `json:"external_links,omitempty"`
	MacAddress    string                 `json:"mac_address,omitempty"`

	Mounts      []Mount     `json:"volumes,omitempty"` // volumes and tmpfs, in the file's order
	VolumesFrom []string    `json:"volumes_from,omitempty"`
	Secrets     []FileMount `json:"secrets,omitempty"`
	Configs     []FileMount `json:"configs,omitempty"`

	DependsOn   map[string]Dependency `json:"depends_on,omitempty"`
	Healthcheck *Healthcheck          `json:"healthcheck,omitempty"`
	Restart     Restart               `json:"restart"`
	StopSignal  string                `json:"stop_signal,omitempty"`
	StopGrace   *time.Duration        `json:"stop_grace_period,omitempty"`
	PreStart    []InitContainer       `json:"pre_start,omitempty"`  // before a new container starts for the first time
	PostStart   []Hook                `json:"post_start,omitempty"` // after each start; a start is over when they are
	PreStop     []Hook                `json:"pre_stop,omitempty"`   // before the stop signal of a stop that was asked for
	Logging     *Logging              `json:"logging,omitempty"`
	// OneShot says that it runs to its end (deploy.mode replicated-job or global-job): once that was a success, it is done.
	OneShot bool `json:"one_shot,omitempty"`
	// UpdateConfig and RollbackConfig are nil where the file says nothing of how containers are replaced.
	UpdateConfig   *Rollout `json:"update_config,omitempty"`
	RollbackConfig *Rollout `json:"rollback_config,omitempty"`
	EndpointMode   string   `json:"endpoint_mode,omitempty"` // "", vip, dnsrr
	// Attach says whether `up` follows the service's log; nil is yes.
	Attach   *bool    `json:"attach,omitempty"`
	Profiles []string `json:"profiles,omitempty"`

	Runtime           string            `json:"runtime,omitempty"`
	Privileged        bool              `json:"privileged,omitempty"`
	CapAdd            []string          `json:"cap_add,omitempty"`
	CapDrop           []string          `json:"cap_drop,omitempty"`
	SecurityOpt       []string          `json:"security_opt,omitempty"`
	Devices           []Device          `json:"devices,omitempty"`
	DeviceCgroupRules []string          `json:"device_cgroup_rules,omitempty"`
	Sysctls           map[string]string `json:"sysctls,omitempty"`
	Ulimits           map[string]Ulimit `json:"ulimits,omitempty"`
	ShmSize           int64             `json:"shm_size,omitempty"`
	PID               string            `json:"pid,omitempty"`
	IPC               string            `json:"ipc,omitempty"`
	UTS               string            `json:"uts,omitempty"`
	Cgroup            string            `json:"cgroup,omitempty"` // "", host, private
	CgroupParent      string            `json:"cgroup_parent,omitempty"`
	UsernsMode        string            `json:"userns_mode,omitempty"` // "", host, auto
	Resources         Resources         `json:"resources"`
	OOMKillDisable    bool              `json:"oom_kill_disable,omitempty"`
	OOMScoreAdj       int               `json:"oom_score_adj,omitempty"`

	Policy *Policy `json:"x-stack,omitempty"` // how Stack keeps it; nil says nothing

	Develop *Develop `json:"develop,omitempty"` // what watch does with it
}

// Port is one published (or, with Published empty, randomly published) port of a service.
type Port struct {
	HostIP string `json:"host_ip,omitempty"`
	// Published is a port, a range "8000-8010" of which one is taken, or empty for a port the host chooses.
	Published string `json:"published,omitempty"`
	Target    uint16 `json:"target"`
	Protocol  string `json:"protocol"` // tcp, udp, sctp
	Mode      string `json:"mode,omitempty"`
	Name      string `json:"name,omitempty"`
}

// Attachment is a service's place on one network.
type Attachment struct {
	Aliases       []string          `json:"aliases,omitempty"`
	IPv4          string            `json:"ipv4_address,omitempty"`
	IPv6          string            `json:"ipv6_address,omitempty"`
	LinkLocal     []string          `json:"link_local_ips,omitempty"`
	MacAddress    string            `json:"mac_address,omitempty"`
	InterfaceName string            `json:"interface_name,omitempty"`
	Priority      int               `json:"priority,omitempty"`
	GwPriority    int               `json:"gw_priority,omitempty"`
	DriverOpts    map[string]string `json:"driver_opts,omitempty"`
}

// Mount types.
const (
	MountVolume = "volume"
	MountBind   = "bind"
	MountTmpfs  = "tmpfs"
)

// Mount is one entry of a service's volumes or tmpfs.
type Mount struct {
	Type string `json:"type"`
	// Source is a key of Stack.Volumes, an absolute host path, or empty for an anonymous volume or a tmpfs.
	Source   string `json:"source,omitempty"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`

	// bind
	Propagation    string `json:"propagation,omitempty"`
	CreateHostPath bool   `json:"create_host_path,omitempty"`
	Recursive      string `json:"recursive,omitempty"` // "", enabled, disabled, writable, readonly
	SELinux        string `json:"selinux,omitempty"`
	// volume
	NoCopy  bool   `json:"nocopy,omitempty"`
	Subpath string `json:"subpath,omitempty"`
	// tmpfs
	Size    int64    `json:"size,omitempty"`
	Mode    uint32   `json:"mode,omitempty"`
	Options []string `json:"options,omitempty"` // mount options of the short `tmpfs:` form
}

// FileMount places a secret or config in a container.
type FileMount struct {
	Source string  `json:"source"` // key of Stack.Secrets or Stack.Configs
	Target string  `json:"target"` // absolute path in the container
	UID    string  `json:"uid,omitempty"`
	GID    string  `json:"gid,omitempty"`
	Mode   *uint32 `json:"mode,omitempty"`
	// Digest of the content, so that a change of content is a change of the service.
	Digest string `json:"digest,omitempty"`
}

// File is a secret or config of the stack.
type File struct {
	Name     string            `json:"name"`
	File     string            `json:"file,omitempty"`    // absolute host path, read when a container is created
	Content  []byte            `json:"content,omitempty"` // from `content:` or `environment:`
	External bool              `json:"external,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Digest   string            `json:"digest,omitempty"` // sha256 of the content when loaded
	// Sealed says that File is on a tmpfs because its content may be on no disk. Digest is then a keyed one.
	Sealed bool `json:"sealed,omitempty"`
}

// Conditions of a dependency.
const (
	Started               = "service_started"
	Healthy               = "service_healthy"
	CompletedSuccessfully = "service_completed_successfully"
)

// Dependency is one entry of depends_on.
type Dependency struct {
	Condition string `json:"condition"`
	Restart   bool   `json:"restart,omitempty"`
	Required  bool   `json:"required"`
}

// Healthcheck as in the file. A nil *Healthcheck takes the image's; Disable switches it off.
// Zero durations mean "the image's, or the default": interval 30s, timeout 30s, start period 0, start interval 5s, retries 3.
type Healthcheck struct {
	Test          []string      `json:"test,omitempty"` // CMD ..., CMD-SHELL string, NONE
	Interval      time.Duration `json:"interval,omitempty"`
	Timeout       time.Duration `json:"timeout,omitempty"`
	StartPeriod   time.Duration `json:"start_period,omitempty"`
	StartInterval time.Duration `json:"start_interval,omitempty"`
	Retries       int           `json:"retries,omitempty"`
	Disable       bool          `json:"disable,omitempty"`
}

// Restart conditions.
const (
	RestartNo            = "no"
	RestartAlways        = "always"
	RestartOnFailure     = "on-failure"
	RestartUnlessStopped = "unless-stopped"
)

// Restart is `restart:`, or deploy.restart_policy where that is given.
type Restart struct {
	Condition   string        `json:"condition"`              // one of the Restart constants, never empty
	MaxAttempts int           `json:"max_attempts,omitempty"` // 0: no limit
	Delay       time.Duration `json:"delay,omitempty"`        // 0: exponential back-off
	Window      time.Duration `json:"window,omitempty"`
}

// Logging is the log driver and its options as the file gives them.
type Logging struct {
	Driver  string            `json:"driver,omitempty"` // json-file, local, none
	Options map[string]string `json:"options,omitempty"`
}

// Device is a host device given to a container.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target"`
	Permissions string `json:"permissions"` // subset of "rwm"
}

// Ulimit is a soft and a hard limit; -1 is unlimited.
type Ulimit struct {
	Soft int64 `json:"soft"`
	Hard int64 `json:"hard"`
}

// Resources of a service: deploy.resources and the mem_* and cpu_* attributes, whichever the file uses.
type Resources struct {
	NanoCPUs           int64            `json:"cpus,omitempty"` // 1e9 is one core
	CPUShares          int64            `json:"cpu_shares,omitempty"`
	CPUQuota           int64            `json:"cpu_quota,omitempty"`  // microseconds
	CPUPeriod          int64            `json:"cpu_period,omitempty"` // microseconds
	CPURealtimeRuntime int64            `json:"cpu_rt_runtime,omitempty"`
	CPURealtimePeriod  int64            `json:"cpu_rt_period,omitempty"`
	CPUSet             string           `json:"cpuset,omitempty"`
	Memory             int64            `json:"mem_limit,omitempty"`
	MemoryReservation  int64            `json:"mem_reservation,omitempty"`
	MemorySwap         int64            `json:"memswap_limit,omitempty"` // memory plus swap; -1 is unlimited
	MemorySwappiness   *int64           `json:"mem_swappiness,omitempty"`
	PIDs               int64            `json:"pids_limit,omitempty"` // -1 is unlimited
	BlkioWeight        uint16           `json:"blkio_weight,omitempty"`
	BlkioWeightDevice  []WeightDevice   `json:"blkio_weight_device,omitempty"`
	DeviceReadBps      []ThrottleDevice `json:"device_read_bps,omitempty"`
	DeviceReadIOps     []ThrottleDevice `json:"device_read_iops,omitempty"`
	DeviceWriteBps     []ThrottleDevice `json:"device_write_bps,omitempty"`
	DeviceWriteIOps    []ThrottleDevice `json:"device_write_iops,omitempty"`
}

// WeightDevice is a block I/O weight for one device.
type WeightDevice struct {
	Path   string `json:"path"`
	Weight uint16 `json:"weight"`
}

// ThrottleDevice is a block I/O rate for one device, in bytes or operations a second.
type ThrottleDevice struct {
	Path string `json:"path"`
	Rate uint64 `json:"rate"`
}

// Network as the file declares it.
type Network struct {
	Key        string            `json:"key"`
	Name       string            `json:"name"` // the name on the host: <stack>_<key> unless given
	Driver     string            `json:"driver,omitempty"`
	DriverOpts map[string]string `json:"driver_opts,omitempty"`
	External   bool              `json:"external,omitempty"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	EnableIPv4 *bool             `json:"enable_ipv4,omitempty"`
	EnableIPv6 *bool             `json:"enable_ipv6,omitempty"`
	IPAMDriver string            `json:"ipam_driver,omitempty"`
	IPAM       []IPAMPool        `json:"ipam,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// IPAMPool is one entry of ipam.config.
type IPAMPool struct {
	Subnet  string            `json:"subnet,omitempty"`
	IPRange string            `json:"ip_range,omitempty"`
	Gateway string            `json:"gateway,omitempty"`
	Aux     map[string]string `json:"aux_addresses,omitempty"`
}

// Volume as the file declares it.
type Volume struct {
	Key        string            `json:"key"`
	Name       string            `json:"name"` // the name on the host: <stack>_<key> unless given
	Driver     string            `json:"driver,omitempty"`
	DriverOpts map[string]string `json:"driver_opts,omitempty"`
	External   bool              `json:"external,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}
