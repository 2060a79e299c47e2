/* conf_impl.h - what the files of conf share: the loader's state, reading of values, and the walk over the tree.
 *
 * A loader lives on the stack of conf_load_text() and fills one snapshot; every function reports what it finds
 * through conf_say() and goes on, so that one run finds all that is wrong. Lack of memory is a flag, looked at in
 * the end.
 */
#ifndef ADIT_APP_CONF_IMPL_H
#define ADIT_APP_CONF_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "app/conf.h"
#include "app/conf_table.h"
#include "app/toml.h"

/* Where an option stood. */
struct conf_mark {
    const char *path;
    struct toml_place place;
    const struct conf_mark *next;
};

struct conf_loader {
    struct conf *conf;
    struct conf_report *rep;
    bool no_memory;
    bool files;   /* options may name files: the text itself stands in one, conf->name */
    bool secrets; /* there is a secret in the text itself */
};

/* --- conf_report.c --- */

void conf_report_init(struct conf_report *rep, const char *name);
void conf_say(struct conf_loader *l, enum conf_severity severity, struct toml_place place, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#define CONF_SHOW_MAX 96
/* Foreign text for a message: 'text', or in double quotes with escapes and cut to fit. Returns buf. */
const char *conf_show(const void *text, size_t n, char buf[CONF_SHOW_MAX]);
/* The option's name as a user writes it, from the candidates of the scopes (a set of bits 1 << enum
 * conf_scope), that a mistyped key most likely meant; NULL if none is near. */
const struct conf_option *conf_suggest(unsigned scopes, const char *key, size_t n);

/* --- conf_value.c --- */

enum conf_outcome {
    CONF_UNSET, /* not there, or an empty string or list, which is the same */
    CONF_BAD,   /* wrong, and reported */
    CONF_SET,
};

/* Room for a value of any type. */
union conf_value {
    const char *text;
    bool boolean;
    uint64_t number;
    unsigned integer;
    struct conf_address address;
    struct conf_ids ids;
    struct conf_addresses addresses;
    struct conf_random random;
    struct conf_users users;
    struct conf_pins pins;
};

/* Reads a value into *at, which points to what the type of the option is stored in; nothing is stored unless
 * CONF_SET. */
enum conf_outcome conf_value_read(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  void *at);
/* Stores the default in *at, if there is one. */
void conf_value_default(struct conf_loader *l, const struct conf_option *o, void *at);
bool conf_value_equal(const struct conf_option *o, const void *a, const void *b);

#define CONF_VALUE_TEXT 32
/* A number as one would write it for the type: "1m30s", "64KiB", "4096". Returns buf. */
const char *conf_format_number(enum conf_type type, uint64_t v, char *buf, size_t cap);
/* Reads "1m30s" or "64KiB" (n bytes). */
bool conf_parse_number(enum conf_type type, const char *text, size_t n, uint64_t *v);

/* --- conf_file.c --- */

/* Reads until the end of the file, or more than a document may have, as a text that ends in a NUL. *text must be wiped
 * and freed whatever comes. 0, ERR_IO or ERR_NO_MEMORY. */
int conf_read_all(int fd, char **text, size_t *n);
/* Everybody may read the file; or its group may, and it is our own, so that we do not need that. */
bool conf_exposed(const struct stat *st);
/* o names a file (`file_of`): its content becomes the value of target, stored in *at. */
enum conf_outcome conf_file_value(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  const struct conf_option *target, void *at);
/* The same from the service manager's credential that has the option's path as its name; false if there is none. node:
 * a place for messages. */
bool conf_file_credential(struct conf_loader *l, const struct conf_option *target, const struct toml_node *node,
                          void *at, enum conf_outcome *outcome);
/* A path to be kept: a relative one starts at the directory of the configuration. */
enum conf_outcome conf_file_path(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                 const char **at);

/* --- conf_listen.c: values that only listeners have, as conf_value_read() --- */

enum conf_outcome conf_listen_address(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                      struct conf_address *at);
enum conf_outcome conf_listen_mode(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                   unsigned *at);
enum conf_outcome conf_listen_ids(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  struct conf_ids *at);

/* --- conf_print.c --- */

/* Writes a text as a TOML basic string; returns the number of bytes. */
int conf_put_text(FILE *to, const char *p);

/* --- conf_parse.c --- */

/* Fills the snapshot from the tree. */
void conf_parse(struct conf_loader *l, const struct toml_node *root);
/* The elements of a list of users. */
enum conf_outcome conf_parse_users(struct conf_loader *l, const struct toml_node *list, struct conf_users *out);

#endif
