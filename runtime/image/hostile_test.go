package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/stack-run/stack/runtime/image"
	"github.com/stack-run/stack/runtime/image/registrytest"
)

// loadLayers makes an image of the given layers through the front door.
func loadLayers(t testing.TB, s *image.Store, layers ...[]byte) (image.Image, error) {
	t.Helper()
	var list []v1.Layer
	for _, l := range layers {
		list = append(list, registrytest.Layer(t, l))
	}
	archive := craneArchive(t.(*testing.T), "example.com/hostile:1", registrytest.Image(t, v1.Config{}, list...))
	images, err := s.Load(ctx(t), bytes.NewReader(archive), image.LoadOptions{})
	if err != nil {
		return image.Image{}, err
	}
	return images[0], nil
}

func TestHostileLayersWriteNothingOutside(t *testing.T) {
	file, link, hard, dir := registrytest.File, registrytest.Link, registrytest.HardLink, registrytest.Dir
	device := registrytest.Entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}}
	for what, layers := range map[string][][]registrytest.Entry{
		"parent folders":                 {{file("../../../../escaped", "x"), file("a/../../../escaped", "x")}},
		"absolute path":                  {{file("/OUT/escaped", "x")}},
		"file through absolute link":     {{link("d", "OUT"), file("d/escaped", "x")}},
		"file through relative link":     {{link("d", "../../../../../../../../OUT"), file("d/escaped", "x")}},
		"file over a link":               {{link("f", "OUT/escaped"), file("f", "x")}},
		"folder over a link":             {{link("d", "OUT"), dir("d", 0o777), file("d/escaped", "x")}},
		"link of links":                  {{link("a", "b/c"), dir("b", 0o755), link("b/c", "OUT"), file("a/escaped", "x")}},
		"hard link to outside":           {{hard("h", "OUT/kept")}},
		"hard link to outside, relative": {{hard("h", "../../../../../../../../OUT/kept")}},
		"hard link through a link":       {{link("d", "OUT"), hard("h", "d/kept")}},
		"hard link into a lower layer":   {{link("d", "OUT")}, {hard("h", "d/kept")}},
		"lower layer's link":             {{link("d", "OUT")}, {file("d/escaped", "x"), dir("d/more", 0o755)}},
		"deletion outside":               {{file("a", "x")}, {file("../../../../OUT/.wh.kept", "")}},
		"deletion through a link":        {{link("d", "OUT")}, {link("d", "OUT"), file("d/.wh.kept", "")}},
		"opaque through a link":          {{link("d", "OUT")}, {link("d", "OUT"), file("d/.wh..wh..opq", "")}},
		"deletion of all":                {{file("a", "x")}, {file(".wh...", ""), file(".wh..", ""), file(".wh.", "")}},
		"device":                         {{device}},
		"trusted attribute":              {{registrytest.Entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/OUT"}}}}},
	} {
		t.Run(what, func(t *testing.T) {
			outside := t.TempDir()
			if err := os.WriteFile(filepath.Join(outside, "kept"), []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			var archives [][]byte
			for _, entries := range layers {
				for i := range entries {
					entries[i].Name = strings.ReplaceAll(entries[i].Name, "OUT", outside)
					entries[i].Linkname = strings.ReplaceAll(entries[i].Linkname, "OUT", outside)
				}
				archives = append(archives, registrytest.Tar(t, entries...))
			}
			root := filepath.Join(t.TempDir(), "images")
			s := openAt(t, root)
			img, err := loadLayers(t, s, archives...)
			if err != nil && !errors.Is(err, image.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				dir, release, err := s.Mounted(ctx(t), img.ID)
				if err != nil {
					t.Fatal(err)
				}
				if err := release(); err != nil || dir == "" {
					t.Error(dir, err)
				}
			}
			left, _ := os.ReadDir(outside)
			if len(left) != 1 || contentOf(t, outside, "kept") != "kept" {
				t.Errorf("outside now holds %v", left)
			}
			var st, _ = os.Stat(filepath.Join(outside, "kept"))
			if n := links(st); n != 1 {
				t.Errorf("the file outside has %d links", n)
			}
			// Nothing above the layers' folders either.
			for _, dir := range []string{root, filepath.Join(root, "overlay"), filepath.Join(root, "overlay/snapshots"), filepath.Dir(root)} {
				if _, err := os.Lstat(filepath.Join(dir, "escaped")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("escaped into %s", dir)
				}
			}
		})
	}
}

func TestAbsurdLayersAreRefused(t *testing.T) {
	small := func(o *image.Options) { o.Limits = image.Limits{LayerEntries: 100, LayerBytes: 1 << 20, Layers: 4} }
	var many []registrytest.Entry
	for i := range 200 {
		many = append(many, registrytest.File(strings.Repeat("f", i+1), ""))
	}
	tiny := registrytest.Tar(t, registrytest.File("f", ""))
	for what, layers := range map[string][][]byte{
		"entries":         {registrytest.Tar(t, many...)},
		"bytes":           {registrytest.Tar(t, registrytest.File("big", strings.Repeat("x", 2<<20)))},
		"bytes behind":    {append(registrytest.Tar(t, registrytest.File("f", "")), make([]byte, 4<<20)...)},
		"layers":          {tiny, tiny, tiny, tiny, tiny},
		"name":            {registrytest.Tar(t, registrytest.File(strings.Repeat("n", 300), "x"))},
		"path":            {registrytest.Tar(t, registrytest.File(strings.Repeat("d/", 5000)+"f", "x"))},
		"a loop of links": {registrytest.Tar(t, registrytest.Link("a", "b"), registrytest.Link("b", "a"), registrytest.File("a/f", "x"))},
		"no tar":          {[]byte(strings.Repeat("this is no tar archive. ", 100))},
		"half a tar":      {registrytest.Tar(t, registrytest.File("f", strings.Repeat("x", 5000)))[:3000]},
	} {
		t.Run(what, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), "images")
			s := openAt(t, root, small)
			if img, err := loadLayers(t, s, layers...); !errors.Is(err, image.ErrInvalid) {
				t.Errorf("got %v, %v", img.ID, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left := leftovers(t, root); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFilesKeepWhatTheLayerSays(t *testing.T) {
	s := open(t)
	img, err := loadLayers(t, s, registrytest.Tar(t,
		registrytest.Entry{Header: tar.Header{Name: "suid", Mode: 0o4755, Uid: 12, Gid: 34, PAXRecords: map[string]string{"SCHILY.xattr.user.note": "kept"}}, Body: "x"},
		registrytest.Entry{Header: tar.Header{Name: "again", Typeflag: tar.TypeLink, Linkname: "suid", Mode: 0o4755, Uid: 12, Gid: 34}},
		registrytest.Entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o600}},
		registrytest.Entry{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
		registrytest.Entry{Header: tar.Header{Name: "owned", Typeflag: tar.TypeDir, Mode: 0o2775, Uid: 5, Gid: 6}},
	), registrytest.Tar(t, registrytest.File("owned/below", "x"), registrytest.File("new/deep/file", "x")))
	if err != nil {
		t.Fatal(err)
	}
	root := mountRootfs(t, s, img.ID, "c")
	for path, want := range map[string]string{
		"suid": "urwxr-xr-x 12:34", "again": "urwxr-xr-x 12:34", "fifo": "prw------- 0:0", "null": "Dcrw-rw-rw- 0:0",
		"owned": "dgrwxrwxr-x 5:6", "new/deep": "drwxr-xr-x 0:0",
	} {
		if got := described(t, filepath.Join(root, path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if got := attribute(t, filepath.Join(root, "suid"), "user.note"); got != "kept" {
		t.Errorf("attribute %q", got)
	}
	if fi, err := os.Stat(filepath.Join(root, "suid")); err != nil || fi.ModTime().Unix() != 1_700_000_000 {
		t.Errorf("time %v, %v", fi.ModTime(), err)
	}
}

func TestReadFileStaysInTheImage(t *testing.T) {
	s := open(t)
	img, err := loadLayers(t, s, registrytest.Tar(t,
		registrytest.Dir("etc", 0o755), registrytest.File("etc/passwd", "inside"), registrytest.Link("abs", "/etc/passwd"),
		registrytest.Link("up", "../../../../../../etc/passwd"), registrytest.Link("magic", "/proc/self/root/etc/passwd"),
		registrytest.Entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}}),
		registrytest.Tar(t, registrytest.File("etc/group", "from above")))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/etc/passwd": "inside", "abs": "inside", "up": "inside", "etc/group": "from above", "/../../etc/group": "from above"} {
		if got, err := s.ReadFile(ctx(t), img.ID, path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"magic", "/etc/shadow", "gone"} {
		if got, err := s.ReadFile(ctx(t), img.ID, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := s.ReadFile(ctx(t), img.ID, "fifo"); err == nil {
		t.Error("read a fifo")
	}
	if table := contentOf(t, "/proc/self/mountinfo"); strings.Contains(table, "/views/") {
		t.Error("a view is in the mount table")
	}
}
