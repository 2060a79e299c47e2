/* conf_table.h - the one table of options: name, type, default, bounds, what a change costs, and a line about it.
 *
 * Parsing, defaults, comparison and documentation all go by this table; an option exists when it has a line there.
 * Static data; the functions are pure.
 */
#ifndef ADIT_APP_CONF_TABLE_H
#define ADIT_APP_CONF_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/conf.h"

/* The table of the file that an option belongs to. */
enum conf_scope {
    CONF_SCOPE_ROOT,
    CONF_SCOPE_LISTENERS, /* [listener]: the names that mean something */
    CONF_SCOPE_LISTENER,  /* [listener.NAME] */
    CONF_SCOPE_USER,      /* an element of users */
    CONF_SCOPE_ENDPOINT,  /* [endpoint], or flat at top level */
    CONF_SCOPES
};

/* X(symbol, word in the documentation, what a message says was expected) */
#define CONF_TYPES(X)                                                                                         \
    X(TABLE, "table", "a table")                                                                              \
    X(STRING, "string", "a string")                                                                           \
    X(SECRET, "secret", "a string")                                                                           \
    X(BOOLEAN, "boolean", "true or false")                                                                    \
    X(DURATION, "duration", "a duration (milliseconds, or a string such as \"10s\" or \"1m30s\")")            \
    X(SIZE, "size", "a size (bytes, or a string such as \"64KiB\" or \"6MiB\")")                              \
    X(INTEGER, "integer", "an integer")                                                                       \
    X(WORD, "word", "a string")                                                                               \
    X(WORDS, "list of words", "a list of strings")                                                            \
    X(STRINGS, "list of strings", "a list of strings")                                                        \
    X(LISTEN, "IP:port, unix:path or systemd:name", "a string such as \"127.0.0.1:1080\"")                    \
    X(MODE, "mode", "a string such as \"0660\"")                                                              \
    X(UIDS, "list of uids", "a list of numbers and names of users")                                           \
    X(GIDS, "list of gids", "a list of numbers and names of groups")                                          \
    X(HOST, "host", "a string")                                                                               \
    X(ADDRESSES, "list of host:port", "a list of strings such as \"192.0.2.1:443\"")                          \
    X(RANDOM, "hex[/hex]", "a string")                                                                        \
    X(PEM, "PEM", "a string")                                                                                 \
    X(KEY, "PEM key", "a string")                                                                             \
    X(PATH, "path", "a string")                                                                               \
    X(PINS, "list of pins", "a list of strings such as \"sha256//BASE64\"")                                   \
    X(USERS, "list of users", "a list of tables such as {username = \"...\", password = \"...\"}")            \
    X(ANY, "any", "a value")

enum conf_type {
#define X(symbol, word, expected) CONF_##symbol,
    CONF_TYPES(X)
#undef X
};

enum conf_flag {
    CONF_REQUIRED = 1,    /* must be set, and not empty */
    CONF_NAME_ONLY = 2,   /* HOST: an IP address is refused */
    CONF_NO_COLON = 4,    /* text: ':' is refused (a user name of HTTP Basic) */
    CONF_ASCII = 8,       /* text: bytes above 0x7e are refused */
    CONF_PREFIX = 16,     /* the key is the beginning of a family of names */
    CONF_SAY_SET = 32,    /* `say` goes into the report when the option is set and is not empty or false */
    CONF_SAY_CHANGED = 64 /* ... when its value is not the default */
};

#define CONF_NOWHERE SIZE_MAX

struct conf_option {
    enum conf_scope scope;
    const char *key;
    enum conf_type type;
    size_t offset;            /* in the struct of its scope; CONF_NOWHERE: checked, then dropped */
    const char *preset;       /* the default as one would write it in a string; NULL: not set */
    uint64_t min, max;        /* values of numbers, bytes of texts, elements of lists */
    const char *words;        /* "a|b|c" */
    enum conf_reload reload;
    unsigned flags;           /* of enum conf_flag */
    const char *alias_of;     /* another key of the scope that this one stands for */
    const char *file_of;      /* another key of the scope whose value stands in the file that this one names */
    enum conf_severity severity; /* of `say` */
    const char *say;
    const char *doc; /* one line */
};

/* At least as many as there are options. */
#define CONF_OPTIONS_MAX 96

/* The options in the order of the documentation; NULL past the end. */
const struct conf_option *conf_option_at(size_t i);
/* The option for a key of n bytes; aliases are returned as they stand. NULL if unknown. */
const struct conf_option *conf_option_find(enum conf_scope scope, const char *key, size_t n);
/* The name in documentation and conf_place(): "log_level", "listener.NAME.address", "endpoint.hostname".
 * listener: put in the place of NAME, NULL for the word NAME. Always terminated; returns buf. */
const char *conf_option_path(const struct conf_option *o, const char *listener, char *buf, size_t cap);

const char *conf_type_word(enum conf_type t);
const char *conf_type_expected(enum conf_type t);
/* "same", "none", "listener", "upstream", "all" */
const char *conf_reload_word(enum conf_reload r);

/* The index of a word of n bytes in "a|b|c", or -1. */
int conf_word_index(const char *words, const char *word, size_t n);
/* The index-th word of "a|b|c": sets *n to its length; NULL past the end. */
const char *conf_word_at(const char *words, int index, size_t *n);

#endif
