package server

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/runtime/shim/internal/wire"
)

// stdio is both sides of a process's standard streams: pipes, or a terminal that the runtime makes in the container.
type stdio struct {
	child  [3]*os.File // the process's; all nil with a terminal
	stdin  *os.File    // our end, nil when the process reads /dev/null
	once   bool        // stdin closes with the first client
	stdout *os.File
	stderr *os.File

	socket  *os.File // the runtime sends the terminal here
	console *net.UnixConn
	master  *os.File
}

// openPipes makes the pipes of a process without a terminal.
func openPipes(stdinOpen bool) (_ *stdio, err error) {
	io := &stdio{}
	defer func() {
		if err != nil {
			io.closeAll()
		}
	}()
	if stdinOpen {
		if io.child[0], io.stdin, err = pipe(true); err != nil {
			return nil, err
		}
	} else if io.child[0], err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	if io.stdout, io.child[1], err = pipe(false); err != nil {
		return nil, err
	}
	if io.stderr, io.child[2], err = pipe(false); err != nil {
		return nil, err
	}
	return io, nil
}

// pipe makes a pipe whose end for the container blocks, as programs expect, and ours does not.
func pipe(ourEndWrites bool) (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	ours := p[0]
	if ourEndWrites {
		ours = p[1]
	}
	if err := unix.SetNonblock(ours, true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// openConsole makes the socket by which the runtime sends a terminal.
func openConsole() (*stdio, error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	io := &stdio{socket: os.NewFile(uintptr(p[1]), "console")}
	ours := os.NewFile(uintptr(p[0]), "console")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		io.closeAll()
		return nil, err
	}
	io.console = c.(*net.UnixConn)
	return io, nil
}

// started closes what belongs to the process now, and takes the terminal over.
func (io *stdio) started() error {
	for i, f := range io.child {
		if f != nil {
			f.Close()
			io.child[i] = nil
		}
	}
	if io.socket == nil {
		return nil
	}
	io.socket.Close()
	io.socket = nil
	fd, err := wire.ReceiveFile(io.console)
	io.console.Close()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("terminal: %w", err)
	}
	io.master = os.NewFile(uintptr(fd), "terminal")
	return nil
}

func (io *stdio) closeAll() {
	for _, f := range []*os.File{io.child[0], io.child[1], io.child[2], io.stdin, io.stdout, io.stderr, io.socket, io.master} {
		if f != nil {
			_ = f.Close()
		}
	}
	if io.console != nil {
		_ = io.console.Close()
	}
}

// setSize sets a terminal's size.
func setSize(master *os.File, rows, cols uint16) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err == nil {
		err = failed
	}
	return os.NewSyscallError("TIOCSWINSZ", err)
}
