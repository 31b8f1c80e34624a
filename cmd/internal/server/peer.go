package server

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/cmd/internal/api"
)

// peerKey is the context key of the connecting user's id; absent where the kernel did not say.
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
			ctx = context.WithValue(ctx, peerKey{}, peer.Uid)
		}
	})
	return ctx
}

// onlyAllowed refuses users that the socket's mode alone would not keep out, such as one that was handed a descriptor.
func (s *Server) onlyAllowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(peerKey{}).(uint32)
		if !ok || !s.allow(uid) {
			writeError(w, &api.Error{
				Code:    api.Denied,
				Message: fmt.Sprintf("user %d may not use this daemon", uid),
				Remedy:  "run the command as root",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}
