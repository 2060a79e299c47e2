#include "inbound/http_in.h"

#include <string.h>

#include "base/secret.h"
#include "base/wire.h"
#include "codec/http1.h"
#include "codec/http1_error.h"
#include "inbound/http_forward.h"
#include "inbound/pac.h"

size_t http_in_reply(const struct flow_request *rq, int err, const char *detail, uint8_t *out, size_t cap) {
    struct writer w = writer_of(out, cap);
    if (err == 0) {
        http1_put_connect_ok(&w);
    } else {
        struct http1_error e = {.err = err,
                                .status = rq->hint & ~HTTP_IN_HEAD,
                                .head = rq->hint & HTTP_IN_HEAD,
                                .detail = detail,
                                .detail_len = strlen(detail)};
        http1_put_error(&w, &e);
    }
    return w.bad ? 0 : writer_len(&w);
}

static void refuse_fault(struct conn *c, enum http1_fault fault, int hint) {
    conn_refuse(c, http_in_reply, "http", NULL, http1_fault_err(fault), http1_fault_status(fault) | hint,
                http1_fault_text(fault));
}

/* Whether the request carries what the listener asks for. */
static bool authorized(struct conn *c, const struct http1_request *r) {
    uint8_t text[HTTP1_BASIC_MAX];
    struct http1_basic b;
    if (c->listener->cfg.n_users == 0) return true;
    if (http1_basic(r, text, sizeof text, &b) != 1) return false;
    bool ok = conn_user_ok(c, b.user, b.user_len, b.password, b.password_len);
    secret_wipe(text, sizeof text);
    return ok;
}

bool http_in_request(struct conn *c) {
    struct http1_request r;
    struct dest d;
    int used = http1_head_end(&c->scan, c->bytes, c->have);
    if (used == 0) return false;
    if (used < 0) {
        refuse_fault(c, c->scan.fault, 0);
        return false;
    }
    conn_take(c, (size_t)used);
    if (http1_parse(&r, c->bytes, (size_t)used)) {
        refuse_fault(c, r.fault, 0);
        return false;
    }
    int hint = http1_method_is(&r, "HEAD") ? HTTP_IN_HEAD : 0;
    if (pac_is_asked(c->listener, &r)) {
        conn_refuse(c, pac_reply, "http", NULL, 0, hint, "/proxy.pac");
    } else if (!authorized(c, &r)) {
        conn_refuse(c, http_in_reply, "http", NULL, ERR_CLIENT_AUTH, hint, "");
    } else if (http1_dest(&r, &d)) {
        refuse_fault(c, r.fault, hint); /* origin-form ends here too: a Host field never names a destination */
    } else if (r.form == HTTP1_ABSOLUTE) {
        http_forward_start(c, &r, &d);
    } else {
        conn_flow(c, http_in_reply, "http", &d);
    }
    return false;
}
