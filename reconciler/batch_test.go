package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

func TestRequestsThatComeWhileABatchIsServedFormTheNext(t *testing.T) {
	var sizes []int // written by one batch at a time
	first, release := make(chan struct{}), make(chan struct{})
	b := &batcher[int]{}
	b.serve = func(batch []*int) error {
		if sizes = append(sizes, len(batch)); len(sizes) == 1 {
			close(first)
			<-release
		}
		for _, n := range batch {
			*n *= 10
		}
		return nil
	}
	numbers := make([]int, 20)
	var wg sync.WaitGroup
	do := func(i int) {
		numbers[i] = i
		wg.Go(func() {
			if err := b.do(&numbers[i]); err != nil {
				t.Error(err)
			}
		})
	}
	do(0)
	<-first
	for i := 1; i < len(numbers); i++ {
		do(i)
	}
	for waiting := 0; waiting < len(numbers)-1; { // until all stand in line
		b.mu.Lock()
		waiting = len(b.waiting)
		b.mu.Unlock()
	}
	close(release)
	wg.Wait()
	if !slices.Equal(sizes, []int{1, len(numbers) - 1}) {
		t.Errorf("batches of %v", sizes)
	}
	for i, n := range numbers {
		if n != 10*i {
			t.Errorf("request %d was served as %d", i, n)
		}
	}
}

func TestOnesTroubleIsNotEveryones(t *testing.T) {
	b := &batcher[int]{}
	b.serve = func(batch []*int) error {
		for _, n := range batch {
			if *n == 3 {
				return fmt.Errorf("three: %w", errors.ErrUnsupported)
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if err := b.do(&n); (err != nil) != (n == 3) {
				t.Errorf("request %d: %v", n, err)
			}
		})
	}
	wg.Wait()
}
