package load

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/spec"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What one service's attributes become, field by field.
func TestServiceAttributes(t *testing.T) {
	type get = func(*spec.Service) any
	for name, c := range map[string]struct {
		yaml string
		get  get
		want string
	}{
		"command as text":            {`command: sh -c "a b"`, func(s *spec.Service) any { return s.Command }, `["sh","-c","a b"]`},
		"command set to nothing":     {`command: []`, func(s *spec.Service) any { return s.Command }, `[]`},
		"command not given":          {``, func(s *spec.Service) any { return s.Command }, `null`},
		"entrypoint":                 {`entrypoint: ["/x", y]`, func(s *spec.Service) any { return s.Entrypoint }, `["/x","y"]`},
		"environment as list":        {`environment: [A=1, B=, UNSET, SET]`, func(s *spec.Service) any { return s.Environment }, `{"A":"1","B":"","SET":"from env"}`},
		"environment as mapping":     {`environment: {A: 1, T: true, N: null}`, func(s *spec.Service) any { return s.Environment }, `{"A":"1","T":"true"}`},
		"a port":                     {`ports: ["8080:80"]`, ports, `8080>80/tcp`},
		"a port of the host at will": {`ports: ["80"]`, ports, `>80/tcp`},
		"a port on one address":      {`ports: ["127.0.0.1:8080:80/udp", "[::1]:81:81"]`, ports, `127.0.0.1:8080>80/udp ::1:81>81/tcp`},
		"ranges of one length":       {`ports: ["8000-8002:80-82"]`, ports, `8000>80/tcp 8001>81/tcp 8002>82/tcp`},
		"a range for one port":       {`ports: ["8000-8010:80"]`, ports, `8000-8010>80/tcp`},
		"ports in long form":         {`ports: [{target: 80, published: "8000-8001", host_ip: 0.0.0.0, protocol: udp, mode: host, name: n, app_protocol: http}]`, ports, `0.0.0.0:8000-8001>80/udp`},
		"expose":                     {`expose: ["80", 81, "90-91/udp"]`, func(s *spec.Service) any { return s.Expose }, `["80/tcp","81/tcp","90/udp","91/udp"]`},
		"links":                      {`links: [db, "db:database"]`, func(s *spec.Service) any { return s.Links }, `["db:db","db:database"]`},
		"a link makes a dependency":  {`links: [db]`, func(s *spec.Service) any { return s.DependsOn }, `{"db":{"condition":"service_started","restart":true,"required":true}}`},
		"depends_on as a list":       {`depends_on: [db]`, func(s *spec.Service) any { return s.DependsOn }, `{"db":{"condition":"service_started","required":true}}`},
		"depends_on in full":         {`depends_on: {db: {condition: service_healthy, restart: true, required: false}}`, func(s *spec.Service) any { return s.DependsOn }, `{"db":{"condition":"service_healthy","restart":true,"required":false}}`},
		"extra_hosts":                {`extra_hosts: ["a:1.2.3.4", "b=::1", "c:host-gateway"]`, func(s *spec.Service) any { return s.ExtraHosts }, `["a=1.2.3.4","b=::1","c=host-gateway"]`},
		"a service that ends":        {`deploy: {mode: replicated-job}`, func(s *spec.Service) any { return s.OneShot }, `true`},
		"a hook":                     {`post_start: [{command: sh -c "a b", user: root, privileged: true, working_dir: /w, environment: [A=1, SET, UNSET]}]`, func(s *spec.Service) any { return s.PostStart }, `[{"command":["sh","-c","a b"],"user":"root","privileged":true,"working_dir":"/w","environment":{"A":"1","SET":"from env"}}]`},
		"a hook before the stop":     {`pre_stop: [{command: [a]}, {command: [b]}]`, func(s *spec.Service) any { return s.PreStop }, `[{"command":["a"]},{"command":["b"]}]`},
		"the default network":        {``, func(s *spec.Service) any { return s.Networks }, `{"default":{}}`},
		"no network with a mode":     {`network_mode: host`, func(s *spec.Service) any { return s.Networks }, `null`},
		"a network with all":         {`networks: {n: {aliases: [x], ipv4_address: 10.0.0.2, priority: 3, gw_priority: 1, mac_address: "02:00:00:00:00:01"}}`, func(s *spec.Service) any { return s.Networks }, `{"n":{"aliases":["x"],"ipv4_address":"10.0.0.2","mac_address":"02:00:00:00:00:01","priority":3,"gw_priority":1}}`},
		"network of a service":       {`network_mode: service:db`, func(s *spec.Service) any { return s.DependsOn["db"].Restart }, `true`},
		"a named volume":             {`volumes: [data:/d:ro]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"volume","source":"data","target":"/d","read_only":true}]`},
		"an anonymous volume":        {`volumes: [/d/]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"volume","target":"/d"}]`},
		"a bind in short form":       {`volumes: ["/h:/d:rslave"]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"bind","source":"/h","target":"/d","propagation":"rslave","create_host_path":true}]`},
		"a bind in long form":        {`volumes: [{type: bind, source: /h, target: /d, bind: {create_host_path: false, recursive: readonly}}]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"bind","source":"/h","target":"/d","recursive":"readonly"}]`},
		"a bind with no options":     {`volumes: [{type: bind, source: /h, target: /d}]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"bind","source":"/h","target":"/d","create_host_path":true}]`},
		"volume options":             {`volumes: [{type: volume, source: data, target: /d, volume: {nocopy: true, subpath: a/b}}]`, func(s *spec.Service) any { return s.Mounts }, `[{"type":"volume","source":"data","target":"/d","nocopy":true,"subpath":"a/b"}]`},
		"tmpfs after volumes":        {"tmpfs: [\"/t:size=1m,mode=700\", /u]\n    volumes: [{type: tmpfs, target: /v, tmpfs: {size: 2k, mode: 0700}}]", func(s *spec.Service) any { return s.Mounts }, `[{"type":"tmpfs","target":"/v","size":2048,"mode":448},{"type":"tmpfs","target":"/t","options":["size=1m","mode=700"]},{"type":"tmpfs","target":"/u"}]`},
		"a secret by name":           {`secrets: [key]`, func(s *spec.Service) any { return s.Secrets }, `[{"source":"key","target":"/run/secrets/key","digest":"` + contentDigest([]byte("from env")) + `"}]`},
		"a secret in full":           {`secrets: [{source: key, target: other, uid: "1", gid: "2", mode: 0400}]`, func(s *spec.Service) any { return s.Secrets }, `[{"source":"key","target":"/run/secrets/other","uid":"1","gid":"2","mode":256,"digest":"` + contentDigest([]byte("from env")) + `"}]`},
		"a config by name":           {`configs: [site]`, func(s *spec.Service) any { return s.Configs }, `[{"source":"site","target":"/site","digest":"` + contentDigest([]byte("hello from env\n")) + `"}]`},
		"a config at a path":         {`configs: [{source: site, target: /etc/x}]`, func(s *spec.Service) any { return s.Configs[0].Target }, `"/etc/x"`},
		"restart":                    {`restart: unless-stopped`, func(s *spec.Service) any { return s.Restart }, `{"condition":"unless-stopped"}`},
		"restart not given":          {``, func(s *spec.Service) any { return s.Restart }, `{"condition":"no"}`},
		"restart with attempts":      {`restart: on-failure:3`, func(s *spec.Service) any { return s.Restart }, `{"condition":"on-failure","max_attempts":3}`},
		"restart_policy":             {"restart: always\n    deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 2, window: 1m}}", func(s *spec.Service) any { return s.Restart }, `{"condition":"on-failure","max_attempts":2,"delay":5000000000,"window":60000000000}`},
		"restart_policy any":         {`deploy: {restart_policy: {condition: any}}`, func(s *spec.Service) any { return s.Restart.Condition }, `"always"`},
		"healthcheck":                {`healthcheck: {test: curl x, interval: 1m30s, timeout: 3s, start_period: 1h, start_interval: 2s, retries: 4}`, func(s *spec.Service) any { return s.Healthcheck }, `{"test":["CMD-SHELL","curl x"],"interval":90000000000,"timeout":3000000000,"start_period":3600000000000,"start_interval":2000000000,"retries":4}`},
		"healthcheck off":            {`healthcheck: {disable: true}`, func(s *spec.Service) any { return s.Healthcheck.Disable }, `true`},
		"healthcheck NONE":           {`healthcheck: {test: [NONE]}`, func(s *spec.Service) any { return s.Healthcheck.Disable }, `true`},
		"stop_grace_period":          {`stop_grace_period: 1m`, func(s *spec.Service) any { return *s.StopGrace }, `60000000000`},
		"x-stack":                    {`x-stack: {rollout: auto, unhealthy: {max_attempts: 5, delay: 10s}, build: make image}`, func(s *spec.Service) any { return s.Policy }, `{"rollout":"auto","unhealthy":{"max_attempts":5,"delay":10000000000},"build":"make image"}`},
		"x-stack, nothing said":      {`x-stack: {rollout: order, unhealthy: ignore}`, func(s *spec.Service) any { return s.Policy == nil }, `true`},
		"x-stack references":         {`x-stack: {depends_on: [data/cache]}`, func(s *spec.Service) any { return s.Policy.DependsOn }, `{"data/cache":{"condition":"service_started","required":true}}`},
		"x-stack conditions":         {`x-stack: {depends_on: {data/db: {condition: service_healthy, required: false}}}`, func(s *spec.Service) any { return s.Policy.DependsOn }, `{"data/db":{"condition":"service_healthy","required":false}}`},
		"replicas by scale":          {`scale: 3`, func(s *spec.Service) any { return s.Replicas }, `3`},
		"replicas by deploy":         {`deploy: {replicas: 0}`, func(s *spec.Service) any { return s.Replicas }, `0`},
		"limits":                     {"mem_limit: 64m\n    cpus: 0.3\n    pids_limit: 10\n    cpu_shares: 5\n    memswap_limit: -1\n    cpuset: 0-1", func(s *spec.Service) any { return s.Resources }, `{"cpus":300000000,"cpu_shares":5,"cpuset":"0-1","mem_limit":67108864,"memswap_limit":-1,"pids_limit":10}`},
		"limits by deploy":           {`deploy: {resources: {limits: {cpus: "1.5", memory: 1g, pids: 9}, reservations: {memory: 10m}}}`, func(s *spec.Service) any { return s.Resources }, `{"cpus":1500000000,"mem_limit":1073741824,"mem_reservation":10485760,"pids_limit":9}`},
		"no swappiness is some":      {`mem_swappiness: 0`, func(s *spec.Service) any { return s.Resources.MemorySwappiness }, `0`},
		"block I/O":                  {`blkio_config: {weight: 300, weight_device: [{path: /dev/sda, weight: 400}], device_read_bps: [{path: /dev/sda, rate: 1mb}]}`, func(s *spec.Service) any { return s.Resources }, `{"blkio_weight":300,"blkio_weight_device":[{"path":"/dev/sda","weight":400}],"device_read_bps":[{"path":"/dev/sda","rate":1048576}]}`},
		"ulimits":                    {`ulimits: {nofile: 10, nproc: {soft: 1, hard: 2}}`, func(s *spec.Service) any { return s.Ulimits }, `{"nofile":{"soft":10,"hard":10},"nproc":{"soft":1,"hard":2}}`},
		"devices":                    {`devices: ["/dev/a", "/dev/b:/dev/c:r", {source: /dev/d, target: /dev/e, permissions: rw}]`, func(s *spec.Service) any { return s.Devices }, `[{"source":"/dev/a","target":"/dev/a","permissions":"rwm"},{"source":"/dev/b","target":"/dev/c","permissions":"r"},{"source":"/dev/d","target":"/dev/e","permissions":"rw"}]`},
		"sizes":                      {`shm_size: 64m`, func(s *spec.Service) any { return s.ShmSize }, `67108864`},
		"logging":                    {`logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}`, func(s *spec.Service) any { return s.Logging }, `{"driver":"json-file","options":{"max-file":"3","max-size":"10m"}}`},
		"pull policy":                {`pull_policy: if_not_present`, func(s *spec.Service) any { return s.PullPolicy }, `"missing"`},
		"build gives way to image":   {"build: .\n    pull_policy: build", func(s *spec.Service) any { return s.Image + " " + s.PullPolicy }, `"nginx missing"`},
		"attach":                     {`attach: false`, func(s *spec.Service) any { return s.Attach }, `false`},
		"update_config":              {`deploy: {update_config: {parallelism: 2, delay: 10s, failure_action: rollback, monitor: 1m, max_failure_ratio: 0.25, order: start-first}}`, func(s *spec.Service) any { return s.UpdateConfig }, `{"parallelism":2,"delay":10000000000,"failure_action":"rollback","monitor":60000000000,"max_failure_ratio":0.25,"order":"start-first"}`},
		"update_config's defaults":   {`deploy: {update_config: {}}`, func(s *spec.Service) any { return s.UpdateConfig }, `{"parallelism":1,"failure_action":"pause","monitor":5000000000}`},
		"update_config's zeros":      {`deploy: {update_config: {parallelism: 0, monitor: 0s}}`, func(s *spec.Service) any { return s.UpdateConfig }, `{"parallelism":0,"failure_action":"pause","monitor":0}`},
		"no update_config":           {`deploy: {replicas: 2}`, func(s *spec.Service) any { return s.UpdateConfig }, `null`},
		"rollback_config":            {`deploy: {rollback_config: {order: stop-first, failure_action: continue}}`, func(s *spec.Service) any { return s.RollbackConfig }, `{"parallelism":1,"failure_action":"continue","monitor":5000000000,"order":"stop-first"}`},
		"endpoint_mode":              {`deploy: {endpoint_mode: vip}`, func(s *spec.Service) any { return s.EndpointMode }, `"vip"`},
		"sysctls":                    {`sysctls: [net.core.somaxconn=1024]`, func(s *spec.Service) any { return s.Sysctls }, `{"net.core.somaxconn":"1024"}`},
		"security options":           {`security_opt: ["no-new-privileges:true", seccomp=unconfined]`, func(s *spec.Service) any { return s.SecurityOpt }, `["no-new-privileges:true","seccomp=unconfined"]`},
		"labels as list":             {`labels: [a=b, c]`, func(s *spec.Service) any { return s.Labels }, `{"a":"b","c":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			stack := stackOf(t, `
services:
  web:
    image: nginx
    `+c.yaml+`
  db: {image: redis}
networks: {n: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}
volumes: {data: }
secrets: {key: {environment: SET}}
configs: {site: {content: "hello ${SET}\n"}}
`, "SET=from env")
			got := c.get(stack.Services["web"])
			text, ok := got.(string)
			if !ok || strings.HasPrefix(c.want, `"`) {
				text = asJSON(t, got)
			}
			if text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}

func ports(s *spec.Service) any {
	var all []string
	for _, p := range s.Ports {
		host := p.Published
		if p.HostIP != "" {
			host = p.HostIP + ":" + host
		}
		all = append(all, host+">"+asText(p.Target)+"/"+p.Protocol)
	}
	return strings.Join(all, " ")
}

func asText(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestResourcesOfTheStack(t *testing.T) {
	stack := stackOf(t, `
name: shop
services:
  web:
    image: nginx
    networks: [front, ext, default]
    volumes: [data:/d, nfs:/n, there:/t]
networks:
  front:
    driver: bridge
    internal: true
    enable_ipv6: true
    driver_opts: {com.docker.network.driver.mtu: 1400}
    ipam: {config: [{subnet: 172.30.0.0/24, gateway: 172.30.0.1, ip_range: 172.30.0.128/25, aux_addresses: {r: 172.30.0.9}}]}
    labels: [a=b]
  ext: {external: true, name: other}
  unused:
volumes:
  data: {labels: {x: y}}
  nfs: {name: mine, driver_opts: {type: nfs, o: addr=1.2.3.4, device: ":/x"}}
  there: {external: true}
  unused:
`)
	for got, want := range map[string]string{
		asJSON(t, stack.Networks["front"]):            `{"key":"front","name":"shop_front","driver":"bridge","driver_opts":{"com.docker.network.driver.mtu":"1400"},"internal":true,"enable_ipv6":true,"ipam":[{"subnet":"172.30.0.0/24","ip_range":"172.30.0.128/25","gateway":"172.30.0.1","aux_addresses":{"r":"172.30.0.9"}}],"labels":{"a":"b"}}`,
		asJSON(t, stack.Networks["ext"]):              `{"key":"ext","name":"other","external":true}`,
		asJSON(t, stack.Networks["default"]):          `{"key":"default","name":"shop_default"}`,
		asJSON(t, stack.Volumes["data"]):              `{"key":"data","name":"shop_data","labels":{"x":"y"}}`,
		asJSON(t, stack.Volumes["nfs"]):               `{"key":"nfs","name":"mine","driver_opts":{"device":":/x","o":"addr=1.2.3.4","type":"nfs"}}`,
		asJSON(t, stack.Volumes["there"]):             `{"key":"there","name":"there","external":true}`,
		strings.Join(sortedKeys(stack.Networks), " "): "default ext front",
		strings.Join(sortedKeys(stack.Volumes), " "):  "data nfs there",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestMergedFilesIncludesAndExtends(t *testing.T) {
	dir := files{
		"compose.yaml": `
include:
  - path: sub/inc.yaml
services:
  web:
    extends: {file: base/base.yaml, service: app}
    image: nginx
    ports: ["80:80"]
    command: [a]
    gpus: all
  gone: {image: x, gpus: all}
`,
		"compose.override.yaml": `
services:
  web:
    ports: ["81:81"]
    command: [b]
    environment: {LEVEL: debug}
    gpus: !reset null
  gone: !reset null
`,
		"base/base.yaml": `
services:
  app:
    environment: {LEVEL: info, BASE: "1"}
    env_file: app.env
    volumes: ["./data:/data"]
`,
		"base/app.env":   "FROM_FILE=1\nLEVEL=file\n",
		"sub/inc.yaml":   "services: {cache: {image: \"redis:${TAG}\", volumes: [\"./c:/c\"]}}",
		"sub/.env":       "TAG=7",
		"sub/c/.keep":    "",
		"base/x/y/.keep": "",
	}.write(t)
	ds := diagnosticsOf(t, dir, Options{})
	if len(ds) != 0 {
		t.Errorf("findings: %v", ds)
	}
	r, err := Load(t.Context(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	web, cache := r.Stack.Services["web"], r.Stack.Services["cache"]
	for got, want := range map[string]string{
		strings.Join(sortedKeys(r.Stack.Services), " "): "cache web",
		asJSON(t, web.Environment):                      `{"BASE":"1","FROM_FILE":"1","LEVEL":"debug"}`,
		asJSON(t, web.Command):                          `["b"]`,
		ports(web).(string):                             "80>80/tcp 81>81/tcp",
		web.Mounts[0].Source:                            dir + "/base/data",
		cache.Image:                                     "redis:7",
		cache.Mounts[0].Source:                          dir + "/sub/c",
		web.Position:                                    dir + "/compose.override.yaml:3:3",
		cache.Position:                                  dir + "/sub/inc.yaml:1:12",
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for _, file := range []string{"compose.yaml", "compose.override.yaml", "base/base.yaml", "base/app.env", "sub/inc.yaml", "sub/.env", ".env", "compose.yml"} {
		if !slices.Contains(r.Inputs, dir+"/"+file) && file != "compose.yml" {
			t.Errorf("%s is not among the inputs %v", file, r.Inputs)
		}
	}
}

func TestAWholeHourIsAnHour(t *testing.T) {
	s := stackOf(t, "services: {web: {image: x, stop_grace_period: 1h}}").Services["web"]
	if *s.StopGrace != time.Hour {
		t.Errorf("got %v", *s.StopGrace)
	}
}

func TestTheStacksXStackIsEachServicesUnlessItSaysOtherwise(t *testing.T) {
	s := stackOf(t, `
x-stack: {rollout: auto, unhealthy: restart, reconcile: observe, history: 3}
services:
  web: {image: x}
  db: {image: x, x-stack: {rollout: order, unhealthy: {max_attempts: 2}}}
  cache: {image: x, x-stack: {unhealthy: ignore}}
`)
	for what, got := range map[string][2]string{
		"the stack": {asJSON(t, s.Policy), `{"reconcile":"observe","history":3}`},
		"web":       {asJSON(t, s.Services["web"].Policy), `{"rollout":"auto","unhealthy":{}}`},
		"db":        {asJSON(t, s.Services["db"].Policy), `{"unhealthy":{"max_attempts":2}}`},
		"cache":     {asJSON(t, s.Services["cache"].Policy), `{"rollout":"auto"}`},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: got %s, want %s", what, got[0], got[1])
		}
	}
}

func TestJobs(t *testing.T) {
	dir := files{"env": "LEVEL=9\n", "compose.yaml": `
name: shop
services:
  db: {image: postgres}
jobs:
  backup:
    image: dump
    command: dump --all
    env_file: [env]
    depends_on: {db: {condition: service_healthy}}
    volumes: [dumps:/dumps]
    triggers:
      manual: false
      schedule: ["0 4 * * *", {cron: "30 * * * *", timezone: Europe/Berlin, concurrency: queue, missed_fires: skip}]
    x-stack: {timeout: 5m, retries: 2, history: 3}
  report: {image: report, triggers: {manual: true}, profiles: [reports]}
volumes: {dumps: }
`}.write(t)
	r, err := Load(t.Context(), Options{WorkingDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stack := r.Stack
	job := stack.Jobs["backup"]
	if job == nil || len(stack.Jobs) != 1 || len(stack.Services) != 1 {
		t.Fatalf("jobs %v, services %v", sortedKeys(stack.Jobs), sortedKeys(stack.Services))
	}
	for what, c := range map[string]struct {
		got  any
		want string
	}{
		"triggers":    {job.Triggers, `{"manual":false,"schedule":[{"cron":"0 4 * * *"},{"cron":"30 * * * *","timezone":"Europe/Berlin","concurrency":"queue","missed_fires":"skip"}]}`},
		"policy":      {job.Runs, `{"timeout":300000000000,"retries":2,"history":3}`},
		"command":     {job.Command, `["dump","--all"]`},
		"environment": {job.Environment, `{"LEVEL":"9"}`},
		"depends_on":  {job.DependsOn, `{"db":{"condition":"service_healthy","required":true}}`},
		"networks":    {job.Networks, `{"default":{}}`},
		"volumes":     {sortedKeys(stack.Volumes), `["dumps"]`}, // though only a job mounts it
		"restart":     {job.Restart, `{"condition":"no"}`},
		"disabled":    {stack.Disabled, `{"report":["reports"]}`},
	} {
		if got := asJSON(t, c.got); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
}

func TestPreStartHooksInheritFromTheirService(t *testing.T) {
	stack := stackOf(t, `
services:
  web:
    image: app
    user: web
    environment: {A: service, B: service}
    volumes: [data:/data]
    ports: ["8080:80"]
    restart: always
    pre_start:
      - command: [migrate]
        environment: {B: hook}
        volumes: [only:/only]
        user: root
      - {image: tools, command: [chown], per_replica: true}
volumes: {data: , only: }
`)
	hooks := stack.Services["web"].PreStart
	if len(hooks) != 2 {
		t.Fatalf("%d hooks", len(hooks))
	}
	for what, c := range map[string]struct {
		got  any
		want string
	}{
		"image":       {hooks[0].Image, `"app"`},
		"command":     {hooks[0].Command, `["migrate"]`},
		"environment": {hooks[0].Environment, `{"A":"service","B":"hook"}`},
		"user":        {hooks[0].User, `"root"`},
		"volumes":     {hooks[0].Mounts, `[{"type":"volume","source":"only","target":"/only"}]`}, // the others come with the container
		"ports":       {hooks[0].Ports, `null`},
		"restart":     {hooks[0].Restart, `{"condition":"no"}`},
		"image given": {hooks[1].Image, `"tools"`},
		"user again":  {hooks[1].User, `"web"`},
		"per replica": {[]bool{hooks[0].PerReplica, hooks[1].PerReplica}, `[false,true]`},
		"all volumes": {sortedKeys(stack.Volumes), `["data","only"]`}, // though only a hook mounts it
	} {
		if got := asJSON(t, c.got); got != c.want {
			t.Errorf("%s: got %s, want %s", what, got, c.want)
		}
	}
	if _, ok := stack.Services["web pre_start 0"]; ok || len(stack.Services) != 1 {
		t.Errorf("services %v", sortedKeys(stack.Services))
	}
}
