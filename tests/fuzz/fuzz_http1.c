/* A request as a client sends it, then the same bytes as the foreign text of a refusal. Beyond memory safety: the
 * end of the head does not depend on how the bytes are cut, nothing that was refused is in what was taken apart, a
 * request written again from its parts is the same request, and a response keeps its lines and tags whatever the
 * text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "codec/http1.h"
#include "codec/http1_error.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())

static int check_scan(const uint8_t *data, size_t size) {
    struct http1_scan whole = {0}, bits = {0};
    int end = http1_head_end(&whole, data, size), got = 0;

    CHECK(end <= (int)size && end <= HTTP1_HEAD_MAX);
    CHECK((end < 0) == (whole.fault != HTTP1_FAULT_NONE));
    CHECK(end != 0 || size < HTTP1_HEAD_MAX);
    for (size_t n = 0; n <= size && got == 0; n++) got = http1_head_end(&bits, data, n);
    CHECK(got == end && bits.fault == whole.fault);
    CHECK(http1_head_end(&whole, data, size) == end);
    return end;
}

static bool clean(struct http1_span s, bool blanks) {
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c == 0x7f || (c < ' ' && !(blanks && c == '\t')) || (!blanks && c == ' ')) return false;
    }
    return true;
}

static void put_span(struct writer *w, struct http1_span s) { writer_bytes(w, s.p, s.n); }

static bool same(struct http1_span a, struct http1_span b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static void check_round_trip(const struct http1_request *r) {
    static uint8_t out[HTTP1_HEAD_MAX + 4 * HTTP1_FIELDS_MAX];
    static struct http1_request again;
    struct writer w = writer_of(out, sizeof out);

    put_span(&w, r->method);
    writer_u8(&w, ' ');
    put_span(&w, r->target);
    writer_bytes(&w, r->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n", 11);
    for (unsigned i = 0; i < r->fields.count; i++) {
        put_span(&w, r->fields.v[i].name);
        writer_bytes(&w, ":", 1);
        put_span(&w, r->fields.v[i].value);
        writer_bytes(&w, "\r\n", 2);
    }
    writer_bytes(&w, "\r\n", 2);
    CHECK(!w.bad && http1_parse(&again, out, writer_len(&w)) == 0);
    CHECK(same(r->method, again.method) && same(r->target, again.target) && r->minor == again.minor);
    CHECK(r->form == again.form && same(r->authority, again.authority) && same(r->path, again.path));
    CHECK(r->framing == again.framing && r->content_length == again.content_length);
    CHECK(r->fields.count == again.fields.count);
    for (unsigned i = 0; i < r->fields.count; i++)
        CHECK(same(r->fields.v[i].name, again.fields.v[i].name) && same(r->fields.v[i].value, again.fields.v[i].value));
}

static void check_dest(struct http1_request *r) {
    char authority[DEST_TEXT_MAX];
    struct dest d, again;
    int err = http1_dest(r, &d);

    CHECK(err == http1_fault_err(r->fault));
    if (err < 0) {
        CHECK(err == ERR_CLIENT_DESTINATION);
        return;
    }
    CHECK(r->form == HTTP1_AUTHORITY || r->form == HTTP1_ABSOLUTE);
    CHECK(d.port != 0 && d.network == DEST_TCP && !memchr(r->authority.p, '@', r->authority.n));
    dest_format(&d, authority, sizeof authority);
    CHECK(http1_authority(&again, authority, strlen(authority), 0) == 0 && dest_equal(&d, &again));
}

static void check_credentials(const struct http1_request *r) {
    uint8_t buf[64];
    struct http1_basic c;
    int got = http1_basic(r, buf, sizeof buf, &c);

    CHECK((got == 0) == !http1_field(&r->fields, "Proxy-Authorization", NULL));
    if (got <= 0) return;
    CHECK(c.user == buf && c.password == buf + c.user_len + 1 && c.user_len + 1 + c.password_len <= sizeof buf);
    CHECK(!memchr(c.user, ':', c.user_len) && c.password[-1] == ':');
}

static void check_request(const uint8_t *data, size_t size) {
    static struct http1_request r;
    static uint8_t out[HTTP1_LINE_MAX];
    struct writer w = writer_of(out, sizeof out);

    if (http1_parse(&r, data, size) < 0) {
        CHECK(r.fault != HTTP1_FAULT_NONE);
        return;
    }
    CHECK(r.fault == HTTP1_FAULT_NONE && r.fields.count <= HTTP1_FIELDS_MAX && r.minor <= 1);
    CHECK(r.method.n > 0 && clean(r.method, false) && r.target.n > 0 && clean(r.target, false));
    for (unsigned i = 0; i < r.fields.count; i++) {
        CHECK(r.fields.v[i].name.n > 0 && clean(r.fields.v[i].name, false) && clean(r.fields.v[i].value, true));
        CHECK(http1_field(&r.fields, "host", NULL) == r.host);
    }
    if (r.framing == HTTP1_CHUNKED) CHECK(r.minor == 1 && !http1_field(&r.fields, "content-length", NULL));
    if (r.framing == HTTP1_NO_BODY) CHECK(!http1_field(&r.fields, "content-length", NULL));
    if (r.framing != HTTP1_CHUNKED) CHECK(!http1_field(&r.fields, "transfer-encoding", NULL));
    http1_connection_has(&r.fields, "close");
    http1_put_origin_target(&w, &r);
    CHECK(!w.bad && writer_len(&w) > 0 && clean((struct http1_span){(char *)out, writer_len(&w)}, false));
    check_round_trip(&r);
    check_dest(&r);
    check_credentials(&r);
}

struct tally {
    unsigned lines, tags, quotes;
};

static struct tally tally_of(const struct http1_error *e) {
    static uint8_t out[HTTP1_ERROR_MAX];
    struct writer w = writer_of(out, sizeof out);
    struct tally t = {0};

    http1_put_error(&w, e);
    CHECK(!w.bad);
    const uint8_t *body = memmem(out, writer_len(&w), "\r\n\r\n", 4);
    CHECK(body);
    for (const uint8_t *c = out; c < w.p; c++) {
        CHECK(*c == '\r' || *c == '\n' || (*c >= ' ' && *c < 0x7f));
        t.lines += *c == '\n';
        t.tags += c > body && *c == '<';
        if (t.lines != 1) continue;
        if (*c == '\\') /* inside the quoted string of Proxy-Status */
            c++;
        else if (*c == '"')
            t.quotes++;
    }
    return t;
}

static void check_refusal(const uint8_t *data, size_t size) {
    struct http1_error plain = {.err = ERR_TARGET_DNS, .detail = "x", .detail_len = 1}, e = plain;
    struct tally expected = tally_of(&plain);

    if (size == 0) return;
    e.detail = data;
    e.detail_len = size;
    struct tally got = tally_of(&e);
    CHECK(got.lines == expected.lines && got.tags == expected.tags && got.quotes == 2 && expected.quotes == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int end = check_scan(data, size);

    check_request(data, size);
    if (end > 0) check_request(data, (size_t)end);
    check_refusal(data, size);
    return 0;
}
