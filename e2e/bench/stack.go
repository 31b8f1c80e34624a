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
	return s.boot(ctx, images)
}

func (s *stack) up() (float64, error)   { return s.run(s.program, "up", "-d") }
func (s *stack) down() (float64, error) { return s.run(s.program, "down", "-t", "0") }
func (s *stack) pull() (float64, error) { return s.run(s.program, "pull", "-q") }

func (s *stack) memory() (int64, error) { return s.box.memory("stack", "stack-shim") }

func (s *stack) stop() error {
	var err error
	if s.machine != nil {
		_, err = s.run(s.program, "daemon", "--stop")
	}
	return errors.Join(err, s.box.stop())
}
