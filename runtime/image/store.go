package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// Store holds images below one folder:
//
//	metadata.db     names, labels and what refers to what (containerd's metadata store)
//	content/        manifests, configs and layers as they came, by digest; unfinished downloads
//	overlay|native/ unpacked layers, one folder each, owned by containerd's snapshotter of that name
//	unsynced/       one record a pull whose unpacked files may not be on the disk yet (see durable.go)
//
// All methods may be called concurrently.
type Store struct {
	opts     Options
	registry *registryClient

	bolt    *bolt.DB
	db      *metadata.DB
	content content.Store
	images  images.Store
	leases  leases.Manager
	snaps   snapshots.Snapshotter
	backend snapshots.Snapshotter // below snaps, closed with the store
	overlay bool
	snapDir string // where the snapshotter keeps its folders

	base   context.Context // of work shared by callers; ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // background work: syncing, collecting

	pulls  flights[Image]
	layers flights[struct{}]
	blobs  flights[struct{}]
	slots  *semaphore.Weighted

	garbage   collector
	documents sync.Map // manifest digest -> *document
	lowers    sync.Map // chain -> []string, see layerDirs
	names     nameCache
	strays    sync.Mutex // see prepare
	naming    sync.Mutex // held while names are read and changed together
}

// Open opens the store below opts.Root, making it where there is none. It looks at nothing but what an earlier process
// left unfinished. ErrLocked means another process has it open.
func Open(ctx context.Context, opts Options) (_ *Store, err error) {
	silence()
	opts.setDefaults()
	if opts.Root == "" {
		return nil, errors.New("image store: no root folder given")
	}
	if err := os.MkdirAll(opts.Root, 0o700); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	s := &Store{opts: opts, slots: semaphore.NewWeighted(int64(opts.Parallel))}
	s.pulls.running, s.layers.running, s.blobs.running = &s.work, &s.work, &s.work
	s.base, s.cancel = context.WithCancel(s.ctx(context.WithoutCancel(ctx)))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.bolt, err = openBolt(filepath.Join(opts.Root, "metadata.db")); err != nil {
		return nil, fmt.Errorf("image store %s: %w", opts.Root, err)
	}
	store, err := local.NewStore(filepath.Join(opts.Root, "content"))
	if err != nil {
		return nil, fmt.Errorf("image store: content: %w", err)
	}
	if err := s.openSnapshotter(); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	s.db = metadata.NewDB(s.bolt, store, map[string]snapshots.Snapshotter{opts.Snapshotter: s.backend})
	if err := s.db.Init(s.base); err != nil {
		return nil, fmt.Errorf("image store: metadata: %w", err)
	}
	s.content = s.db.ContentStore()
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	s.snaps = s.db.Snapshotter(opts.Snapshotter)
	s.registry = newRegistryClient(opts)
	if err := errors.Join(s.dropViews(), s.dropIngests()); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	if err := s.recoverUnsynced(s.base); err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	return s, nil
}

// openBolt opens the database, waiting for a lock only as long as a process on its way out may hold it.
func openBolt(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 3 * time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrLocked
	}
	return db, err
}

func (s *Store) openSnapshotter() (err error) {
	s.snapDir = filepath.Join(s.opts.Root, s.opts.Snapshotter)
	switch s.opts.Snapshotter {
	case "overlay":
		s.overlay = true
		if err := haveOverlay(); err != nil {
			return err
		}
		s.backend, err = overlay.NewSnapshotter(s.snapDir)
	case "native":
		s.backend, err = native.NewSnapshotter(s.snapDir)
	default:
		return fmt.Errorf("no snapshotter %q: choose overlay or native", s.opts.Snapshotter)
	}
	return err
}

// haveOverlay asks the kernel for the filesystem, which loads its module where needed.
func haveOverlay() error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("this kernel has no overlayfs: load the module `overlay`, or set `snapshotter: native`: %w", err)
	}
	if err == nil {
		unix.Close(fd)
	}
	// Any other answer (a kernel before 5.2, a lack of rights) is left for the mount itself to report.
	return nil
}

// Close ends pulls and background work and closes the databases.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	if s.registry != nil {
		s.registry.base.CloseIdleConnections()
	}
	var errs []error
	if s.backend != nil {
		errs = append(errs, s.backend.Close())
	}
	if s.bolt != nil {
		errs = append(errs, s.bolt.Close())
	}
	return errors.Join(errs...)
}

// namespace is the one under which all records stand in containerd's metadata.
const namespace = "stack"

// silence covers the few places where they log without a context (a missing fs-verity is a warning to them).
var silence = sync.OnceFunc(func() { log.L = quiet })

// quiet keeps containerd's packages from writing to standard error: what matters of it comes back as errors.
var quiet = logrus.NewEntry(&logrus.Logger{Out: io.Discard, Formatter: &logrus.TextFormatter{}, Level: logrus.PanicLevel})

// ctx gives containerd's packages what they want in a context.
func (s *Store) ctx(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, namespace), quiet)
}
