package load

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// develop takes in the rules of `watch`. What only `watch` can't do, such as a rebuild where there is no build, is
// refused by `watch`: the file is good for all other commands.
func (c *converter) develop(at []string, s types.ServiceConfig) *spec.Develop {
	if s.Develop == nil || len(s.Develop.Watch) == 0 {
		return nil
	}
	out := &spec.Develop{}
	if s.Build != nil {
		out.Context, out.Dockerfile = s.Build.Context, s.Build.Dockerfile
	}
	for i, trigger := range s.Develop.Watch {
		here := join(at, "develop", "watch", fmt.Sprint(i))
		rule := spec.WatchRule{
			Path:        trigger.Path,
			Action:      string(trigger.Action),
			Include:     trigger.Include,
			Ignore:      trigger.Ignore,
			InitialSync: trigger.InitialSync,
			Position:    c.position(join(here, "action")),
		}
		if trigger.Target != "" {
			rule.Target = path.Join("/", trigger.Target)
		}
		c.checkRule(here, &rule, trigger)
		if rule.Action == spec.WatchSyncExec {
			rule.Exec = &spec.WatchExec{
				Command:     trigger.Exec.Command,
				User:        trigger.Exec.User,
				Privileged:  trigger.Exec.Privileged,
				WorkingDir:  trigger.Exec.WorkingDir,
				Environment: trigger.Exec.Environment.ToMapping(),
			}
		}
		out.Watch = append(out.Watch, rule)
	}
	return out
}

// watchedLinks are the symbolic links on the way to the files that rules are about, as the ways were written.
func watchedLinks(stack *spec.Stack, files *tree) []string {
	var all []string
	for name, s := range stack.Services {
		if s.Develop == nil {
			continue
		}
		for i, rule := range s.Develop.Watch {
			n := files.root.get("services", name, "develop", "watch", fmt.Sprint(i), "path")
			if n == nil || n.file == nil {
				continue
			}
			written, err := n.interpolated()
			if err != nil {
				continue // compose-go has said so
			}
			if !filepath.IsAbs(written) {
				written = filepath.Join(n.file.dir, written)
			}
			if written = filepath.Clean(written); written == rule.Path {
				continue
			}
			for way := written; way != "/"; way = filepath.Dir(way) {
				if info, err := os.Lstat(way); err == nil && info.Mode()&os.ModeSymlink != 0 {
					all = append(all, way)
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (c *converter) checkRule(here []string, rule *spec.WatchRule, trigger types.Trigger) {
	if rule.Action == spec.WatchSyncExec && len(trigger.Exec.Command) == 0 {
		c.refuse(join(here, "action"), "add `exec: {command: [...]}`", "sync+exec needs a command")
	}
	if rule.Action != spec.WatchSyncExec && len(trigger.Exec.Command) > 0 {
		c.warn(join(here, "exec"), "use the action sync+exec", "exec has no effect: the action %s runs no command", rule.Action)
	}
	if rule.InitialSync && !rule.Syncs() {
		c.warn(join(here, "initial_sync"), "", "initial_sync has no effect: the action %s syncs no files", rule.Action)
	}
}

// built names the image of a service that a command builds and that names none itself, as Compose names it.
func (c *converter) built(s types.ServiceConfig, out *spec.Service) {
	if out.Image == "" && out.Policy != nil && out.Policy.Build != "" {
		out.Image = c.stack.Name + "-" + s.Name
	}
}

// position is where a value was written, as file:line:column; empty where that is not known.
func (c *converter) position(path []string) string {
	n := c.tree.root.get(path...)
	if n == nil || n.file == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", n.file.name, n.line, n.column)
}
