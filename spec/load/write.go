package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stack-run/stack/spec"
)

// stackFile has the sections of a stack file in their usual order.
type stackFile struct {
	Name     string         `yaml:"name"`
	Services map[string]any `yaml:"services"`
	Jobs     map[string]any `yaml:"jobs,omitempty"`
	Networks map[string]any `yaml:"networks,omitempty"`
	Volumes  map[string]any `yaml:"volumes,omitempty"`
	Secrets  map[string]any `yaml:"secrets,omitempty"`
	Configs  map[string]any `yaml:"configs,omitempty"`
	Policy   any            `yaml:"x-stack,omitempty"`
}

// Write writes a desired state as a stack file that loads to the same desired state: a revision as `config` shows a stack file.
func Write(s *spec.Stack) ([]byte, error) {
	top := stackFile{Name: s.Name, Services: map[string]any{}}
	for name, svc := range s.Services {
		tree, err := fields(svc)
		if err != nil {
			return nil, err
		}
		top.Services[name] = serviceFile(tree)
	}
	for name, job := range s.Jobs {
		tree, err := fields(job)
		if err != nil {
			return nil, err
		}
		if top.Jobs == nil {
			top.Jobs = map[string]any{}
		}
		top.Jobs[name] = containerFile(tree)
	}
	for _, section := range []struct {
		to       *map[string]any
		declared any
	}{{&top.Networks, s.Networks}, {&top.Volumes, s.Volumes}, {&top.Secrets, s.Secrets}, {&top.Configs, s.Configs}} {
		tree, err := fields(section.declared)
		if err != nil {
			return nil, err
		}
		for key, value := range tree {
			resource, _ := value.(map[string]any)
			if files, ok := section.declared.(map[string]*spec.File); ok && files[key] != nil && files[key].Content != nil {
				resource["content"] = string(files[key].Content) // JSON has it in base64
			}
			tree[key] = resourceFile(resource)
		}
		*section.to = tree
	}
	policy, err := fields(s.Policy)
	if err != nil {
		return nil, err
	}
	if len(policy) > 0 {
		top.Policy = texts(policy)
	}
	out, err := encodeYAML(top)
	// A dollar sign that is left stands for itself.
	return bytes.ReplaceAll(out, []byte("$"), []byte("$$")), err
}

// fields is a value as JSON has it.
func fields(v any) (map[string]any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the stack: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	tree := map[string]any{}
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("write the stack: %w", err)
	}
	return tree, nil
}

// serviceFile turns a service's fields into attributes of a stack file. Most are called the same.
func serviceFile(s map[string]any) map[string]any {
	for _, name := range []string{"name", "position", "pull_age", "secret_environment"} {
		delete(s, name)
	}
	rename(s, "replicas", "scale")
	if s["scale"] == json.Number("1") {
		delete(s, "scale")
	}
	deploy := map[string]any{}
	restartFile(s, deploy)
	for _, name := range []string{"update_config", "rollback_config", "endpoint_mode"} {
		if v, ok := s[name]; ok {
			deploy[name] = v
			delete(s, name)
		}
	}
	if s["one_shot"] == true {
		deploy["mode"] = "replicated-job"
	}
	delete(s, "one_shot")
	if hooks, ok := s[spec.PreStart].([]any); ok {
		for i, h := range hooks {
			hooks[i] = containerFile(h.(map[string]any))
		}
	}
	if len(deploy) > 0 {
		if scale, ok := s["scale"]; ok {
			deploy["replicas"] = scale
			delete(s, "scale")
		}
		s["deploy"] = deploy
	}
	resourcesFile(s)
	if mounts, ok := s["volumes"].([]any); ok {
		mountsFile(s, mounts)
	}
	for _, list := range []string{"secrets", "configs"} {
		if mounts, ok := s[list].([]any); ok {
			for _, m := range mounts {
				mountedFile(m.(map[string]any))
			}
		}
	}
	if develop, ok := s["develop"].(map[string]any); ok {
		s["develop"] = map[string]any{"watch": develop["watch"]}
	}
	return texts(s).(map[string]any)
}

// containerFile is the same for a job or a pre_start hook, which run to their end.
func containerFile(c map[string]any) map[string]any {
	c = serviceFile(c)
	for _, name := range []string{"restart", "scale"} { // they have none
		delete(c, name)
	}
	return c
}

func rename(m map[string]any, from, to string) {
	if v, ok := m[from]; ok {
		m[to] = v
		delete(m, from)
	}
}

func restartFile(s, deploy map[string]any) {
	restart, _ := s["restart"].(map[string]any)
	delete(s, "restart")
	condition, _ := restart["condition"].(string)
	attempts := restart["max_attempts"]
	if restart["delay"] == nil && restart["window"] == nil && condition != "" {
		switch {
		case condition == spec.RestartOnFailure && attempts != nil:
			s["restart"] = fmt.Sprintf("%s:%v", condition, attempts)
			return
		case attempts == nil:
			s["restart"] = condition
			return
		}
	}
	delete(restart, "condition")
	switch condition {
	case spec.RestartAlways, spec.RestartUnlessStopped:
		restart["condition"] = "any"
	case spec.RestartOnFailure:
		restart["condition"] = condition
	default:
		restart["condition"] = "none"
	}
	deploy["restart_policy"] = restart
}

// resourcesFile spreads the limits over the attributes that they come from.
func resourcesFile(s map[string]any) {
	limits, _ := s["resources"].(map[string]any)
	delete(s, "resources")
	blkio := map[string]any{}
	for name, v := range limits {
		switch {
		case name == "cpus":
			if n, ok := v.(json.Number); ok {
				nano, _ := n.Int64()
				v = json.Number(strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.9f", float64(nano)/1e9), "0"), "."))
			}
			s[name] = v
		case strings.HasPrefix(name, "device_"), strings.HasPrefix(name, "blkio_"):
			blkio[strings.TrimPrefix(name, "blkio_")] = v
		default:
			s[name] = v
		}
	}
	if len(blkio) > 0 {
		s["blkio_config"] = blkio
	}
}

// mountOptions are where the long form of a mount has its options.
var mountOptions = map[string]map[string]string{
	spec.MountBind:   {"propagation": "propagation", "create_host_path": "create_host_path", "recursive": "recursive", "selinux": "selinux"},
	spec.MountVolume: {"nocopy": "nocopy", "subpath": "subpath"},
	spec.MountTmpfs:  {"size": "size", "mode": "mode"},
}

func mountsFile(s map[string]any, mounts []any) {
	var long []any
	var short []any
	for _, m := range mounts {
		mount := m.(map[string]any)
		kind, _ := mount["type"].(string)
		if options, ok := mount["options"].([]any); ok { // the short form of tmpfs
			words := make([]string, len(options))
			for i, o := range options {
				words[i] = fmt.Sprint(o)
			}
			short = append(short, fmt.Sprintf("%v:%s", mount["target"], strings.Join(words, ",")))
			continue
		}
		nested := map[string]any{}
		if kind == spec.MountBind { // absent says true here, and false in a spec
			nested["create_host_path"] = mount["create_host_path"] == true
			delete(mount, "create_host_path")
		}
		for name := range mountOptions[kind] {
			if v, ok := mount[name]; ok {
				nested[name] = v
				delete(mount, name)
			}
		}
		if len(nested) > 0 {
			mount[kind] = nested
		}
		long = append(long, mount)
	}
	delete(s, "volumes")
	if len(long) > 0 {
		s["volumes"] = long
	}
	if len(short) > 0 {
		s["tmpfs"] = short
	}
}

func mountedFile(m map[string]any) {
	delete(m, "digest")
	if n, ok := m["mode"].(json.Number); ok {
		mode, _ := n.Int64()
		m["mode"] = fmt.Sprintf("0%o", mode)
	}
}

// resourceFile turns the fields of a network, volume, secret or config into attributes.
func resourceFile(r map[string]any) map[string]any {
	for _, name := range []string{"key", "digest", "sealed"} {
		delete(r, name)
	}
	ipam := map[string]any{}
	if pools, ok := r["ipam"]; ok {
		ipam["config"] = pools
	}
	if driver, ok := r["ipam_driver"]; ok {
		ipam["driver"] = driver
	}
	delete(r, "ipam_driver")
	if delete(r, "ipam"); len(ipam) > 0 {
		r["ipam"] = ipam
	}
	return texts(r).(map[string]any)
}

// durations are the attributes that are written with a unit.
var durations = map[string]bool{
	"interval": true, "timeout": true, "start_period": true, "start_interval": true, "delay": true, "window": true, "monitor": true,
	"stop_grace_period": true,
}

// texts writes durations as a stack file does, and numbers as numbers. Positions are of the file that it came from.
func texts(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "position")
		for key, value := range v {
			if n, isNumber := value.(json.Number); isNumber && durations[key] {
				if nanoseconds, err := n.Int64(); err == nil {
					v[key] = time.Duration(nanoseconds).String()
					continue
				}
			}
			v[key] = texts(value)
		}
	case []any:
		for i := range v {
			v[i] = texts(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	}
	return v
}
