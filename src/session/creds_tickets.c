#include "session/creds_tickets.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/secret.h"
#include "base/wire.h"

/* A file: MAGIC, the identity, for each ticket the transport, the end of its life, its length and its bytes, and then
 * the SHA-256 of all that. */
static const char magic[16] = "adit tickets 1\n";
#define DIGEST 32
#define HEAD (sizeof magic + TICKETS_IDENTITY)
#define ENTRY (1 + 8 + 4)

struct ticket {
    uint8_t *p;
    size_t n;
    int64_t until;
};

struct creds_tickets {
    uint8_t identity[TICKETS_IDENTITY];
    struct ticket of[2][TICKETS_MAX]; /* by transport, oldest first */
    size_t count[2];
};

struct creds_tickets *creds_tickets_new(const uint8_t identity[TICKETS_IDENTITY]) {
    struct creds_tickets *t = calloc(1, sizeof *t);
    if (t) memcpy(t->identity, identity, sizeof t->identity);
    return t;
}

void creds_tickets_free(struct creds_tickets *t) {
    if (!t) return;
    creds_tickets_clear(t, false);
    creds_tickets_clear(t, true);
    free(t);
}

void creds_ticket_free(uint8_t *p, size_t n) {
    secret_wipe(p, n);
    free(p);
}

void creds_tickets_clear(struct creds_tickets *t, bool quic) {
    while (t->count[quic] > 0) {
        struct ticket *last = &t->of[quic][--t->count[quic]];
        creds_ticket_free(last->p, last->n);
    }
}

void creds_tickets_put(struct creds_tickets *t, bool quic, const void *p, size_t n, int64_t until, int64_t now) {
    struct ticket *all = t->of[quic];
    if (until > now + TICKET_LIFE) until = now + TICKET_LIFE;
    if (n == 0 || n > TICKET_BYTES_MAX || until <= now) return;
    uint8_t *copy = malloc(n);
    if (!copy) return;
    memcpy(copy, p, n);
    if (t->count[quic] == TICKETS_MAX) {
        creds_ticket_free(all[0].p, all[0].n);
        memmove(all, all + 1, --t->count[quic] * sizeof *all);
    }
    all[t->count[quic]++] = (struct ticket){copy, n, until};
}

/* A clock that was set back makes none live longer. */
static bool is_good(const struct ticket *k, int64_t now) { return k->until > now && k->until - now <= TICKET_LIFE; }

uint8_t *creds_tickets_take(struct creds_tickets *t, bool quic, int64_t now, size_t *n) {
    *n = 0;
    while (t->count[quic] > 0) {
        struct ticket last = t->of[quic][--t->count[quic]];
        if (is_good(&last, now)) {
            *n = last.n;
            return last.p;
        }
        creds_ticket_free(last.p, last.n);
    }
    return NULL;
}

void creds_tickets_move(struct creds_tickets *from, struct creds_tickets *to) {
    if (memcmp(from->identity, to->identity, sizeof to->identity) != 0 || to->count[0] + to->count[1] > 0) return;
    memcpy(to->of, from->of, sizeof to->of);
    memcpy(to->count, from->count, sizeof to->count);
    from->count[0] = from->count[1] = 0;
}

/* ---- as bytes ---- */

int creds_tickets_export(const struct creds_tickets *t, int64_t now, uint8_t **p, size_t *n) {
    size_t size = HEAD + DIGEST;
    unsigned good = 0;
    *p = NULL;
    *n = 0;
    for (int quic = 0; quic < 2; quic++)
        for (size_t i = 0; i < t->count[quic]; i++) size += ENTRY + t->of[quic][i].n;
    uint8_t *bytes = malloc(size);
    if (!bytes) return ERR_NO_MEMORY;
    struct writer w = writer_of(bytes, size);
    writer_bytes(&w, magic, sizeof magic);
    writer_bytes(&w, t->identity, sizeof t->identity);
    for (int quic = 0; quic < 2; quic++) {
        for (size_t i = 0; i < t->count[quic]; i++) {
            const struct ticket *k = &t->of[quic][i];
            if (!is_good(k, now)) continue;
            writer_u8(&w, (uint8_t)quic);
            writer_u32(&w, (uint32_t)((uint64_t)k->until >> 32));
            writer_u32(&w, (uint32_t)k->until);
            writer_u32(&w, (uint32_t)k->n);
            writer_bytes(&w, k->p, k->n);
            good++;
        }
    }
    uint8_t digest[DIGEST];
    int rv = gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, writer_len(&w), digest);
    writer_bytes(&w, digest, sizeof digest);
    if (rv < 0 || w.bad || !good) {
        creds_ticket_free(bytes, size);
        return rv < 0 ? ERR_NO_MEMORY : 0;
    }
    *p = bytes;
    *n = writer_len(&w);
    return 0;
}

/* put: take them in; else only look whether they are right. */
static bool entries(struct creds_tickets *t, struct reader r, int64_t now, bool put) {
    unsigned count = 0;
    while (reader_left(&r)) {
        uint8_t quic = reader_u8(&r);
        uint64_t high = reader_u32(&r), until = high << 32 | reader_u32(&r);
        uint32_t n = reader_u32(&r);
        const uint8_t *p = n > 0 && n <= TICKET_BYTES_MAX ? reader_bytes(&r, n) : NULL;
        if (r.bad || !p || quic > 1 || until > INT64_MAX || ++count > 2 * TICKETS_MAX) return false;
        /* One that would live longer than any is from another time. */
        if (put && (int64_t)until <= now + TICKET_LIFE) creds_tickets_put(t, quic, p, n, (int64_t)until, now);
    }
    return true;
}

int creds_tickets_import(struct creds_tickets *t, const void *p, size_t n, int64_t now, const char **why) {
    uint8_t digest[DIGEST];
    const uint8_t *bytes = p;
    *why = "it holds no tickets";
    if (n < HEAD + DIGEST || memcmp(bytes, magic, sizeof magic) != 0) return ERR_CONFIG;
    *why = "it is damaged";
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, n - DIGEST, digest) < 0) return ERR_CONFIG;
    if (memcmp(digest, bytes + n - DIGEST, DIGEST) != 0) return ERR_CONFIG;
    *why = "it is of another endpoint, or its verification is set in another way now";
    if (memcmp(bytes + sizeof magic, t->identity, sizeof t->identity) != 0) return ERR_CONFIG;
    *why = "it is damaged";
    struct reader r = reader_of(bytes + HEAD, n - HEAD - DIGEST);
    if (!entries(t, r, now, false)) return ERR_CONFIG;
    entries(t, r, now, true);
    return 0;
}
