package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ttl of our own answers, in seconds: short, since containers come and go.
const ttl = 5

// ownSize is the UDP size we announce where a query does (RFC 9715's advice).
const ownSize = 1232

// query is a parsed request.
type query struct {
	raw      []byte
	header   dnsmessage.Header
	question dnsmessage.Question
	end      int // of the question section in raw
	edns     bool
	maxUDP   int // largest answer over UDP that the client takes
}

// parse reads a request. A message that is no request, or without a readable header, is not ok: it gets no answer.
// With a non-zero code the message is answered by that code alone.
func parse(raw []byte) (q query, code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil || h.Response {
		return q, 0, false
	}
	q = query{raw: raw, header: h, maxUDP: 512}
	if h.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	if q.question, err = p.Question(); err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return q, dnsmessage.RCodeFormatError, true
	}
	if q.end, ok = questionEnd(raw); !ok {
		return q, dnsmessage.RCodeFormatError, true
	}
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	for {
		rh, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return q, 0, true
		}
		if err != nil {
			return q, dnsmessage.RCodeFormatError, true
		}
		if rh.Type == dnsmessage.TypeOPT {
			q.edns, q.maxUDP = true, max(512, int(rh.Class))
		}
		if p.SkipAdditional() != nil {
			return q, dnsmessage.RCodeFormatError, true
		}
	}
}

// questionEnd is where the first question ends: labels, type and class. A question has no compressed name in practice.
func questionEnd(raw []byte) (int, bool) {
	for i := 12; i < len(raw); {
		n := int(raw[i])
		if n >= 0x40 {
			return 0, false
		}
		i += 1 + n
		if n == 0 {
			return i + 4, i+4 <= len(raw)
		}
	}
	return 0, false
}

// name as asked for, without the final dot.
func (q query) name() string { return strings.TrimSuffix(q.question.Name.String(), ".") }

// resource is one answer: an address or a name.
type resource struct {
	addr netip.Addr
	ptr  string
}

// reply builds an answer. Over UDP, what does not fit is left out and the answer marked as truncated, so that the client
// asks again over TCP.
func (q query) reply(code dnsmessage.RCode, answers []resource, tcp bool) []byte {
	limit := 65535
	if !tcp {
		limit = min(q.maxUDP, limit)
	}
	truncated := false
	for {
		out, err := q.build(code, answers, truncated)
		if err != nil {
			return q.bare(dnsmessage.RCodeServerFailure)
		}
		if len(out) <= limit || len(answers) == 0 {
			return out
		}
		truncated = true
		// An IPv4 answer takes 16 bytes, an IPv6 one 28: cut what surely is too much, look again.
		answers = answers[:len(answers)-1-(len(out)-limit)/28]
	}
}

func (q query) build(code dnsmessage.RCode, answers []resource, truncated bool) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, q.end+16+28*len(answers)), dnsmessage.Header{
		ID: q.header.ID, Response: true, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
		CheckingDisabled: q.header.CheckingDisabled, RCode: code, Truncated: truncated,
	})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.question); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	h := dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl}
	for _, a := range answers {
		var err error
		switch {
		case a.ptr != "":
			var name dnsmessage.Name
			if name, err = dnsmessage.NewName(a.ptr + "."); err == nil {
				err = b.PTRResource(h, dnsmessage.PTRResource{PTR: name})
			}
		case a.addr.Is4():
			err = b.AResource(h, dnsmessage.AResource{A: a.addr.As4()})
		default:
			err = b.AAAAResource(h, dnsmessage.AAAAResource{AAAA: a.addr.As16()})
		}
		if err != nil {
			return nil, err
		}
	}
	if q.edns {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		opt := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeOPT, Class: ownSize}
		if err := b.OPTResource(opt, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// bare is a header with a code and nothing else: the answer to what can't be read.
func (q query) bare(code dnsmessage.RCode) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// reverseAddr reads the address out of a name below in-addr.arpa or ip6.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(s, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	digits := make([]byte, 0, 32)
	for i := len(s) - 1; i >= 0; i -= 2 {
		digits = append(digits, s[i])
		if i > 0 && s[i-1] != '.' {
			return netip.Addr{}, false
		}
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], digits); err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16(b), true
}
