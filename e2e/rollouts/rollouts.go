// Package rollouts is what services are replaced by under load, for the tests and the benchmark of how many requests fail.
package rollouts

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/stack-run/stack/e2e/host"
	"github.com/stack-run/stack/e2e/load/report"
)

// Programs builds the load generator (load), and the example's server as two images that differ (1.tar, 2.tar), beside the
// programs of Stack. It returns their folder.
var Programs = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(host.Repository(), "bin", "rollouts")
	build := exec.Command("sh", "-euc", `
		umask 022; mkdir -p "$0"; exec 9>"$0/lock"; flock 9 # several programs may build at once
		CGO_ENABLED=0 go build -o "$0/load" ./e2e/load
		CGO_ENABLED=0 go build -ldflags '-s -w' -o "$0/rolling" ./examples/rolling
		cd "$0"; [ 2.tar -nt rolling ] && exit
		echo two >two
		tar --owner=0 --group=0 -cf 1.tar rolling; tar --owner=0 --group=0 -cf new.tar rolling two; mv new.tar 2.tar`, dir)
	build.Dir = host.Repository()
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build what rollouts need: %w: %s", err, out)
	}
	return dir, nil
})

// Image is the name that a version's image is loaded by: its archive is the first one for odd versions, the second for even ones.
func Image(version int) string { return fmt.Sprintf("rolling:%d", 2-version%2) }

// server is a service of the example's server, but for how it is reached.
func server(version int) string {
	return fmt.Sprintf(`
services:
  web:
    image: %s
    pull_policy: never
    command: [/rolling]
    environment: {VERSION: "%d"}
    stop_grace_period: 2s
    healthcheck: {test: [CMD, /rolling, check], interval: 200ms}
`, Image(version), version)
}

// Published is a stack file with replicas of the server behind port 8080, updated as config says.
func Published(version, replicas int, config string) string {
	return server(version) + fmt.Sprintf(`    ports: ["8080:80"]
    deploy:
      replicas: %d
      update_config: %s
`, replicas, config)
}

// Virtual is one with replicas behind a virtual address, and a client beside them, from an image, that has the load generator.
func Virtual(version, replicas int, config, client, load string) string {
	return server(version) + fmt.Sprintf(`    deploy:
      replicas: %d
      endpoint_mode: vip
      update_config: %s
  client: {image: %q, init: true, command: [sleep, infinity], volumes: ["%s:/load:ro"]}
`, replicas, config, client, load)
}

// Load is a generator at work.
type Load struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// Begin starts a generator and returns when it is under way.
func Begin(cmd *exec.Cmd, start func(*exec.Cmd) error) (*Load, error) {
	l := &Load{cmd: cmd}
	cmd.Stdout = &l.out
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "under way\n" {
		return nil, fmt.Errorf("load: %q %w", line, err)
	}
	go io.Copy(io.Discard, said)
	return l, nil
}

// Stop tells the generator to end when it has made enough requests.
func (l *Load) Stop() error { return l.cmd.Process.Signal(syscall.SIGINT) }

// End waits for the end of a generator that was told to, and returns its report.
func (l *Load) End() (r report.Report, err error) {
	if err := l.cmd.Wait(); err != nil {
		return r, err
	}
	if err := json.Unmarshal(l.out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("%w: %s", err, l.out.String())
	}
	return r, nil
}
