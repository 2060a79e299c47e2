#include "app/ticket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"

static void complain(const char *what, const char *why, const char *path) {
    char quoted[512];
    log_warn("tickets", "the ticket file %s: %s path=%s", what, why, log_quote_str(path, quoted, sizeof quoted));
}

static void ignore(const char *path, const char *why) { complain("is not used", why, path); }

/* What is wrong with the file itself; NULL: nothing. */
static const char *fault_of(int fd, struct stat *st) {
    if (fstat(fd, st) < 0) return strerror(errno);
    if (!S_ISREG(st->st_mode)) return "it is not a regular file";
    if (st->st_uid != geteuid()) return "it belongs to somebody else";
    if (st->st_mode & (S_IRWXG | S_IRWXO)) return "others have access to it";
    if (st->st_size > CREDS_TICKETS_BYTES_MAX) return "it is too large";
    return NULL;
}

/* Up to n bytes; -1: see errno. */
static ssize_t read_bytes(int fd, uint8_t *p, size_t n) {
    size_t at = 0;
    while (at < n) {
        ssize_t got = read(fd, p + at, n - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        at += (size_t)got;
    }
    return (ssize_t)at;
}

static const char *take_in(int fd, size_t size, struct creds *creds) {
    const char *why;
    uint8_t *p = malloc(size + 1);
    if (!p) return "out of memory";
    ssize_t n = read_bytes(fd, p, size);
    bool good = false;
    if (n < 0)
        why = strerror(errno);
    else
        good = creds_import_tickets(creds, p, (size_t)n, &why) == 0;
    secret_wipe(p, size);
    free(p);
    return good ? NULL : why;
}

void ticket_file_load(const char *path, struct creds *creds) {
    struct stat st;
    /* Not to wait for a FIFO, nor to follow where somebody else points. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        if (errno != ENOENT) ignore(path, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
        return;
    }
    const char *why = fault_of(fd, &st);
    if (!why && unlink(path) < 0) why = strerror(errno);
    if (!why) why = take_in(fd, (size_t)st.st_size, creds);
    if (why) ignore(path, why);
    close(fd);
}

static bool write_bytes(int fd, const uint8_t *p, size_t n) {
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        p += put;
        n -= (size_t)put;
    }
    return true;
}

/* Never to be seen half written. A crash of the system may leave an empty one, which is ignored. */
static bool write_file(const char *path, const uint8_t *p, size_t n) {
    char temporary[PATH_MAX];
    int len = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (len < 0 || (size_t)len >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    if (fd < 0) return false;
    bool good = write_bytes(fd, p, n);
    if (close(fd) < 0) good = false;
    if (good) good = rename(temporary, path) == 0;
    int error = errno;
    if (!good) unlink(temporary);
    errno = error;
    return good;
}

void ticket_file_save(const char *path, const struct creds *creds) {
    uint8_t *p;
    size_t n;
    if (creds_export_tickets(creds, &p, &n) < 0 || !p) return;
    if (!write_file(path, p, n)) complain("cannot be written", strerror(errno), path);
    secret_wipe(p, n);
    free(p);
}
