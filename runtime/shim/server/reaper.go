package server

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper collects orphans. An OCI runtime program leaves the container's first process to the nearest subreaper, which
// the shim becomes when it first uses one; from then on it also inherits processes that nobody waits for.
//
// It also starts when libcontainer fails to start an exec: the stages of one that died between them, as in a container that
// is just ending, are children of the shim that libcontainer has forgotten. Uncollected they would hold the container's
// process namespace, and with it the container's end, for ever.
//
// A wait for any child would steal those that are waited for by pid. So orphans are collected only while nothing is
// being forked, and only if they are none of the known children.
type reaper struct {
	once   sync.Once
	quit   chan struct{}
	fork   sync.RWMutex // read-held while children come to be that are not known yet
	mu     sync.Mutex
	known  map[int]struct{}
	active bool
}

func (r *reaper) forking() { r.fork.RLock() }
func (r *reaper) forked()  { r.fork.RUnlock() }

func (r *reaper) add(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[int]struct{}{}
	}
	r.known[pid] = struct{}{}
}

func (r *reaper) remove(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, pid)
}

// start makes this process a subreaper.
func (r *reaper) start() (err error) {
	r.once.Do(func() {
		if err = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return
		}
		r.mu.Lock()
		r.active, r.quit = true, make(chan struct{})
		r.mu.Unlock()
		go r.loop()
	})
	return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", err)
}

func (r *reaper) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active {
		r.active = false
		close(r.quit)
	}
}

func (r *reaper) loop() {
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	again := time.After(0) // some may have died before
	for {
		select {
		case <-died:
		case <-again:
		case <-r.quit:
			return
		}
		again = nil
		if !r.collect() {
			again = time.After(time.Second)
		}
	}
}

// collect reaps orphans. It returns false when it could not look at all of them now.
func (r *reaper) collect() bool {
	if !r.fork.TryLock() {
		return false
	}
	defer r.fork.Unlock()
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		pid := siginfoPID(&info)
		if err != nil || pid == 0 {
			return true
		}
		r.mu.Lock()
		_, known := r.known[pid]
		r.mu.Unlock()
		if known {
			return false // its own waiter is about to collect it; others may stand behind it
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}
