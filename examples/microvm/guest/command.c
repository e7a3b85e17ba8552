/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Starts the command as its user, with three pipes or a terminal. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "guest.h"

/* What the child could not do: it tells before it ends. */
struct failure {
	int status;
	char text[200];
};

/* Ours, and the command's. */
struct ends {
	int ours, theirs;
};

/* The command may open /dev/stdout anew, which goes by the pipe's owner. */
static struct ends make_pipe(const struct user *user, bool input)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0 || fchown(fds[0], user->uid, user->gid) < 0 ||
	    fchown(fds[1], user->uid, user->gid) < 0)
		fail(RUN_FAILED, "cannot make a pipe: %s", strerror(errno));
	fcntl(fds[input], F_SETFL, O_NONBLOCK);
	return input ? (struct ends){fds[1], fds[0]} : (struct ends){fds[0], fds[1]};
}

static struct ends make_terminal(const struct task *task, const struct user *user)
{
	struct winsize size = {.ws_row = task->rows, .ws_col = task->columns};
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), slave, unlocked = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCSWINSZ, &size) < 0)
		fail(RUN_FAILED, "cannot make a terminal: %s", strerror(errno));
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || fchown(slave, user->uid, 5) < 0)
		fail(RUN_FAILED, "cannot open the terminal: %s", strerror(errno));
	return (struct ends){master, slave};
}

/* ---- the child ---- */

static _Noreturn void give_up(int report, int status, const char *what, const char *which)
{
	struct failure failure = {.status = status};

	snprintf(failure.text, sizeof failure.text, "%s %.100s: %s", what, which, strerror(errno));
	if (write(report, &failure, sizeof failure) < 0)
		_exit(RUN_FAILED);
	_exit(status);
}

static void become(const struct user *user, int report)
{
	char name[32];

	snprintf(name, sizeof name, "%u:%u", user->uid, user->gid);
	if (setgroups(user->group_count, user->groups) < 0 || setgid(user->gid) < 0 || setuid(user->uid) < 0)
		give_up(report, RUN_FAILED, "cannot become user", name);
}

static void reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

static _Noreturn void run_child(struct task *task, const struct user *user, const int fds[3], int report)
{
	setsid();
	if (task->tty)
		ioctl(fds[0], TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		dup2(fds[i], i);
	become(user, report);
	if (chdir(task->cwd) < 0)
		give_up(report, RUN_FAILED, "cannot enter the directory", task->cwd);
	reset_signals();
	execvpe(task->argv[0], task->argv, task->env);
	give_up(report, errno == ENOENT ? RUN_NOT_FOUND : RUN_NOT_EXECUTABLE, "cannot run", task->argv[0]);
}

/* ---- */

static bool has_variable(const struct task *task, const char *name)
{
	size_t length = strlen(name);

	for (unsigned i = 0; i < task->env_count; i++)
		if (!strncmp(task->env[i], name, length) && task->env[i][length] == '=')
			return true;
	return false;
}

/* execvpe() searches by our own PATH, so that has to be the command's. */
static void complete_environment(struct task *task, const struct user *user)
{
	static char home[sizeof user->home + 8];

	if (!has_variable(task, "HOME") && task->env_count < MAX_WORDS) {
		snprintf(home, sizeof home, "HOME=%s", user->home);
		task->env[task->env_count++] = home;
	}
	clearenv();
	for (unsigned i = 0; i < task->env_count; i++)
		if (!strncmp(task->env[i], "PATH=", 5))
			putenv(task->env[i]);
}

/* Empty once the command has taken the child's place. */
static void check_started(int report)
{
	struct failure failure;
	ssize_t n;

	do
		n = read(report, &failure, sizeof failure);
	while (n < 0 && errno == EINTR);
	if (n == sizeof failure)
		fail(failure.status, "%s", failure.text);
	close(report);
}

void start_command(struct task *task, struct command *command)
{
	struct ends in, out, err;
	struct user user;
	int report[2];

	find_user(task->user, &user);
	complete_environment(task, &user);
	if (task->tty) {
		in = out = err = make_terminal(task, &user);
	} else {
		in = make_pipe(&user, true);
		out = make_pipe(&user, false);
		err = make_pipe(&user, false);
	}
	if (pipe2(report, O_CLOEXEC) < 0 || (command->pid = fork()) < 0)
		fail(RUN_FAILED, "cannot start a process: %s", strerror(errno));
	if (!command->pid)
		run_child(task, &user, (const int[]){in.theirs, out.theirs, err.theirs}, report[1]);
	close(report[1]);
	close(in.theirs);
	if (!task->tty) {
		close(out.theirs);
		close(err.theirs);
	}
	*command = (struct command){command->pid, in.ours, out.ours, err.ours};
	check_started(report[0]);
}
