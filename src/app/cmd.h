/* cmd.h - the command line: one table of commands, what they share, and the exit codes.
 *
 * `adit [OPTIONS] [COMMAND [OPTIONS] [ARGUMENTS]]`: the options before the command are global and mean the same for every
 * command; a command parses the rest by itself. Without a command adit runs. Each command is a file cmd_NAME.c.
 */
#ifndef ADIT_APP_CMD_H
#define ADIT_APP_CMD_H

#include <stdbool.h>

#include "app/conf.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_RUNTIME = 1, /* a failure at run time; of probe: the endpoint cannot be used */
    EXIT_USAGE = 2,
    EXIT_CONFIG = 78, /* sysexits' EX_CONFIG: the configuration is wrong */
};

/* Global options, as far as they were given. */
struct cmd_globals {
    const char *config; /* -c; NULL: searched for */
    int log_level;      /* -l; -1: the configuration's */
    const char *link;   /* --link: a link, a file or "-" instead of a configuration; NULL */
    bool insecure;      /* --insecure: the link may turn off the verification */
};

struct cmd {
    const char *name, *args, *summary; /* for --help; args may be "" */
    /* argv[0] is the command's name. Returns an exit code. getopt is ready to start at argv[1]. */
    int (*run)(struct cmd_globals *g, int argc, char **argv);
};

/* The commands in the order of --help; the last has no name. */
extern const struct cmd cmd_table[];
const struct cmd *cmd_find(const char *name);
/* Says that there is no such command, and which may have been meant. Returns EXIT_USAGE. */
int cmd_unknown(const char *name);
/* --help of the program. */
void cmd_print_help(FILE *to);

/* --- what commands share --- */

/* Reads the global options of a command that has no others (`adit check -c FILE`); false after saying what is wrong. */
bool cmd_globals_only(struct cmd_globals *g, int argc, char **argv);
/* -l: false after saying what is wrong. */
bool cmd_log_level(struct cmd_globals *g, const char *word);
/* Says it on stderr, with the hint at --help. Returns EXIT_USAGE. */
int cmd_usage_error(const char *what, const char *arg);
/* The file that the next function reads; buf is used if need be. */
const char *cmd_config_path(const struct cmd_globals *g, char *buf, size_t cap);
/* Loads the configuration (the one named, or the first of the search path), prints the report on stderr and sets the log's
 * level. 0 and *out to be unreferenced, or an exit code. */
int cmd_load(const struct cmd_globals *g, struct conf **out);
/* The same from what source_load() takes. */
int cmd_load_source(const char *where, bool insecure, struct conf **out);
/* cmd_load() with the first error in why. */
int cmd_load_why(const struct cmd_globals *g, struct conf **out, char *why, size_t cap);

int cmd_run(struct cmd_globals *g, int argc, char **argv);
int cmd_import(struct cmd_globals *g, int argc, char **argv);
int cmd_export(struct cmd_globals *g, int argc, char **argv);
int cmd_probe(struct cmd_globals *g, int argc, char **argv);
int cmd_print_config(struct cmd_globals *g, int argc, char **argv);
/* status: asks the running adit; order: reload, drain and stop, which answer with nothing but success. */
int cmd_status(struct cmd_globals *g, int argc, char **argv);
int cmd_order(struct cmd_globals *g, int argc, char **argv);
int cmd_check(struct cmd_globals *g, int argc, char **argv);

/* Runs the gateway of a configuration until it is told to end. An exit code. */
int cmd_run_conf(struct conf *conf, const struct cmd_globals *g);

#endif
