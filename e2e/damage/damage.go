// Package damage is what others do to a stack that runs, for the tests and the benchmark of how it is put right.
package damage

import "fmt"

// Damage is one thing that others do, as a shell script on the machine, and a condition that says that it was put right. Where
// Stack only tells, the condition is that it does, and puts right itself what was damaged.
type Damage struct{ Name, Do, Mended string }

// File is the stack that is damaged. It has no restart policy: what comes back was brought back by the loop.
func File(image string) string {
	return fmt.Sprintf(`name: work
services:
  web:
    image: %s
    init: true
    command: [sh, -c, 'mkdir -p /www; echo here >/www/index.html; exec httpd -f -p 80 -h /www']
    ports: ["8080:80"]
    volumes: ["data:/data", "memory:/memory"]
    mem_limit: 64m
    stop_grace_period: 1s
volumes:
  data: {}
  memory: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
`, image)
}

// Answers is the condition that the stack's server answers. A connection that gets no answer is tried again soon: the client's
// kernel would do so after a second.
const Answers = `[ "$(curl -sf --connect-timeout 0.05 --max-time 0.5 http://127.0.0.1:8080/)" = here ]`

const (
	web    = `$(pgrep -f '^httpd -f -p 80' | head -1)`
	bridge = `$(ip -o link show type bridge | sed -E 's/^[0-9]+: ([^:@]+).*/\1/')`
	veth   = `$(ip -o link show type veth | sed -E 's/^[0-9]+: ([^:@]+).*/\1/' | head -1)`
	table  = `$(nft list tables | cut -d' ' -f2- | grep stack | head -1)`
	limit  = `$(ls -d /sys/fs/cgroup/memory/stack-*/work/*/memory.limit_in_bytes /sys/fs/cgroup/stack-*/work/*/memory.max 2>/dev/null | head -1)`
)

// All are the kinds of damage.
func All() []Damage {
	return []Damage{
		{"a container is killed", `old=` + web + `; kill -9 $(ps -o ppid= -p $old)`, `new=` + web + `; [ -n "$new" ] && [ "$new" != "$old" ] && ` + Answers},
		{"a container's folder is removed", `old=$(ls $STACK_ROOT/stacks/work/containers); until rm -rf $STACK_ROOT/stacks/work/containers/$old; do :; done 2>/dev/null`, // its record is written anew meanwhile
			`new=$(ls $STACK_ROOT/stacks/work/containers); [ -n "$new" ] && [ "$new" != "$old" ] && ` + Answers},
		{"what a container wrote is removed", `old=$(ls $STACK_ROOT/stacks/work/containers); rm -rf $STACK_ROOT/stacks/work/containers/$old/upper`,
			`new=$(ls $STACK_ROOT/stacks/work/containers); [ -n "$new" ] && [ "$new" != "$old" ] && ` + Answers},
		{"the shim is killed", `old=` + web + `; kill -9 $(pgrep -f '^[^ ]*stack-shim .*--dir')`, `new=` + web + `; [ -n "$new" ] && [ "$new" != "$old" ] && ` + Answers},
		{"the bridge is deleted", `ip link del ` + bridge, Answers},
		{"the bridge is taken down", `ip link set down ` + bridge, Answers},
		{"a veth pair is deleted", `ip link del ` + veth, Answers},
		{"the bridge's address is removed", `ip addr flush dev ` + bridge, Answers},
		{"an address in the container is removed", `nsenter -t ` + web + ` -n ip addr flush dev eth0`, Answers},
		{"an nftables rule is removed", `table="` + table + `"; nft delete rule $table publish handle $(nft -a list chain $table publish | sed -n 's/.*map @any4 # handle //p')`, Answers},
		{"the nftables table is deleted", `nft delete table ` + table, Answers},
		{"the whole ruleset is flushed", `nft flush ruleset`, Answers},
		{"a mount is gone", `umount $STACK_ROOT/volumes/work_memory/_data`, `mountpoint -q $STACK_ROOT/volumes/work_memory/_data`},
		{"a memory limit is altered", `limit=` + limit + `; was=$(cat $limit); echo 134217728 >$limit`, `[ "$(cat $limit)" = "$was" ]`},
		{"a container's record is removed", `record=$(ls $STACK_ROOT/stacks/work/containers/*/container.json); rm $record`, `[ -s $record ]`},
		{"a network's record is overwritten", `record=$STACK_ROOT/networks/work_default.json; echo '{}' >$record`, `grep -q work_default $record`},
		{"a volume's record is removed", `record=$STACK_ROOT/volumes/work_data/volume.json; rm $record`, `[ -s $record ]`},
		{"a volume's folder is moved away (told)", `mv $STACK_ROOT/volumes/work_data ../away`, `stack status | grep -q 'volume.data.*damaged' && mv ../away $STACK_ROOT/volumes/work_data`},
	}
}

// Script does the damage and waits until it is put right, for at most half a minute.
func (d Damage) Script() string {
	return `set -e; ` + d.Do + `
		since=${EPOCHREALTIME/./}
		until ` + d.Mended + `; do
			[ $(( ${EPOCHREALTIME/./} - since )) -lt 30000000 ] || { echo "never put right: ` + d.Name + `" >&2; exit 1; }
			sleep 0.005
		done 2>/dev/null
		echo $(( ${EPOCHREALTIME/./} - since ))`
}
