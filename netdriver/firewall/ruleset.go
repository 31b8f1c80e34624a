package firewall

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// revision begins the name of a complete table's marker set. It changes whenever the rules below do, so that a newer daemon
// rebuilds the rules of an older one in place, keeping the elements (and so every published port).
const (
	revisions = "rules-"
	revision  = revisions + "3"
)

var linkPair = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)

// schema is one daemon's table with its sets, in which the constant rules look things up. Networks and ports are elements
// only. The set values carry no state: they are made anew for every transaction, because the library writes transaction
// numbers into them.
type schema struct {
	table                     *nftables.Table
	bridges, internal, intra  *nftables.Set
	masquerade4, masquerade6  *nftables.Set
	maps                      map[kind]*nftables.Set
	held, heldHost, heldHost6 *nftables.Set // see hold.go
	heldVirtual, heldVirtual6 *nftables.Set
	answered4, answered6      *nftables.Set // virtual addresses, whether a container stands behind them or not
	marker                    *nftables.Set
}

func newSchema(name string) *schema {
	t := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
	links := func(name string) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	held := func(name string, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: joined(key), Concatenation: len(key) > 1, HasTimeout: true}
	}
	s := &schema{
		table:        t,
		bridges:      links("bridges"),
		internal:     links("internal"),
		masquerade4:  links("masquerade4"),
		masquerade6:  links("masquerade6"),
		intra:        &nftables.Set{Table: t, Name: "intra", KeyType: linkPair, Concatenation: true},
		maps:         map[kind]*nftables.Set{},
		held:         held("held", nftables.TypeInetProto, nftables.TypeInetService),
		heldHost:     held("held-ports4", nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		heldHost6:    held("held-ports6", nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService),
		heldVirtual:  held("held-virtual4", nftables.TypeIPAddr),
		heldVirtual6: held("held-virtual6", nftables.TypeIP6Addr),
		answered4:    &nftables.Set{Table: t, Name: "answered4", KeyType: nftables.TypeIPAddr},
		answered6:    &nftables.Set{Table: t, Name: "answered6", KeyType: nftables.TypeIP6Addr},
		marker:       links(revision),
	}
	for _, k := range kinds() {
		s.maps[k] = k.set(t)
	}
	return s
}

func (s *schema) sets() []*nftables.Set {
	out := []*nftables.Set{s.bridges, s.internal, s.intra, s.masquerade4, s.masquerade6, s.answered4, s.answered6}
	for _, k := range kinds() {
		out = append(out, s.maps[k])
	}
	return append(out, s.heldSets()...)
}

func (s *schema) heldSets() []*nftables.Set {
	return []*nftables.Set{s.held, s.heldHost, s.heldHost6, s.heldVirtual, s.heldVirtual6}
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

// chains are the names of all.
var chains = []string{"publish", "virtual", "held", "raw", "hold-prerouting", "hold-output", "prerouting", "output", "forward", "input", "postrouting"}

// addChains adds the rules. They never change with networks or ports:
//
//	raw         packets to 127.0.0.0/8 that come in by a bridge are forged (route_localnet lets them through otherwise)
//	hold        new connections to what is held are dropped before any translation: their clients try again
//	prerouting  what other hosts and containers send to an address of this host: published ports, and virtual addresses of
//	            the network that it comes in by
//	output      the same for programs on the host; [::1] is left out (see package loopback6)
//	forward     networks are closed to each other and to the outside, but for answers and published ports; internal ones entirely
//	input       containers of internal networks reach the host at their gateway address only; what is sent to a virtual address
//	            that no container stands behind is refused, instead of reaching the host
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
	publish, virtual, held := chain("publish", "", nil, 0), chain("virtual", "", nil, 0), chain("held", "", nil, 0)
	raw := chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	// Behind connection tracking, before translation.
	holdIn := chain("hold-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150)
	holdOut := chain("hold-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -150)
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
	toVirtual := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: virtual.Name}}
	toHeld := []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: held.Name}}
	publishedOnly := bits(expr.CtKeySTATUS, dnatDone)

	rule(raw, iif(in, s.bridges), dest4In127(), drop)

	for _, ch := range []*nftables.Chain{holdIn, holdOut} {
		rule(ch, bits(expr.CtKeySTATE, expr.CtStateBitNEW), toHeld)
	}
	rule(held, match(s.heldHost, false, true, true), drop)
	rule(held, match(s.heldHost6, true, true, true), drop)
	rule(held, match(s.heldVirtual, false, true, false), drop)
	rule(held, match(s.heldVirtual6, true, true, false), drop)
	rule(held, local(false, expr.CmpOpEq), l4Key(reg0), []expr.Any{in(s.held, reg0)}, drop)

	for _, k := range kinds() {
		ch := publish
		if k.virtual {
			ch = virtual
		}
		rule(ch, k.rule(s.maps[k]))
	}
	// Of another network's virtual addresses nothing is known here: networks are closed to each other.
	rule(pre, local(true, expr.CmpOpEq), toVirtual)
	rule(pre, local(false, expr.CmpOpEq), toPublish)
	rule(out, family(unix.NFPROTO_IPV6), []expr.Any{load(expr.MetaKeyOIFNAME, reg0), equal(reg0, ifname("lo"))}, toLoopback6(), accept)
	rule(out, toVirtual)
	rule(out, local(false, expr.CmpOpEq), toPublish)

	rule(forward, bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	rule(forward, []expr.Any{load(expr.MetaKeyIIFNAME, reg0), load(expr.MetaKeyOIFNAME, reg0+4), in(s.intra, reg0)}, accept)
	rule(forward, iif(in, s.internal), drop)
	rule(forward, oif(in, s.internal), drop)
	rule(forward, oif(in, s.bridges), publishedOnly, accept)
	rule(forward, oif(in, s.bridges), drop)

	rule(input, iif(in, s.internal), local(false, expr.CmpOpEq), local(true, expr.CmpOpNeq), drop)

	for _, answered := range []struct {
		set *nftables.Set
		six bool
	}{{s.answered4, false}, {s.answered6, true}} {
		to := append(bits(expr.CtKeySTATE, expr.CtStateBitNEW), match(answered.set, answered.six, true, false)...)
		rule(input, to, []expr.Any{load(expr.MetaKeyL4PROTO, reg0), equal(reg0, []byte{unix.IPPROTO_TCP}), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		rule(input, to, []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}})
	}

	// Without an input link: from the host itself (127.0.0.1 would be no address to answer to), or between two ports of
	// one bridge on a host where br_netfilter shows us those.
	rule(post, oif(in, s.bridges), []expr.Any{load(expr.MetaKeyIIFNAME, reg0), equal(reg0, ifname(""))}, publishedOnly, masquerade)
	rule(post, iif(in, s.bridges), publishedOnly, masquerade)
	rule(post, iif(in, s.masquerade4), family(unix.NFPROTO_IPV4), oif(notIn, s.bridges), masquerade)
	rule(post, iif(in, s.masquerade6), family(unix.NFPROTO_IPV6), oif(notIn, s.bridges), masquerade)
}

// destination loads the address that a packet is sent to.
func destination(six bool, reg uint32) (load expr.Any, registers uint32) {
	if six {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}, 4
	}
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, 1
}

// l4Key loads protocol and destination port.
func l4Key(reg uint32) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyL4PROTO, reg),
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

func familyIs(six bool) []expr.Any {
	if six {
		return family(unix.NFPROTO_IPV6)
	}
	return family(unix.NFPROTO_IPV4)
}

// match is `[daddr] [. l4proto . dport] @set`.
func match(set *nftables.Set, six, addr, port bool) []expr.Any {
	out := familyIs(six)
	reg := uint32(reg0)
	if addr {
		load, width := destination(six, reg)
		out, reg = append(out, load), reg+width
	}
	if port {
		out = append(out, l4Key(reg)...)
	}
	return append(out, in(set, reg0))
}

// rule is `dnat to [daddr .] [l4proto . dport .] [numgen random mod Slots] map @set`. The slots are drawn at random: one
// counter for all ports would run in step with clients that call them in turn.
func (k kind) rule(set *nftables.Set) []expr.Any {
	out := familyIs(k.six)
	reg, width := uint32(reg0), uint32(1)
	if k.six {
		width = 4
	}
	if !k.any {
		load, registers := destination(k.six, reg)
		out, reg = append(out, load), reg+registers
	}
	if !k.virtual {
		out, reg = append(out, l4Key(reg)...), reg+2
	}
	if k.shared {
		out = append(out, &expr.Numgen{Register: reg, Modulus: Slots, Type: unix.NFT_NG_RANDOM})
	}
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0}
	if k.six {
		nat.Family = unix.NFPROTO_IPV6
	}
	if !k.virtual {
		nat.RegProtoMin = reg0 + width
	}
	return append(out, &expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: set.Name, SetID: set.ID}, nat)
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
