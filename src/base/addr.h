/* addr.h - socket addresses as values.
 *
 * One type for IPv4, IPv6 and Unix socket addresses that is copied by assignment. No allocation, no I/O.
 */
#ifndef ADIT_BASE_ADDR_H
#define ADIT_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct addr {
    socklen_t len; /* 0: no address */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};

/* Longest text of addr_format with its NUL: "[v6%scope]:port" or a Unix path. */
#define ADDR_TEXT_MAX 128

/* Reads "1.2.3.4:80", "[::1]:80" (port required). Strict dotted quad, no names, no scope. 0 or ERR_CONFIG. */
int addr_parse(struct addr *a, const char *text);
/* Reads an IP literal without port or brackets. 0 or ERR_CONFIG. */
int addr_parse_ip(struct addr *a, const char *text, uint16_t port);
/* The address of a Unix socket at a path. 0, or ERR_CONFIG when it is empty or longer than 107 bytes. */
int addr_from_path(struct addr *a, const char *path);
/* From 4 or 16 network-order bytes. */
void addr_from_bytes(struct addr *a, const uint8_t *ip, size_t ip_len, uint16_t port);
/* From a kernel's sockaddr; false if it is longer than the type holds. */
bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len);

/* "1.2.3.4:80", "[::1]:80", "unix:/path". Always terminated; returns buf. */
const char *addr_format(const struct addr *a, char *buf, size_t cap);
/* The same without port and brackets. */
const char *addr_format_ip(const struct addr *a, char *buf, size_t cap);

uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
bool addr_equal(const struct addr *a, const struct addr *b);
/* Same IP, whatever the port; a v4-mapped IPv6 address equals its IPv4 form. */
bool addr_same_ip(const struct addr *a, const struct addr *b);
/* 127.0.0.0/8, ::1, their v4-mapped form, or a Unix socket. */
bool addr_is_loopback(const struct addr *a);
/* 0.0.0.0 or :: */
bool addr_is_unspecified(const struct addr *a);
/* ::ffff:a.b.c.d becomes a.b.c.d. */
void addr_unmap(struct addr *a);

#endif
