/* fuzz_dest.c - a port (2 bytes) and the host text of a destination, as an application may send it.
 *
 * Whatever is accepted must be canonical: it consists of allowed bytes only, is no pseudo-host, has a port, and read
 * again, alone or from the form of an `:authority`, gives the same destination.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/dest.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                                                        \
    do {                                                                                                       \
        if (!(condition)) abort();                                                                             \
    } while (0)

static void check_name(const char *host) {
    static const char *const pseudo[] = {"_udp2", "_icmp", "_check"};
    size_t n = strlen(host);
    MUST(n > 0 && n <= DEST_NAME_MAX);
    MUST(strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-._") == n);
    MUST(host[0] != '.' && host[n - 1] != '.' && !strstr(host, ".."));
    for (size_t i = 0; i < sizeof pseudo / sizeof pseudo[0]; i++) MUST(strcasecmp(host, pseudo[i]) != 0);
    /* Nothing that a resolver further on would take for an address. */
    struct in_addr in;
    MUST(!inet_aton(host, &in));
}

static void check_ip(const struct dest *d) {
    struct addr a;
    struct dest again;
    MUST(addr_parse_ip(&a, d->host, d->port) == 0);
    MUST(addr_equal(&a, &d->ip));
    const uint8_t *bytes = d->kind == DEST_IPV4 ? (const uint8_t *)&a.u.in.sin_addr : a.u.in6.sin6_addr.s6_addr;
    MUST(dest_set_ip(&again, d->network, bytes, d->kind == DEST_IPV4 ? 4 : 16, d->port) == 0);
    MUST(dest_equal(d, &again));
}

/* What is left and right of the last colon of an authority, as whoever reads it will see it. */
static void check_authority(const struct dest *d) {
    char text[DEST_TEXT_MAX];
    struct dest again;
    dest_format(d, text, sizeof text);
    char *colon = strrchr(text, ':');
    MUST(colon && strlen(text) < sizeof text);
    MUST(strtoul(colon + 1, NULL, 10) == d->port);
    MUST((text[0] == '[') == (d->kind == DEST_IPV6));
    MUST(dest_set_name(&again, d->network, text, (size_t)(colon - text), d->port) == 0);
    MUST(dest_equal(d, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    uint16_t port = (uint16_t)(data[0] << 8 | data[1]);
    struct dest d, again;
    memset(&d, 0xa5, sizeof d);
    int r = dest_set_name(&d, DEST_TCP, data + 2, size - 2, port);
    if (r != 0) {
        MUST(r == ERR_CLIENT_DESTINATION || r == ERR_NO_MEMORY);
        MUST(d.port == 0 && d.host[0] == 0);
        return 0;
    }
    MUST(d.port != 0 && d.port == port && d.network == DEST_TCP);
    if (d.kind == DEST_NAME) {
        MUST(d.ip.len == 0);
        check_name(d.host);
    } else {
        check_ip(&d);
    }
    MUST(dest_set_name(&again, DEST_TCP, d.host, strlen(d.host), port) == 0);
    MUST(dest_equal(&d, &again));
    check_authority(&d);
    return 0;
}
