package logs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/runtime/logs"
)

func open(t testing.TB, c logs.Config) *logs.Writer {
	t.Helper()
	w, err := logs.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t testing.TB, s *logs.Stream, text string) {
	t.Helper()
	if err := s.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// read returns the lines of a log as the options ask for them.
func read(t testing.TB, path string, o logs.Options) []string {
	t.Helper()
	var all []string
	if err := logs.Read(t.Context(), path, o, func(e logs.Entry) error {
		all = append(all, string(e.Line))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", logs.MaxLine)
	for _, c := range []struct {
		situation string
		writes    []string
		want      []string
	}{
		{"a line", []string{"one\n"}, []string{"one\n"}},
		{"lines in one write", []string{"one\ntwo\n\nthree\n"}, []string{"one\n", "two\n", "\n", "three\n"}},
		{"a line in pieces", []string{"o", "", "ne\ntw", "o\n"}, []string{"one\n", "two\n"}},
		{"the last line has no end", []string{"one\ntwo"}, []string{"one\n", "two"}},
		{"no line at all", []string{"", ""}, nil},
		{"just long enough", []string{long + "\n"}, []string{long + "\n"}},
		{"just long enough, its end later", []string{long, "\n"}, []string{long + "\n"}},
		{"too long", []string{long + "yz\n"}, []string{long, "yz\n"}},
		{"far too long, in pieces", []string{long + "a", long + "\nend\n"}, []string{long, "a" + long[1:], "x\n", "end\n"}},
		{"quotes, controls and bytes that are no UTF-8", []string{"\"\\\t\r\x00\x1b[1mä€\xff\xfe\u2028\n"}, []string{"\"\\\t\r\x00\x1b[1mä€\ufffd\ufffd\u2028\n"}},
	} {
		t.Run(c.situation, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log", "json.log")
			w := open(t, logs.Config{Path: path})
			s := w.Stream(logs.Stdout)
			for _, text := range c.writes {
				write(t, s, text)
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path, logs.Options{}); !slices.Equal(got, c.want) {
				t.Errorf("read %q, want %q", got, c.want)
			}
		})
	}
}

func TestFormatIsThatOfDocker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	w := open(t, logs.Config{Path: path, Attrs: map[string]string{"tag": "a\"b"}})
	write(t, w.Stream(logs.Stderr), "text\n")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Log    string
		Stream string
		Attrs  map[string]string
		Time   time.Time
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Log != "text\n" || got.Stream != "stderr" || got.Attrs["tag"] != "a\"b" || time.Since(got.Time) > time.Minute || !strings.HasSuffix(string(data), "Z\"}\n") {
		t.Errorf("wrote %s", data)
	}
}

func TestTimesGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	future := time.Now().Add(time.Hour).UTC()
	line := fmt.Sprintf(`{"log":"old\n","stream":"stdout","time":"%s"}`+"\n", future.Format(time.RFC3339Nano))
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, logs.Config{Path: path})
	write(t, w.Stream(logs.Stdout), strings.Repeat("x\n", 100))
	last := time.Time{}
	count := 0
	if err := logs.Read(t.Context(), path, logs.Options{}, func(e logs.Entry) error {
		if !e.Time.After(last) {
			t.Errorf("%s after %s", e.Time, last)
		}
		last, count = e.Time, count+1
		return nil
	}); err != nil || count != 101 {
		t.Errorf("%d entries, %v", count, err)
	}
}

func TestATornLineIsCutOff(t *testing.T) {
	for _, torn := range []string{`{"log":"half`, strings.Repeat("x", 10000)} {
		path := filepath.Join(t.TempDir(), "json.log")
		w := open(t, logs.Config{Path: path})
		write(t, w.Stream(logs.Stdout), "one\n")
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(torn)
		f.Close()
		w = open(t, logs.Config{Path: path})
		write(t, w.Stream(logs.Stdout), "two\n")
		if got := read(t, path, logs.Options{}); !slices.Equal(got, []string{"one\n", "two\n"}) {
			t.Errorf("read %q", got)
		}
		if data, _ := os.ReadFile(path); strings.Contains(string(data), torn) {
			t.Errorf("the torn line is there: %s", data)
		}
	}
}

// numbers writes lines "0" to "n-1", one a write.
func numbers(t testing.TB, s *logs.Stream, from, to int) (want []string) {
	t.Helper()
	for i := from; i < to; i++ {
		line := fmt.Sprintf("%d\n", i)
		write(t, s, line)
		want = append(want, line)
	}
	return want
}

func TestRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress %v", compress), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "json.log")
			w := open(t, logs.Config{Path: path, MaxSize: 1000, MaxFiles: 3, Compress: compress})
			all := numbers(t, w.Stream(logs.Stdout), 0, 200)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
				if info, err := e.Info(); err != nil || info.Size() > 1000 {
					t.Errorf("%s: %v %v", e.Name(), info, err)
				}
			}
			want := []string{"json.log", "json.log.1", "json.log.2"}
			if compress {
				want = []string{"json.log", "json.log.1.gz", "json.log.2.gz"}
			}
			if !slices.Equal(names, want) {
				t.Errorf("files %v, want %v", names, want)
			}
			got := read(t, path, logs.Options{})
			if len(got) < 20 || !slices.Equal(got, all[len(all)-len(got):]) {
				t.Errorf("read %d lines: %q", len(got), got)
			}
			for n := 1; n < len(got); n++ {
				if tail := read(t, path, logs.Options{Tail: n}); !slices.Equal(tail, got[len(got)-n:]) {
					t.Fatalf("tail %d: %q", n, tail)
				}
			}
		})
	}
}

func TestOneFileIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	w := open(t, logs.Config{Path: path, MaxSize: 500})
	all := numbers(t, w.Stream(logs.Stdout), 0, 100)
	got := read(t, path, logs.Options{})
	if len(got) == 0 || len(got) > 10 || !slices.Equal(got, all[len(all)-len(got):]) {
		t.Errorf("read %q", got)
	}
}

func TestTailAndTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	w := open(t, logs.Config{Path: path})
	all := numbers(t, w.Stream(logs.Stdout), 0, 5000)
	var times []time.Time
	if err := logs.Read(t.Context(), path, logs.Options{}, func(e logs.Entry) error {
		times = append(times, e.Time)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		situation string
		options   logs.Options
		want      []string
	}{
		{"everything", logs.Options{}, all},
		{"nothing", logs.Options{Tail: logs.TailNone}, nil},
		{"one", logs.Options{Tail: 1}, all[4999:]},
		{"more than a block", logs.Options{Tail: 3000}, all[2000:]},
		{"more than there are", logs.Options{Tail: 9000}, all},
		{"since", logs.Options{Since: times[4000]}, all[4000:]},
		{"until", logs.Options{Until: times[10]}, all[:11]},
		{"between", logs.Options{Since: times[5], Until: times[6]}, all[5:7]},
		{"the tail since", logs.Options{Tail: 10, Since: times[4995]}, all[4995:]},
	} {
		t.Run(c.situation, func(t *testing.T) {
			if got := read(t, path, c.options); !slices.Equal(got, c.want) {
				t.Errorf("read %d lines, want %d", len(got), len(c.want))
			}
		})
	}
	if got := read(t, path+".nothing", logs.Options{Tail: 3}); got != nil {
		t.Errorf("read %q of no log", got)
	}
}

func TestFollow(t *testing.T) {
	for _, compress := range []bool{false, true} {
		for _, files := range []int{1, 5} {
			if compress && files == 1 {
				continue
			}
			t.Run(fmt.Sprintf("%d files, compress %v", files, compress), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "later", "json.log")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				lines := make(chan string)
				done := make(chan error, 1)
				go func() {
					done <- logs.Read(ctx, path, logs.Options{Follow: true}, func(e logs.Entry) error {
						lines <- string(e.Line)
						return nil
					})
				}()
				// A reader that keeps up sees every line across all rotations.
				w := open(t, logs.Config{Path: path, MaxSize: 700, MaxFiles: files, Compress: compress})
				s := w.Stream(logs.Stdout)
				for i := range 300 {
					line := fmt.Sprintf("%d\n", i)
					write(t, s, line)
					select {
					case got := <-lines:
						if got != line {
							t.Fatalf("got %q, want %q", got, line)
						}
					case err := <-done:
						t.Fatalf("ended before %q: %v", line, err)
					}
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Errorf("ended by %v", err)
				}
			})
		}
	}
}

func TestFollowFromTheEnd(t *testing.T) {
	for _, c := range []struct {
		situation string
		tail      int
		first     string
	}{{"all", 0, "0\n"}, {"the last two", 2, ""}, {"only what comes", logs.TailNone, "new\n"}} {
		t.Run(c.situation, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "json.log")
			w := open(t, logs.Config{Path: path})
			numbers(t, w.Stream(logs.Stdout), 0, 10)
			stop := make(chan struct{})
			var writer sync.WaitGroup
			writer.Go(func() { // a reader that begins meets a writer that goes on
				s := w.Stream(logs.Stdout)
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						write(t, s, "new\n")
					}
				}
			})
			var got []string
			enough := errors.New("enough")
			err := logs.Read(t.Context(), path, logs.Options{Tail: c.tail, Follow: true}, func(e logs.Entry) error {
				got = append(got, string(e.Line))
				if len(got) > 20 {
					return enough
				}
				return nil
			})
			close(stop)
			writer.Wait()
			if !errors.Is(err, enough) || c.first != "" && got[0] != c.first {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestNone(t *testing.T) {
	w := open(t, logs.Config{Driver: logs.None})
	write(t, w.Stream(logs.Stdout), "gone\n")
	if _, err := logs.Open(logs.Config{Driver: "syslog"}); err == nil {
		t.Error("an unknown driver was taken")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.6Z\"}\n{\"log\""), 3)
	f.Add([]byte("\n\n\x00\xff{}\n{\"log\":null}\n"), 0)
	f.Add([]byte{}, -1)
	f.Fuzz(func(t *testing.T, data []byte, tail int) {
		path := filepath.Join(t.TempDir(), "json.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".1.gz", data, 0o600); err != nil {
			t.Fatal(err)
		}
		all := len(read(t, path, logs.Options{}))
		if n := len(read(t, path, logs.Options{Tail: tail})); n > all || tail > 0 && n > tail {
			t.Errorf("tail %d: %d of %d entries", tail, n, all)
		}
		// Whatever was there, the log goes on.
		w := open(t, logs.Config{Path: path})
		write(t, w.Stream(logs.Stdout), "new\n")
		if got := read(t, path, logs.Options{Tail: 1}); !slices.Equal(got, []string{"new\n"}) {
			t.Errorf("read %q", got)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := open(b, logs.Config{Path: filepath.Join(b.TempDir(), "json.log"), MaxSize: 10 << 20, MaxFiles: 2})
	s := w.Stream(logs.Stdout)
	block := []byte(strings.Repeat("a line of some eighty characters, as a server logs one for each of its requests\n", 400))
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		write(b, s, string(block))
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "json.log")
	w := open(b, logs.Config{Path: path})
	for range 100 {
		write(b, w.Stream(logs.Stdout), strings.Repeat("a line of some eighty characters, as a server logs one for each of its requests\n", 400))
	}
	info, _ := os.Stat(path)
	b.SetBytes(info.Size())
	for b.Loop() {
		read(b, path, logs.Options{})
	}
}

func TestLimitsChangeWhileTheLogIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log", "c.log")
	c := logs.Config{Path: path, MaxSize: 400, MaxFiles: 5}
	w := open(t, c)
	s, hook := w.Stream(logs.Stdout), w.Marked(logs.Stdout, "hook", "post_start")
	for i := range 40 {
		write(t, s, fmt.Sprintf("line %d of the log\n", i))
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 5 {
		t.Fatalf("there are the files %v", files)
	}
	c.MaxFiles, c.MaxSize, c.Attrs = 2, 1<<20, map[string]string{"tag": "new"}
	if err := w.Adjust(c); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 2 {
		t.Errorf("there are the files %v", files)
	}
	for range 20 {
		write(t, s, "after\n")
		write(t, hook, "after\n")
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 2 {
		t.Errorf("there are the files %v", files)
	}
	after, hooks := 0, 0
	err := logs.Read(t.Context(), path, logs.Options{}, func(e logs.Entry) error {
		if string(e.Line) == "after\n" {
			after++
			if e.Attrs["tag"] != "new" {
				t.Fatalf("the entry has the attributes %v", e.Attrs)
			}
			if e.Attrs["hook"] != "" {
				hooks++
			}
		}
		return nil
	})
	if err != nil || after != 40 || hooks != 20 {
		t.Errorf("%d of 40 lines are kept, %d of them a hook's: %v", after, hooks, err)
	}
}
