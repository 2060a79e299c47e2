#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/quic_impl.h"

/* What a browser's parameters say; the windows come from the config. */
#define STREAMS_BIDI 100
#define STREAMS_UNI 103
#define UDP_PAYLOAD 1472
#define CLIENT_DCID 8

#define MS UINT64_C(1000000)

/* ---- the library's callbacks ---- */

static int result(int rv) { return rv < 0 ? NGTCP2_ERR_CALLBACK_FAILURE : 0; }

static void on_rand(uint8_t *dest, size_t n, const ngtcp2_rand_ctx *ctx) {
    (void)ctx;
    /* Not for keys: without randomness these bytes are merely predictable. */
    if (gnutls_rnd(GNUTLS_RND_NONCE, dest, n) < 0) memset(dest, 0, n);
}

static void tell_cid(struct quic *q, const ngtcp2_cid *cid, bool added) {
    struct quic_cid c = {.len = (uint8_t)cid->datalen};
    if (!q->cid || cid->datalen > sizeof c.data) return;
    memcpy(c.data, cid->data, cid->datalen);
    q->cid(q->cid_arg, &c, added);
}

static int on_new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t n, void *user) {
    struct quic *q = user;
    (void)conn;
    cid->datalen = n;
    if (gnutls_rnd(GNUTLS_RND_NONCE, cid->data, n) < 0 ||
        ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_secret, sizeof q->reset_secret, cid) != 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    tell_cid(q, cid, true);
    return 0;
}

static int on_remove_cid(ngtcp2_conn *conn, const ngtcp2_cid *cid, void *user) {
    (void)conn;
    tell_cid(user, cid, false);
    return 0;
}

static int on_completed(ngtcp2_conn *conn, void *user) {
    struct quic *q = user;
    (void)conn;
    if (quic_tls_check(q) < 0) return NGTCP2_ERR_CALLBACK_FAILURE;
    q->ready = true;
    return result(q->ops->ready(q->arg));
}

/* The library has checked its tag. */
static int on_retry(ngtcp2_conn *conn, const ngtcp2_pkt_hd *hd, void *user) {
    struct quic *q = user;
    q->s->last_rx = q->now;
    return ngtcp2_crypto_recv_retry_cb(conn, hd, user);
}

static int on_versions(ngtcp2_conn *conn, const ngtcp2_pkt_hd *hd, const uint32_t *sv, size_t n, void *user) {
    struct quic *q = user;
    size_t at = 0;
    (void)conn;
    (void)hd;
    for (size_t i = 0; i < n && at + 12 < sizeof q->versions; i++)
        at += (size_t)snprintf(q->versions + at, sizeof q->versions - at, "%s%08x", i ? " " : "", (unsigned)sv[i]);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *conn, const ngtcp2_pkt_stateless_reset *sr, void *user) {
    (void)conn;
    (void)sr;
    ((struct quic *)user)->reset_by_peer = true;
    return 0;
}

static int on_stream_open(ngtcp2_conn *conn, int64_t id, void *user) {
    struct quic *q = user;
    (void)conn;
    return result(q->ops->opened(q->arg, id));
}

static int on_data(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t offset, const uint8_t *p, size_t n,
                   void *user, void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)offset;
    (void)stream_user;
    return result(q->ops->data(q->arg, id, p, n, flags & NGTCP2_STREAM_DATA_FLAG_FIN));
}

static int on_acked(ngtcp2_conn *conn, int64_t id, uint64_t offset, uint64_t n, void *user, void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)stream_user;
    return result(q->ops->acked(q->arg, id, offset + n));
}

static int on_reset(ngtcp2_conn *conn, int64_t id, uint64_t final_size, uint64_t code, void *user,
                    void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)final_size;
    (void)stream_user;
    return result(q->ops->reset(q->arg, id, code));
}

static int on_stop_sending(ngtcp2_conn *conn, int64_t id, uint64_t code, void *user, void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)code;
    (void)stream_user;
    return result(q->ops->stopping(q->arg, id));
}

static int on_close(ngtcp2_conn *conn, uint32_t flags, int64_t id, uint64_t code, void *user, void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)stream_user;
    return result(q->ops->closed(q->arg, id, flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET, code));
}

static int on_unblocked(ngtcp2_conn *conn, int64_t id, uint64_t max, void *user, void *stream_user) {
    struct quic *q = user;
    (void)conn;
    (void)max;
    (void)stream_user;
    return result(q->ops->unblocked(q->arg, id));
}

static int on_limit(ngtcp2_conn *conn, uint64_t max, void *user) {
    struct quic *q = user;
    (void)conn;
    q->ops->limit(q->arg, max);
    return 0;
}

/* select_preferred_addr stays unset: the client goes nowhere else than where it was sent to. */
static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .handshake_completed = on_completed,
    .recv_version_negotiation = on_versions,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = quic_decrypt,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_stream_data = on_data,
    .acked_stream_data_offset = on_acked,
    .stream_open = on_stream_open,
    .stream_close = on_close,
    .recv_stateless_reset = on_stateless_reset,
    .recv_retry = on_retry,
    .rand = on_rand,
    .get_new_connection_id = on_new_cid,
    .remove_connection_id = on_remove_cid,
    .update_key = ngtcp2_crypto_update_key_cb,
    .stream_reset = on_reset,
    .extend_max_remote_streams_bidi = on_limit,
    .extend_max_stream_data = on_unblocked,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .stream_stop_sending = on_stop_sending,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

/* ---- life ---- */

static void make_settings(const struct session_config *c, ngtcp2_settings *settings) {
    ngtcp2_settings_default(settings);
    settings->initial_ts = c->now;
    settings->cc_algo = NGTCP2_CC_ALGO_CUBIC;
    /* The deadline of the handshake is the session's own; windows do not grow, memory is bounded by them. */
    settings->handshake_timeout = UINT64_MAX;
}

static void make_params(const struct session_config *c, ngtcp2_transport_params *params) {
    ngtcp2_transport_params_default(params);
    params->initial_max_data = c->session_window;
    params->initial_max_stream_data_bidi_local = c->stream_window;
    params->initial_max_stream_data_bidi_remote = c->stream_window;
    params->initial_max_stream_data_uni = c->stream_window;
    params->initial_max_streams_bidi = c->server ? c->max_streams : STREAMS_BIDI;
    params->initial_max_streams_uni = STREAMS_UNI;
    params->max_idle_timeout = c->idle_timeout * MS;
    params->max_udp_payload_size = UDP_PAYLOAD;
}

/* On failure the library leaves a pointer to what it freed. */
static int made(struct quic *q, int rv, ngtcp2_conn *conn) {
    if (rv == 0) q->conn = conn;
    return rv == 0 ? 0 : rv == NGTCP2_ERR_NOMEM ? ERR_NO_MEMORY : ERR_UPSTREAM_TLS;
}

static int new_client(struct quic *q, const ngtcp2_path *path, const ngtcp2_settings *settings,
                      const ngtcp2_transport_params *params) {
    ngtcp2_cid dcid = {.datalen = CLIENT_DCID}, scid = {.datalen = 0};
    if (gnutls_rnd(GNUTLS_RND_NONCE, dcid.data, dcid.datalen) < 0) return ERR_UPSTREAM_TLS;
    ngtcp2_conn *conn;
    int rv = ngtcp2_conn_client_new(&conn, &dcid, &scid, path, NGTCP2_PROTO_VER_V1, &callbacks, settings, params,
                                    NULL, q);
    return made(q, rv, conn);
}

static ngtcp2_cid library_cid(const struct quic_cid *c) {
    ngtcp2_cid cid;
    ngtcp2_cid_init(&cid, c->data, c->len);
    return cid;
}

static int new_server(struct quic *q, const ngtcp2_path *path, ngtcp2_settings *settings,
                      ngtcp2_transport_params *params) {
    const struct session_accept *a = q->s->cfg.accept;
    if (!a) return ERR_UPSTREAM_TLS;
    q->cid = a->cid;
    q->cid_arg = a->cid_arg;
    memcpy(q->reset_secret, a->reset_secret, sizeof q->reset_secret);
    ngtcp2_cid client = library_cid(&a->client), dcid = library_cid(&a->dcid), own = {.datalen = QUIC_SERVER_CID};
    if (gnutls_rnd(GNUTLS_RND_NONCE, own.data, own.datalen) < 0) return ERR_UPSTREAM_TLS;
    params->original_dcid = library_cid(&a->original);
    params->original_dcid_present = 1;
    if (a->retried) {
        params->retry_scid = dcid;
        params->retry_scid_present = 1;
        settings->token = a->token;
        settings->tokenlen = a->token_len;
        settings->token_type = NGTCP2_TOKEN_TYPE_RETRY;
    }
    if (ngtcp2_crypto_generate_stateless_reset_token(params->stateless_reset_token, q->reset_secret,
                                                     sizeof q->reset_secret, &own) != 0)
        return ERR_UPSTREAM_TLS;
    params->stateless_reset_token_present = 1;
    ngtcp2_conn *conn;
    int rv = ngtcp2_conn_server_new(&conn, &client, &own, path, NGTCP2_PROTO_VER_V1, &callbacks, settings, params,
                                    NULL, q);
    rv = made(q, rv, conn);
    if (rv < 0) return rv;
    tell_cid(q, &dcid, true);
    tell_cid(q, &own, true);
    return 0;
}

int quic_new(struct quic **out, struct session *s, const struct quic_ops *ops, void *arg) {
    *out = NULL;
    struct quic *q = malloc(sizeof *q);
    if (!q) return ERR_NO_MEMORY;
    memset(q, 0, offsetof(struct quic, out));
    q->s = s;
    q->ops = ops;
    q->arg = arg;
    q->now = s->cfg.now;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    struct addr local = s->cfg.local, remote = s->cfg.remote;
    ngtcp2_path path = quic_path(&local, &remote);
    make_settings(&s->cfg, &settings);
    make_params(&s->cfg, &params);
    int rv = s->cfg.server ? new_server(q, &path, &settings, &params) : new_client(q, &path, &settings, &params);
    if (rv == 0) rv = quic_tls_new(q);
    if (rv < 0) {
        quic_free(q);
        return rv;
    }
    ngtcp2_conn_set_tls_native_handle(q->conn, q->tls);
    *out = q;
    return 0;
}

void quic_free(struct quic *q) {
    if (!q) return;
    ngtcp2_conn_del(q->conn);
    if (q->tls) creds_release(&q->verdict);
    if (q->tls) gnutls_deinit(q->tls);
    gnutls_memset(q->reset_secret, 0, sizeof q->reset_secret);
    free(q);
}

/* ---- streams ---- */

static int open_err(int rv) { return rv == NGTCP2_ERR_STREAM_ID_BLOCKED ? ERR_UPSTREAM_BUSY : ERR_NO_MEMORY; }

int64_t quic_open_bidi(struct quic *q) {
    int64_t id = -1;
    int rv = ngtcp2_conn_open_bidi_stream(q->conn, &id, NULL);
    return rv ? open_err(rv) : id;
}

int64_t quic_open_uni(struct quic *q) {
    int64_t id = -1;
    int rv = ngtcp2_conn_open_uni_stream(q->conn, &id, NULL);
    return rv ? open_err(rv) : id;
}

uint64_t quic_bidi_left(const struct quic *q) { return q->ready ? ngtcp2_conn_get_streams_bidi_left(q->conn) : 0; }

/* The calls below fail only for want of memory, and do nothing for a stream that is gone. What is then not told to
 * the peer costs it that stream, not the connection. */
void quic_reset_stream(struct quic *q, int64_t id, uint64_t code) {
    (void)ngtcp2_conn_shutdown_stream_write(q->conn, 0, id, code);
    q->again = true;
}

void quic_stop_sending(struct quic *q, int64_t id, uint64_t code) {
    (void)ngtcp2_conn_shutdown_stream_read(q->conn, 0, id, code);
    q->again = true;
}

void quic_credit_stream(struct quic *q, int64_t id, size_t n) {
    (void)ngtcp2_conn_extend_max_stream_offset(q->conn, id, n);
}

void quic_credit(struct quic *q, size_t n) { ngtcp2_conn_extend_max_offset(q->conn, n); }

void quic_credit_stream_count(struct quic *q, bool bidi) {
    if (bidi)
        ngtcp2_conn_extend_max_streams_bidi(q->conn, 1);
    else
        ngtcp2_conn_extend_max_streams_uni(q->conn, 1);
}

void quic_info(const struct quic *q, struct session_info *i) {
    ngtcp2_conn_info info;
    quic_tls_info(q, i);
    if (!q->ready) return;
    ngtcp2_conn_get_conn_info(q->conn, &info);
    i->rtt = info.smoothed_rtt;
}
