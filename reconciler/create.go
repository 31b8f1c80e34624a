package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/runtime"
	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Labels that Compose puts on containers, networks and volumes; scripts look for them.
const (
	labelProject    = "com.docker.compose.project"
	labelService    = "com.docker.compose.service"
	labelNumber     = "com.docker.compose.container-number"
	labelOneOff     = "com.docker.compose.oneoff"
	labelHash       = "com.docker.compose.config-hash"
	labelFiles      = "com.docker.compose.project.config_files"
	labelWorkingDir = "com.docker.compose.project.working_dir"
	labelDependsOn  = "com.docker.compose.depends_on"
	labelImage      = "com.docker.compose.image"
	labelVersion    = "com.docker.compose.version"
	labelNetwork    = "com.docker.compose.network"
	labelVolume     = "com.docker.compose.volume"
)

// Version that containers are labelled with.
var Version = "dev"

// creation is one container to be made.
type creation struct {
	stack              *spec.Stack
	service            *spec.Service
	name               string
	replica            int
	oneOff             bool
	remove             bool              // when it exits
	jobRun             *runtime.JobRun   // the run of a job that it is
	initOf             *runtime.InitOf   // the container that it runs a pre_start hook for
	replaces           string            // id of the container whose anonymous volumes it takes over
	succeeds           string            // id of the container whose place it takes later, with its name
	old                *runtime.View     // that container, as it was observed
	providers          map[string]string // service name to the id of the container whose namespaces it lends
	noPorts, noAliases bool
	image              string // by id, in the place of what the service's tag points to
}

// createContainer makes a container: record, volumes, addresses, root filesystem. Nothing runs yet.
func (r *Reconciler) createContainer(ctx context.Context, c creation) (runtime.View, error) {
	img, err := r.images.Get(ctx, cmp.Or(c.image, c.service.Image), c.service.Platform)
	if c.image != "" && errors.Is(err, image.ErrNotFound) {
		img, err = r.images.Get(ctx, c.service.Image, c.service.Platform) // removed by hand
	}
	if err != nil {
		return runtime.View{}, err
	}
	rec, err := r.newRecord(c, img)
	if err != nil {
		return runtime.View{}, err
	}
	v, err := r.engine.Create(ctx, rec, func(rec *runtime.Record) error {
		if err := r.resolveMounts(ctx, c, img, rec); err != nil {
			return err
		}
		rec.Endpoints, err = r.networks.Allocate(ctx, rec.Endpoints)
		return err
	})
	if err != nil {
		if undo := r.removeContainer(context.WithoutCancel(ctx), rec.ID, true); undo != nil {
			r.logf("clean up %s: %v", rec.Name, undo)
		}
		return runtime.View{}, err
	}
	return v, nil
}

func (r *Reconciler) newRecord(c creation, img image.Image) (runtime.Record, error) {
	svc := *c.service
	rec := runtime.Record{
		ID: runtime.NewID(), Name: c.name, Stack: c.stack.Name, Service: svc.Name, Replica: c.replica,
		OneOff: c.oneOff, AutoRemove: c.remove, JobRun: c.jobRun, InitOf: c.initOf, Succeeds: c.succeeds, Standby: c.succeeds != "", Spec: svc, Image: svc.Image, ImageID: img.ID, Created: time.Now(),
	}
	rec.Labels = labels(c, img)
	if err := r.setNamespaces(c, &rec); err != nil {
		return rec, err
	}
	var err error
	if rec.MountSpecs, err = r.mountSpecs(c, img); err != nil {
		return rec, err
	}
	if rec.NetMode == runtime.NetPrivate {
		if rec.Endpoints, err = r.endpoints(c, &rec); err != nil {
			return rec, err
		}
	}
	rec.Files = append(r.files(c.stack.Name, svc.Secrets, c.stack.Secrets, true), r.files(c.stack.Name, svc.Configs, c.stack.Configs, false)...)
	return rec, nil
}

func labels(c creation, img image.Image) map[string]string {
	l := map[string]string{}
	maps.Copy(l, img.Config.Labels)
	maps.Copy(l, c.service.Labels)
	l[labelProject] = c.stack.Name
	l[labelService] = c.service.Name
	l[labelNumber] = strconv.Itoa(c.replica)
	l[labelOneOff] = "False"
	if c.oneOff {
		l[labelOneOff] = "True"
	}
	l[labelHash] = strings.TrimPrefix(c.service.Digest(), "sha256:")
	l[labelFiles] = strings.Join(c.stack.Files, ",")
	l[labelWorkingDir] = c.stack.WorkingDir
	l[labelImage] = img.ID
	l[labelVersion] = Version
	var deps []string
	for _, name := range slices.Sorted(maps.Keys(c.service.DependsOn)) {
		d := c.service.DependsOn[name]
		deps = append(deps, fmt.Sprintf("%s:%s:%t", name, d.Condition, d.Restart))
	}
	l[labelDependsOn] = strings.Join(deps, ",")
	return l
}

// setNamespaces resolves network_mode, pid and ipc to modes and the ids of the containers that lend their namespaces.
func (r *Reconciler) setNamespaces(c creation, rec *runtime.Record) (err error) {
	mode := c.service.NetworkMode
	switch {
	case mode == "host":
		rec.NetMode = runtime.NetHost
	case mode == "none":
		rec.NetMode = runtime.NetNone
	case strings.HasPrefix(mode, "service:"), strings.HasPrefix(mode, "container:"):
		rec.NetMode = runtime.NetContainer
		if rec.NetOf, err = r.provider(c, mode); err != nil {
			return fmt.Errorf("network_mode: %w", err)
		}
		owner, err := r.engine.Get(rec.NetOf)
		if err != nil {
			return fmt.Errorf("network_mode: %w", err)
		}
		if owner.NetMode == runtime.NetHost {
			rec.NetMode, rec.NetOf = runtime.NetHost, ""
		}
	default:
		rec.NetMode = runtime.NetPrivate
	}
	if rec.PIDOf, err = r.provider(c, c.service.PID); err != nil {
		return fmt.Errorf("pid: %w", err)
	}
	if rec.IPCOf, err = r.provider(c, c.service.IPC); err != nil {
		return fmt.Errorf("ipc: %w", err)
	}
	return nil
}

// provider finds the container meant by "service:NAME" or "container:NAME"; for other modes there is none.
func (r *Reconciler) provider(c creation, mode string) (string, error) {
	if name, ok := strings.CutPrefix(mode, "service:"); ok {
		if id := c.providers[name]; id != "" {
			return id, nil
		}
		for _, v := range r.engine.List(c.stack.Name) {
			if v.Service == name && !v.OneOff && v.Phase == runtime.Made {
				return v.ID, nil
			}
		}
		return "", fmt.Errorf("service %q has no container; start it first", name)
	}
	if name, ok := strings.CutPrefix(mode, "container:"); ok {
		v, err := r.Find(name)
		return v.ID, err
	}
	return "", nil
}

// Find returns a container by its name, its id or the start of it.
func (r *Reconciler) Find(ref string) (runtime.View, error) {
	var found []runtime.View
	for _, v := range r.engine.List("") {
		if v.Name == ref || v.ID == ref {
			return v, nil
		}
		if len(ref) >= 4 && strings.HasPrefix(v.ID, ref) {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		return runtime.View{}, fmt.Errorf("container %q: %w", ref, runtime.ErrNotFound)
	}
	return found[0], nil
}

// endpoints asks for the container's places on its networks: the one with the default route and the published ports first.
func (r *Reconciler) endpoints(c creation, rec *runtime.Record) ([]netdriver.Endpoint, error) {
	keys := networkOrder(c.service)
	var endpoints []netdriver.Endpoint
	for i, key := range keys {
		att := c.service.Networks[key]
		if att == nil {
			att = &spec.Attachment{}
		}
		ep := netdriver.Endpoint{
			Network: networkName(c.stack, key), ContainerID: rec.ID, Container: rec.Name,
			Interface: att.InterfaceName, MAC: att.MacAddress, Group: group(rec),
			WantVIP: c.service.EndpointMode == spec.VIP,
		}
		if ep.Interface == "" {
			ep.Interface = "eth" + strconv.Itoa(i)
		}
		if ep.MAC == "" && i == 0 {
			ep.MAC = c.service.MacAddress
		}
		n, err := r.networks.Get(ep.Network)
		if err != nil {
			return nil, err
		}
		if ep.IPv4, ep.Static4, err = static(att.IPv4, n, false); err != nil {
			return nil, fmt.Errorf("networks.%s.ipv4_address: %w", key, err)
		}
		if ep.IPv6, ep.Static6, err = static(att.IPv6, n, true); err != nil {
			return nil, fmt.Errorf("networks.%s.ipv6_address: %w", key, err)
		}
		ep.Names = endpointNames(c, rec, att)
		endpoints = append(endpoints, ep)
	}
	gateway := gatewayEndpoint(c, keys, r.networks)
	for i := range endpoints {
		endpoints[i].Gateway = i == gateway
	}
	if gateway >= 0 && !c.noPorts {
		ports, err := hostPorts(c.service.Ports)
		if err != nil {
			return nil, err
		}
		endpoints[gateway].Ports = ports
	}
	return endpoints, nil
}

func endpointNames(c creation, rec *runtime.Record, att *spec.Attachment) []string {
	names := []string{rec.Name, rec.ID[:12]}
	if c.succeeds != "" {
		names[0] = c.service.ContainerNameOf(rec.Stack, rec.Replica) // the name that it has in the end
	}
	if c.oneOff && c.noAliases {
		return names
	}
	names = append(names, att.Aliases...)
	names = slices.DeleteFunc(names, func(name string) bool { return name == c.service.Name })
	slices.Sort(names)
	return append([]string{c.service.Name}, slices.Compact(names)...)
}

// bridgeNetwork is what `network_mode: bridge` means: one network shared by all stacks of the host.
const bridgeNetwork = "bridge"

// networkOrder is the order of a container's interfaces: by priority, then by name.
func networkOrder(svc *spec.Service) []string {
	if svc.NetworkMode == "bridge" {
		return []string{bridgeNetwork}
	}
	keys := slices.Collect(maps.Keys(svc.Networks))
	slices.SortFunc(keys, func(a, b string) int {
		if p := priority(svc.Networks[b]) - priority(svc.Networks[a]); p != 0 {
			return p
		}
		return strings.Compare(a, b)
	})
	return keys
}

func priority(a *spec.Attachment) int {
	if a == nil {
		return 0
	}
	return a.Priority
}

// gatewayEndpoint picks the network with the default route: the highest gw_priority of those that lead out.
func gatewayEndpoint(c creation, keys []string, networks *netdriver.Manager) int {
	best, bestPriority := -1, 0
	for i, key := range keys {
		n, err := networks.Get(networkName(c.stack, key))
		if err != nil || n.Internal {
			continue
		}
		p := 0
		if a := c.service.Networks[key]; a != nil {
			p = a.GwPriority
		}
		if best < 0 || p > bestPriority {
			best, bestPriority = i, p
		}
	}
	return best
}

func networkName(s *spec.Stack, key string) string {
	if n := s.Networks[key]; n != nil {
		return n.Name
	}
	return key // bridge
}

// files says where the contents of secrets or configs are read from: what is kept of a revision, where it is.
func (r *Reconciler) files(stack string, mounts []spec.FileMount, declared map[string]*spec.File, secret bool) []runtime.FileSource {
	var out []runtime.FileSource
	for _, m := range mounts {
		src := runtime.FileSource{FileMount: m, Secret: secret}
		if r.isKept(stack, m.Digest) {
			src.File = r.contentPath(stack, m.Digest)
		} else if f := declared[m.Source]; f != nil {
			src.File, src.Content = f.File, f.Content
		}
		out = append(out, src)
	}
	return out
}

// mountSpecs are the service's mounts, and those that the image and volumes_from add.
func (r *Reconciler) mountSpecs(c creation, img image.Image) ([]spec.Mount, error) {
	mounts := slices.Clone(c.service.Mounts)
	for _, target := range slices.Sorted(maps.Keys(img.Config.Volumes)) {
		if !slices.ContainsFunc(mounts, func(m spec.Mount) bool { return m.Target == target }) {
			mounts = append(mounts, spec.Mount{Type: spec.MountVolume, Target: target})
		}
	}
	err := r.mountsFrom(c, &mounts)
	return mounts, err
}

// resolveMounts finds or makes what the container mounts, and fills volumes used for the first time from the image.
func (r *Reconciler) resolveMounts(ctx context.Context, c creation, img image.Image, rec *runtime.Record) error {
	mounts := rec.MountSpecs
	volumes := maps.Clone(c.stack.Volumes)
	for _, m := range mounts {
		if m.Type == spec.MountVolume && m.Source != "" && volumes[m.Source] == nil { // from volumes_from or `run -v`
			if volumes == nil {
				volumes = map[string]*spec.Volume{}
			}
			volumes[m.Source] = &spec.Volume{Key: m.Source, Name: m.Source}
		}
	}
	scope := voldriver.Scope{Volumes: volumes, Stack: c.stack.Name, ContainerID: rec.ID, Anonymous: map[string]string{}}
	if c.old != nil {
		for _, m := range c.old.Mounts {
			if slices.Contains(c.old.Anonymous, m.Volume) {
				scope.Anonymous[m.Destination] = m.Volume
			}
		}
	}
	for _, m := range mounts {
		resolved, err := r.volumes.Resolve(ctx, scope, m)
		if err != nil {
			return err
		}
		rec.Mounts = append(rec.Mounts, resolved)
		if resolved.Volume == "" {
			continue
		}
		rec.Volumes = append(rec.Volumes, resolved.Volume)
		if m.Source == "" {
			rec.Anonymous = append(rec.Anonymous, resolved.Volume)
		}
		if resolved.CopyUp {
			if err := r.populate(ctx, img, m.Target, resolved.Volume); err != nil {
				return err
			}
		}
	}
	return nil
}

// populate does the first-use copy-up of a volume.
func (r *Reconciler) populate(ctx context.Context, img image.Image, target, volume string) error {
	root, release, err := r.images.Mounted(ctx, img.ID)
	if err != nil {
		return fmt.Errorf("volume %s: open image for its first use: %w", volume, err)
	}
	err = r.volumes.CopyUp(ctx, volume, root, target)
	return errors.Join(err, release())
}

// mountsFrom adds the mounts of volumes_from: those of a service's or another container, read-only when asked.
func (r *Reconciler) mountsFrom(c creation, mounts *[]spec.Mount) error {
	for _, from := range c.service.VolumesFrom {
		ref, mode, _ := strings.Cut(from, ":")
		if ref == "container" {
			ref, mode, _ = strings.Cut(mode, ":")
			ref = "container:" + ref
		} else {
			ref = "service:" + ref
		}
		id, err := r.provider(c, ref)
		if err != nil {
			return fmt.Errorf("volumes_from: %w", err)
		}
		v, err := r.engine.Get(id)
		if err != nil {
			return fmt.Errorf("volumes_from: %w", err)
		}
		for i, m := range v.MountSpecs {
			if slices.ContainsFunc(*mounts, func(own spec.Mount) bool { return own.Target == m.Target }) {
				continue
			}
			if m.Type == spec.MountVolume {
				m.Source = v.Mounts[i].Volume
			}
			m.ReadOnly = m.ReadOnly || mode == "ro"
			*mounts = append(*mounts, m)
		}
	}
	return nil
}
