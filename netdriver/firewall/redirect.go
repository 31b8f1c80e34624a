package firewall

import (
	"errors"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// RedirectTable is the name of the table in a container's network namespace.
const RedirectTable = "stack-dns"

// redirectRules is how many rules it has.
const redirectRules = 2

// Redirected tells whether a network namespace has the rules of Redirect.
func Redirected(netns *os.File) (bool, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())))
	if err != nil {
		return false, err
	}
	t := &nftables.Table{Name: RedirectTable, Family: nftables.TableFamilyIPv4}
	rules, err := c.GetRules(t, &nftables.Chain{Name: redirectChain, Table: t})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return len(rules) == redirectRules, err
}

const redirectChain = "output"

// Redirect sends what programs in a network namespace address to from (UDP and TCP) to another port of the same
// address. So the name service can answer at port 53 of 127.0.0.11 while the container's own program has port 53 of all
// other addresses, the wildcard included. The rules live in the namespace and go with it. Calling it again is no error.
func Redirect(netns *os.File, from netip.AddrPort, port uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())))
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Name: RedirectTable, Family: nftables.TableFamilyIPv4})
	accept := nftables.ChainPolicyAccept
	out := c.AddChain(&nftables.Chain{
		Name: redirectChain, Table: t, Type: nftables.ChainTypeNAT, Policy: &accept,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-100),
	})
	c.FlushTable(t)
	// ip daddr 127.0.0.11 meta l4proto {tcp, udp} th dport 53 redirect to :port
	for _, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: []expr.Any{
			&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			equal(reg0, from.Addr().AsSlice()),
			load(expr.MetaKeyL4PROTO, reg0),
			equal(reg0, []byte{proto}),
			&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			equal(reg0, binaryutil.BigEndian.PutUint16(from.Port())),
			&expr.Immediate{Register: reg0, Data: from.Addr().AsSlice()},
			&expr.Immediate{Register: reg0 + 1, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0, RegProtoMin: reg0 + 1},
		}})
	}
	return c.Flush()
}
