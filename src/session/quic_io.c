#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "session/quic_impl.h"

/* The library's decrypt callback is told of no connection, and nothing else tells whether a packet was genuine:
 * this is the connection that reads now. */
static struct quic *reading;

int quic_decrypt(uint8_t *dest, const ngtcp2_crypto_aead *aead, const ngtcp2_crypto_aead_ctx *ctx,
                 const uint8_t *from, size_t n, const uint8_t *nonce, size_t nonce_len, const uint8_t *aad,
                 size_t aad_len) {
    int rv = ngtcp2_crypto_decrypt_cb(dest, aead, ctx, from, n, nonce, nonce_len, aad, aad_len);
    if (rv == 0 && reading) reading->s->last_rx = reading->now;
    return rv;
}

ngtcp2_path quic_path(struct addr *local, struct addr *remote) {
    if (!local->len) { /* unknown: any address of the right family will do, as it never changes */
        *local = *remote;
        memset(&local->u, 0, sizeof local->u);
        local->u.sa.sa_family = remote->u.sa.sa_family;
    }
    return (ngtcp2_path){{&local->u.sa, local->len}, {&remote->u.sa, remote->len}, NULL};
}

/* ---- in ---- */

void quic_in(struct quic *q, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n, uint64_t now) {
    struct session *s = q->s;
    quic_set_now(q, now);
    s->bytes_in += n;
    if (s->state == SESSION_DOWN) {
        q->late++;
        if (q->close_len && !(q->late & (q->late - 1))) {
            q->close_due = true;
            session_wake(s);
        }
        return;
    }
    struct addr local = s->cfg.local, from = s->cfg.server ? *remote : s->cfg.remote;
    if (!n || (!s->cfg.server && !addr_equal(remote, &s->cfg.remote))) return;
    ngtcp2_path path = quic_path(&local, &from);
    ngtcp2_pkt_info pi = {.ecn = ecn & NGTCP2_ECN_MASK};
    reading = q;
    int rv = ngtcp2_conn_read_pkt(q->conn, &path, &pi, p, n, q->now);
    reading = NULL;
    quic_judge(q, rv);
    session_wake(s);
}

/* ---- out ---- */

/* One packet; 0 when there is nothing to send or nothing may be sent now, or the library's error. */
static ngtcp2_ssize write_packet(struct quic *q, ngtcp2_path *path, ngtcp2_pkt_info *pi, uint8_t *dest,
                                 size_t cap) {
    for (;;) {
        struct quic_chunk c = {.id = -1};
        if (q->ready && ngtcp2_conn_get_max_data_left(q->conn) > 0 && q->ops->pull(q->arg, &c) < 0)
            return NGTCP2_ERR_CALLBACK_FAILURE;
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_MORE | (c.fin ? NGTCP2_WRITE_STREAM_FLAG_FIN : 0);
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(q->conn, path, pi, dest, cap, &taken, flags, c.id,
                                                   (const ngtcp2_vec *)c.iov, (size_t)c.iovs, q->now);
        switch (n) {
        case NGTCP2_ERR_STREAM_DATA_BLOCKED: q->ops->blocked(q->arg, &c); continue;
        case NGTCP2_ERR_STREAM_SHUT_WR:
        case NGTCP2_ERR_STREAM_NOT_FOUND: q->ops->stopped(q->arg, &c); continue;
        default: break;
        }
        if (taken >= 0 && q->ops->taken(q->arg, &c, (size_t)taken) < 0) return NGTCP2_ERR_CALLBACK_FAILURE;
        if (n != NGTCP2_ERR_WRITE_MORE) return n;
    }
}

static unsigned batch_max(struct quic *q, size_t cap) {
    size_t n = ngtcp2_conn_get_send_quantum(q->conn) / ngtcp2_conn_get_path_max_tx_udp_payload_size(q->conn);
    if (n > QUIC_BATCH) n = QUIC_BATCH;
    if (n > sizeof q->out / cap) n = sizeof q->out / cap;
    return n ? (unsigned)n : 1;
}

static bool goes_with(const struct quic_batch *b, size_t n, uint8_t ecn, const struct addr *remote,
                      size_t path_max) {
    /* A probe for a larger path MTU goes alone. */
    return n <= b->segment && b->segment <= path_max && ecn == b->ecn && addr_equal(remote, &b->remote);
}

/* The library widens its datagrams and never narrows them again. So when packets are under way and nothing came
 * back for a while, they are kept at what every path must take (RFC 9000 section 14), for good. */
static bool is_narrow(struct quic *q, size_t path_max) {
    ngtcp2_conn_info info;
    if (q->narrow || !q->ready || path_max <= NGTCP2_MAX_UDP_PAYLOAD_SIZE) return q->narrow;
    ngtcp2_conn_get_conn_info(q->conn, &info);
    if (!info.bytes_in_flight)
        q->waiting = 0;
    else if (q->waiting <= q->s->last_rx)
        q->waiting = q->now;
    uint64_t silence = q->waiting ? q->now - q->waiting : 0;
    if (silence < NGTCP2_SECONDS || silence < 3 * ngtcp2_conn_get_pto(q->conn)) return false;
    log_debug("session", "no answer: datagrams are small from now on kind=h3 was=%zu", path_max);
    return q->narrow = true;
}

static void build(struct quic *q) {
    size_t path_max = ngtcp2_conn_get_path_max_tx_udp_payload_size(q->conn);
    size_t cap = ngtcp2_conn_get_max_tx_udp_payload_size(q->conn), at = 0;
    if (is_narrow(q, path_max)) path_max = cap = NGTCP2_MAX_UDP_PAYLOAD_SIZE;
    unsigned max = batch_max(q, cap);
    struct quic_batch *b = &q->batch[0];
    for (unsigned i = 0; i < max; i++) {
        ngtcp2_path_storage ps;
        ngtcp2_pkt_info pi = {0};
        struct addr remote;
        ngtcp2_path_storage_zero(&ps);
        q->again = false;
        ngtcp2_ssize rv = write_packet(q, &ps.path, &pi, q->out + at, cap);
        if (rv < 0) {
            quic_judge(q, (int)rv);
            return;
        }
        if (rv == 0 && q->again) continue;
        if (rv == 0) break;
        size_t n = (size_t)rv;
        if (!addr_from_sockaddr(&remote, ps.path.remote.addr, ps.path.remote.addrlen)) remote = q->s->cfg.remote;
        if (q->batches && goes_with(b, n, (uint8_t)pi.ecn, &remote, path_max)) {
            b->len += n;
        } else {
            q->batch[q->batches++] = (struct quic_batch){at, n, n, (uint8_t)pi.ecn, remote};
            if (q->batches == 2) break;
        }
        at += n;
        if (n < b->segment) break;
    }
    ngtcp2_conn_update_pkt_tx_time(q->conn, q->now);
}

/* There is no call for a PING, but a keep-alive that is overdue makes one. It is not yet if something left at this
 * very nanosecond; one more try is enough, as otherwise it is the congestion window that forbids it, and then the
 * packets under way ask for an answer already. */
static void build_with_ping(struct quic *q) {
    ngtcp2_conn_set_keep_alive_timeout(q->conn, 1);
    build(q);
    ngtcp2_conn_set_keep_alive_timeout(q->conn, 0);
    q->ping = q->batches ? 0 : q->ping - 1;
    q->ping_at = q->now + NGTCP2_MILLISECONDS;
}

bool quic_out(struct quic *q, struct session_out *o, uint64_t now) {
    struct quic_batch *b = &q->batch[0];
    quic_set_now(q, now);
    if (!q->batches && q->s->state != SESSION_DOWN) {
        if (q->ping)
            build_with_ping(q);
        else
            build(q);
    }
    if (!q->batches && q->close_due) {
        memcpy(q->out, q->close, q->close_len);
        *b = (struct quic_batch){0, q->close_len, q->close_len, NGTCP2_ECN_NOT_ECT, b->remote};
        q->batches = 1;
        q->close_due = false;
    }
    if (!q->batches) return false;
    *o = (struct session_out){q->out + b->at, b->len, b->segment, b->ecn, b->remote};
    return true;
}

void quic_sent(struct quic *q, size_t n) {
    struct quic_batch *b = &q->batch[0];
    if (!q->batches) return;
    if (n > b->len) n = b->len;
    q->s->bytes_out += n;
    b->at += n;
    b->len -= n;
    if (b->len) return;
    if (--q->batches) q->batch[0] = q->batch[1];
}

/* ---- time ---- */

uint64_t quic_deadline(const struct quic *q) {
    if (q->s->state == SESSION_DOWN) return UINT64_MAX;
    uint64_t at = ngtcp2_conn_get_expiry(q->conn);
    if (q->s->state == SESSION_STARTING && q->s->handshake_deadline < at) at = q->s->handshake_deadline;
    if (q->ping && q->ping_at < at) at = q->ping_at;
    return at;
}

void quic_expire(struct quic *q, uint64_t now) {
    struct session *s = q->s;
    quic_set_now(q, now);
    if (s->state == SESSION_DOWN) return;
    if (s->state == SESSION_STARTING && now >= s->handshake_deadline) {
        ngtcp2_ccerr cc;
        char text[80];
        ngtcp2_ccerr_default(&cc);
        snprintf(text, sizeof text, s->last_rx ? "the handshake did not finish in %u ms" : "no answer for %u ms",
                 s->cfg.handshake_timeout);
        quic_end(q, ERR_UPSTREAM_TIMEOUT, &cc, text);
        return;
    }
    if (ngtcp2_conn_get_expiry(q->conn) <= q->now) quic_judge(q, ngtcp2_conn_handle_expiry(q->conn, q->now));
    session_wake(s);
}

void quic_ping(struct quic *q) {
    if (!q->ready) return;
    q->ping = 2;
    q->ping_at = q->now;
    session_wake(q->s);
}
