#include "net/sock_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define POISONING 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONING 1
#endif
#endif

/* A kept buffer must not be touched: its last owner could still hold a pointer that stream_peek gave it. */
#ifdef POISONING
#include <sanitizer/asan_interface.h>
#define POISON(p) ASAN_POISON_MEMORY_REGION(p, SOCK_READ_MAX)
#define UNPOISON(p) ASAN_UNPOISON_MEMORY_REGION(p, SOCK_READ_MAX)
#else
#define POISON(p) ((void)(p))
#define UNPOISON(p) ((void)(p))
#endif

static struct {
    uint8_t *buffer[SOCK_SPARE_MAX];
    unsigned n;
} spare;

uint8_t *sock_buffer_get(void) {
    if (!spare.n) return malloc(SOCK_READ_MAX);
    uint8_t *b = spare.buffer[--spare.n];
    UNPOISON(b);
    return b;
}

void sock_buffer_put(uint8_t *b) {
    if (!b) return;
    if (spare.n == SOCK_SPARE_MAX) {
        free(b);
        return;
    }
    POISON(b);
    spare.buffer[spare.n++] = b;
}

void sock_trim(void) {
    while (spare.n) free(sock_buffer_get());
}

int sock_new(int family, int type) { return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

void sock_option(int fd, int level, int name, int value) {
    if (setsockopt(fd, level, name, &value, sizeof value) < 0)
        log_trace("sock", "option refused level=%d option=%d error=\"%s\"", level, name, strerror(errno));
}

bool sock_source(const struct addr *to, struct addr *from) {
    int fd = sock_new(to->u.sa.sa_family, SOCK_DGRAM);
    if (fd < 0) return false;
    bool reached = connect(fd, &to->u.sa, to->len) == 0;
    if (reached) sock_name(fd, false, from);
    close(fd);
    if (reached) addr_set_port(from, 0);
    return reached;
}

void sock_name(int fd, bool peer, struct addr *a) {
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    int r = peer ? getpeername(fd, (struct sockaddr *)&ss, &len) : getsockname(fd, (struct sockaddr *)&ss, &len);
    if (r < 0 || !addr_from_sockaddr(a, (struct sockaddr *)&ss, len)) *a = (struct addr){0};
}
