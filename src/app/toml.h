/* toml.h - a TOML 1.0 text as a tree of plain values, each with its place.
 *
 * A C face of toml++; the only file that includes it is toml.cc. The tree is read-only and owned by its document:
 * every pointer is valid until toml_free(), which zeroes all of it. Bounded in text, depth and number of values;
 * the parser stops at the first error. Source: TOML v1.0.0, all of it but one thing: in a multi-line basic string,
 * a character that is not ASCII may not be the first after a line-ending backslash. Not for use from several
 * threads.
 */
#ifndef ADIT_APP_TOML_H
#define ADIT_APP_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOML_TEXT_MAX (1024 * 1024) /* bytes of a document */
#define TOML_DEPTH_MAX 16           /* levels of tables and arrays below the root */
#define TOML_NODES_MAX 65536        /* values of a document, tables and arrays included */
#define TOML_WHY_MAX 200

enum toml_kind { TOML_STRING, TOML_INTEGER, TOML_FLOAT, TOML_BOOLEAN, TOML_TIME, TOML_ARRAY, TOML_TABLE };

/* Both from 1; columns count characters, not bytes. */
struct toml_place {
    unsigned line, col;
};

struct toml_node {
    enum toml_kind kind;
    const char *key; /* NUL-terminated; NULL for the root and for elements of arrays */
    size_t key_len;  /* a quoted key may hold a NUL */
    struct toml_place key_place;
    struct toml_place place; /* of the value, the [header] of a table, or the dotted key that makes one */
    const struct toml_node *next; /* the sibling that follows in the text */
    union {
        struct {
            const char *p; /* valid UTF-8, NUL-terminated, may hold NULs */
            size_t n;
        } string;
        int64_t integer;
        double number;
        bool boolean;
        struct {
            const struct toml_node *first;
            size_t n;
        } children; /* of TOML_ARRAY and TOML_TABLE, in the order of the text */
    } u;            /* nothing for TOML_TIME */
};

struct toml_error {
    struct toml_place place;
    char why[TOML_WHY_MAX]; /* printable ASCII; shows no more than one character of a value */
};

struct toml_doc;

/* Parses n bytes. 0 and *out; or ERR_CONFIG with *error, or ERR_NO_MEMORY, and *out is NULL. The text is not
 * kept. */
int toml_parse(struct toml_doc **out, const void *text, size_t n, struct toml_error *error);
/* The root table. */
const struct toml_node *toml_root(const struct toml_doc *doc);
/* NULL is allowed. */
void toml_free(struct toml_doc *doc);

/* "a string", "an integer", ...: for messages. Static storage. */
const char *toml_kind_text(enum toml_kind kind);

#ifdef __cplusplus
}
#endif

#endif
