/* socks.h - SOCKS5 (RFC 1928, RFC 1929), SOCKS4 and SOCKS4a: messages as bytes.
 *
 * Decoders read what an application sent, encoders write what it is answered; who may connect where, and which
 * commands are served, is the caller's business. Pure functions: no I/O, no clock, no allocation, no state.
 *
 * Decoding   Each stream decoder looks at the n contiguous bytes that have arrived so far, from the first byte of
 *            its message on, and returns
 *                > 0  the length of the message; the struct is filled, and what follows is not its business
 *                  0  more bytes are needed; the struct is unspecified
 *                < 0  an enum err that no further byte can mend; the struct is unspecified
 *            A wrong byte is reported as soon as it is there: a wrong version with n = 1. With n at or above the
 *            message's *_MAX a decoder never returns 0, so a buffer of that size is always enough. Nothing is
 *            remembered between calls; one costs at most a pass over *_MAX bytes.
 * Lifetime   Pointers in the structs point into the caller's bytes and live as long as these. They are not
 *            terminated, and may hold any byte unless said otherwise: quote before logging.
 * Encoding   Encoders append to a writer, which turns bad when the room does not suffice.
 * First byte SOCKS5_VERSION and SOCKS4_VERSION are what a port that serves several protocols tells them by.
 */
#ifndef ADIT_CODEC_SOCKS_H
#define ADIT_CODEC_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/dest.h"
#include "base/wire.h"

#define SOCKS5_VERSION 5
#define SOCKS4_VERSION 4

/* The longest message of each kind, in bytes. */
#define SOCKS5_GREETING_MAX (2 + 255)
#define SOCKS5_AUTH_MAX (3 + 255 + 255)
#define SOCKS5_REQUEST_MAX (4 + 1 + 255 + 2)
#define SOCKS5_REPLY_MAX (4 + 16 + 2) /* as written here: never with a name */
#define SOCKS5_UDP_HEADER_MAX (4 + 1 + 255 + 2)
#define SOCKS4_REQUEST_MAX (8 + 256 + 256)
#define SOCKS4_REPLY_LEN 8

enum socks_command { SOCKS_CONNECT = 1, SOCKS_BIND = 2, SOCKS5_UDP_ASSOCIATE = 3 };

enum socks5_method { SOCKS5_METHOD_NONE = 0, SOCKS5_METHOD_PASSWORD = 2, SOCKS5_METHOD_UNACCEPTABLE = 0xff };

enum socks5_atyp { SOCKS5_IPV4 = 1, SOCKS5_NAME = 3, SOCKS5_IPV6 = 4 };

/* REP, RFC 1928 section 6. */
enum socks5_rep {
    SOCKS5_SUCCEEDED = 0,
    SOCKS5_GENERAL_FAILURE = 1,
    SOCKS5_NOT_ALLOWED = 2,
    SOCKS5_NETWORK_UNREACHABLE = 3,
    SOCKS5_HOST_UNREACHABLE = 4,
    SOCKS5_CONNECTION_REFUSED = 5,
    SOCKS5_TTL_EXPIRED = 6, /* clients show it as a timeout */
    SOCKS5_COMMAND_UNSUPPORTED = 7,
    SOCKS5_ADDRESS_UNSUPPORTED = 8,
};

/* CD of a SOCKS4 reply. */
enum socks4_rep { SOCKS4_GRANTED = 90, SOCKS4_REJECTED = 91, SOCKS4_NO_IDENTD = 92, SOCKS4_WRONG_USER = 93 };

/* --- SOCKS5, from the client --- */

struct socks5_greeting {
    const uint8_t *methods;
    uint8_t method_count; /* 0 is decoded: such a client offers nothing that could be accepted */
};

/* Version, methods. ERR_CLIENT_PROTOCOL for another version. */
int socks5_greeting_decode(struct socks5_greeting *g, const uint8_t *p, size_t n);
bool socks5_offers(const struct socks5_greeting *g, uint8_t method);

struct socks5_auth {
    const uint8_t *user, *password;
    uint8_t user_len, password_len; /* 0 is decoded, though RFC 1929 asks for 1: the caller refuses it */
};

/* The sub-negotiation of RFC 1929. ERR_CLIENT_PROTOCOL for a sub-version other than 1, which is also what a
 * client meets that sends its request without authenticating. */
int socks5_auth_decode(struct socks5_auth *a, const uint8_t *p, size_t n);

/* An address as it stands in requests, replies and datagrams. */
struct socks5_addr {
    enum socks5_atyp atyp;
    uint8_t host_len;    /* 4, 16, or 1..255 for a name */
    const uint8_t *host; /* network order, or the bytes of the name */
    uint16_t port;       /* may be 0 */
};

struct socks5_request {
    uint8_t cmd; /* any value: one that is not served is the caller's ERR_CLIENT_COMMAND */
    struct socks5_addr addr;
};

/* ERR_CLIENT_PROTOCOL for another version or a name of length 0, ERR_CLIENT_ADDRESS for an ATYP that is none of
 * the three. RSV is not looked at: nothing depends on it, so a client that leaves it unset is served. */
int socks5_request_decode(struct socks5_request *r, const uint8_t *p, size_t n);

/* The canonical destination of a decoded address: 0 or ERR_CLIENT_DESTINATION (see dest.h; port 0 is one reason).
 * The address of a UDP ASSOCIATE is none: it says where datagrams will come from, and may be all zeros. */
int socks5_dest(struct dest *d, enum dest_network network, const struct socks5_addr *a);

/* --- SOCKS5, to the client --- */

/* The choice after a greeting, an enum socks5_method. 2 bytes. */
void socks5_put_method(struct writer *w, uint8_t method);
/* The end of RFC 1929: status 0, or 1 when refused, after which the connection is to be closed. 2 bytes. */
void socks5_put_auth_result(struct writer *w, bool accepted);
/* The reply with its BND address; 0.0.0.0:0 for NULL and for an address that is neither IPv4 nor IPv6. Up to
 * SOCKS5_REPLY_MAX bytes. */
void socks5_put_reply(struct writer *w, enum socks5_rep rep, const struct addr *bound);
/* The REP that tells a client the most about err: SOCKS5_SUCCEEDED for 0, SOCKS5_GENERAL_FAILURE for all that has
 * no REP of its own. An unreachable upstream is an unreachable network, for every destination is behind it. */
enum socks5_rep socks5_rep(int err);

/* --- SOCKS5 datagrams, RFC 1928 section 7 --- */

struct socks5_udp {
    uint8_t frag; /* not 0: a fragment, to be dropped by those who do not reassemble */
    struct socks5_addr addr;
    const uint8_t *payload;
    size_t payload_len; /* may be 0 */
};

/* A datagram is whole, so there is no "more": the length of the header (> 0), ERR_CLIENT_PROTOCOL when it is
 * truncated or holds a name of length 0, or ERR_CLIENT_ADDRESS. RSV is not looked at. */
int socks5_udp_decode(struct socks5_udp *u, const uint8_t *p, size_t n);
/* The header of an unfragmented datagram: `from` as for replies. Up to SOCKS5_REPLY_MAX bytes. */
void socks5_put_udp_header(struct writer *w, const struct addr *from);
/* The same for a sender that is known only as the destination the client asked for, be it a name. Up to
 * SOCKS5_UDP_HEADER_MAX bytes. */
void socks5_put_udp_header_dest(struct writer *w, const struct dest *from);

/* --- SOCKS4 and 4a --- */

struct socks4_request {
    uint8_t cmd; /* as in SOCKS5 */
    uint16_t port;
    const uint8_t *ip;          /* 4 bytes in network order; meaningless with a name */
    const uint8_t *user;        /* without its NUL; any byte but NUL */
    const uint8_t *name;        /* 4a: without its NUL; any byte but NUL. NULL when ip is the destination */
    uint8_t user_len, name_len; /* at most 255; name_len is at least 1 when there is a name */
};

/* 4a is what an IP of 0.0.0.x, x not 0, says. ERR_CLIENT_PROTOCOL for another version or an empty 4a name,
 * ERR_CLIENT_TOO_LARGE when a user id or a name has no NUL within 256 bytes. */
int socks4_request_decode(struct socks4_request *r, const uint8_t *p, size_t n);
/* As socks5_dest(); always DEST_TCP. */
int socks4_dest(struct dest *d, const struct socks4_request *r);

/* The reply; zeros for a bound address that is NULL or not IPv4, and clients of CONNECT ignore it. 8 bytes. */
void socks4_put_reply(struct writer *w, enum socks4_rep rep, const struct addr *bound);
/* SOCKS4_GRANTED for 0, SOCKS4_WRONG_USER for ERR_CLIENT_AUTH, SOCKS4_REJECTED for the rest. */
enum socks4_rep socks4_rep(int err);

#endif
