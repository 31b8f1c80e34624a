package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Forwarding is a setting of the whole host, shared by every daemon on it. The rule: who finds it off switches it on and
// notes the old value in its table, as an empty set named was/<setting>/<value>; who finds it on copies the notes of the
// other daemons' tables. Who leaves puts the old value back unless another table has the same note. So the last one to
// leave restores, the notes vanish with a reboot just as the settings do, and two daemons in different network
// namespaces don't meet. A lock on the setting's own file keeps two daemons from doing this at the same time.

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
	notes    = "was/"
)

func setting(key string) string { return filepath.Join("/proc/sys", key) }

func (t *Table) withForwardingLock(fn func() error) error {
	f, err := os.Open(setting(forward4))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return fn()
}

// enableForwarding switches on what is wanted, noting first.
func (t *Table) enableForwarding(four, six bool) error {
	if (!four || t.forwards4 && read(forward4) == "1") && (!six || t.forwards6 && read(forward6) == "1") {
		return nil
	}
	return t.withForwardingLock(func() error {
		wanted := wantedSettings(four, six)
		names := append(t.othersNotes(four, six), t.noted...)
		for _, w := range wanted {
			names = append(names, notes+w.key+"/"+read(w.key))
		}
		slices.Sort(names)
		names = slices.Compact(names)
		if err := t.note(names); err != nil {
			return fmt.Errorf("note the host's settings: %w", err)
		}
		t.noted = names
		for _, w := range wanted {
			if err := write(w.key, w.value); err != nil {
				return fmt.Errorf("switch on forwarding: %w", err)
			}
		}
		t.forwards4, t.forwards6 = t.forwards4 || four, t.forwards6 || six
		return nil
	})
}

type settingChange struct{ key, value string }

// wantedSettings lists what has to change, in the order to write it.
func wantedSettings(four, six bool) (out []settingChange) {
	if six && read(forward6) == "0" {
		// A forwarding host ignores router advertisements unless told otherwise: it would lose the default route it
		// got from one. So this comes before forwarding itself.
		links, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
		for _, l := range links {
			if key := strings.TrimPrefix(l, "/proc/sys/"); read(key) == "1" {
				out = append(out, settingChange{key, "2"})
			}
		}
		out = append(out, settingChange{forward6, "1"})
	}
	if four && read(forward4) == "0" {
		out = append(out, settingChange{forward4, "1"})
	}
	return out
}

// note keeps names in the table.
func (t *Table) note(names []string) error {
	return t.transaction(func(c *nftables.Conn, s *schema) error {
		numbering.Lock()
		defer numbering.Unlock()
		for _, name := range names {
			set := &nftables.Set{Table: s.table, Name: name, KeyType: nftables.TypeMark}
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// othersNotes lists the notes in other daemons' tables that this one lacks, for the families in use.
func (t *Table) othersNotes(four, six bool) []string {
	mine, err := t.changedSettings()
	if err != nil {
		return nil
	}
	var out []string
	for name := range t.notesOfOthers() {
		isSix := strings.HasPrefix(name, notes+"net/ipv6/")
		if !mine[name] && (isSix && six || !isSix && four) {
			out = append(out, name)
		}
	}
	return out
}

func (t *Table) notesOfOthers() map[string]bool {
	out := map[string]bool{}
	c, err := nftables.New()
	if err != nil {
		return out
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return out
	}
	for _, other := range tables {
		if other.Name == t.name || !strings.HasPrefix(other.Name, TablePrefix) {
			continue
		}
		found, err := notesIn(c, other)
		if err != nil {
			continue // removed meanwhile
		}
		for name := range found {
			out[name] = true
		}
	}
	return out
}

// changedSettings lists this table's notes; unix.ENOENT when the table is missing.
func (t *Table) changedSettings() (map[string]bool, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	s := newSchema(t.name)
	if err := exists(c, s.bridges); err != nil {
		return nil, err
	}
	return notesIn(c, s.table)
}

func notesIn(c *nftables.Conn, table *nftables.Table) (map[string]bool, error) {
	sets, err := c.GetSets(table)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, s := range sets {
		if strings.HasPrefix(s.Name, notes) {
			out[s.Name] = true
		}
	}
	return out, nil
}

func (t *Table) restoreForwarding(changed map[string]bool) error {
	others := t.notesOfOthers()
	var errs []error
	for name := range changed {
		if others[name] {
			continue
		}
		rest := strings.TrimPrefix(name, notes)
		cut := strings.LastIndexByte(rest, '/')
		if cut < 0 {
			continue
		}
		if err := write(rest[:cut], rest[cut+1:]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func read(key string) string {
	b, _ := os.ReadFile(setting(key))
	return strings.TrimSpace(string(b))
}

func write(key, value string) error { return os.WriteFile(setting(key), []byte(value), 0o644) }
