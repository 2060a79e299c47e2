/* tls_pair.h - the two ends of a TLS connection in memory, for the tests of creds and tls.
 *
 * Bytes pass at once and in pieces of any size. The session of either end may be changed through tls_session()
 * before tls_pair_shake(), to play peers that adit itself would not be.
 */
#ifndef ADIT_TESTS_LIB_TLS_PAIR_H
#define ADIT_TESTS_LIB_TLS_PAIR_H

#include "session/tls.h"

struct tls_pair {
    struct tls *client, *server;
    struct outq to_server, to_client; /* what waits */
    struct outq heard, read;          /* plaintext that the server, the client has read */
    int client_rv, server_rv;         /* the last results of handshake or read */
    size_t piece;                     /* most bytes passed at once; 0: any */
    size_t records;                   /* that the client sent */
    uint8_t hello[2048];              /* the client's first bytes */
    size_t hello_len;
};

/* Not owned: creds. no_alpn: the server negotiates none. */
void tls_pair_init(struct tls_pair *p, struct creds *client, struct creds *server, bool allow_no_alpn,
                   bool no_alpn);
void tls_pair_free(struct tls_pair *p);
/* Passes bytes and reads until nothing moves. */
void tls_pair_pump(struct tls_pair *p);
/* Up to the end of the handshake: the client's result. */
int tls_pair_shake(struct tls_pair *p);

#endif
