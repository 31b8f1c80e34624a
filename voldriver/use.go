package voldriver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
)

// Acquire attaches the volume for user (a container's ID) and returns the path of its data. Acquiring again is
// harmless, and makes sure that the volume is still attached.
func (s *Store) Acquire(ctx context.Context, name, user string) (string, error) {
	st := s.lock(name)
	defer st.mu.Unlock()
	v, err := s.Get(name)
	if err != nil {
		return "", err
	}
	backend, err := s.backend(v)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(v.Mountpoint, 0o755); err != nil {
		return "", err
	}
	if err := s.attach(ctx, backend, v, st); err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	st.users[user] = true
	return v.Mountpoint, nil
}

// Release ends user's use of the volume and detaches it when that was the last. Releasing what is not held succeeds.
func (s *Store) Release(ctx context.Context, name, user string) error {
	st := s.lock(name)
	defer st.mu.Unlock()
	delete(st.users, user)
	return s.detachUnused(ctx, name, st)
}

// ReleaseUser releases all that user holds.
func (s *Store) ReleaseUser(ctx context.Context, user string) error {
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.state))
	s.mu.Unlock()
	var errs []error
	for _, name := range names {
		if slices.Contains(s.Users(name), user) {
			errs = append(errs, s.Release(ctx, name, user))
		}
	}
	return errors.Join(errs...)
}

// Restore tells a Store that has just been opened who uses what, and detaches what a crash left attached.
func (s *Store) Restore(ctx context.Context, users map[string][]string) error {
	volumes, err := s.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range volumes {
		st := s.lock(v.Name)
		for _, user := range users[v.Name] {
			st.users[user] = true
		}
		if b, ok := s.Backends[v.Driver]; ok && b.Foreign(v) {
			errs = append(errs, s.detachUnused(ctx, v.Name, st))
			if a, ok := b.(Adopter); ok {
				st.data = a.Identify(v)
			}
		}
		st.mu.Unlock()
	}
	return errors.Join(errs...)
}

// Users are those who hold the volume.
func (s *Store) Users(name string) []string {
	st := s.lock(name)
	defer st.mu.Unlock()
	return st.names()
}

func (st *state) names() []string { return slices.Sorted(maps.Keys(st.users)) }

// detachUnused is called with the volume locked.
func (s *Store) detachUnused(ctx context.Context, name string, st *state) error {
	if len(st.users) > 0 {
		return nil
	}
	v, err := s.Get(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	backend, err := s.backend(v)
	if err != nil {
		return err
	}
	if err := backend.Detach(ctx, v); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return nil
}
