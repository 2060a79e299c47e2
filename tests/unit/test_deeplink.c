#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "codec/base64.h"
#include "codec/deeplink.h"

#define FIELD(tag, text) tag, sizeof(text) - 1, text
/* What a link must have, as bytes of fields. */
#define HOST "\x01\x07tt.test"
#define ADDRESS "\x02\x0f" "127.0.0.1:24444"
#define USER "\x05\x05" "alice"
#define PASSWORD "\x06\x0bs3cret-pass"
#define ALL HOST ADDRESS USER PASSWORD

static uint8_t payload[DEEPLINK_TEXT_MAX];
static struct deeplink l;
static const char *why;

static const char *text_of(const char *prefix, const void *bytes, size_t n) {
    static char text[2 * DEEPLINK_TEXT_MAX];
    struct writer w = writer_of(text, sizeof text - 1);
    writer_bytes(&w, prefix, strlen(prefix));
    base64_put(&w, BASE64_URL, bytes, n);
    assert_false(w.bad);
    text[writer_len(&w)] = 0;
    return text;
}

static int decode(const char *text) { return deeplink_decode(&l, text, strlen(text), payload, sizeof payload, &why); }

#define GOOD(bytes) assert_int_equal(decode(text_of("tt://?", bytes, sizeof(bytes) - 1)), 0)
#define BAD(bytes, part)                                                                       \
    do {                                                                                       \
        assert_int_equal(decode(text_of("tt://?", bytes, sizeof(bytes) - 1)), ERR_CONFIG);     \
        if (!strstr(why, part)) fail_msg("%s: %s", part, why);                                 \
    } while (0)

static void assert_span(struct deeplink_span s, const char *text) {
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

static void the_least(void **state) {
    (void)state;
    GOOD(ALL);
    assert_span(l.hostname, "tt.test");
    assert_int_equal(l.n_addresses, 1);
    assert_span(l.addresses[0], "127.0.0.1:24444");
    assert_span(l.username, "alice");
    assert_span(l.password, "s3cret-pass");
    assert_true(l.has_ipv6);
    assert_false(l.skip_verification || l.anti_dpi);
    assert_int_equal(l.protocol, DEEPLINK_AUTO);
    assert_int_equal(l.version, 0);
}

static void three_forms(void **state) {
    static const char *const forms[] = {"tt://?", "tt://", "https://trusttunnel.org/qr.html#tt="};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const char *text = text_of(forms[i], ALL, sizeof ALL - 1);
        assert_int_equal(decode(text), 0);
        assert_true(deeplink_is(text, strlen(text)));
        char padded[1024];
        snprintf(padded, sizeof padded, " \n%s\r\n", text);
        assert_int_equal(decode(padded), 0);
        assert_span(l.password, "s3cret-pass");
    }
    assert_false(deeplink_is("tt:/", 4));
    assert_int_equal(decode(text_of("ttt://", ALL, sizeof ALL - 1)), ERR_CONFIG);
    assert_int_equal(decode(text_of("TT://", ALL, sizeof ALL - 1)), ERR_CONFIG);
    assert_int_equal(decode(""), ERR_CONFIG);
}

static void every_field(void **state) {
    (void)state;
    GOOD("\x0c\x03" "abc" "\x0d\x0a\x04" "a.b." "\x04" "c.d." "\x0b\x05" "00/ff" "\x0a\x01\x01" "\x09\x01\x02" "\x08\x02\x30\x00"
         "\x07\x01\x01" "\x04\x01\x00" "\x03\x05" "front" "\x02\x03" "a:1" "\x00\x01\x01" "\x0e\x01x" "\x40\x63\x01y" ALL);
    assert_span(l.name, "abc");
    assert_int_equal(l.n_dns, 2);
    assert_span(l.dns[1], "c.d.");
    assert_span(l.client_random, "00/ff");
    assert_span(l.custom_sni, "front");
    assert_true(l.anti_dpi && l.skip_verification && !l.has_ipv6 && l.has_upstream);
    assert_int_equal(l.protocol, DEEPLINK_HTTP3);
    assert_int_equal(l.certificates.n, 2);
    assert_int_equal(l.version, 1);
    assert_int_equal(l.unknown, 1);
    assert_int_equal(l.n_addresses, 2); /* in their order */
    assert_span(l.addresses[0], "a:1");
}

static void the_last_of_several_counts(void **state) {
    (void)state;
    GOOD(ALL "\x05\x03" "bob" "\x04\x01\x00" "\x04\x01\x01");
    assert_span(l.username, "bob");
    assert_true(l.has_ipv6);
}

static void what_is_wrong(void **state) {
    (void)state;
    BAD("", "names no host");
    BAD(ADDRESS USER PASSWORD, "names no host");
    BAD(HOST USER PASSWORD, "no address");
    BAD(HOST ADDRESS USER, "no credentials");
    BAD(HOST ADDRESS PASSWORD, "no credentials");
    BAD(ALL "\x01\x00", "names no host"); /* emptied again */
    BAD(ALL "\x02\x00", "an address is empty");
    BAD(ALL "\x04\x01\x02", "neither 0 nor 1");
    BAD(ALL "\x07\x02\x00\x01", "neither 0 nor 1");
    BAD(ALL "\x0a\x00", "neither 0 nor 1");
    BAD(ALL "\x00\x01\x03", "later version");
    BAD(ALL "\x00\x02\x01\x01", "malformed");
    BAD(ALL "\x09\x01\x03", "protocol");
    BAD(ALL "\x09\x01\x00", "protocol");
    BAD(ALL "\x0c\x03" "a\nb", "control characters");
    BAD(ALL "\x06\x02" "a\0", "control characters");
    BAD(ALL "\x0d\x03\x05" "ab", "DNS");
    BAD(ALL "\x0c\xff\xff\xff\xff\xff\xff\xff\xff", "cut off"); /* never believed */
    BAD(ALL "\x0c\x80\x00", "cut off");
    assert_int_equal(decode("tt://?AAA="), ERR_CONFIG);
    assert_non_null(strstr(why, "base64url"));
    assert_int_equal(decode("tt://?AQ d0"), ERR_CONFIG);
}

static void every_part_of_a_link_is_refused(void **state) {
    static const char bytes[] = "\x0c\x40\x03" "abc" ALL;
    (void)state;
    for (size_t n = 0; n < sizeof bytes - 1; n++)
        assert_int_equal(decode(text_of("tt://?", bytes, n)), ERR_CONFIG);
    assert_int_equal(decode(text_of("tt://?", bytes, sizeof bytes - 1)), 0);
}

static void there_and_back(void **state) {
    static char text[2 * DEEPLINK_TEXT_MAX], again[2 * DEEPLINK_TEXT_MAX], certificates[20000];
    static uint8_t buf[DEEPLINK_TEXT_MAX];
    (void)state;
    memset(certificates, 0x30, sizeof certificates);
    GOOD("\x0c\x03" "abc" "\x0d\x05\x04" "a.b." "\x0b\x05" "00/ff" "\x0a\x01\x01" "\x09\x01\x01" "\x07\x01\x01" "\x04\x01\x00"
         "\x03\x05" "front" "\x02\x03" "a:1" ALL);
    l.certificates = (struct deeplink_span){certificates, sizeof certificates};
    struct deeplink first = l;
    struct writer w = writer_of(text, sizeof text - 1);
    deeplink_encode(&w, &first, buf, sizeof buf);
    assert_false(w.bad);
    static uint8_t other[DEEPLINK_TEXT_MAX];
    assert_int_equal(deeplink_decode(&l, text, writer_len(&w), other, sizeof other, &why), 0);
    assert_int_equal(l.certificates.n, sizeof certificates);
    assert_memory_equal(l.certificates.p, certificates, sizeof certificates);
    assert_span(l.dns[0], "a.b.");
    assert_true(l.skip_verification && l.anti_dpi && !l.has_ipv6);
    struct writer v = writer_of(again, sizeof again - 1);
    deeplink_encode(&v, &l, buf, sizeof buf);
    assert_int_equal(writer_len(&v), writer_len(&w));
    assert_memory_equal(again, text, writer_len(&w));
    struct writer small = writer_of(text, 20);
    deeplink_encode(&small, &first, buf, sizeof buf);
    assert_true(small.bad);
    small = writer_of(text, sizeof text);
    deeplink_encode(&small, &first, buf, 20);
    assert_true(small.bad);
}

/* Made by an endpoint 0.9.132, without its certificates. */
static void a_link_of_the_endpoint(void **state) {
    (void)state;
    assert_int_equal(decode("tt://?AAEBAQd0dC50ZXN0BQVhbGljZQYLczNjcmV0LXBhc3MCDzEyNy4wLjAuMToyNDQ0NAwNTG9vcGJhY2sgdGVzdA0XBzEuMS"
                            "4xLjEOdGxzOi8vZG5zLnRlc3Q"), 0);
    assert_span(l.name, "Loopback test");
    assert_span(l.dns[1], "tls://dns.test");
    assert_int_equal(l.version, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least),
        cmocka_unit_test(three_forms),
        cmocka_unit_test(every_field),
        cmocka_unit_test(the_last_of_several_counts),
        cmocka_unit_test(what_is_wrong),
        cmocka_unit_test(every_part_of_a_link_is_refused),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(a_link_of_the_endpoint),
    };
    return cmocka_run_group_tests_name("deeplink", tests, NULL, NULL);
}
