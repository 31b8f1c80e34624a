package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/cmd/internal/api"
)

func (c *cli) portCommand() *cobra.Command {
	var protocol string
	var index int
	cmd := &cobra.Command{
		Use:               "port SERVICE PRIVATE_PORT",
		Short:             "Print the address that a port is published on",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: c.completeServices,
		RunE: c.verb(func(ctx context.Context, args []string) error {
			number, viaSlash, _ := strings.Cut(args[1], "/")
			target, err := strconv.ParseUint(number, 10, 16)
			if err != nil || target == 0 {
				return fmt.Errorf("%q is no port", args[1])
			}
			name, d, err := c.onStack(ctx, args[:1])
			if err != nil {
				return err
			}
			defer d.Close()
			containers, err := d.Containers(ctx, name)
			if err != nil {
				return err
			}
			address, err := publishedAddress(containers, args[0], index, int(target), strings.ToLower(orDefault(viaSlash, protocol)))
			if err != nil {
				return err
			}
			fmt.Fprintln(c.out, address)
			return nil
		}),
	}
	cmd.Flags().StringVar(&protocol, "protocol", "tcp", "tcp or udp")
	cmd.Flags().IntVar(&index, "index", 0, "Number of the replica")
	return cmd
}

// publishedAddress finds the host's address for a port of a service's replica; index 0 is the first one.
func publishedAddress(containers []api.Container, service string, index, target int, protocol string) (string, error) {
	replicas := slices.DeleteFunc(slices.Clone(containers), func(c api.Container) bool {
		return c.Service != service || c.OneOff || index > 0 && c.Replica != index
	})
	if len(replicas) == 0 {
		return "", fmt.Errorf("no container of service %s", service)
	}
	container := slices.MinFunc(replicas, func(a, b api.Container) int { return cmp.Compare(a.Replica, b.Replica) })
	for _, p := range sortedPorts(container.Ports) {
		if p.Target == target && p.Protocol == protocol && p.Published > 0 {
			return net.JoinHostPort(p.HostIP, strconv.Itoa(p.Published)), nil
		}
	}
	return "", fmt.Errorf("no port %d/%s for container %s: %s", target, protocol, container.Name, orDefault(ports(container.Ports), "it publishes none"))
}
