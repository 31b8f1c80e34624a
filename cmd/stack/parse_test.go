package main

import (
	"testing"
	"time"
)

func TestTimesAreReadAsDockerReadsThem(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"42m":                       now.Add(-42 * time.Minute),
		"2026-01-02T13:23:37Z":      time.Date(2026, 1, 2, 13, 23, 37, 0, time.UTC),
		"2026-01-02T13:23:37+01:00": time.Date(2026, 1, 2, 12, 23, 37, 0, time.UTC),
		"1136073600.5":              time.Unix(1136073600, 500_000_000),
		"1136073600":                time.Unix(1136073600, 0),
		"2026-01-02":                time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		got, err := parseTime(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
}

func FuzzShortForms(f *testing.F) {
	for _, seed := range []string{"web=3", "80", "127.0.0.1:8000-8010:80/udp", "[::1]:80:80", "data:/x:ro", "./a:/b:z,nocopy", "~/x:/y", "A=b", "=", "42m", "2026-01-02T13:23:37Z", "1.5", "all", `C:\x:/y`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if scale, err := parseScale([]string{text}); err == nil {
			for service, n := range scale {
				if service == "" || n < 0 {
					t.Errorf("scale %q: %v", text, scale)
				}
			}
		}
		if ports, err := parsePort(text); err == nil {
			for _, p := range ports {
				if p.Target == 0 || p.Protocol == "" {
					t.Errorf("port %q: %+v", text, p)
				}
			}
		}
		if m, err := parseMount(text, "/srv"); err == nil {
			if m.Target == "" || m.Target[0] != '/' || m.Type == "bind" && m.Source[0] != '/' {
				t.Errorf("mount %q: %+v", text, m)
			}
		}
		if pairs, err := parsePairs([]string{text}); err == nil {
			if _, ok := pairs[""]; ok {
				t.Errorf("pair %q has no name", text)
			}
		}
		parseTail(text)
		parseTime(text, time.Unix(0, 0))
		splitReference(text)
	})
}
