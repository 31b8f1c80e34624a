package server_test

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// execute runs a process in a container and returns its output and exit code.
func (h *host) execute(t testing.TB, r shim.ExecRequest) (string, int) {
	t.Helper()
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	e, err := h.Exec(ctx(t), r, [3]*os.File{nil, write, write})
	write.Close()
	must(t, err)
	out, err := io.ReadAll(read)
	must(t, err)
	code, err := e.Wait(ctx(t))
	must(t, err)
	return string(out), code
}

// runtimes are the ways to run a container that the shim has.
var runtimes = map[string]string{"libcontainer": "", "crun": "/usr/bin/crun"}

func TestExec(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=1", "B=2") }, "sleep")
			r.Runtime = path
			h.run(r)
			for _, c := range []struct {
				situation string
				request   shim.ExecRequest
				output    string
				code      int
			}{
				{"plain", shim.ExecRequest{Args: []string{"/box", "echo", "hi"}}, "hi\n", 0},
				{"found in the path", shim.ExecRequest{Args: []string{"box", "exit", "9"}}, "", 9},
				{"its folder", shim.ExecRequest{Args: []string{"/box", "pwd"}, Cwd: "/etc"}, "/etc\n", 0},
				{"its environment", shim.ExecRequest{Args: []string{"/box", "env"}, Env: []string{"B=3", "C=4"}}, "PATH=/bin:/\nHOME=/root\nA=1\nB=3\nC=4\n", 0},
				{"a user by name, with groups", shim.ExecRequest{Args: []string{"/box", "id", ";", "env"}, User: "user"}, "1000 1001 [1002]\nPATH=/bin:/\nA=1\nB=2\nHOME=/home/user\n", 0},
				{"a user by number", shim.ExecRequest{Args: []string{"/box", "id"}, User: "5:6"}, "5 6 []\n", 0},
			} {
				t.Run(c.situation, func(t *testing.T) {
					c.request.ID, c.request.ExecID = "c", c.situation
					out, code := h.execute(t, c.request)
					if out != c.output || code != c.code {
						t.Errorf("output %q, code %d; want %q, %d", out, code, c.output, c.code)
					}
				})
			}
			for _, c := range []struct {
				situation string
				request   shim.ExecRequest
				want      error
			}{
				{"no such container", shim.ExecRequest{ID: "x", Args: []string{"/box"}}, shim.ErrNotFound},
				{"no such program", shim.ExecRequest{Args: []string{"nothing"}}, shim.ErrNoCommand},
				{"no executable file", shim.ExecRequest{Args: []string{"/etc/plain"}}, shim.ErrNotExec},
				{"no such user", shim.ExecRequest{Args: []string{"/box"}, User: "nobody-here"}, shim.ErrInvalid},
				{"no arguments", shim.ExecRequest{}, shim.ErrInvalid},
			} {
				t.Run(c.situation, func(t *testing.T) {
					c.request.ExecID = c.situation
					if c.request.ID == "" {
						c.request.ID = "c"
					}
					if _, err := h.Exec(ctx(t), c.request, [3]*os.File{}); !errors.Is(err, c.want) {
						t.Errorf("error %v, want %v", err, c.want)
					}
				})
			}
		})
	}
}

func TestExecSignalAndItsEndWithTheContainer(t *testing.T) {
	h := newHost(t)
	r := h.bundle("c", nil, "sleep")
	h.run(r)
	e, err := h.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "1", Args: []string{"/box", "sleep"}}, [3]*os.File{})
	must(t, err)
	if _, err := h.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "1", Args: []string{"/box", "sleep"}}, [3]*os.File{}); !errors.Is(err, shim.ErrConflict) {
		t.Errorf("a second exec of that name: %v", err)
	}
	must(t, e.Signal(ctx(t), syscall.SIGTERM))
	if code, err := e.Wait(ctx(t)); err != nil || code != 143 {
		t.Errorf("code %d, %v", code, err)
	}
	if _, err := e.Wait(ctx(t)); !errors.Is(err, shim.ErrNotFound) {
		t.Errorf("asked twice: %v", err)
	}

	e, err = h.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "2", Args: []string{"/box", "sleep"}}, [3]*os.File{})
	must(t, err)
	must(t, h.Kill(ctx(t), "c"))
	h.exit("c")
	if code, err := e.Wait(ctx(t)); err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestExecOutlivesTheClient(t *testing.T) {
	h := newHost(t)
	r := h.bundle("c", nil, "sleep")
	h.run(r)
	daemon, err := shim.Dial(ctx(t), h.dir+"/"+shim.SocketName)
	must(t, err)
	in, feed, err := os.Pipe()
	must(t, err)
	_, err = daemon.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "x", Args: []string{"/box", "cat", ";", "exit", "5"}}, [3]*os.File{in, nil, nil})
	must(t, err)
	in.Close()
	must(t, daemon.Close())
	feed.Close()
	if code, err := h.Attached("c", "x").Wait(ctx(t)); err != nil || code != 5 {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestTerminal(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", func(s *specs.Spec) { s.Process.Terminal = true }, "tty", ";", "cat")
			r.StdinOpen, r.Runtime = true, path
			h.run(r)
			eventually(t, "the terminal's name", func() bool { return strings.Contains(h.output(r), "/dev/pts/0 <nil>\r\n") })
			must(t, h.Resize(ctx(t), "c", 40, 120))
			in, err := h.AttachStdin(ctx(t), "c")
			must(t, err)
			_, err = in.WriteString("typed\n")
			must(t, err)
			eventually(t, "the echo and the copy", func() bool { return strings.Count(h.output(r), "typed\r\n") == 2 })

			e, err := h.Exec(ctx(t), shim.ExecRequest{ID: "c", ExecID: "t", TTY: true, Rows: 10, Cols: 20, Args: []string{"/box", "tty", ";", "cat"}}, [3]*os.File{})
			must(t, err)
			must(t, e.Resize(ctx(t), 11, 21))
			lines := bufio.NewReader(e.TTY)
			if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "/dev/pts/1 <nil>") {
				t.Errorf("exec's terminal %q, %v", line, err)
			}
			_, err = e.TTY.Write([]byte{4}) // end of file
			must(t, err)
			if code, err := e.Wait(ctx(t)); err != nil || code != 0 {
				t.Errorf("code %d, %v", code, err)
			}
			must(t, e.TTY.Close())
			_, err = in.Write([]byte{4})
			must(t, err)
			must(t, in.Close())
			if state := h.exit("c"); state.ExitCode != 0 {
				t.Errorf("state %+v", state)
			}
		})
	}
}

func TestStandardInput(t *testing.T) {
	h := newHost(t)
	r := h.bundle("c", nil, "cat", ";", "echo", "end")
	r.StdinOpen = true
	h.run(r)
	for _, text := range []string{"one\n", "two\n"} { // a client that goes leaves it open
		in, err := h.AttachStdin(ctx(t), "c")
		must(t, err)
		_, err = in.WriteString(text)
		must(t, err)
		must(t, in.Close())
		eventually(t, "the copy", func() bool { return strings.HasSuffix(h.output(r), text) })
	}
	must(t, h.CloseStdin(ctx(t), "c"))
	h.exit("c")
	if out := h.output(r); out != "one\ntwo\nend\n" {
		t.Errorf("output %q", out)
	}

	r = h.bundle("once", nil, "cat")
	r.StdinOpen, r.StdinOnce = true, true
	h.run(r)
	in, err := h.AttachStdin(ctx(t), "once")
	must(t, err)
	must(t, in.Close())
	h.exit("once")

	r = h.bundle("closed", nil, "sleep")
	h.run(r)
	if _, err := h.AttachStdin(ctx(t), "closed"); !errors.Is(err, shim.ErrConflict) {
		t.Errorf("attach to a closed input: %v", err)
	}
}

func TestAttachOutput(t *testing.T) {
	h := newHost(t)
	out, outEnd, err := os.Pipe()
	must(t, err)
	errs, errsEnd, err := os.Pipe()
	must(t, err)
	r := h.bundle("c", nil, "printf", "no newline", ";", "err", "problem", ";", "cat", ";", "echo", "more")
	r.Attach, r.StdinOpen = true, true
	r.Log.Driver = "none"
	_, err = h.Start(ctx(t), r, outEnd, errsEnd)
	must(t, err)
	outEnd.Close()
	errsEnd.Close()
	first := make([]byte, 10)
	if _, err := io.ReadFull(out, first); err != nil || string(first) != "no newline" {
		t.Errorf("output %q, %v", first, err)
	}
	problem := make([]byte, 8)
	if _, err := io.ReadFull(errs, problem); err != nil || string(problem) != "problem\n" {
		t.Errorf("error output %q, %v", problem, err)
	}
	late, lateEnd, err := os.Pipe()
	must(t, err)
	must(t, h.AttachOutput(ctx(t), "c", lateEnd, lateEnd))
	lateEnd.Close()
	must(t, h.CloseStdin(ctx(t), "c"))
	h.exit("c")
	for f, want := range map[*os.File]string{out: "more\n", errs: "", late: "more\n"} {
		must(t, f.SetReadDeadline(time.Now().Add(30*time.Second)))
		if all, err := io.ReadAll(f); err != nil || string(all) != want {
			t.Errorf("read %q, %v; want %q", all, err, want)
		}
	}
}

func TestAHooksOutputGoesToTheContainersLogMarkedAndItsEndIsFoundByItsName(t *testing.T) {
	for name, path := range runtimes {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			r := h.bundle("c", nil, "sleep")
			r.Runtime = path
			h.run(r)
			req := shim.ExecRequest{ID: "c", ExecID: "post_start-0", Hook: "post_start", Args: []string{"/box", "echo", "warm", ";", "err", "oops", ";", "exit", "4"}}
			e, err := h.Exec(ctx(t), req, [3]*os.File{})
			must(t, err)
			if _, err := h.Exec(ctx(t), req, [3]*os.File{}); !errors.Is(err, shim.ErrConflict) {
				t.Errorf("the same hook again: %v", err)
			}
			code, err := h.Attached("c", "post_start-0").Wait(ctx(t))
			must(t, err)
			if code != 4 || e.PID == 0 {
				t.Errorf("exit code %d, process %d", code, e.PID)
			}
			data, err := os.ReadFile(r.Log.Path)
			must(t, err)
			for _, want := range []string{`"log":"warm\n","stream":"stdout","attrs":{"hook":"post_start"}`, `"log":"oops\n","stream":"stderr","attrs":{"hook":"post_start"}`} {
				if !strings.Contains(string(data), want) { // when its end is told, its output is there
					t.Errorf("the log lacks %s:\n%s", want, data)
				}
			}
		})
	}
}
