package load

// What Stack does with each attribute of the Compose Specification. An attribute that stands in none of these tables is
// refused: one that the specification gains later is so until somebody adds it here.
//
// A path names a mapping's keys, with * for keys the user chooses and [] for the entries of a list.

// supported are honoured in full. Jobs have more than is written here: see jobRules, and hookRules for pre_start.
const supported = `
name
version
include
include.[].path
include.[].project_directory
include.[].env_file

services
services.*
services.*.annotations
services.*.annotations.*
services.*.attach
services.*.blkio_config
services.*.blkio_config.device_read_bps
services.*.blkio_config.device_read_bps.[].path
services.*.blkio_config.device_read_bps.[].rate
services.*.blkio_config.device_read_iops
services.*.blkio_config.device_read_iops.[].path
services.*.blkio_config.device_read_iops.[].rate
services.*.blkio_config.device_write_bps
services.*.blkio_config.device_write_bps.[].path
services.*.blkio_config.device_write_bps.[].rate
services.*.blkio_config.device_write_iops
services.*.blkio_config.device_write_iops.[].path
services.*.blkio_config.device_write_iops.[].rate
services.*.blkio_config.weight
services.*.blkio_config.weight_device
services.*.blkio_config.weight_device.[].path
services.*.blkio_config.weight_device.[].weight
services.*.cap_add
services.*.cap_drop
services.*.cgroup
services.*.cgroup_parent
services.*.command
services.*.configs
services.*.configs.[].gid
services.*.configs.[].mode
services.*.configs.[].source
services.*.configs.[].target
services.*.configs.[].uid
services.*.container_name
services.*.cpu_period
services.*.cpu_quota
services.*.cpu_rt_period
services.*.cpu_rt_runtime
services.*.cpu_shares
services.*.cpus
services.*.cpuset
services.*.depends_on
services.*.depends_on.*
services.*.depends_on.*.condition
services.*.depends_on.*.required
services.*.depends_on.*.restart
services.*.deploy
services.*.deploy.endpoint_mode
services.*.deploy.mode
services.*.deploy.replicas
services.*.deploy.resources
services.*.deploy.resources.limits
services.*.deploy.resources.limits.cpus
services.*.deploy.resources.limits.memory
services.*.deploy.resources.limits.pids
services.*.deploy.resources.reservations
services.*.deploy.resources.reservations.memory
services.*.deploy.restart_policy
services.*.deploy.restart_policy.condition
services.*.deploy.restart_policy.delay
services.*.deploy.restart_policy.max_attempts
services.*.deploy.restart_policy.window
services.*.deploy.rollback_config
services.*.deploy.rollback_config.delay
services.*.deploy.rollback_config.failure_action
services.*.deploy.rollback_config.max_failure_ratio
services.*.deploy.rollback_config.monitor
services.*.deploy.rollback_config.order
services.*.deploy.rollback_config.parallelism
services.*.deploy.update_config
services.*.deploy.update_config.delay
services.*.deploy.update_config.failure_action
services.*.deploy.update_config.max_failure_ratio
services.*.deploy.update_config.monitor
services.*.deploy.update_config.order
services.*.deploy.update_config.parallelism
services.*.develop
services.*.develop.watch
services.*.develop.watch.[].action
services.*.develop.watch.[].exec
services.*.develop.watch.[].exec.command
services.*.develop.watch.[].exec.environment
services.*.develop.watch.[].exec.environment.*
services.*.develop.watch.[].exec.privileged
services.*.develop.watch.[].exec.user
services.*.develop.watch.[].exec.working_dir
services.*.develop.watch.[].ignore
services.*.develop.watch.[].include
services.*.develop.watch.[].initial_sync
services.*.develop.watch.[].path
services.*.develop.watch.[].target
services.*.device_cgroup_rules
services.*.devices
services.*.devices.[].permissions
services.*.devices.[].source
services.*.devices.[].target
services.*.dns
services.*.dns_opt
services.*.dns_search
services.*.domainname
services.*.entrypoint
services.*.env_file
services.*.env_file.[].format
services.*.env_file.[].path
services.*.env_file.[].required
services.*.environment
services.*.environment.*
services.*.expose
services.*.extends
services.*.extends.file
services.*.extends.service
services.*.external_links
services.*.extra_hosts
services.*.extra_hosts.*
services.*.group_add
services.*.healthcheck
services.*.healthcheck.disable
services.*.healthcheck.interval
services.*.healthcheck.retries
services.*.healthcheck.start_interval
services.*.healthcheck.start_period
services.*.healthcheck.test
services.*.healthcheck.timeout
services.*.hostname
services.*.image
services.*.init
services.*.ipc
services.*.label_file
services.*.labels
services.*.labels.*
services.*.links
services.*.logging
services.*.logging.driver
services.*.logging.options
services.*.logging.options.*
services.*.mac_address
services.*.mem_limit
services.*.mem_reservation
services.*.mem_swappiness
services.*.memswap_limit
services.*.network_mode
services.*.networks
services.*.networks.*
services.*.networks.*.aliases
services.*.networks.*.gw_priority
services.*.networks.*.interface_name
services.*.networks.*.ipv4_address
services.*.networks.*.ipv6_address
services.*.networks.*.mac_address
services.*.networks.*.priority
services.*.oom_kill_disable
services.*.oom_score_adj
services.*.pid
services.*.pids_limit
services.*.platform
services.*.ports
services.*.ports.[].app_protocol
services.*.ports.[].host_ip
services.*.ports.[].mode
services.*.ports.[].name
services.*.ports.[].protocol
services.*.ports.[].published
services.*.ports.[].target
services.*.post_start
services.*.post_start.[].command
services.*.post_start.[].environment
services.*.post_start.[].environment.*
services.*.post_start.[].privileged
services.*.post_start.[].user
services.*.post_start.[].working_dir
services.*.pre_start
services.*.pre_start.[].per_replica
services.*.pre_stop
services.*.pre_stop.[].command
services.*.pre_stop.[].environment
services.*.pre_stop.[].environment.*
services.*.pre_stop.[].privileged
services.*.pre_stop.[].user
services.*.pre_stop.[].working_dir
services.*.privileged
services.*.profiles
services.*.pull_policy
services.*.read_only
services.*.restart
services.*.runtime
services.*.scale
services.*.secrets
services.*.secrets.[].gid
services.*.secrets.[].mode
services.*.secrets.[].source
services.*.secrets.[].target
services.*.secrets.[].uid
services.*.security_opt
services.*.shm_size
services.*.stdin_open
services.*.stop_grace_period
services.*.stop_signal
services.*.sysctls
services.*.sysctls.*
services.*.tmpfs
services.*.tty
services.*.ulimits
services.*.ulimits.*
services.*.ulimits.*.hard
services.*.ulimits.*.soft
services.*.user
services.*.userns_mode
services.*.uts
services.*.volumes
services.*.volumes.[].bind
services.*.volumes.[].bind.create_host_path
services.*.volumes.[].bind.propagation
services.*.volumes.[].bind.recursive
services.*.volumes.[].bind.selinux
services.*.volumes.[].read_only
services.*.volumes.[].source
services.*.volumes.[].target
services.*.volumes.[].tmpfs
services.*.volumes.[].tmpfs.mode
services.*.volumes.[].tmpfs.size
services.*.volumes.[].type
services.*.volumes.[].volume
services.*.volumes.[].volume.nocopy
services.*.volumes.[].volume.subpath
services.*.volumes_from
services.*.working_dir

jobs
jobs.*
jobs.*.triggers
jobs.*.triggers.manual
jobs.*.triggers.schedule
jobs.*.triggers.schedule.[].concurrency
jobs.*.triggers.schedule.[].cron
jobs.*.triggers.schedule.[].missed_fires
jobs.*.triggers.schedule.[].timezone

networks
networks.*
networks.*.attachable
networks.*.driver
networks.*.driver_opts
networks.*.driver_opts.*
networks.*.enable_ipv4
networks.*.enable_ipv6
networks.*.external
networks.*.external.name
networks.*.internal
networks.*.ipam
networks.*.ipam.config
networks.*.ipam.config.[].aux_addresses
networks.*.ipam.config.[].aux_addresses.*
networks.*.ipam.config.[].gateway
networks.*.ipam.config.[].ip_range
networks.*.ipam.config.[].subnet
networks.*.ipam.driver
networks.*.labels
networks.*.labels.*
networks.*.name

volumes
volumes.*
volumes.*.driver
volumes.*.driver_opts
volumes.*.driver_opts.*
volumes.*.external
volumes.*.external.name
volumes.*.labels
volumes.*.labels.*
volumes.*.name

secrets
secrets.*
secrets.*.environment
secrets.*.external
secrets.*.external.name
secrets.*.file
secrets.*.labels
secrets.*.labels.*
secrets.*.name

configs
configs.*
configs.*.content
configs.*.environment
configs.*.external
configs.*.external.name
configs.*.file
configs.*.labels
configs.*.labels.*
configs.*.name
`

// own are Stack's additions to the specification: see extension.go.
const own = `
jobs.*.x-stack
jobs.*.x-stack.history
jobs.*.x-stack.retries
jobs.*.x-stack.timeout
services.*.x-stack
services.*.x-stack.build
services.*.x-stack.depends_on
services.*.x-stack.depends_on.*
services.*.x-stack.depends_on.*.condition
services.*.x-stack.depends_on.*.required
services.*.x-stack.rollout
services.*.x-stack.unhealthy
services.*.x-stack.unhealthy.delay
services.*.x-stack.unhealthy.max_attempts
x-stack
x-stack.history
x-stack.reconcile
x-stack.rollout
x-stack.unhealthy
x-stack.unhealthy.delay
x-stack.unhealthy.max_attempts
`

// ignored are accepted with a warning: Compose ignores them when it runs a stack on one machine, and so do we.
var ignored = []struct{ path, why string }{
	{"services.*.deploy.labels", "they are for a swarm service; labels of containers go under `labels`"},
	{"services.*.deploy.placement", "all containers run on this machine"},
	{"services.*.deploy.resources.reservations.cpus", "a reservation of CPUs is for a scheduler of many machines; use cpu_shares"},
	{"services.*.deploy.resources.reservations.generic_resources", "generic resources are for a scheduler of many machines"},
	{"services.*.cpu_count", "it is for Windows containers; use cpus"},
	{"services.*.cpu_percent", "it is for Windows containers; use cpus"},
	{"services.*.volumes.[].consistency", "it is for Docker Desktop on a Mac"},
}

// refused have a better remedy than to be taken out.
var refused = []struct{ path, what, remedy string }{
	{"models", "AI models are not supported", "run a model server as a service"},
	{"services.*.models", "AI models are not supported", "run a model server as a service"},
	{"services.*.provider", "services of an external provider are not supported", "run it as a service with an image"},
	{"services.*.gpus", "GPUs are not supported yet", "take the attribute out to run without a GPU"},
	{"services.*.deploy.resources.reservations.devices", "GPUs and other reserved devices are not supported yet",
		"take the reservation out to run without; plain devices go under `devices`"},
	{"services.*.credential_spec", "credential_spec is for Windows containers", "take it out"},
	{"services.*.isolation", "isolation is for Windows containers", "take it out"},
	{"services.*.storage_opt", "limits on a container's own files are not supported yet", "put what grows on a volume, and take it out"},
	{"services.*.use_api_socket", "there is no Docker API to give access to", "take it out"},
	{"services.*.volumes.[].image", "mounting an image is not supported yet", "use a volume filled by a service that runs first"},
	{"services.*.networks.*.driver_opts", "options of one service's place on a network are not supported yet", "take them out, or set them on the network"},
	{"services.*.networks.*.link_local_ips", "link-local addresses are not supported yet", "give the service an ipv4_address or ipv6_address"},
	{"networks.*.ipam.options", "options of an address manager are not supported", "take them out"},
	{"secrets.*.driver", "secret drivers are for a swarm", "use `file` or `environment`"},
	{"secrets.*.driver_opts", "secret drivers are for a swarm", "use `file` or `environment`"},
	{"secrets.*.template_driver", "templates are for a swarm", "take it out"},
	{"configs.*.template_driver", "templates are for a swarm", "use `content`, whose variables are replaced"},
}

// buildPath has rules of its own: a service with an image runs it, one without can't run.
const buildPath = "services.*.build"
