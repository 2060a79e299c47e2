#include "lib/tls_pair.h"

#include <stdlib.h>
#include <string.h>

void tls_pair_init(struct tls_pair *p, struct creds *client, struct creds *server, bool allow_no_alpn,
                   bool no_alpn) {
    *p = (struct tls_pair){0};
    if (tls_new(&p->client, client, false, allow_no_alpn, &p->to_server) < 0) abort();
    if (tls_new(&p->server, server, true, no_alpn, &p->to_client) < 0) abort();
}

void tls_pair_free(struct tls_pair *p) {
    tls_free(p->client);
    tls_free(p->server);
    outq_free(&p->to_server);
    outq_free(&p->to_client);
    outq_free(&p->heard);
    outq_free(&p->read);
}

/* What the end makes of its input: its result. */
static int work(struct tls *t, struct outq *plain) {
    int rv = tls_handshake(t);
    while (rv == TLS_DONE) {
        const uint8_t *data;
        size_t n;
        rv = tls_read(t, &data, &n);
        if (rv == TLS_DONE && !outq_add(plain, data, n)) abort();
        if (rv == TLS_WAIT) return TLS_DONE;
    }
    return rv;
}

static bool pass(struct tls_pair *p, struct outq *q, struct tls *to, struct outq *plain, int *rv) {
    size_t n = q->len;
    if (!n) return false;
    if (p->piece && n > p->piece) n = p->piece;
    uint8_t *copy = malloc(n);
    if (!copy) abort();
    memcpy(copy, q->p + q->off, n);
    outq_take(q, n);
    tls_input(to, copy, n);
    *rv = work(to, plain);
    free(copy);
    return true;
}

static void note_hello(struct tls_pair *p) {
    size_t n = p->to_server.len < sizeof p->hello ? p->to_server.len : sizeof p->hello;
    if (p->hello_len || !n) return;
    memcpy(p->hello, p->to_server.p + p->to_server.off, n);
    p->hello_len = n;
}

void tls_pair_pump(struct tls_pair *p) {
    bool moved;
    do {
        moved = pass(p, &p->to_server, p->server, &p->heard, &p->server_rv);
        moved |= pass(p, &p->to_client, p->client, &p->read, &p->client_rv);
    } while (moved);
}

int tls_pair_shake(struct tls_pair *p) {
    p->client_rv = tls_handshake(p->client);
    note_hello(p);
    tls_pair_pump(p);
    return p->client_rv;
}
