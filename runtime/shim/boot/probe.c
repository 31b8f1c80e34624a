// A probe: one command in a running container, started without Go's runtime. The shim executes itself as
//
//	stack-probe     fd 0-2: the command's, 3: the request, 4: a pidfd of the container's first process, 5: for the answer
//
// and this joins the container's cgroups and namespaces, starts the command there as a child of the shim, and says
// which process that is. It does what libcontainer's nsexec.c and setns_init_linux.go do for `exec`, in their order, at a
// tenth of the cost: most of theirs is two starts of Go's runtime.
//
// The process is not dumpable, as there: nobody in the container looks into it before the command has taken its place. It
// holds nothing but its own container's request.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { REQUEST = 3, TARGET = 4, ANSWER = 5, LAST_FD = 5 };

// The request, as package probe writes it: this header; then groups, limits and filter; then strings, each ended by a
// zero byte: the working directory, the keyring, the AppArmor profile, the cgroups' files, the arguments, the environment.
struct header {
	uint32_t version, namespaces, uid, gid;
	int32_t umask, oom_score; // -1, and INT32_MIN: as they are
	uint32_t no_new_privs, filter_flags;
	uint64_t bounding, effective, permitted, inheritable, ambient;
	uint32_t groups, limits, filter, cgroups, args, env;
};

struct limit {
	uint64_t resource, soft, hard;
};

enum { VERSION = 1, NO_SCORE = INT32_MIN };

// Where a probe failed; package probe has the same.
enum stage { DONE, SETUP, JOIN, IDENTITY, DIRECTORY, EXECUTE };

struct answer {
	int32_t pid, stage, error;
};

struct probe {
	const struct header *h;
	const uint32_t *groups;
	const struct limit *limits;
	const struct sock_filter *filter;
	const char *directory, *keyring, *apparmor;
	char **cgroups, **args, **env;
	int proc; // the host's /proc
	volatile struct answer answer;
};

static char stack[32 << 10] __attribute__((aligned(16)));

static int report(struct probe *p, enum stage stage, int error)
{
	p->answer.stage = stage;
	p->answer.error = error;
	return -1;
}

static int write_to(int dir, const char *path, const char *text, size_t length)
{
	int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, length);
	int error = errno;
	close(fd);
	errno = error;
	return n == (ssize_t)length ? 0 : -1;
}

// strings cuts count strings off the request and returns them as a list that ends with NULL.
static char **strings(char **at, char *end, uint32_t count)
{
	char **list = calloc(count + 1, sizeof(*list));
	if (!list)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		char *stop = memchr(*at, 0, end - *at);
		if (!stop)
			return NULL;
		list[i] = *at;
		*at = stop + 1;
	}
	return list;
}

static int parse(struct probe *p)
{
	struct stat st;
	if (fstat(REQUEST, &st) < 0)
		return -1;
	char *at = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, REQUEST, 0), *end = at + st.st_size;
	if (at == MAP_FAILED)
		return -1;
	errno = EINVAL;
	const struct header *h = p->h = (const struct header *)at;
	if ((size_t)st.st_size < sizeof(*h) || h->version != VERSION)
		return -1;
	at += sizeof(*h);
	// 8-byte things first, so that all are aligned
	uint64_t size = h->limits * (uint64_t)sizeof(struct limit) + h->filter * (uint64_t)sizeof(struct sock_filter) + h->groups * 4ull;
	if (size > (uint64_t)(end - at))
		return -1;
	p->limits = (const struct limit *)at;
	at += h->limits * sizeof(struct limit);
	p->filter = (const struct sock_filter *)at;
	at += h->filter * sizeof(struct sock_filter);
	p->groups = (const uint32_t *)at;
	at += h->groups * 4;
	char **fixed = strings(&at, end, 3);
	if (!fixed)
		return -1;
	p->directory = fixed[0];
	p->keyring = fixed[1];
	p->apparmor = fixed[2];
	p->cgroups = strings(&at, end, h->cgroups);
	p->args = strings(&at, end, h->args);
	p->env = strings(&at, end, h->env);
	return p->cgroups && p->args && p->env && h->args > 0 ? 0 : -1;
}

// prepare is what needs the host: its files, and its privileges over the limits.
static int prepare(struct probe *p)
{
	const struct header *h = p->h;
	p->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->proc < 0)
		return -1;
	if (h->oom_score != NO_SCORE) {
		char text[16];
		int v = h->oom_score, i = sizeof(text);
		unsigned u = v < 0 ? -v : v;
		do
			text[--i] = '0' + u % 10;
		while ((u /= 10) > 0);
		if (v < 0)
			text[--i] = '-';
		if (write_to(AT_FDCWD, "/proc/self/oom_score_adj", text + i, sizeof(text) - i) < 0)
			return -1;
	}
	for (char **path = p->cgroups; *path; path++)
		if (write_to(AT_FDCWD, *path, "0", 1) < 0)
			return -1;
	// All processors of the cgroup, whatever the shim may use.
	static unsigned long all[128];
	memset(all, 0xff, sizeof(all));
	syscall(SYS_sched_setaffinity, 0, sizeof(all), all);
	for (uint32_t i = 0; i < h->limits; i++) {
		struct rlimit l = {p->limits[i].soft, p->limits[i].hard};
		if (setrlimit(p->limits[i].resource, &l) < 0)
			return -1;
	}
	return 0;
}

static int confine(struct probe *p)
{
	struct sock_fprog program = {p->h->filter, (struct sock_filter *)p->filter};
	if (p->h->filter == 0)
		return 0;
	if (p->h->filter_flags == 0)
		return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p->h->filter_flags, &program);
}

static int set_capabilities(const struct header *h)
{
	struct __user_cap_header_struct who = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
		{h->effective, h->permitted, h->inheritable},
		{h->effective >> 32, h->permitted >> 32, h->inheritable >> 32},
	};
	if (syscall(SYS_capset, &who, data) < 0)
		return -1;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -1;
	for (int c = 0; c < 64; c++)
		if (h->ambient >> c & 1)
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0); // libcontainer only warns, too
	return 0;
}

// become gives the process the user, the groups and the capabilities of the container.
static int become(struct probe *p)
{
	const struct header *h = p->h;
	int arrived = chdir(p->directory) == 0;
	if (!arrived && errno != EACCES && errno != EPERM)
		return report(p, DIRECTORY, errno);
	for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (!(h->bounding >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return report(p, IDENTITY, errno);
	// The system calls themselves: the C library's functions look after other threads, of which there are none.
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, h->groups, p->groups) < 0 ||
	    syscall(SYS_setgid, h->gid) < 0 || syscall(SYS_setuid, h->uid) < 0)
		return report(p, IDENTITY, errno);
	if (!arrived && chdir(p->directory) < 0) // the user may be allowed what root is not
		return report(p, DIRECTORY, errno);
	char here[4096];
	if (syscall(SYS_getcwd, here, sizeof(here)) < 0)
		return report(p, DIRECTORY, errno);
	if (here[0] != '/') // a folder of the host, got at by a file that was open
		return report(p, DIRECTORY, ENOENT);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0 || set_capabilities(h) < 0)
		return report(p, IDENTITY, errno);
	return 0;
}

static int set_apparmor(struct probe *p)
{
	char text[512] = "exec ";
	size_t length = strlen(p->apparmor);
	if (length == 0)
		return 0;
	if (length + 5 > sizeof(text)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(text + 5, p->apparmor, length);
	if (write_to(p->proc, "thread-self/attr/apparmor/exec", text, length + 5) == 0)
		return 0;
	return errno == ENOENT ? write_to(p->proc, "thread-self/attr/exec", text, length + 5) : -1;
}

// find executes the program, which is looked for in the folders of PATH unless its name has a slash.
static void find(struct probe *p)
{
	const char *name = p->args[0], *path = "";
	if (strchr(name, '/')) {
		execve(name, p->args, p->env);
		return;
	}
	for (char **e = p->env; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			path = *e + 5;
	int error = ENOENT;
	size_t length = strlen(name);
	while (*path) {
		size_t n = strcspn(path, ":");
		char file[4096];
		if (n > 0 && path[0] == '/' && n + 1 + length < sizeof(file)) {
			memcpy(file, path, n);
			file[n] = '/';
			memcpy(file + n + 1, name, length + 1);
			execve(file, p->args, p->env);
			if (errno == EACCES)
				error = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR)
				return;
		}
		path += n;
		if (*path)
			path++;
	}
	errno = error;
}

// command runs in the container's process namespace, as the process that becomes the command.
static int command(void *v)
{
	struct probe *p = v;
	const struct header *h = p->h;
	if (setsid() < 0)
		return report(p, IDENTITY, errno);
	if (h->namespaces & CLONE_NEWUSER)
		if (syscall(SYS_setuid, 0) < 0 || syscall(SYS_setgid, 0) < 0 || syscall(SYS_setgroups, 0, NULL) < 0)
			return report(p, IDENTITY, errno);
	if (*p->keyring && syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, p->keyring) < 0 && errno != ENOSYS)
		return report(p, IDENTITY, errno);
	if (h->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return report(p, IDENTITY, errno);
	if (h->umask >= 0)
		umask(h->umask);
	// Without no_new_privs a filter needs the capabilities that are about to go; with it, it comes last.
	if (!h->no_new_privs && confine(p) < 0)
		return report(p, IDENTITY, errno);
	if (become(p) < 0)
		return -1;
	if (set_apparmor(p) < 0)
		return report(p, IDENTITY, errno);
	if (syscall(SYS_close_range, 3, ~0U, 0) < 0)
		for (int fd = 3; fd < 64; fd++)
			close(fd);
	if (h->no_new_privs && confine(p) < 0)
		return report(p, IDENTITY, errno);
	find(p);
	return report(p, EXECUTE, errno);
}

static void run(struct probe *p)
{
	report(p, SETUP, 0);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || parse(p) < 0 || prepare(p) < 0) {
		p->answer.error = errno;
		return;
	}
	report(p, JOIN, 0);
	if (syscall(SYS_setns, TARGET, p->h->namespaces) < 0) {
		p->answer.error = errno;
		return;
	}
	report(p, DONE, 0);
	// As vfork does: this process waits until the command is executed or has failed, and shares its memory until then.
	int pid = clone(command, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | CLONE_PARENT | SIGCHLD, p);
	if (pid < 0)
		report(p, JOIN, errno);
	else
		p->answer.pid = pid;
}

__attribute__((constructor)) static void boot_probe(int argc, char **argv)
{
	if (argc != 1 || strcmp(argv[0], "stack-probe") != 0)
		return;
	struct probe p = {0};
	run(&p);
	struct answer a = {p.answer.pid, p.answer.stage, p.answer.error};
	ssize_t n = write(ANSWER, &a, sizeof(a));
	_exit(n == sizeof(a) ? 0 : 1);
}
