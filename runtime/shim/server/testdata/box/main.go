// box is the program that runs in the containers of the tests: a few commands, chosen by the first argument.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if name := filepath.Base(os.Args[0]); name != "box" {
		args = os.Args
		args[0] = name
	}
	for len(args) > 0 {
		// Commands are separated by ";".
		one := args
		args = nil
		for i, a := range one {
			if a == ";" {
				one, args = one[:i], one[i+1:]
				break
			}
		}
		run(one[0], one[1:])
	}
}

func run(name string, args []string) {
	switch name {
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "printf":
		s, _ := strconv.Unquote(`"` + args[0] + `"`)
		fmt.Print(s)
	case "err":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "exit":
		code, _ := strconv.Atoi(args[0])
		os.Exit(code)
	case "sleep":
		if len(args) == 0 {
			time.Sleep(1 << 62)
		}
		d, _ := time.ParseDuration(args[0])
		time.Sleep(d)
	case "cat":
		if len(args) == 0 {
			io.Copy(os.Stdout, os.Stdin)
			return
		}
		for _, path := range args {
			data, err := os.ReadFile(path)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			os.Stdout.Write(data)
		}
	case "ls":
		entries, err := os.ReadDir(args[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, e := range entries {
			fmt.Println(e.Name())
		}
	case "write":
		if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "mount":
		if err := syscall.Mount("tmpfs", args[0], "tmpfs", 0, ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "id":
		groups, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
	case "pwd":
		dir, _ := os.Getwd()
		fmt.Println(dir)
	case "hostname":
		h, _ := os.Hostname()
		fmt.Println(h)
	case "tty":
		_, err := os.Stat("/dev/tty")
		link, _ := os.Readlink("/proc/self/fd/0")
		fmt.Println(link, err)
	case "lines":
		n, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "line %d\n", i)
		}
		w.Flush()
	case "eat":
		mib, _ := strconv.Atoi(args[0])
		var all [][]byte
		for range mib {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Println(len(all))
	case "spin":
		for {
			runtime.Gosched()
		}
	case "trap":
		c := make(chan os.Signal, 16) // room for several at once: what finds none is dropped
		signal.Notify(c)
		fmt.Println("ready")
		for sig := range c {
			if sig == syscall.SIGURG { // Go's own
				continue
			}
			fmt.Println("got", sig)
			if sig == syscall.SIGTERM {
				os.Exit(3)
			}
		}
	case "fork": // a child that outlives its parent
		cmd := exec.Command("/box", args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
		}
	case "owner":
		for _, path := range args {
			info, err := os.Lstat(path)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			st := info.Sys().(*syscall.Stat_t)
			fmt.Println(st.Uid, st.Gid)
		}
	case "chown":
		uid, _ := strconv.Atoi(args[0])
		if err := os.Lchown(args[1], uid, uid); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "ns":
		entries, _ := os.ReadDir("/proc/self/ns")
		for _, e := range entries {
			link, _ := os.Readlink("/proc/self/ns/" + e.Name())
			fmt.Println(e.Name(), link)
		}
	case "calls": // what the kernel says to a few system calls without sensible arguments
		for _, number := range []uintptr{syscall.SYS_UNSHARE, syscall.SYS_MOUNT, syscall.SYS_ADD_KEY, syscall.SYS_SETHOSTNAME, 999} {
			_, _, errno := syscall.Syscall(number, 1<<30, 0, 0)
			fmt.Println(number, errno)
		}
		sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
		fmt.Println("leads its session", int(sid) == os.Getpid())
	case "pid":
		fmt.Println(os.Getpid())
	default:
		fmt.Println("box: no command", name)
		os.Exit(127)
	}
}
