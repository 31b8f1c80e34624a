package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are all that git is configured with: neither the system's, the user's nor the repository's own are read.
const settings = `[safe]
	directory = *
[core]
	hooksPath = /dev/null
	attributesFile = /dev/null
	fsmonitor = false
	untrackedCache = false
	bigFileThreshold = 16m
[protocol]
	allow = never
[protocol "https"]
	allow = always
[protocol "http"]
	allow = always
[protocol "ssh"]
	allow = always
[protocol "git"]
	allow = always
[protocol "file"]
	allow = always
[gc]
	auto = 0
	autoDetach = false
[maintenance]
	auto = false
[fetch]
	unpackLimit = 1
	recurseSubmodules = false
	fsckObjects = true
	writeCommitGraph = false
[transfer]
	credentialsInUrl = die
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 30
	followRedirects = initial
[credential]
	helper =
[advice]
	detachedHead = false
`

// run executes git in the repository and returns its output. Whatever it starts ends with it, with ctx, and with this
// process.
func (g *Git) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	var out answer
	err := g.stream(ctx, stdin, &out, args...)
	if out.over { // git itself died of a broken pipe
		return nil, fmt.Errorf("%w: it lists more files, or has longer messages, than anybody reads", ErrTooLarge)
	}
	return out.text, err
}

// maxAnswer bounds in bytes what git may answer, several times what the longest list of files needs: a few KB of objects can
// stand for more than any memory holds.
const maxAnswer = 256 << 20

type answer struct {
	text []byte
	over bool
}

func (a *answer) Write(p []byte) (int, error) {
	if a.over = a.over || len(a.text)+len(p) > maxAnswer; a.over {
		return 0, ErrTooLarge
	}
	a.text = append(a.text, p...)
	return len(p), nil
}

func (g *Git) stream(ctx context.Context, stdin io.Reader, out io.Writer, args ...string) error {
	// No file may outgrow the bound: what a server sends is written to one as it comes. The unit is 512 bytes.
	script := `ulimit -f "$1"; shift; exec git "$@"`
	limit := strconv.FormatInt(g.MaxSize/512+1, 10)
	verb := args[0]
	if verb == "-c" {
		verb = args[2]
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "git", limit, "--git-dir=" + g.dir()}, args...)...)
	cmd.Dir = g.Dir
	env, err := g.environment()
	if err != nil {
		return err
	}
	cmd.Env = env
	cmd.Stdin, cmd.Stdout = stdin, out
	var complaints tail
	cmd.Stderr = &complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	runtime.LockOSThread() // Pdeathsig is about the thread that started it
	defer runtime.UnlockOSThread()
	if err = cmd.Run(); err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", verb, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("git: %w", err)
	}
	return &gitError{verb: verb, text: g.redact(complaints.String()), code: exit.ExitCode()}
}

// gitError is what git complained about.
type gitError struct {
	verb, text string
	code       int
}

func (e *gitError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("git %s ended with %d", e.verb, e.code)
	}
	return fmt.Sprintf("git %s: %s", e.verb, e.text)
}

// tail keeps the last lines of what is written to it.
type tail struct{ data []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - 4096; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}

// String is one line: git's last few, without its hints.
func (t *tail) String() string {
	var lines []string
	for line := range strings.Lines(string(t.data)) {
		line = strings.TrimSpace(line[strings.LastIndex(line, "\r")+1:])
		if line != "" && !strings.HasPrefix(line, "hint:") && !strings.HasPrefix(line, "warning:") {
			lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "fatal: "), "error: "))
		}
	}
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// environment is git's whole environment. Secrets are in it, which only root reads; never on a command line.
func (g *Git) environment() ([]string, error) {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_TERMINAL_PROMPT=0",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(g.Dir, "gitconfig"), "GIT_ATTR_NOSYSTEM=1",
		"GIT_OPTIONAL_LOCKS=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_ASKPASS=true", "SSH_ASKPASS=true",
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	config := map[string]string{}
	// git does not know the variables that all else here goes by.
	for key, file := range map[string]string{"http.sslCAInfo": cmp.Or(g.Auth.CAFile, os.Getenv("SSL_CERT_FILE")), "http.sslCAPath": os.Getenv("SSL_CERT_DIR")} {
		if file != "" {
			config[key] = file
		}
	}
	header, err := g.Auth.header()
	if err != nil {
		return nil, err
	}
	if header != "" {
		config["http."+g.origin()+".extraHeader"] = header
		config["http.followRedirects"] = "false" // git would take the header along to wherever it is sent
	}
	for n, key := range slices.Sorted(maps.Keys(config)) {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, config[key]))
	}
	env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)))
	if g.Auth.SSHKey != "" {
		env = append(env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND="+strings.Join([]string{
			"ssh", "-F", "/dev/null", "-i", quoted(g.Auth.SSHKey), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=yes", "-o", quoted("UserKnownHostsFile=" + g.Auth.KnownHosts), "-o", "GlobalKnownHostsFile=/dev/null",
			"-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3", "-o", "ForwardAgent=no", "-o", "PermitLocalCommand=no",
		}, " "))
	}
	return env, nil
}

// quoted is a word for git's shell.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
