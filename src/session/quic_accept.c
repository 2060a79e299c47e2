#include "session/quic_accept.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <string.h>

#include "base/err.h"

#define MIN_INITIAL 1200 /* RFC 9000 section 14.1 */
/* A stateless reset looks like a short packet, and is shorter than what it answers, so that two ends that do not
 * know each other fall silent (RFC 9000 section 10.3.3). */
#define RESET_MIN (NGTCP2_MIN_STATELESS_RESET_RANDLEN + NGTCP2_STATELESS_RESET_TOKENLEN)
#define RESET_MAX (RESET_MIN + 22)

int quic_acceptor_init(struct quic_acceptor *a, bool retry) {
    *a = (struct quic_acceptor){.retry = retry};
    if (gnutls_rnd(GNUTLS_RND_KEY, a->token_secret, sizeof a->token_secret) < 0 ||
        gnutls_rnd(GNUTLS_RND_KEY, a->reset_secret, sizeof a->reset_secret) < 0)
        return ERR_INTERNAL;
    return 0;
}

bool quic_datagram_dcid(const uint8_t *p, size_t n, struct quic_cid *cid) {
    ngtcp2_version_cid vc;
    if (!n) return false;
    int rv = ngtcp2_pkt_decode_version_cid(&vc, p, n, QUIC_SERVER_CID);
    if ((rv != 0 && rv != NGTCP2_ERR_VERSION_NEGOTIATION) || vc.dcidlen > sizeof cid->data) return false;
    *cid = (struct quic_cid){.len = (uint8_t)vc.dcidlen};
    memcpy(cid->data, vc.dcid, vc.dcidlen);
    return true;
}

static struct quic_cid own_cid(const ngtcp2_cid *cid) {
    struct quic_cid c = {.len = (uint8_t)cid->datalen};
    memcpy(c.data, cid->data, cid->datalen);
    return c;
}

static enum quic_accept_result reply(ngtcp2_ssize n, size_t *reply_len) {
    if (n <= 0) return QUIC_ACCEPT_NONE;
    *reply_len = (size_t)n;
    return QUIC_ACCEPT_REPLY;
}

static enum quic_accept_result version_negotiation(const ngtcp2_version_cid *vc, uint8_t *out, size_t *reply_len) {
    /* One version of ours, and a reserved one so that nobody comes to rely on there being one (RFC 9000 section
     * 15). */
    static const uint32_t versions[] = {NGTCP2_PROTO_VER_V1, 0x2a3a4a5a};
    uint8_t unused = 0;
    if (gnutls_rnd(GNUTLS_RND_NONCE, &unused, 1) < 0) return QUIC_ACCEPT_NONE;
    return reply(ngtcp2_pkt_write_version_negotiation(out, QUIC_REPLY_MAX, unused, vc->scid, vc->scidlen, vc->dcid,
                                                      vc->dcidlen, versions, 2),
                 reply_len);
}

static enum quic_accept_result stateless_reset(const struct quic_acceptor *a, const ngtcp2_version_cid *vc,
                                               size_t n, uint8_t *out, size_t *reply_len) {
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN], noise[RESET_MAX];
    ngtcp2_cid cid;
    if (n <= RESET_MIN) return QUIC_ACCEPT_NONE;
    size_t size = n - 1 < RESET_MAX ? n - 1 : RESET_MAX;
    size_t noise_len = size - sizeof token;
    ngtcp2_cid_init(&cid, vc->dcid, vc->dcidlen);
    if (gnutls_rnd(GNUTLS_RND_NONCE, noise, noise_len) < 0 ||
        ngtcp2_crypto_generate_stateless_reset_token(token, a->reset_secret, sizeof a->reset_secret, &cid) != 0)
        return QUIC_ACCEPT_NONE;
    return reply(ngtcp2_pkt_write_stateless_reset(out, QUIC_REPLY_MAX, token, noise, noise_len), reply_len);
}

static enum quic_accept_result retry(const struct quic_acceptor *a, const struct addr *remote,
                                     const ngtcp2_pkt_hd *hd, uint64_t now, uint8_t *out, size_t *reply_len) {
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
    ngtcp2_cid scid = {.datalen = QUIC_SERVER_CID};
    if (gnutls_rnd(GNUTLS_RND_NONCE, scid.data, scid.datalen) < 0) return QUIC_ACCEPT_NONE;
    ngtcp2_ssize n =
        ngtcp2_crypto_generate_retry_token2(token, a->token_secret, sizeof a->token_secret, hd->version,
                                            &remote->u.sa, remote->len, &scid, &hd->dcid, now);
    if (n < 0) return QUIC_ACCEPT_NONE;
    return reply(ngtcp2_crypto_write_retry(out, QUIC_REPLY_MAX, hd->version, &hd->scid, &scid, &hd->dcid, token,
                                           (size_t)n),
                 reply_len);
}

static enum quic_accept_result refuse_token(const ngtcp2_pkt_hd *hd, uint8_t *out, size_t *reply_len) {
    return reply(ngtcp2_crypto_write_connection_close(out, QUIC_REPLY_MAX, hd->version, &hd->scid, &hd->dcid,
                                                      NGTCP2_INVALID_TOKEN, NULL, 0),
                 reply_len);
}

/* An Initial of version 1 that no session knows. */
static enum quic_accept_result judge_initial(const struct quic_acceptor *a, const struct addr *remote,
                                             const ngtcp2_pkt_hd *hd, uint64_t now, struct session_accept *out,
                                             uint8_t *to, size_t *reply_len) {
    *out = (struct session_accept){
        .client = own_cid(&hd->scid), .dcid = own_cid(&hd->dcid), .original = own_cid(&hd->dcid)};
    memcpy(out->reset_secret, a->reset_secret, sizeof out->reset_secret);
    /* Only Retry gives tokens out here: another one is as good as none. */
    ngtcp2_cid original;
    int rv = NGTCP2_CRYPTO_ERR_UNREADABLE_TOKEN;
    if (hd->tokenlen && hd->tokenlen <= sizeof out->token && hd->token[0] == NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2)
        rv = ngtcp2_crypto_verify_retry_token2(&original, hd->token, hd->tokenlen, a->token_secret,
                                               sizeof a->token_secret, hd->version, &remote->u.sa, remote->len,
                                               &hd->dcid, QUIC_TOKEN_LIFE * NGTCP2_SECONDS, now);
    if (rv == 0) {
        out->original = own_cid(&original);
        out->retried = true;
        memcpy(out->token, hd->token, hd->tokenlen);
        out->token_len = hd->tokenlen;
        return QUIC_ACCEPT_NEW;
    }
    if (rv == NGTCP2_CRYPTO_ERR_VERIFY_TOKEN) return refuse_token(hd, to, reply_len);
    /* Too short for a first id: it answers a Retry whose token nobody can read. */
    if (hd->dcid.datalen < NGTCP2_MIN_INITIAL_DCIDLEN) return QUIC_ACCEPT_NONE;
    return a->retry ? retry(a, remote, hd, now, to, reply_len) : QUIC_ACCEPT_NEW;
}

enum quic_accept_result quic_accept(const struct quic_acceptor *a, const struct addr *remote, const uint8_t *p,
                                    size_t n, uint64_t now, struct session_accept *out, uint8_t *to,
                                    size_t *reply_len) {
    ngtcp2_version_cid vc;
    ngtcp2_pkt_hd hd;
    *reply_len = 0;
    if (!n) return QUIC_ACCEPT_NONE;
    int rv = ngtcp2_pkt_decode_version_cid(&vc, p, n, QUIC_SERVER_CID);
    if (rv != 0 && rv != NGTCP2_ERR_VERSION_NEGOTIATION) return QUIC_ACCEPT_NONE;
    if (!(p[0] & 0x80)) return stateless_reset(a, &vc, n, to, reply_len);
    if (vc.version == 0 || n < MIN_INITIAL) return QUIC_ACCEPT_NONE;
    if (vc.version != NGTCP2_PROTO_VER_V1) return version_negotiation(&vc, to, reply_len);
    if (ngtcp2_accept(&hd, p, n) != 0) return QUIC_ACCEPT_NONE;
    return judge_initial(a, remote, &hd, now, out, to, reply_len);
}
