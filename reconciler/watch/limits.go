package watch

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// limit is one of the kernel's on watching. It holds for a user on the host, and by another name for a user within each user
// namespace, such as that of a container.
type limit struct {
	what            string
	host, namespace string // sysctls
	plenty          int
}

var (
	watches   = limit{"folders that are watched", "fs.inotify.max_user_watches", "user.max_inotify_watches", 1 << 20}
	instances = limit{"programs' watches", "fs.inotify.max_user_instances", "user.max_inotify_instances", 1 << 10}
)

// String says which limit is in the way, what it is now, and how to raise it.
func (l limit) String() string {
	name, now := l.host, sysctl(l.host)
	if own := sysctl(l.namespace); own >= 0 && (own < now || now < 0) {
		name, now = l.namespace, own
	}
	if now < 0 {
		return fmt.Sprintf("the kernel's limit of %s is reached: raise it with: sysctl %s=%d", l.what, name, l.plenty)
	}
	return fmt.Sprintf("the kernel's limit of %s, %s, is %d and reached: raise it with: sysctl %[2]s=%[4]d", l.what, name, now, max(l.plenty, 2*now))
}

// sysctl is a value, or -1 where it can't be read.
func sysctl(name string) int {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return n
}

// limitError adds to an error of inotify which limit it comes from, if it does.
func limitError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC): // which says nothing of a disk here
		return fmt.Errorf("%s (%w)", watches, err)
	case errors.Is(err, syscall.EMFILE):
		if f, openErr := os.Open("/dev/null"); openErr == nil { // or it is the process's limit of open files
			f.Close()
			return fmt.Errorf("%s (%w)", instances, err)
		}
	}
	return err
}
