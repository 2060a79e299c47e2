/* fuzz_deeplink.c - a link: the first byte says whether the rest is its text, or its payload yet to be encoded.
 *
 * Whatever is read must hold what a link needs, point into the payload, and come back the same when written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/base64.h"
#include "codec/deeplink.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)           \
    do {                          \
        if (!(condition)) abort(); \
    } while (0)

static uint8_t payload[DEEPLINK_TEXT_MAX], again[DEEPLINK_TEXT_MAX], buf[2 * DEEPLINK_TEXT_MAX];
static char text[3 * DEEPLINK_TEXT_MAX];

static void check_span(struct deeplink_span s) {
    if (s.n) MUST(s.p >= (char *)payload && s.p + s.n <= (char *)payload + sizeof payload);
}

static bool same(struct deeplink_span a, struct deeplink_span b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct deeplink l, m;
    const char *why;
    const char *link = (const char *)data + 1;
    if (size < 1) return 0;
    size_t n = size - 1;
    if (data[0] & 1) {
        struct writer w = writer_of(text, sizeof text);
        writer_bytes(&w, "tt://?", 6);
        base64_put(&w, BASE64_URL, link, n < DEEPLINK_TEXT_MAX ? n : DEEPLINK_TEXT_MAX);
        link = text;
        n = writer_len(&w);
    }
    int r = deeplink_decode(&l, link, n, payload, sizeof payload, &why);
    MUST((r == 0) == (why == NULL));
    if (r) return 0;
    MUST(deeplink_is(link, n) && l.hostname.n && l.username.n && l.password.n && l.n_addresses);
    MUST(l.n_addresses <= DEEPLINK_ADDRESSES && l.n_dns <= DEEPLINK_DNS && l.version <= DEEPLINK_VERSION_MAX);
    for (size_t i = 0; i < l.n_addresses; i++) check_span(l.addresses[i]);
    check_span(l.certificates);
    struct writer w = writer_of(text, sizeof text);
    deeplink_encode(&w, &l, buf, sizeof buf);
    MUST(!w.bad);
    if (writer_len(&w) > DEEPLINK_TEXT_MAX) return 0;
    MUST(deeplink_decode(&m, text, writer_len(&w), again, sizeof again, &why) == 0);
    MUST(same(l.hostname, m.hostname) && same(l.password, m.password) && same(l.name, m.name) && l.n_dns == m.n_dns);
    MUST(l.has_ipv6 == m.has_ipv6 && l.skip_verification == m.skip_verification && l.protocol == m.protocol);
    MUST(same(l.certificates, m.certificates) && l.n_addresses == m.n_addresses);
    return 0;
}
