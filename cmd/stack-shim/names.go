package main

import (
	"github.com/stack-run/stack/netdriver/dns"
	"github.com/stack-run/stack/runtime/shim/server"
)

// names serves names from the records in dir.
type names struct {
	*dns.Resolver
	dir string
}

func (n names) Withdraw(id string) error { return dns.Withdraw(n.dir, id) }

func nameService(dir string) server.Names {
	if dir == "" {
		return nil
	}
	return names{dns.New(dir), dir}
}
