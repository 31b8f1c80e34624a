package runtime

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Pipe makes a pipe of which one end goes to a container's process. os.Pipe won't do: it makes both ends non-blocking, which
// programs don't expect of their standard streams. Only the end that stays here is non-blocking; toContainer tells which.
func Pipe(toContainer bool) (ours, theirs *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	own, other := fds[0], fds[1]
	if toContainer {
		own, other = fds[1], fds[0]
	}
	if err := unix.SetNonblock(own, true); err != nil {
		unix.Close(own)
		unix.Close(other)
		return nil, nil, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(own), "pipe"), os.NewFile(uintptr(other), "pipe"), nil
}
