#include "app/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/peer.h"
#include "net/sock.h"
#include "net/unix_sock.h"

struct client {
    struct control *control;
    struct client *next;
    struct stream *stream;
    struct loop_timer timer;
    char *reply; /* NULL: the request is still awaited */
    size_t len, sent;
};

struct control {
    struct loop *loop;
    struct listener_sock *sock;
    struct unix_sock file;
    control_cb *cb;
    void *arg;
    struct client *clients;
    unsigned n;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void client_free(struct client *k) {
    struct control *c = k->control;
    struct client **at = &c->clients;
    while (*at != k) at = &(*at)->next;
    *at = k->next;
    c->n--;
    loop_timer_stop(&k->timer);
    stream_free(k->stream);
    free(k->reply);
    free(k);
}

static void on_late(void *arg) { client_free(arg); }

/* Sends what is left of the reply; the end of it ends the client. */
static void answer(struct client *k) {
    long n = stream_write(k->stream, (const uint8_t *)k->reply + k->sent, k->len - k->sent);
    if (n > 0) k->sent += (size_t)n;
    if (n >= 0 && k->sent < k->len) return; /* STREAM_OUT follows */
    stream_finish(k->stream);
    client_free(k);
}

static json_t *trouble(const char *text) { return json_pack("{s:b,s:s}", "ok", 0, "error", text); }

static json_t *handle(struct control *c, const char *line, size_t n) {
    json_error_t e;
    json_t *request = json_loadb(line, n, JSON_REJECT_DUPLICATES, &e), *reply;
    const char *command = json_string_value(json_object_get(request, "command"));
    if (command) {
        log_debug("control", "request command=%.32s", command);
        reply = c->cb(command, c->arg);
    } else {
        reply = trouble(request ? "the request names no command" : "the request is no JSON object");
    }
    json_decref(request);
    return reply;
}

/* A whole line is a request. */
static void read_request(struct client *k) {
    const uint8_t *p;
    size_t n;
    int r = stream_peek(k->stream, &p, &n);
    if (r == STREAM_NONE) return;
    const uint8_t *end = r == STREAM_BYTES ? memchr(p, '\n', n) : NULL;
    if (!end && r == STREAM_BYTES && n < CONTROL_REQUEST_MAX) return;
    json_t *reply = NULL;
    if (end && end - p < CONTROL_REQUEST_MAX) {
        reply = handle(k->control, (const char *)p, (size_t)(end - p));
        stream_consume(k->stream, n);
    }
    char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
    json_decref(reply);
    if (!text) {
        client_free(k);
        return;
    }
    k->len = strlen(text) + 1;
    k->reply = text;
    text[k->len - 1] = '\n'; /* not terminated any more */
    answer(k);
}

static void on_stream(struct stream *s, unsigned events, void *arg) {
    struct client *k = arg;
    if (s->err) client_free(k);
    else if (!k->reply && events & STREAM_IN) read_request(k);
    else if (k->reply && events & STREAM_OUT) answer(k);
}

static void on_accepted(struct stream *s, const struct addr *remote, void *arg) {
    struct control *c = arg;
    struct client *k = NULL;
    (void)remote;
    uid_t uid = peer_of(NULL, s).uid;
    bool allowed = uid == 0 || uid == geteuid();
    if (!allowed) log_warn("control", "a stranger was refused uid=%d", (int)uid);
    if (allowed && c->n < CONTROL_CLIENTS) k = calloc(1, sizeof *k);
    if (!k) {
        stream_free(s);
        return;
    }
    *k = (struct client){.control = c, .next = c->clients, .stream = s};
    c->clients = k;
    c->n++;
    loop_timer_init(&k->timer, c->loop, on_late, k);
    loop_timer_set(&k->timer, loop_now(c->loop) + CONTROL_TIMEOUT * LOOP_MS);
    stream_own(s, on_stream, k);
    read_request(k);
}

struct control *control_new(struct loop *l, const char *path, control_cb *cb, void *arg, int *errnum) {
    struct control *c = calloc(1, sizeof *c);
    struct addr at;
    int fd;
    *errnum = addr_from_path(&at, path) ? ENAMETOOLONG : c ? 0 : ENOMEM;
    if (!*errnum) *errnum = unix_sock_listen(&at, UNIX_MODE, CONTROL_CLIENTS, &c->file, &fd);
    if (*errnum) {
        free(c);
        return NULL;
    }
    c->loop = l;
    c->cb = cb;
    c->arg = arg;
    c->sock = sock_listen_fd(l, fd, on_accepted, c, errnum);
    if (!c->sock) {
        unix_sock_remove(&c->file);
        free(c);
        return NULL;
    }
    strcpy(c->path, path);
    return c;
}

void control_free(struct control *c) {
    if (!c) return;
    while (c->clients) client_free(c->clients);
    unix_sock_remove(&c->file);
    sock_listen_free(c->sock);
    free(c);
}

const char *control_path(const struct control *c) { return c->path; }

bool control_default_path(char *buf, size_t cap) {
    const char *run = getenv("RUNTIME_DIRECTORY"), *xdg = getenv("XDG_RUNTIME_DIR");
    if (run && *run == '/') snprintf(buf, cap, "%.*s/control", (int)strcspn(run, ":"), run);
    else if (geteuid() == 0) snprintf(buf, cap, "/run/adit.control");
    else if (xdg && *xdg == '/') snprintf(buf, cap, "%s/adit.control", xdg);
    else return false;
    return true;
}

/* --- the client's side --- */

/* The whole answer, or NULL with errno. */
static char *read_answer(int fd, size_t *len) {
    size_t cap = 65536, n = 0;
    char *buf = malloc(cap);
    while (buf) {
        ssize_t r = read(fd, buf + n, cap - n);
        if (r == 0) {
            *len = n;
            return buf;
        }
        if (r < 0 && errno == EINTR) continue;
        n += r > 0 ? (size_t)r : 0;
        char *grown = r < 0 || n < cap ? buf : cap < CONTROL_REPLY_MAX ? realloc(buf, cap *= 2) : NULL;
        if (r < 0 || !grown) {
            int errnum = r < 0 ? errno : EMSGSIZE;
            free(buf);
            errno = errnum == EAGAIN ? ETIMEDOUT : errnum;
            return NULL;
        }
        buf = grown;
    }
    return NULL;
}

json_t *control_ask(const char *path, const char *command, char *why, size_t cap) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = CONTROL_TIMEOUT / 1000};
    char request[256], *answer = NULL;
    size_t n = 0;
    json_t *reply = NULL;
    if (strlen(path) >= sizeof un.sun_path) {
        snprintf(why, cap, "%s: %s", path, strerror(ENAMETOOLONG));
        return NULL;
    }
    strcpy(un.sun_path, path);
    int m = snprintf(request, sizeof request, "{\"command\":\"%.100s\"}\n", command);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool sent = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
                connect(fd, (struct sockaddr *)&un, sizeof un) == 0 &&
                send(fd, request, (size_t)m, MSG_NOSIGNAL) == m;
    if (sent) answer = read_answer(fd, &n);
    if (!answer) {
        const char *text = errno == ENOENT || errno == ECONNREFUSED ? "no adit answers there" : strerror(errno);
        snprintf(why, cap, "%s: %s", path, text);
    } else {
        json_error_t e;
        reply = json_loadb(answer, n, 0, &e);
        if (!reply) snprintf(why, cap, "%s: %s", path, n ? "what answers there is no adit" : "it gave no answer");
    }
    free(answer);
    if (fd >= 0) close(fd);
    return reply;
}
