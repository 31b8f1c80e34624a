package source

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// Entries implements Source.
func (g *Git) Entries(ctx context.Context, rev Revision) ([]Entry, error) {
	args := []string{"ls-tree", "-r", "-t", "-z", "--full-tree", rev.ID}
	sparse := len(g.Sparse) > 0
	for _, p := range g.Sparse {
		if p = filepath.ToSlash(filepath.Clean(p)); p == "." {
			args, sparse = args[:6], false
			break
		}
		args = append(args, p)
	}
	out, err := g.run(ctx, nil, args...)
	if err != nil {
		return nil, g.blame(err)
	}
	var entries []Entry
	if !sparse {
		top, err := g.run(ctx, nil, "rev-parse", "--verify", rev.ID+"^{tree}")
		if err != nil {
			return nil, g.blame(err)
		}
		entries = append(entries, Entry{Mode: Folder, ID: string(bytes.TrimSpace(top))})
	}
	for record := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		meta, path, ok := strings.Cut(record, "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) != 3 {
			continue
		}
		e := Entry{Path: path, ID: fields[2]}
		switch fields[0] {
		case "100755":
			e.Mode = Executable
		case "120000":
			e.Mode = Symlink
		case "040000":
			e.Mode = Folder
		case "160000": // a submodule
			continue
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Read implements Source. Blobs that are not here yet are fetched all at once: git itself would ask for one by one.
func (g *Git) Read(ctx context.Context, rev Revision, entries []Entry, f func(e Entry, size int64, r io.Reader) error) error {
	if len(entries) == 0 {
		return nil
	}
	if err := g.fetchBlobs(ctx, rev, entries); err != nil {
		return err
	}
	var ask bytes.Buffer
	for _, e := range entries {
		ask.WriteString(e.ID + "\n")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := g.stream(ctx, &ask, w, "cat-file", "--batch")
		w.CloseWithError(err)
		failed <- err
	}()
	err := readBatch(bufio.NewReaderSize(r, 64<<10), entries, f)
	r.CloseWithError(err) // git stops writing
	if err != nil {
		cancel()
	}
	if gitErr := <-failed; err == nil && gitErr != nil {
		return g.blame(gitErr)
	}
	return err
}

func readBatch(r *bufio.Reader, entries []Entry, f func(e Entry, size int64, r io.Reader) error) error {
	for _, e := range entries {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, e.Path, err)
		}
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[1] != "blob" {
			return fmt.Errorf("%w: %s: %s", ErrUnavailable, e.Path, strings.TrimSpace(line))
		}
		size, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return err
		}
		content := io.LimitReader(r, size)
		if err := f(e, size, content); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return err
		}
		if _, err := r.Discard(1); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, e.Path, err)
		}
	}
	return nil
}

// fetchBlobs fetches those of the entries that the partial clone lacks.
func (g *Git) fetchBlobs(ctx context.Context, rev Revision, entries []Entry) error {
	out, err := g.run(ctx, nil, "rev-list", "--objects", "--no-object-names", "--missing=print", rev.ID+"^{tree}")
	if err != nil {
		return g.blame(err)
	}
	missing := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "?"); ok {
			missing[id] = true
		}
	}
	var want bytes.Buffer
	for _, e := range entries {
		if missing[e.ID] {
			want.WriteString(e.ID + "\n")
			delete(missing, e.ID)
		}
	}
	if want.Len() == 0 {
		return nil
	}
	_, err = g.run(ctx, &want, "-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "origin", "--no-tags", "--no-write-fetch-head",
		"--recurse-submodules=no", "--filter=blob:none", "--stdin")
	return g.blame(err)
}
