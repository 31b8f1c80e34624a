package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/stack-run/stack/e2e/host"
)

// stack is the contender that all this is about.
type stack struct {
	box
	program string
}

func (*stack) name() string { return "stack" }

func (s *stack) start(ctx context.Context, images *images) error {
	programs, err := host.Programs()
	if err != nil {
		return err
	}
	s.program = filepath.Join(programs, "stack")
	if err := s.boot(ctx, images); err != nil {
		return err
	}
	s.env = append(s.env, "STACK_ROOT="+filepath.Join(s.dir, "root"), "STACK_RUN=/run/stack", "STACK_CONFIG=")
	if err := s.file(services(1)); err != nil {
		return err
	}
	return errors.Join(s.pull(), s.up(), s.down()) // the daemon runs and the image is there
}

func (s *stack) up() error   { return s.run(s.program, "up", "-d") }
func (s *stack) down() error { return s.run(s.program, "down", "-t", "0") }
func (s *stack) pull() error { return s.run(s.program, "pull", "-q") }

func (s *stack) memory() (int64, error) { return s.box.memory("stack", "stack-shim") }

func (s *stack) stop() error {
	var err error
	if s.machine != nil {
		err = s.run(s.program, "daemon", "--stop")
	}
	return errors.Join(err, s.box.stop())
}
