package server

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim"
)

func shimError(code shim.Code, format string, args ...any) error {
	return &shim.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// classify gives the code under which an error crosses the socket.
func classify(err error) shim.Code {
	var e *shim.Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return shim.CodeNoSpace
	default:
		return shim.CodeInternal
	}
}
