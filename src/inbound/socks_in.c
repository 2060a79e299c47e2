#include "inbound/socks_in.h"

#include "base/wire.h"
#include "codec/socks.h"

/* Wordings of an outcome, one for each point of the conversation. */

static size_t reply_no_method(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    struct writer w = writer_of(out, cap);
    (void)rq, (void)err, (void)detail;
    socks5_put_method(&w, SOCKS5_METHOD_UNACCEPTABLE);
    return writer_len(&w);
}

static size_t reply_auth_failed(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    struct writer w = writer_of(out, cap);
    (void)rq, (void)err, (void)detail;
    socks5_put_auth_result(&w, false);
    return writer_len(&w);
}

static size_t reply_socks5(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    struct writer w = writer_of(out, cap);
    (void)rq, (void)detail;
    socks5_put_reply(&w, socks5_rep(err), NULL);
    return writer_len(&w);
}

static size_t reply_socks4(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    struct writer w = writer_of(out, cap);
    (void)rq, (void)detail;
    socks4_put_reply(&w, socks4_rep(err), NULL);
    return writer_len(&w);
}

bool socks_in_greeting(struct conn *c) {
    struct socks5_greeting g;
    int used = socks5_greeting_decode(&g, c->bytes, c->have);
    bool auth = c->listener->cfg.n_users > 0;
    uint8_t wanted = auth ? SOCKS5_METHOD_PASSWORD : SOCKS5_METHOD_NONE, reply[2];
    if (used == 0) return false;
    if (used < 0) {
        conn_refuse(c, NULL, "socks5", NULL, used, 0, "");
        return false;
    }
    conn_take(c, (size_t)used);
    if (!socks5_offers(&g, wanted)) {
        conn_refuse(c, reply_no_method, "socks5", NULL, ERR_CLIENT_AUTH, 0,
                    auth ? "the client does not offer user name and password" : "the client insists on authentication");
        return false;
    }
    struct writer w = writer_of(reply, sizeof reply);
    socks5_put_method(&w, wanted);
    conn_set_state(c, auth ? CONN_SOCKS_AUTH : CONN_SOCKS_REQUEST);
    return conn_say(c, reply, writer_len(&w));
}

bool socks_in_auth(struct conn *c) {
    struct socks5_auth a;
    int used = socks5_auth_decode(&a, c->bytes, c->have);
    uint8_t reply[2];
    if (used == 0) return false;
    if (used < 0) {
        conn_refuse(c, NULL, "socks5", NULL, used, 0, "the client skips authentication");
        return false;
    }
    bool ok = conn_user_ok(c, a.user, a.user_len, a.password, a.password_len);
    conn_take(c, (size_t)used);
    if (!ok) {
        conn_refuse(c, reply_auth_failed, "socks5", NULL, ERR_CLIENT_AUTH, 0, "");
        return false;
    }
    struct writer w = writer_of(reply, sizeof reply);
    socks5_put_auth_result(&w, true);
    conn_set_state(c, CONN_SOCKS_REQUEST);
    return conn_say(c, reply, writer_len(&w));
}

bool socks_in_request(struct conn *c) {
    struct socks5_request r;
    struct dest d;
    int used = socks5_request_decode(&r, c->bytes, c->have);
    if (used == 0) return false;
    if (used < 0) {
        conn_refuse(c, reply_socks5, "socks5", NULL, used, 0, "");
        return false;
    }
    conn_take(c, (size_t)used);
    if (r.cmd != SOCKS_CONNECT) {
        conn_refuse(c, reply_socks5, "socks5", NULL, ERR_CLIENT_COMMAND, 0,
                    r.cmd == SOCKS5_UDP_ASSOCIATE ? "UDP ASSOCIATE is not served"
                    : r.cmd == SOCKS_BIND         ? "BIND is not served"
                                                  : "unknown command");
        return false;
    }
    int err = socks5_dest(&d, DEST_TCP, &r.addr);
    if (err) conn_refuse(c, reply_socks5, "socks5", NULL, err, 0, "");
    else conn_flow(c, reply_socks5, "socks5", &d);
    return false;
}

static void refuse_socks4(struct conn *c, int err, const char *detail) {
    conn_refuse(c, reply_socks4, "socks4", NULL, err, 0, detail);
}

bool socks_in_socks4(struct conn *c) {
    struct socks4_request r;
    struct dest d;
    int used = socks4_request_decode(&r, c->bytes, c->have);
    if (used == 0) return false;
    if (used < 0) {
        refuse_socks4(c, used, "");
        return false;
    }
    conn_take(c, (size_t)used);
    int err = socks4_dest(&d, &r);
    if (!(c->listener->cfg.protocols & LISTEN_SOCKS4)) refuse_socks4(c, ERR_CLIENT_COMMAND, "SOCKS4 is not served");
    else if (c->listener->cfg.n_users > 0) refuse_socks4(c, ERR_CLIENT_AUTH, "SOCKS4 has no passwords");
    else if (r.cmd != SOCKS_CONNECT)
        refuse_socks4(c, ERR_CLIENT_COMMAND, r.cmd == SOCKS_BIND ? "BIND is not served" : "unknown command");
    else if (err) refuse_socks4(c, err, "");
    else conn_flow(c, reply_socks4, "socks4", &d);
    return false;
}
