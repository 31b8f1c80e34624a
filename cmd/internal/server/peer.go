package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
)

// peerKey is the context key of the connecting process's credentials; absent where the kernel did not say.
type peerKey struct{}

// withPeer asks the kernel who connected.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return ctx
	}
	raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			ctx = context.WithValue(ctx, peerKey{}, *peer)
		}
	})
	return ctx
}

// onlyAllowed refuses users that the socket's mode alone would not keep out, such as one that was handed a descriptor.
func (s *Server) onlyAllowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, ok := r.Context().Value(peerKey{}).(unix.Ucred)
		if !ok || !s.allow(peer.Uid) {
			writeError(w, &api.Error{
				Code:    api.Denied,
				Message: fmt.Sprintf("user %d may not use this daemon", peer.Uid),
				Remedy:  "run the command as root",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Peer names who sent the request that a backend's context belongs to: the user that the process runs as and, where that is
// another one, the user that logged in (the kernel keeps that over sudo and su). It is empty where nobody asked.
func Peer(ctx context.Context) string {
	peer, ok := ctx.Value(peerKey{}).(unix.Ucred)
	if !ok {
		return ""
	}
	name := userName(peer.Uid)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/loginuid", peer.Pid))
	if err != nil {
		return name
	}
	login, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	const nobody = 1<<32 - 1 // what no login led to
	if err != nil || login == nobody || uint32(login) == peer.Uid {
		return name
	}
	return userName(uint32(login)) + " as " + name
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
