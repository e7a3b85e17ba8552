/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* microvm: what its parts share. */
#ifndef MICROVM_H
#define MICROVM_H

#include <virtcore/virtcore.h>

#define MAX_DEVICES 64
#define MAX_MODULES 15
#define MAX_PLACES  255

/* Exit statuses. All are even: a debug-exit gives (value << 1) | 1, which is odd, as test kernels expect. */
enum status {
	STATUS_POWEROFF = 0,
	STATUS_USAGE = 64,
	STATUS_ERROR = 70,
	STATUS_CRASH = 100,
	STATUS_RESET = 102,
	STATUS_STOPPED = 104,
	STATUS_HALT = 106,
	STATUS_MIGRATED = 108,
	STATUS_TIMEOUT = 124,
};

struct settings {
	struct vcore_options vm;
	struct vcore_boot_options boot;
	const char *config;               /* JSON file */
	const char *devices[MAX_DEVICES]; /* "type,k=v" */
	unsigned device_count;
	const char *modules[MAX_MODULES + 1];
	unsigned module_count;
	const char *places[MAX_PLACES + 1]; /* "N,k=v" */
	unsigned place_count;
	const char *serial;      /* stdio, none, pty, file:PATH */
	const char *debug_exit;  /* port as text; NULL: none */
	const char *gdb_address; /* NULL: the library's default */
	const char *monitor;     /* path of its socket; NULL: none */
	const char *snapshot;    /* file for SIGUSR1; NULL: none */
	const char *restore;     /* snapshot's file to go on from; NULL: none */
	const char *incoming;    /* where a vm comes in from another process; NULL: none */
	const char *api_sock;    /* where Firecracker's API is served; NULL: none */
	const char *api_file;    /* what that API would be told, as JSON; NULL: nothing */
	const char *api_id, *api_metadata, *api_log, *api_level, *api_metrics;
	double timeout;          /* seconds; 0: none */
	uint64_t lockstep_limit; /* instructions to compare; 0: to the end */
	bool stats, verbose, trace, gdb, print_config;
	bool no_api;          /* api_file, and nothing to be told later */
	bool no_verify;       /* --restore without looking at the checksums of memory */
	bool shape_given;     /* an option that --config, --restore and --incoming exclude */
	bool execution_given; /* one that --config does: backend, engine */
};

/* option_rows.c: a row of a command line. */
struct option_row {
	const char *name, *argument; /* argument NULL: none; in []: may be left out */
	int id;                      /* for take_option; 0: nothing more is to be done */
	const char *help;
	size_t text,
	    flag;    /* of the settings: a const char * that becomes the argument, a bool that becomes true; 0: none */
	char letter; /* the short form; 0: none */
};
/* Does what a row does not do by itself. Returns -1 to go on, else the exit status. */
typedef int take_option(int id, const char *value, void *settings);
void print_options(const struct option_row *rows, size_t count);
/* Those before the first word that is none. Likewise. */
int read_options(int argc, char **argv, const struct option_row *rows, size_t count, take_option *take, void *settings);

/* options.c. Returns -1 to go on, else the exit status. */
int parse_options(int argc, char **argv, struct settings *s);

/* values.c. Likewise; value is what was given for the option of that name. */
struct word {
	const char *name;
	uint32_t value;
};
extern const struct word backends[], engines[];
int bad(const char *option, const char *value, const char *expected);
int take_word(const char *option, const char *value, const struct word *words, uint32_t *out);
/* Words with commas between them. */
int take_words(const char *option, const char *value, const struct word *words, uint32_t *out);
int take_size(const char *option, const char *value, uint64_t *out);
int take_cpus(const char *option, const char *value, uint32_t *out);
int take_timeout(const char *value, double *out);
int take_count(const char *option, const char *value, uint64_t *out);

/* config.c */
/* The whole of a text file, or of standard input for "-"; NULL with a message printed. */
char *read_config(const char *path);
/* The full JSON description of the machine on standard output. Returns the exit status. */
int print_config(const struct settings *s);

struct console;

/* main.c: what became of the vm, as an exit status; a line about it on standard error where it ended badly. */
int report(const struct vcore_exit *exit, bool timed_out);
void print_stats(vcore_vm *vm);

/* api_main.c: serve Firecracker's API until its vm has ended. Returns the exit status. */
int api_main(struct settings *s, struct console *console, int signals);

/* snapshot.c */
/* Take a snapshot of the vm, which goes on, and save it. What goes wrong is printed. */
void save_snapshot(vcore_vm *vm, const char *path);
/* A vm that goes on from the file. Returns -1 to go on, else the exit status. */
int restore_vm(const struct settings *s, struct console *console, vcore_vm **vm);
/* A vm that another process sends. Likewise. */
int take_vm_in(const struct settings *s, struct console *console, vcore_vm **vm);

/* main.c: for struct vcore_options. */
void print_log(void *ctx, enum vcore_log_level level, const char *message);

/* run.c: `microvm run ...`. Returns the exit status. */
int run_main(int argc, char **argv);

/* progress.c: of migrations. On a terminal a bar that is drawn over itself, elsewhere lines. */
struct progress {
	uint32_t state; /* that was shown last, and when it was */
	uint64_t total_ns;
	int64_t told_ms;
};
void progress_show(struct progress *p, const struct vcore_migrate_info *info);
/* Of this vm, if it is being sent or was. */
void progress_look(struct progress *p, vcore_vm *vm);
/* Of one that has ended because it is elsewhere now. */
void progress_finish(struct progress *p, vcore_vm *vm);
/* "[###---] 50%", the bar of so many characters. */
void progress_bar(char *to, size_t length, int width, uint64_t done, uint64_t total);

/* monitor.c: `microvm monitor ...`. Returns the exit status. */
int monitor_main(int argc, char **argv);
/* sriov.c: likewise. */
int sriov_main(int argc, char **argv);

/* serve.c: `microvm vhost-user-serve ...`. Returns the exit status. */
int serve_main(int argc, char **argv);

/* console.c: the terminal in raw mode, until end_raw() or the program's end; false: there is none. */
bool begin_raw(void);
void end_raw(void);

/* The serial port's other end. */
struct console {
	int input;    /* our end of the guest's input; -1 */
	int guest_fd; /* the guest's end; -1 */
	int terminal; /* 1: stdin is a terminal in raw mode */
	int escape;   /* the last key was Ctrl-A */
	int reading;  /* stdin is still open */
};
/* Properties for the uart device into text; 0, 1 when there is no uart to be added, or -1 with a message printed. */
int console_open(struct console *c, const char *serial, char *text, size_t length);
/* Forward what stdin has. Returns 1 when the user asked to quit. */
int console_input(struct console *c);
void console_close(struct console *c);

#endif
