package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a real one, whose screen shows what a program has printed.
type terminal struct {
	t           testing.TB
	master, tty *os.File
	width       int
	before      unix.Termios

	mu   sync.Mutex
	raw  strings.Builder
	rows [][]rune
	x, y int
}

func openTerminal(t testing.TB, width, height int) *terminal {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must(err)
	t.Cleanup(func() { master.Close() })
	must(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(err)
	t.Cleanup(func() { tty.Close() })
	must(unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)}))
	s := &terminal{t: t, master: master, tty: tty, width: width}
	s.before = s.settings()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return // closed
			}
			s.mu.Lock()
			s.raw.Write(buf[:n])
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *terminal) settings() unix.Termios {
	s.t.Helper()
	settings, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *settings
}

// own makes the terminal the one that a program is started from.
func (s *terminal) own(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, s.tty, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
}

func (s *terminal) printed() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// screen is what is to be seen by now. A sequence that it doesn't know fails the test.
func (s *terminal) screen() string {
	s.t.Helper()
	s.rows, s.x, s.y = nil, 0, 0
	text := []rune(s.printed())
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\r':
			s.x = 0
		case c == '\n':
			s.y++
		case c == '\x1b':
			end := i + 1
			for end < len(text) && !(text[end] >= '@' && text[end] <= '~' && text[end] != '[') {
				end++
			}
			if end == len(text) {
				return s.text() // the rest is still on its way
			}
			s.escape(string(text[i+1 : end+1]))
			i = end
		default:
			s.put(c)
		}
	}
	return s.text()
}

func (s *terminal) put(c rune) {
	if s.x == s.width {
		s.x, s.y = 0, s.y+1
	}
	for len(s.rows) <= s.y {
		s.rows = append(s.rows, nil)
	}
	for len(s.rows[s.y]) <= s.x {
		s.rows[s.y] = append(s.rows[s.y], ' ')
	}
	s.rows[s.y][s.x] = c
	s.x++
}

func (s *terminal) escape(sequence string) {
	s.t.Helper()
	n, err := strconv.Atoi(strings.Trim(sequence, "[AJm"))
	switch {
	case sequence == "[J":
		if s.y < len(s.rows) {
			s.rows = s.rows[:s.y+1]
			s.rows[s.y] = s.rows[s.y][:min(s.x, len(s.rows[s.y]))]
		}
	case strings.HasSuffix(sequence, "A") && err == nil:
		s.y = max(0, s.y-n)
	case strings.HasSuffix(sequence, "m"): // colours
	default:
		s.t.Errorf("the terminal is sent %q, which changes more than what is to be seen", sequence)
	}
}

func (s *terminal) text() string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.Join(lines, "\n")
}
