// stack-shim is the parent of one stack's containers. The daemon starts it, and it outlives the daemon.
//
//	stack-shim --dir DIR [--dns DIR] [--ready FD]
//
// --ready names an open pipe: the shim writes "ok" to it when it answers on DIR/shim.sock, or why it can't.
package main

import (
	_ "github.com/stack-run/stack/runtime/shim/boot" // first: see there

	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/stack-run/stack/runtime/shim/server"
)

func main() {
	dir := flag.String("dir", "", "folder of the socket and the records")
	names := flag.String("dns", "", "folder of the name records; empty: containers are served no names")
	ready := flag.Int("ready", -1, "file descriptor to report to")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	tune()

	s, err := server.New(server.Options{Dir: *dir, Names: nameService(*names)})
	report(*ready, err)
	if err == nil {
		onTerm(s)
		err = s.Serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stack-shim:", err)
		os.Exit(1)
	}
}

// grace is what containers have to end by themselves when the shim is told to terminate, which hosts do that go down.
const grace = 10 * time.Second

// onTerm ends the containers and the shim at SIGTERM. A hangup means nothing to the shim: it has no terminal.
func onTerm(s *server.Server) {
	// Taken and dropped: to ignore it would be inherited by the containers.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-told
		if err := s.Terminate(grace); err != nil {
			fmt.Fprintln(os.Stderr, "stack-shim:", err)
		}
	}()
}

// tune keeps the shim small: it has little to do at a time, and many of them may run.
func tune() {
	if runtime.GOMAXPROCS(0) > 4 {
		runtime.GOMAXPROCS(4)
	}
	debug.SetGCPercent(50)
	resetReserved()
	syscall.Umask(0o022) // whatever the daemon was started with
	// The first stage of a container's process, which inherits this, needs one processor.
	os.Setenv("GOMAXPROCS", "1")
}

// report tells whoever started the shim how its start went.
func report(fd int, err error) {
	if fd < 0 {
		return
	}
	pipe := os.NewFile(uintptr(fd), "ready")
	word := "ok"
	if err != nil {
		word = err.Error()
	}
	_, _ = pipe.WriteString(word) // nobody may be waiting any more
	_ = pipe.Close()
}
