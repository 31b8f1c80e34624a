package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// identity sets the user and groups of the first process, and HOME.
func (b *builder) identity() error {
	name, attribute := b.Service.User, "user"
	if name == "" {
		name, attribute = b.Image.User, "user (of the image)"
	}
	passwd, err := b.read("/etc/passwd")
	if err != nil {
		return err
	}
	group, err := b.read("/etc/group")
	if err != nil {
		return err
	}
	u, err := LookupUser(name, passwd, group)
	if err != nil {
		return &AttributeError{attribute, err}
	}
	if len(b.Service.GroupAdd) > 0 {
		more, err := user.GetAdditionalGroups(b.Service.GroupAdd, bytes.NewReader(group))
		if err != nil {
			return invalid("group_add", "%w", err)
		}
		slices.Sort(more) // they come in random order
		for _, gid := range more {
			u.groups = append(u.groups, uint32(gid))
		}
	}
	b.spec.Process.User = specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.additional()}
	setDefaultEnv(b.spec.Process, "HOME", u.Home)
	return nil
}

// read reads a file of the image; a missing one is empty.
func (b *builder) read(path string) ([]byte, error) {
	if b.ReadFile == nil {
		return nil, nil
	}
	content, err := b.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s of the image: %w", path, err)
	}
	return content, nil
}

// User is a resolved `user:`.
type User struct {
	UID, GID uint32
	Home     string
	groups   []uint32
}

// LookupUser resolves "user", "uid", "user:group", "uid:gid" by the contents of /etc/passwd and /etc/group. Empty is root.
// A number needs no entry; an unknown name is ErrInvalid.
func LookupUser(name string, passwd, group []byte) (User, error) {
	if name == "" {
		name = "0"
	}
	var groups io.Reader
	if group != nil {
		groups = bytes.NewReader(group)
	}
	u, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), groups)
	if err != nil {
		return User{}, fmt.Errorf("%w: %q: %w", ErrInvalid, name, err)
	}
	if !validID(u.Uid) || !validID(u.Gid) {
		return User{}, fmt.Errorf("%w: %q: ids go from 0 to 2147483647", ErrInvalid, name)
	}
	out := User{UID: uint32(u.Uid), GID: uint32(u.Gid), Home: u.Home}
	for _, gid := range u.Sgids {
		if validID(gid) {
			out.groups = append(out.groups, uint32(gid))
		}
	}
	return out, nil
}

func validID(id int) bool { return id >= 0 && id <= math.MaxInt32 }

// additional are the supplementary groups, the primary one first: a process that loses it by setgid must not gain
// access where the group is denied (CVE-2022-36109).
func (u User) additional() []uint32 {
	gids := []uint32{u.GID}
	for _, gid := range u.groups {
		if !slices.Contains(gids, gid) {
			gids = append(gids, gid)
		}
	}
	return gids
}
