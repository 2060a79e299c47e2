/* dest.h - a destination: the host, port and network that an application asked for, in canonical form.
 *
 * Every inbound turns what it parsed into a `struct dest` through dest_set_name() or dest_set_ip(), and nothing
 * else ever reaches rules, logs or an `:authority`. A plain value, copied by assignment; no allocation outlives
 * a call. Sources: RFC 1123, RFC 5891 (through libidn2); the pseudo-hosts are those of TrustTunnel.
 */
#ifndef ADIT_BASE_DEST_H
#define ADIT_BASE_DEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define DEST_NAME_MAX 253                     /* longest canonical name, without NUL */
#define DEST_TEXT_MAX (DEST_NAME_MAX + 2 + 8) /* "[" host "]" ":65535" NUL fits */

enum dest_network { DEST_TCP, DEST_UDP };
enum dest_kind { DEST_NAME, DEST_IPV4, DEST_IPV6 };

struct dest {
    enum dest_network network;
    enum dest_kind kind;
    uint16_t port;                /* never 0 in a valid destination */
    char host[DEST_NAME_MAX + 1]; /* lower-case A-label name, or the IP in its canonical text without brackets */
    struct addr ip;               /* with the port; len 0 for DEST_NAME */
};

/* Canonicalises n bytes of host text (not terminated) and a port into *d.
 *
 * Accepted: names (case folded, one trailing dot removed, U-labels turned into A-labels), dotted quads, IPv6
 * literals with or without brackets, and the numeric forms that inet_aton would take ("127.1", "0x7f000001",
 * "2130706433", octal), which become what they mean; v4-mapped IPv6 becomes IPv4.
 * Refused with ERR_CLIENT_DESTINATION: empty, longer than DEST_NAME_MAX, a label empty or over 63 bytes, any
 * byte outside letters, digits, '-', '.', '_' after IDN mapping, NUL/CR/LF/space/'/'/'@'/'%' and the like, labels
 * that begin or end with '-', a numeric last label that is no valid IPv4 form, the pseudo-hosts `_udp2`, `_icmp`,
 * `_check` (any case, with or without dot), IPv6 zones, port 0. An underscore is allowed inside other names. */
int dest_set_name(struct dest *d, enum dest_network network, const void *host, size_t n, uint16_t port);

/* From 4 or 16 network-order bytes. ERR_CLIENT_DESTINATION for port 0 or another length. */
int dest_set_ip(struct dest *d, enum dest_network network, const uint8_t *ip, size_t ip_len, uint16_t port);

/* "host:port", "[v6]:port": the form of `:authority`. Always terminated; returns buf. cap >= DEST_TEXT_MAX. */
const char *dest_format(const struct dest *d, char *buf, size_t cap);

bool dest_equal(const struct dest *a, const struct dest *b);

/* The version of libidn2 in use. Static storage. */
const char *dest_library_version(void);

#endif
