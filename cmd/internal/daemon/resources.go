package daemon

import (
	"context"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/voldriver"
)

func (b *backend) Volumes(ctx context.Context) ([]api.Volume, error) {
	volumes, err := b.volumes.List()
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	users := b.volumeUsers()
	var out []api.Volume
	for _, v := range volumes {
		out = append(out, api.Volume{
			Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, Options: v.Options, Labels: v.Labels,
			Created: v.Created, Stack: v.Stack, Anonymous: v.Anonymous, UsedBy: users[v.Name],
		})
	}
	return out, nil
}

// volumeUsers are the names of the containers that mount each volume.
func (b *backend) volumeUsers() map[string][]string {
	users := map[string][]string{}
	for _, v := range b.engine.List("") {
		for _, name := range v.Volumes {
			users[name] = append(users[name], v.Name)
		}
	}
	return users
}

func (b *backend) RemoveVolume(ctx context.Context, name string) error {
	if users := b.volumeUsers()[name]; len(users) > 0 {
		return &api.Error{Code: api.Conflict, Message: "volume " + name + " is in use by " + users[0], Remedy: "remove the containers that mount it first"}
	}
	if err := b.volumes.Remove(ctx, name); err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

func (b *backend) PruneVolumes(ctx context.Context, all bool) ([]string, error) {
	removed, _, err := b.volumes.Prune(ctx, func(v voldriver.Volume) bool {
		return (all || v.Anonymous) && len(b.volumeUsers()[v.Name]) == 0
	})
	var names []string
	for _, v := range removed {
		names = append(names, v.Name)
	}
	if err != nil {
		return names, b.failure(ctx, err)
	}
	return names, nil
}

func (b *backend) Networks(context.Context) ([]api.Network, error) {
	var out []api.Network
	for _, n := range b.networks.List() {
		out = append(out, b.network(n))
	}
	return out, nil
}

func (b *backend) network(n netdriver.Network) api.Network {
	out := api.Network{
		Name: n.Name, ID: n.ID, Driver: n.Driver, Internal: n.Internal, IPv6: n.IPv6, Options: n.Options, Labels: n.Labels,
		Created: n.Created, Stack: n.Stack, Link: n.Link, Containers: map[string]api.NetworkAddress{},
	}
	for _, s := range n.Subnets {
		out.Subnets = append(out.Subnets, s.Prefix.String())
		if s.Gateway.IsValid() {
			out.Gateways = append(out.Gateways, s.Gateway.String())
		}
	}
	for _, v := range b.engine.List("") {
		for _, ep := range v.Endpoints {
			if ep.Network == n.Name {
				out.Containers[v.Name] = address(ep)
			}
		}
	}
	return out
}

func (b *backend) RemoveNetwork(ctx context.Context, name string) error {
	if err := b.networks.Remove(ctx, name); err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

func (b *backend) PruneNetworks(ctx context.Context) ([]string, error) {
	var removed []string
	for _, n := range b.networks.List() {
		if n.Name == n.Driver && n.Stack == "" || len(b.network(n).Containers) > 0 {
			continue // built in, or in use
		}
		if err := b.networks.Remove(ctx, n.Name); err != nil {
			return removed, b.failure(ctx, err)
		}
		removed = append(removed, n.Name)
	}
	return removed, nil
}
