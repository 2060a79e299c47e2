#include "base/err.h"

#include <errno.h>
#include <stddef.h>

struct err_row {
    int value;
    enum err_class class_;
    const char *word;
    const char *text;
};

static const struct err_row rows[] = {
    {ERR_OK, ERR_CLASS_NONE, "ok", "no error"},
#define X(symbol, value, class_, word, text) {symbol, ERR_CLASS_##class_, word, text},
    ERR_TABLE(X)
#undef X
};

static const struct err_row *row_of(int err) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].value == err) return &rows[i];
    return NULL;
}

enum err_class err_class(int err) {
    const struct err_row *row = row_of(err);
    return row ? row->class_ : ERR_CLASS_LOCAL;
}

const char *err_word(int err) {
    const struct err_row *row = row_of(err);
    return row ? row->word : "unknown";
}

const char *err_text(int err) {
    const struct err_row *row = row_of(err);
    return row ? row->text : "an unknown error";
}

const char *err_class_word(enum err_class c) {
    switch (c) {
    case ERR_CLASS_NONE: return "none";
    case ERR_CLASS_CLIENT: return "client";
    case ERR_CLASS_TARGET: return "target";
    case ERR_CLASS_UPSTREAM: return "upstream";
    case ERR_CLASS_LOCAL: return "local";
    }
    return "local";
}

enum err err_from_errno(int errnum, int target) {
    switch (errnum) {
    case ECONNREFUSED: return target ? ERR_TARGET_REFUSED : ERR_UPSTREAM_REFUSED;
    case EHOSTUNREACH: return target ? ERR_TARGET_HOST_UNREACHABLE : ERR_UPSTREAM_UNREACHABLE;
    case ENETUNREACH: return target ? ERR_TARGET_NET_UNREACHABLE : ERR_UPSTREAM_UNREACHABLE;
    case ETIMEDOUT: return target ? ERR_TARGET_TIMEOUT : ERR_UPSTREAM_TIMEOUT;
    case ECONNRESET:
    case EPIPE: return target ? ERR_TARGET_RESET : ERR_UPSTREAM_RESET;
    default: return ERR_IO;
    }
}
