package source

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// What the packs may come to before all but the revision in use is thrown away: a server may send as much as maxSize for each
// commit that is refused. One attempt brings at most three times maxSize: commits, their history, and files.
const (
	crowded   = 4 // times maxSize
	manyPacks = 50
)

// shrink bounds the disk. Git's own gc can't: whatever came from the server of a partial clone it keeps for ever.
func (g *Git) shrink(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(g.dir(), "objects/pack/*"))
	if err != nil {
		return err
	}
	var size int64
	packs := 0
	for _, file := range files {
		if st, err := os.Stat(file); err == nil {
			size += st.Size()
		}
		if strings.HasSuffix(file, ".pack") {
			packs++
		}
	}
	if packs < manyPacks && size <= crowded*g.MaxSize {
		return nil
	}
	if err := g.keepUsed(ctx); err == nil || ctx.Err() != nil {
		return err
	}
	// Nothing is in use yet, or it can't be told apart: all of it is fetched anew. Checkouts are not touched.
	g.opened = false
	if err := os.RemoveAll(g.dir()); err != nil {
		return err
	}
	return g.open(ctx)
}

// keepUsed makes one pack of the revision in use, and removes everything else. History begins there, as it did with the first
// fetch; what comes after it can be told from what does not. Every step may be repeated after a crash.
func (g *Git) keepUsed(ctx context.Context) error {
	out, err := g.run(ctx, nil, "rev-parse", "--quiet", "--verify", usedRef+"^{commit}")
	if err != nil {
		return err
	}
	used, tip := string(bytes.TrimSpace(out)), usedRef
	if fetched, err := g.run(ctx, nil, "rev-parse", "--quiet", "--verify", fetchedRef+"^{commit}"); err == nil && bytes.Equal(fetched, out) {
		tip = fetchedRef // which may be a tag, that is signed
	}
	objects, err := g.run(ctx, nil, "rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--max-count=1", tip)
	if err != nil {
		return err
	}
	// No search for deltas: what there is, is copied.
	name, err := g.run(ctx, bytes.NewReader(objects), "pack-objects", "--quiet", "--window=0", filepath.Join(g.dir(), "objects/pack/pack"))
	if err != nil {
		return err
	}
	pack := "pack-" + string(bytes.TrimSpace(name)) + "."
	if err := os.WriteFile(filepath.Join(g.dir(), "objects/pack", pack+"promisor"), nil, 0o600); err != nil {
		return err
	}
	if _, err := g.run(ctx, nil, "update-ref", fetchedRef, tip); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.dir(), "shallow"), []byte(used+"\n"), 0o600); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(g.dir(), "objects/pack/*"))
	errs := []error{err}
	for _, file := range files {
		if !strings.HasPrefix(filepath.Base(file), pack) {
			errs = append(errs, os.Remove(file))
		}
	}
	return errors.Join(errs...)
}
