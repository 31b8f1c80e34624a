package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const (
	saves      = 200
	burstFiles = 5000
	// watchedSleep is the argument that the watched container's process is found by.
	watchedSleep = "98765"
)

// A watcher is a contender with a watch mode.
type watcher interface {
	contender
	// folder is where the contender sees its stack file and the files beside it.
	folder() string
	// watch runs watch mode in the background.
	watch() error
	// said is what it printed last.
	said() string
}

func (s *stack) folder() string { return s.dir }
func (s *stack) watch() error   { return s.background(s.program, "watch", "--no-up") }

func (d *docker) folder() string { return d.root }
func (d *docker) watch() error {
	pid, err := os.ReadFile(d.pid)
	if err != nil {
		return err
	}
	return d.background("nsenter", "-t", string(bytes.TrimSpace(pid)), "-m", "-r", "-w", "docker-compose", "-f", "/compose.yaml", "watch", "--no-up")
}

// background runs a program on the machine until the machine ends.
func (b *box) background(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = b.dir, b.env
	log, err := os.Create(filepath.Join(b.dir, "watch.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	return b.machine.Start(cmd)
}

func (b *box) said() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "watch.log"))
	return string(text[max(0, len(text)-2000):])
}

// watchFile is the stack file of the watched service. Compose wants a build where files are watched.
func watchFile(color string) string {
	return fmt.Sprintf(`name: bench
services:
  web:
    image: %q
    build: {context: .}
    command: [sleep, %q]
    init: false
    stop_grace_period: 0s
    environment: {COLOR: %s}
    develop: {watch: [{path: ./src, target: /app, action: sync}]}
`, smallImage, watchedSleep, color)
}

// measureWatch takes the time from a save to the byte in the container, and of a burst of files.
func measureWatch(ctx context.Context, w watcher, images *images, bursts int, results *table) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, w.said())
		}
		err = errors.Join(err, w.stop())
	}()
	if err := w.start(ctx, images); err != nil {
		return err
	}
	if err := w.file(watchFile("blue")); err != nil {
		return err
	}
	src := filepath.Join(w.folder(), "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		return err
	}
	for _, step := range []func() (float64, error){w.pull, w.up} {
		if _, err := step(); err != nil {
			return err
		}
	}
	if err := w.watch(); err != nil {
		return err
	}
	app, err := rootOf(watchedSleep)
	if err != nil {
		return err
	}
	app = filepath.Join(app, "app")
	if err := firstSync(ctx, src, app); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %d saves\n", w.name(), saves)
	var times []float64
	for i := range saves {
		begin, err := save(filepath.Join(src, "file"), fmt.Sprintf("save %d", i), i%2 == 1)
		if err != nil {
			return err
		}
		if err := within(ctx, func() bool {
			got, err := os.ReadFile(filepath.Join(app, "file"))
			return err == nil && string(got) == fmt.Sprintf("save %d", i)
		}); err != nil {
			return fmt.Errorf("save %d: %w", i, err)
		}
		times = append(times, float64(time.Since(begin).Microseconds())/1000)
		time.Sleep(5 * time.Millisecond) // a save at a time
	}
	slices.Sort(times)
	results.add("watch: save to container, ms, median", w.name(), times[len(times)/2])
	results.add("watch: save to container, ms, p95", w.name(), times[len(times)*95/100])
	return measureBursts(ctx, w, src, app, bursts, results)
}

// rootOf is the root folder of the process with an argument, once there is one.
func rootOf(argument string) (string, error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return "", err
		}
		for _, file := range all {
			if line, err := os.ReadFile(file); err == nil && string(line) == "sleep\x00"+argument+"\x00" {
				return filepath.Join(filepath.Dir(file), "root"), nil
			}
		}
	}
	return "", errors.New("the watched container does not run")
}

// firstSync saves until something arrives: then the watch has begun. It rests between two saves, as long as it takes a
// contender that waits for files to be quiet.
func firstSync(ctx context.Context, src, app string) error {
	var saved time.Time
	n := 0
	return within(ctx, func() bool {
		if time.Since(saved) > 2*time.Second {
			n++
			_ = os.WriteFile(filepath.Join(src, "first"), fmt.Append(nil, n), 0o644)
			saved = time.Now()
		}
		_, err := os.Stat(filepath.Join(app, "first"))
		return err == nil
	})
}

// save writes a file as editors do, in its place or renamed over the old one, and returns when it was there.
func save(path, content string, rename bool) (time.Time, error) {
	target := path
	if rename {
		path += "~"
	}
	f, err := os.Create(path)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := f.WriteString(content); err != nil {
		return time.Time{}, err
	}
	if !rename {
		begin := time.Now()
		return begin, f.Close()
	}
	if err := f.Close(); err != nil {
		return time.Time{}, err
	}
	begin := time.Now()
	return begin, os.Rename(path, target)
}

func within(ctx context.Context, ok func() bool) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Microsecond) {
		if ok() {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New("it did not arrive within a minute")
		}
	}
}

// content of a file of the burst: its length tells the round, so that a look at it is cheap.
func content(round, i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%5d %5d\n", round, i), 200+round)
}

// checkout copies a tree over another one as git does: old files are removed, not written over.
func checkout(from, to string) error {
	return exec.Command("cp", "-rT", "--remove-destination", from, to).Run()
}

// complete tells by their lengths whether all files of a round are there.
func complete(dir string, round int) bool {
	time.Sleep(2 * time.Millisecond) // even a cheap look takes from those who work
	for i := burstFiles - 1; i >= 0; i-- {
		info, err := os.Lstat(filepath.Join(dir, fmt.Sprint(i%100), fmt.Sprintf("f%d", i)))
		if err != nil || info.Size() != int64(12*(200+round)) {
			return false
		}
	}
	return true
}

// measureBursts changes as many files as a checkout does and waits until the container has them all, beside a copy of the
// same.
func measureBursts(ctx context.Context, w watcher, src, app string, bursts int, results *table) error {
	fmt.Fprintf(os.Stderr, "%s: a burst of %d files\n", w.name(), burstFiles)
	for round := range bursts {
		from := filepath.Join(w.folder(), fmt.Sprintf("burst%d", round))
		for i := range burstFiles {
			dir := filepath.Join(from, fmt.Sprint(i%100))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)), content(round, i), 0o644); err != nil {
				return err
			}
		}
		begin := time.Now()
		if err := checkout(from, filepath.Join(w.folder(), "copy")); err != nil {
			return err
		}
		results.add(fmt.Sprintf("cp -r of %d files", burstFiles), w.name(), time.Since(begin).Seconds())
		begin = time.Now()
		if err := checkout(from, filepath.Join(src, "burst")); err != nil {
			return err
		}
		copied := time.Since(begin).Seconds()
		if err := within(ctx, func() bool { return complete(filepath.Join(app, "burst"), round) }); err != nil {
			differ, _ := exec.Command("diff", "-rq", from, filepath.Join(app, "burst")).CombinedOutput()
			return fmt.Errorf("burst %d: %w\n%.500s", round, err, differ)
		}
		took := time.Since(begin).Seconds()
		if out, err := exec.Command("diff", "-rq", from, filepath.Join(app, "burst")).CombinedOutput(); err != nil {
			return fmt.Errorf("burst %d is not equal: %.500s", round, out)
		}
		results.add(fmt.Sprintf("watch: %d files, from the first to equal trees", burstFiles), w.name(), took)
		results.add(fmt.Sprintf("watch: %d files, after the last one was copied", burstFiles), w.name(), took-copied)
	}
	if w.name() != "stack" {
		return nil // no other watches its stack file
	}
	for i := range 10 {
		color := fmt.Sprintf("color%d", i)
		begin := time.Now()
		if err := w.file(watchFile(color)); err != nil {
			return err
		}
		if err := within(ctx, func() bool {
			root, err := rootOf(watchedSleep)
			if err != nil {
				return false
			}
			environ, err := os.ReadFile(filepath.Join(filepath.Dir(root), "environ"))
			return err == nil && bytes.Contains(environ, []byte("COLOR="+color))
		}); err != nil {
			return err
		}
		results.add("watch: edit of the stack file to new container", w.name(), time.Since(begin).Seconds())
	}
	return nil
}
