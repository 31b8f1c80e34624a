// Process 1 of a container with `init: true`, in C and before Go's runtime: it costs a few pages of memory.
//
// Usage: docker-init [--] program [argument ...]
//
// It starts the program in a session's foreground group, passes every signal on to it, collects orphans, and ends with
// the program's exit code (128+signal when killed by one).

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

int stack_boot_linked;

// run starts the program with the signal mask that this process was started with.
static pid_t run(char **argv, const sigset_t *mask)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	setpgid(0, 0);
	if (isatty(STDIN_FILENO)) {
		// The group that owns the terminal is changed by a background process, which SIGTTOU would stop.
		signal(SIGTTOU, SIG_IGN);
		tcsetpgrp(STDIN_FILENO, getpgrp());
		signal(SIGTTOU, SIG_DFL);
	}
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int code = errno == ENOENT ? 127 : 126;
	fprintf(stderr, "exec %s: %s\n", argv[0], strerror(errno));
	_exit(code);
}

// collect reaps every child that has ended. It returns the program's exit code, or -1 while that runs.
static int collect(pid_t program)
{
	int code = -1, status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == program)
			code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	}
	return code;
}

static int container_init(char **argv)
{
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid_t program = run(argv, &before);
	if (program < 0) {
		perror("fork");
		return 126;
	}
	for (;;) {
		int sig = sigwaitinfo(&all, NULL);
		if (sig < 0)
			continue;
		if (sig == SIGCHLD) {
			int code = collect(program);
			if (code >= 0)
				return code;
		} else if (sig != SIGTTIN && sig != SIGTTOU) {
			kill(program, sig);
		}
	}
}

// The C library passes the arguments to constructors.
__attribute__((constructor)) static void boot(int argc, char **argv)
{
	if (argc < 1)
		return;
	const char *name = strrchr(argv[0], '/');
	name = name ? name + 1 : argv[0];
	if (strcmp(name, "docker-init") != 0)
		return;
	int first = 1;
	if (first < argc && strcmp(argv[first], "--") == 0)
		first++;
	if (first >= argc) {
		fprintf(stderr, "usage: docker-init [--] program [argument ...]\n");
		_exit(127);
	}
	_exit(container_init(argv + first));
}
