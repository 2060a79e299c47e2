/* A response as an origin sends it, as the answer to a GET and to a HEAD. Beyond memory safety: the end of the head does
 * not depend on how the bytes are cut, and a head that is passed on is a head that says the same: status, fields but those
 * of one hop, and where the body ends. The same bytes as a request: what is passed on is one request in the origin form. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "codec/http1_forward.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())

static uint8_t out[HTTP1_HEAD_MAX + HTTP1_FORWARD_MORE];

static int check_scan(const uint8_t *data, size_t size) {
    struct http1_scan whole = {.response = true}, bits = {.response = true};
    int end = http1_head_end(&whole, data, size), got = 0;
    CHECK(end <= (int)size && end <= HTTP1_HEAD_MAX);
    CHECK((end < 0) == (whole.fault != HTTP1_FAULT_NONE));
    CHECK(end != 0 || size < HTTP1_HEAD_MAX);
    for (size_t n = 0; n <= size && got == 0; n++) got = http1_head_end(&bits, data, n);
    CHECK(got == end && bits.fault == whole.fault);
    return end;
}

static void check_hops(const struct http1_fields *fields) {
    static const char *const hop[] = {"proxy-authorization", "proxy-authenticate", "proxy-connection", "keep-alive", "te"};
    for (size_t i = 0; i < sizeof hop / sizeof *hop; i++) CHECK(!http1_field(fields, hop[i], NULL));
}

static void check_response(const uint8_t *data, size_t size, bool head) {
    static struct http1_response r, again;
    int err = http1_parse_response(&r, data, size, head);
    CHECK(err == http1_response_err(r.fault) && (err == 0) == (r.fault == HTTP1_FAULT_NONE));
    if (err) return;
    CHECK(r.status >= 100 && r.status <= 599 && r.minor <= 1);
    CHECK(!head || r.framing == HTTP1_NO_BODY);
    CHECK(r.framing != HTTP1_CLOSE || !r.persistent);
    unsigned flags = r.framing == HTTP1_CLOSE ? HTTP1_FORWARD_CLOSE : 0;
    struct writer w = writer_of(out, size + HTTP1_FORWARD_MORE);
    http1_put_response(&w, &r, flags);
    CHECK(!w.bad);
    if (writer_len(&w) > HTTP1_HEAD_MAX) return;
    if (http1_parse_response(&again, out, writer_len(&w), head)) {
        CHECK(again.fault == HTTP1_FAULT_FIELD_COUNT && flags); /* a Connection field more */
        return;
    }
    CHECK(again.status == r.status && again.framing == r.framing);
    CHECK(r.framing != HTTP1_LENGTH || again.content_length == r.content_length);
    CHECK(again.reason.n == r.reason.n && again.fields.count <= r.fields.count + 1);
    CHECK(again.persistent == (flags == 0));
    check_hops(&again.fields);
}

static void check_request(const uint8_t *data, size_t size) {
    static struct http1_request r, again;
    struct dest d, host;
    if (http1_parse(&r, data, size) || http1_dest(&r, &d) || r.form != HTTP1_ABSOLUTE) return;
    unsigned flags = http1_wants_upgrade(&r) ? HTTP1_FORWARD_UPGRADE : HTTP1_FORWARD_CLOSE;
    struct writer w = writer_of(out, size + HTTP1_FORWARD_MORE);
    http1_hops(&r);
    http1_put_request(&w, &r, &d, flags);
    CHECK(!w.bad);
    if (writer_len(&w) > HTTP1_HEAD_MAX) return;
    if (http1_parse(&again, out, writer_len(&w))) {
        CHECK(again.fault == HTTP1_FAULT_FIELD_COUNT); /* a Host, a Connection and an Upgrade field more */
        return;
    }
    CHECK(again.form != HTTP1_ABSOLUTE && again.minor == 1 && again.framing == r.framing);
    CHECK(again.content_length == r.content_length && !http1_repeatable(&again) == !http1_repeatable(&r));
    CHECK(again.host && http1_authority(&host, again.host->value.p, again.host->value.n, 80) == 0 && dest_equal(&host, &d));
    check_hops(&again.fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int end = check_scan(data, size);
    size_t n = end > 0 ? (size_t)end : size;
    if (n > HTTP1_HEAD_MAX) n = HTTP1_HEAD_MAX;
    check_response(data, n, false);
    check_response(data, n, true);
    check_request(data, n);
    return 0;
}
