package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// revision names the marker set of a complete table. It changes whenever the rules below do, so that a newer daemon
// rebuilds the rules of an older one in place, keeping the elements (and so every published port).
const revision = "rules-1"

// The sets and maps that the constant rules look things up in. Networks and ports are elements only.
var (
	keyHost4 = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	keyHost6 = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)
	keyAny   = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	target4  = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	target6  = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	linkPair = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
)

// schema is one daemon's table with its sets. The set values carry no state: they are made anew for every transaction,
// because the library writes transaction numbers into them.
type schema struct {
	table                              *nftables.Table
	bridges, internal, intra           *nftables.Set
	masquerade4, masquerade6           *nftables.Set
	ports4, ports6, anyPort4, anyPort6 *nftables.Set
	marker                             *nftables.Set
}

func newSchema(name string) *schema {
	t := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	links := func(name string) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	ports := func(name string, key, data nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: key, DataType: data, IsMap: true, Concatenation: true}
	}
	return &schema{
		table:       t,
		bridges:     links("bridges"),
		internal:    links("internal"),
		masquerade4: links("masquerade4"),
		masquerade6: links("masquerade6"),
		intra:       &nftables.Set{Table: t, Name: "intra", KeyType: linkPair, Concatenation: true},
		ports4:      ports("ports4", keyHost4, target4),
		ports6:      ports("ports6", keyHost6, target6),
		anyPort4:    ports("any4", keyAny, target4),
		anyPort6:    ports("any6", keyAny, target6),
		marker:      links(revision),
	}
}

func (s *schema) sets() []*nftables.Set {
	return []*nftables.Set{s.bridges, s.internal, s.intra, s.masquerade4, s.masquerade6, s.ports4, s.ports6, s.anyPort4, s.anyPort6}
}

// Registers: concatenations are laid out from reg0 on in steps of four bytes. The 16-byte register 1 is the same memory.
const reg0 = unix.NFT_REG32_00

func load(key expr.MetaKey, reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }

func equal(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

func in(s *nftables.Set, reg uint32) expr.Any {
	return &expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}
}

func notIn(s *nftables.Set, reg uint32) expr.Any {
	return &expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: true}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

// bits matches when the conntrack value under key has any of the bits.
func bits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)},
	}
}

func family(proto byte) []expr.Any {
	return []expr.Any{load(expr.MetaKeyNFPROTO, reg0), equal(reg0, []byte{proto})}
}

// dest4In127 matches IPv4 packets to 127.0.0.0/8.
func dest4In127() []expr.Any {
	return append(family(unix.NFPROTO_IPV4),
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 1},
		equal(reg0, []byte{127}))
}

// local matches when the destination is one of the host's own addresses; with iif, when it is one of the input link's.
func local(iif bool, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg0, FlagDADDR: true, FlagIIF: iif, ResultADDRTYPE: true},
		&expr.Cmp{Op: op, Register: reg0, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

const dnatDone = 1 << 5 // IPS_DST_NAT of conntrack's status

// addChains adds the rules. They never change with networks or ports:
//
//	raw         packets to 127.0.0.0/8 that come in by a bridge are forged (route_localnet lets them through otherwise)
//	prerouting  what other hosts and containers send to an address of this host: published ports
//	output      the same for programs on the host; [::1] is left out (see package loopback6)
//	forward     networks are closed to each other and to the outside, but for answers and published ports; internal ones entirely
//	input       containers of internal networks reach the host at their gateway address only
//	postrouting answers to published ports find their way back; what leaves a network takes the host's address
//
// Rules of other tables still apply: a host firewall that drops forwarded packets must let the bridges through.
func addChains(c *nftables.Conn, s *schema) {
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio int) *nftables.Chain {
		ch := &nftables.Chain{Name: name, Table: s.table}
		if hook != nil {
			accept := nftables.ChainPolicyAccept
			ch.Type, ch.Hooknum, ch.Priority, ch.Policy = kind, hook, nftables.ChainPriorityRef(nftables.ChainPriority(prio)), &accept
		}
		return c.AddChain(ch)
	}
	publish := chain("publish", "", nil, 0)
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	out := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	input := chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	c.FlushTable(s.table)

	rule := func(ch *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: s.table, Chain: ch, Exprs: all})
	}
	iif := func(match func(*nftables.Set, uint32) expr.Any, set *nftables.Set) []expr.Any {
		return []expr.Any{load(expr.MetaKeyIIFNAME, reg0), match(set, reg0)}
	}
	oif := func(match func(*nftables.Set, uint32) expr.Any, set *nftables.Set) []expr.Any {
		return []expr.Any{load(expr.MetaKeyOIFNAME, reg0), match(set, reg0)}
	}
	accept, drop := []expr.Any{verdict(expr.VerdictAccept)}, []expr.Any{verdict(expr.VerdictDrop)}
	masquerade := []expr.Any{&expr.Masq{}}
	toPublish := []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: publish.Name}}
	publishedOnly := bits(expr.CtKeySTATUS, dnatDone)

	rule(raw, iif(in, s.bridges), dest4In127(), drop)

	rule(publish, publishRule(unix.NFPROTO_IPV4, 16, 4, s.ports4))
	rule(publish, publishRule(unix.NFPROTO_IPV4, 0, 0, s.anyPort4))
	rule(publish, publishRule(unix.NFPROTO_IPV6, 24, 16, s.ports6))
	rule(publish, publishRule(unix.NFPROTO_IPV6, 0, 0, s.anyPort6))
	rule(pre, local(false, expr.CmpOpEq), toPublish)
	rule(out, family(unix.NFPROTO_IPV6), []expr.Any{load(expr.MetaKeyOIFNAME, reg0), equal(reg0, ifname("lo"))}, toLoopback6(), accept)
	rule(out, local(false, expr.CmpOpEq), toPublish)

	rule(forward, bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	rule(forward, []expr.Any{load(expr.MetaKeyIIFNAME, reg0), load(expr.MetaKeyOIFNAME, reg0+4), in(s.intra, reg0)}, accept)
	rule(forward, iif(in, s.internal), drop)
	rule(forward, oif(in, s.internal), drop)
	rule(forward, oif(in, s.bridges), publishedOnly, accept)
	rule(forward, oif(in, s.bridges), drop)

	rule(input, iif(in, s.internal), local(false, expr.CmpOpEq), local(true, expr.CmpOpNeq), drop)

	// Without an input link: from the host itself (127.0.0.1 would be no address to answer to), or between two ports of
	// one bridge on a host where br_netfilter shows us those.
	rule(post, oif(in, s.bridges), []expr.Any{load(expr.MetaKeyIIFNAME, reg0), equal(reg0, ifname(""))}, publishedOnly, masquerade)
	rule(post, iif(in, s.bridges), publishedOnly, masquerade)
	rule(post, iif(in, s.masquerade4), family(unix.NFPROTO_IPV4), oif(notIn, s.bridges), masquerade)
	rule(post, iif(in, s.masquerade6), family(unix.NFPROTO_IPV6), oif(notIn, s.bridges), masquerade)
}

// publishRule is `dnat to [daddr .] l4proto . dport map @set`; an address length of 0 leaves the address out.
func publishRule(proto byte, offset, addrLen uint32, set *nftables.Set) []expr.Any {
	out := family(proto)
	reg := uint32(reg0)
	if addrLen > 0 {
		out = append(out, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: addrLen})
		reg += addrLen / 4
	}
	width := uint32(1) // of the target address, in registers
	if proto == unix.NFPROTO_IPV6 {
		width = 4
	}
	return append(out,
		load(expr.MetaKeyL4PROTO, reg),
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(proto), RegAddrMin: reg0, RegProtoMin: reg0 + width},
	)
}

func toLoopback6() []expr.Any {
	loopback := make([]byte, 16)
	loopback[15] = 1
	return []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
		equal(reg0, loopback),
	}
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
