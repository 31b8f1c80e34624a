package image

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
)

// waiters waits until so many callers share the work of key.
func waiters(f *flights[int], key string, n int) {
	for {
		f.mu.Lock()
		fl := f.open[key]
		ok := fl != nil && fl.waiting == n
		f.mu.Unlock()
		if ok {
			return
		}
		runtime.Gosched()
	}
}

func TestWorkGoesOnForThoseWhoStay(t *testing.T) {
	f := flights[int]{running: &sync.WaitGroup{}}
	release := make(chan struct{})
	work := func(ctx context.Context, report func(Progress)) (int, error) {
		select {
		case <-release:
			report(Progress{Phase: "done"})
			return 7, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	first, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := f.do(first, context.Background(), "k", nil, work); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v", err)
		}
	})
	waiters(&f, "k", 1)
	var heard []string
	wg.Go(func() {
		got, err := f.do(context.Background(), context.Background(), "k", func(p Progress) { heard = append(heard, p.Phase) }, work)
		if got != 7 || err != nil {
			t.Errorf("the one who stayed got %d, %v", got, err)
		}
	})
	waiters(&f, "k", 2)
	leave()
	waiters(&f, "k", 1)
	close(release)
	wg.Wait()
	if len(heard) != 1 {
		t.Errorf("the one who stayed heard %v", heard)
	}
}

func TestWorkEndsWithItsLastCaller(t *testing.T) {
	f := flights[int]{running: &sync.WaitGroup{}}
	ended, letGo := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context, _ func(Progress)) (int, error) {
		<-ctx.Done()
		close(ended)
		<-letGo // what it held is given back only now
		return 0, context.Cause(ctx)
	}
	first, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.do(first, context.Background(), "k", nil, slow) })
	waiters(&f, "k", 1)
	leave()
	<-ended
	started := make(chan struct{})
	wg.Go(func() {
		got, err := f.do(context.Background(), context.Background(), "k", nil, func(context.Context, func(Progress)) (int, error) {
			close(started)
			return 8, nil
		})
		if got != 8 || err != nil {
			t.Errorf("the one who came later got %d, %v", got, err)
		}
	})
	select {
	case <-started:
		t.Error("new work began while the old still held on")
	default:
	}
	close(letGo)
	wg.Wait()
}
