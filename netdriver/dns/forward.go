package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/stack-run/stack/netdriver/netns"
)

// errBadAnswer is an answer that is none to our question.
var errBadAnswer = errors.New("answer does not match the question")

// forward asks the upstream servers in turn and passes the first useful answer on as it came, under the client's id.
// A server's failure is passed on only when every server failed. inside is the network namespace to ask from, or empty.
func (r *Resolver) forward(q query, u upstream, inside string, tcp bool) []byte {
	ask := q.exchangeUDP
	if tcp || u.tcp {
		ask = q.exchangeTCP
	}
	var failure []byte
	first := 0
	if u.rotate {
		first = int(r.first.Add(1) % uint32(len(u.servers)))
	}
	for range u.attempts {
		for i := range u.servers {
			server := u.servers[(first+i)%len(u.servers)]
			answer, err := ask(server, inside, u.timeout)
			if err != nil {
				continue
			}
			binary.BigEndian.PutUint16(answer, q.header.ID)
			switch dnsmessage.RCode(answer[3] & 0x0f) {
			case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
				failure = answer
				continue
			}
			return answer
		}
		if failure != nil {
			return failure
		}
	}
	return q.reply(dnsmessage.RCodeServerFailure, nil, tcp)
}

// dial connects from the host's network namespace, or from inside a container's.
func dial(network string, server netip.AddrPort, inside string, deadline time.Time) (conn net.Conn, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	connect := func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, server.String())
		return err
	}
	if inside == "" {
		err = connect()
	} else {
		err = netns.Do(inside, connect)
	}
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(deadline)
}

// renumbered is the question as sent upstream: under an id that nobody can guess, from a port of its own.
func (q query) renumbered() []byte {
	out := bytes.Clone(q.raw)
	rand.Read(out[:2]) // never fails
	return out
}

func (q query) exchangeUDP(server netip.AddrPort, inside string, timeout time.Duration) ([]byte, error) {
	conn, err := dial("udp", server, inside, time.Now().Add(timeout))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question := q.renumbered()
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, q.maxUDP)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(question, buf[:n], q.end) {
			return buf[:n], nil
		}
	}
}

func (q query) exchangeTCP(server netip.AddrPort, inside string, timeout time.Duration) ([]byte, error) {
	conn, err := dial("tcp", server, inside, time.Now().Add(timeout))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question := q.renumbered()
	if err := writeTCP(conn, question); err != nil {
		return nil, err
	}
	answer, err := readTCP(conn)
	if err != nil {
		return nil, err
	}
	if !answers(question, answer, q.end) {
		return nil, errBadAnswer
	}
	return answer, nil
}

// answers tells whether b answers a: same id, a response, the same question whatever the case of its letters.
func answers(a, b []byte, end int) bool {
	if len(b) < 12 || b[0] != a[0] || b[1] != a[1] || b[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(b[4:]) == 0 {
		return true // some servers leave the question out when they refuse
	}
	return len(b) >= end && bytes.EqualFold(a[12:end], b[12:end])
}

func writeTCP(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(msg)+2), uint16(len(msg))), msg...))
	return err
}

func readTCP(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}
