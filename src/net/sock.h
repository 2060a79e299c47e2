/* sock.h - TCP sockets as streams, listening sockets, and UDP sockets with batches.
 *
 * Everything here is non-blocking, close-on-exec and driven by the loop; nothing resolves names. A TCP socket is a
 * `struct stream` (name "tcp"): it reads only while its owner consumes, writes straight into the kernel (no buffer of
 * its own for writing: accepted bytes are the kernel's), finish is shutdown(SHUT_WR), reset is an RST by SO_LINGER 0,
 * and free after finish closes in order. DEAD carries the err of the socket's side: target, upstream or client by
 * `sock_side`. tests/sim replaces this header's connecting half and udp_* at link time.
 *
 * STREAM_IN for bytes that arrive behind unread ones comes when those were consumed: an owner that needs more than a
 * peek shows keeps what it has seen and consumes it. A reset by the peer is told even while nobody reads.
 */
#ifndef ADIT_NET_SOCK_H
#define ADIT_NET_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/loop.h"
#include "base/stream.h"

/* Whose socket it is: picks the class of its errors. */
enum sock_side { SOCK_CLIENT, SOCK_TARGET, SOCK_UPSTREAM };

/* Read buffer of one TCP stream, bytes; allocated while bytes are unread only. */
#define SOCK_READ_MAX 65536
/* A few such buffers are kept for reuse; this gives them back to the allocator. */
void sock_trim(void);

/* Takes over a connected descriptor. NULL when out of memory (fd is closed then). */
struct stream *sock_stream(struct loop *l, int fd, enum sock_side side);
/* Starts connecting; the stream gives STREAM_OPEN (status 0) or DEAD. source: NULL or a local address. Sets TCP_NODELAY,
 * keepalive. NULL with *err when it fails at once. */
struct stream *sock_connect(struct loop *l, const struct addr *to, const struct addr *source, enum sock_side side,
                            int *err);
/* Local and remote address of a tcp stream; false for other streams, and after a reset (which closes at once). */
bool sock_stream_local(const struct stream *s, struct addr *a);
bool sock_stream_remote(const struct stream *s, struct addr *a);

/* The descriptor of a tcp stream, which stays the stream's; -1 for other streams, and after a reset. */
int sock_stream_fd(const struct stream *s);

/* The local IP address (port 0) from which the system would reach `to` now; false if it cannot. Sends nothing. */
bool sock_source(const struct addr *to, struct addr *from);

/* --- listening --- */

struct listener_sock;
/* accepted: called for each connection, owns the stream. When descriptors run out (EMFILE and the like) accepting pauses
 * for 1 s, without a spin, and says so in the log at most once a second. */
struct listener_sock *sock_listen(struct loop *l, const struct addr *at, int backlog,
                                  void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                                  int *errnum);
/* The same with a socket that listens already; it is taken over, and closed when this fails. */
struct listener_sock *sock_listen_fd(struct loop *l, int fd,
                                     void (*accepted)(struct stream *s, const struct addr *remote, void *arg), void *arg,
                                     int *errnum);
/* The bound address (port 0 resolved). */
void sock_listen_addr(const struct listener_sock *ls, struct addr *a);
/* Closes the listening socket; accepted streams live on. NULL allowed. */
void sock_listen_free(struct listener_sock *ls);

/* --- UDP --- */

struct udp;

/* Datagrams handed over at one time, per read event, before the loop turns; one read that the kernel has coalesced
 * is always handed over whole. */
#define UDP_BATCH 64
/* Largest datagram received, bytes. */
#define UDP_MAX 65535

struct udp_cb {
    /* one datagram; from a peer's address (the connected one if connected). The buffer is the udp's own. */
    void (*datagram)(struct udp *u, const struct addr *from, uint8_t ecn, const uint8_t *p, size_t n, void *arg);
    /* all datagrams of this batch were delivered: time to pump once */
    void (*batch_end)(struct udp *u, void *arg);
    /* room again after udp_send() returned less than n */
    void (*writable)(struct udp *u, void *arg);
    /* an ICMP error came back on a connected socket (ECONNREFUSED, EHOSTUNREACH, ...); the socket stays usable */
    void (*error)(struct udp *u, int errnum, void *arg);
    void *arg;
};

/* Datagrams go out with "don't fragment" set: one that is longer than the interface's MTU is lost, never split.
 * connected: to != NULL connects the socket (so ICMP errors are seen, foreign datagrams are not); bind_to: NULL or the
 * local address. NULL with *errnum. GSO and GRO are used where the kernel has them. Callbacks may free the udp. */
struct udp *udp_open(struct loop *l, const struct addr *bind_to, const struct addr *to, const struct udp_cb *cb,
                     int *errnum);
void udp_free(struct udp *u);
/* Sends n bytes as datagrams of `segment` bytes each (the last may be shorter; segment 0: one datagram) to `to` (NULL
 * when connected). Returns the bytes taken: whole datagrams; less than n means blocked, and `writable` follows. A
 * datagram that the kernel refuses for another reason than being full counts as taken (it is lost, like on a wire);
 * unreachable-like errors and EPERM (a packet filter) are reported by `error` from the deferred queue, the first one of
 * each turn. n = 0 is one empty datagram. */
size_t udp_send(struct udp *u, const struct addr *to, uint8_t ecn, const uint8_t *p, size_t n, size_t segment);
void udp_local(const struct udp *u, struct addr *a);
/* Sends datagrams one by one from now on: where no wire lies between, a receiver gets a GSO batch as one message, and
 * some deployed ones (Envoy) lose it whole. */
void udp_stop_gso(struct udp *u);

#endif
