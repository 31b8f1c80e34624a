package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"
)

// Writing an unpacked image through to the disk takes longer than unpacking it, and nobody should wait for it: the blobs it
// was made from are on the disk already. So snapshots are used at once and synced in the background. Until that is done a
// record in unsynced/ names them; if the machine goes down before, the next start finds the record from another boot and
// drops those snapshots, which are then made anew from their blobs when next needed.

// unsyncedRecord is one file in unsynced/.
type unsyncedRecord struct {
	Boot   string   `json:"boot"`
	Chains []string `json:"chains"` // snapshots' names, lowest first
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// markUnsynced records, on the disk, that the snapshots of chain may not be.
func (s *Store) markUnsynced(chain []layer) (path string, err error) {
	rec := unsyncedRecord{}
	if rec.Boot, err = bootID(); err != nil {
		return "", err
	}
	for _, l := range chain {
		rec.Chains = append(rec.Chains, l.chain)
	}
	body, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.opts.Root, "unsynced")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "pull-*.json")
	if err != nil {
		return "", err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close(), syncDir(dir))
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncLater writes the snapshots through to the disk in the background, then drops their record.
func (s *Store) syncLater(record string) {
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		if err := s.syncNow(record); err != nil {
			s.opts.Logf("image store: syncing unpacked layers: %v", err)
		}
	}()
}

func (s *Store) syncNow(records ...string) error {
	dir, err := os.Open(s.snapDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	for _, record := range records {
		if err := os.Remove(record); err != nil {
			return err
		}
	}
	return nil
}

// recoverUnsynced handles what an earlier process left in unsynced/: the page cache of this boot is synced, snapshots of an
// earlier boot are dropped, and half-written ones are dropped in either case.
func (s *Store) recoverUnsynced(ctx context.Context) error {
	records, err := filepath.Glob(filepath.Join(s.opts.Root, "unsynced", "pull-*.json"))
	if err != nil {
		return err
	}
	if len(records) > 0 || !s.overlay { // with native, containers' folders are snapshots too
		if err := s.dropStrays(ctx); err != nil {
			return err
		}
	}
	if len(records) == 0 {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := s.dropStages(ctx); err != nil {
		return err
	}
	var sameBoot []string
	for _, path := range records {
		var rec unsyncedRecord
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		// A record that can't be read was being written: nothing was unpacked under it yet.
		if json.Unmarshal(body, &rec) == nil && rec.Boot == boot {
			sameBoot = append(sameBoot, path)
			continue
		}
		if err := s.dropChains(ctx, rec.Chains); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	if len(sameBoot) > 0 {
		s.work.Add(1)
		go func() {
			defer s.work.Done()
			if err := s.syncNow(sameBoot...); err != nil {
				s.opts.Logf("image store: syncing unpacked layers: %v", err)
			}
		}()
	}
	return nil
}

// dropChains removes snapshots from the top down. One that has others above it was synced before those were made.
func (s *Store) dropChains(ctx context.Context, chains []string) error {
	for i := len(chains) - 1; i >= 0; i-- {
		err := s.snaps.Remove(ctx, chains[i])
		if isFailedPrecondition(err) {
			return nil
		}
		if ignoreNotFound(err) != nil {
			return fmt.Errorf("drop snapshot %s: %w", short(chains[i]), err)
		}
	}
	return s.collect(ctx)
}

// dropStages removes snapshots that a process was writing when it ended.
func (s *Store) dropStages(ctx context.Context) error {
	var stages []string
	err := s.snaps.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if strings.HasPrefix(info.Name, stagePrefix) {
			stages = append(stages, info.Name)
		}
		return nil
	})
	if ignoreNotFound(err) != nil { // not found: no snapshot was ever made
		return err
	}
	for _, key := range stages {
		if err := s.dropStage(ctx, key); err != nil {
			return err
		}
	}
	if len(stages) > 0 {
		return s.collect(ctx)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
