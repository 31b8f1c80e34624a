package firewall

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel is asked for the rules and chains as bytes, without what differs from one asking to the next (handles, use
// counts). Their hash, taken right after they were made, is part of the marker's name: a table with another hash has been
// altered by somebody. How a kernel writes its rules down is its own affair, and another kernel has no table of this one's.

// Attributes that are compared, by message.
var compared = map[int][]uint16{
	unix.NFT_MSG_GETCHAIN: {unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE},
	unix.NFT_MSG_GETRULE:  {unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_EXPRESSIONS},
}

// tableAttr is the attribute with the table's name, in messages about chains, rules and sets alike.
const tableAttr = unix.NFTA_CHAIN_TABLE

// fingerprint of the rules in the kernel. The caller holds t.mu.
func (t *Table) fingerprint() (string, error) {
	h := sha256.New()
	for _, message := range []int{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE} {
		parts, err := t.dump(message)
		if err != nil {
			return "", err
		}
		if message == unix.NFT_MSG_GETCHAIN {
			slices.SortFunc(parts, bytes.Compare) // rules have an order that counts
		}
		for _, p := range parts {
			fmt.Fprintf(h, "%d:", len(p))
			h.Write(p)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func (t *Table) dump(message int) (out [][]byte, err error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_INET, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(tableAttr, nl.ZeroTerminated(t.name)))
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		attrs, err := nl.ParseRouteAttr(a[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		byType := map[uint16][]byte{}
		for _, attr := range attrs {
			byType[attr.Attr.Type&^unix.NLA_F_NESTED] = attr.Value
		}
		if nl.BytesToString(byType[tableAttr]) != t.name {
			continue // the kernel lists the chains of all tables
		}
		var part []byte
		for _, kept := range compared[message] {
			part = append(append(part, byte(kept)), byType[kept]...)
		}
		out = append(out, part)
	}
	return out, nil
}

// markers lists the marker sets in the table: their names tell revision and fingerprint. unix.ENOENT when the table is
// missing.
func (t *Table) markers() (out []*nftables.Set, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	s := newSchema(t.name)
	if err := exists(c, s.bridges); err != nil {
		return nil, err
	}
	sets, err := c.GetSets(s.table)
	for _, set := range sets {
		if strings.HasPrefix(set.Name, revisions) {
			out = append(out, set)
		}
	}
	return out, err
}

// altered tells in words how the table differs from the one that was made; empty when it does not. The caller holds t.mu.
func (t *Table) altered() (string, error) {
	markers, err := t.markers()
	if errors.Is(err, unix.ENOENT) {
		t.forget()
		return fmt.Sprintf("nftables table %s is missing", t.name), nil
	}
	if err != nil {
		return "", err
	}
	print, err := t.fingerprint()
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(markers, func(m *nftables.Set) bool { return m.Name == revision+"/"+print }) {
		return "", nil
	}
	t.forget()
	return fmt.Sprintf("nftables table %s has other rules", t.name), nil
}

// forget what this process knows of the table: it is looked at, and made complete, before its next use.
func (t *Table) forget() { t.built, t.forwards4, t.forwards6 = false, false, false }

// mark says that the rules are complete. The caller holds t.mu.
func (t *Table) mark() error {
	print, err := t.fingerprint()
	if err != nil {
		return err
	}
	return t.transaction(func(c *nftables.Conn, s *schema) error {
		numbering.Lock()
		defer numbering.Unlock()
		marker := s.marker
		marker.Name = revision + "/" + print
		return c.AddSet(marker, nil)
	})
}
