/* A file of session tickets: any bytes are refused as a whole, or what was taken comes out again. The first byte says
 * whether the rest is sealed before it is read, so that what is behind the checksum is reached, too. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "session/creds_tickets.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())
#define DIGEST 32
#define NOW INT64_C(1800000000)

static const uint8_t identity[TICKETS_IDENTITY] = "0123456789abcdef0123456789abcde";

static unsigned drain(struct creds_tickets *t, bool quic) {
    unsigned count = 0;
    size_t n;
    for (uint8_t *p; (p = creds_tickets_take(t, quic, NOW, &n)); count++) {
        CHECK(n > 0 && n <= TICKET_BYTES_MAX);
        creds_ticket_free(p, n);
    }
    CHECK(count <= TICKETS_MAX);
    return count;
}

static void check(const uint8_t *data, size_t size) {
    struct creds_tickets *t = creds_tickets_new(identity), *again = creds_tickets_new(identity);
    const char *why;
    uint8_t *p;
    size_t n;
    CHECK(t && again);
    int r = creds_tickets_import(t, data, size, NOW, &why);
    CHECK(r == 0 || (r == ERR_CONFIG && why));
    CHECK(creds_tickets_export(t, NOW, &p, &n) == 0);
    if (r) CHECK(!p);
    if (p) CHECK(n <= size && creds_tickets_import(again, p, n, NOW, &why) == 0);
    unsigned tcp = drain(t, false), quic = drain(t, true);
    CHECK((tcp + quic > 0) == (p != NULL));
    CHECK(drain(again, false) == tcp && drain(again, true) == quic);
    creds_ticket_free(p, n);
    creds_tickets_free(t);
    creds_tickets_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    size_t n = size - 1;
    uint8_t *copy = malloc(n + DIGEST);
    CHECK(copy);
    memcpy(copy, data + 1, n);
    if (data[0] & 1) {
        CHECK(gnutls_hash_fast(GNUTLS_DIG_SHA256, copy, n, copy + n) >= 0);
        n += DIGEST;
    }
    check(copy, n);
    free(copy);
    return 0;
}
