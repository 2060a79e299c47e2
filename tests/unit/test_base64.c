/* Golden texts are those of RFC 4648 section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "codec/base64.h"

static const struct {
    const char *bytes, *standard, *url;
} golden[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xfb\xff\xfe", "+//+", "-__-"},
    {"Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "QWxhZGRpbjpvcGVuIHNlc2FtZQ"},
};

static void check_both_ways(enum base64_alphabet alphabet, const char *bytes, const char *text) {
    uint8_t out[64];
    size_t len = 99;
    struct writer w = writer_of(out, sizeof out);

    base64_put(&w, alphabet, bytes, strlen(bytes));
    assert_false(w.bad);
    assert_int_equal(writer_len(&w), strlen(text));
    assert_memory_equal(out, text, strlen(text));

    assert_true(base64_get(alphabet, text, strlen(text), out, sizeof out, &len));
    assert_int_equal(len, strlen(bytes));
    assert_memory_equal(out, bytes, len);
}

static void golden_texts_both_ways(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        check_both_ways(BASE64_STANDARD, golden[i].bytes, golden[i].standard);
        check_both_ways(BASE64_URL, golden[i].bytes, golden[i].url);
    }
}

static void every_byte_survives(void **state) {
    uint8_t in[256], text[BASE64_TEXT_LEN(256)], out[256];
    (void)state;
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)(255 - i);
    for (size_t n = 0; n <= sizeof in; n++)
        for (int a = BASE64_STANDARD; a <= BASE64_URL; a++) {
            struct writer w = writer_of(text, BASE64_TEXT_LEN(n));
            size_t len;
            base64_put(&w, (enum base64_alphabet)a, in, n);
            assert_false(w.bad);
            assert_true(BASE64_BYTES_LEN(writer_len(&w)) >= n);
            assert_true(base64_get((enum base64_alphabet)a, text, writer_len(&w), out, n, &len));
            assert_int_equal(len, n);
            assert_memory_equal(out, in, n);
        }
}

static void malformed_is_refused(void **state) {
    static const char *const standard[] = {
        "Z",    "Zg",    "Zg=",   "Zg===", "=",        "==",   "===",      "====",      "Zg==Zg==", "Z===",
        "Zh==", "Zm9=",  "Zm9v\n", " Zm9v", "Zm9v    ", "-__-", "Zm9v====", "Zm=v",      "Zm9vY",    "Z\xc3\xa9v",
        "=m9v", "Zm9v=",
    };
    static const char *const url[] = {"Z", "Zg==", "Zm8=", "+//+", "Zh", "Zm9", "Zm9vY", "Zm9v\n", "Zm 9"};
    uint8_t out[64];
    size_t len;
    (void)state;

    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++) {
        len = 7;
        if (base64_get(BASE64_STANDARD, standard[i], strlen(standard[i]), out, sizeof out, &len))
            fail_msg("accepted \"%s\"", standard[i]);
        assert_int_equal(len, 0);
    }
    for (size_t i = 0; i < sizeof url / sizeof *url; i++)
        if (base64_get(BASE64_URL, url[i], strlen(url[i]), out, sizeof out, &len))
            fail_msg("accepted \"%s\"", url[i]);
    assert_false(base64_get(BASE64_STANDARD, "Zm\0v", 4, out, sizeof out, &len));
}

static void room_is_respected(void **state) {
    uint8_t out[8] = {0};
    size_t len;
    struct writer w = writer_of(out, 7);
    (void)state;

    base64_put(&w, BASE64_STANDARD, "foobar", 6);
    assert_true(w.bad);
    assert_int_equal(out[7], 0);

    memset(out, 0x55, sizeof out);
    assert_false(base64_get(BASE64_STANDARD, "Zm9vYmE=", 8, out, 4, &len));
    assert_int_equal(out[4], 0x55);
    assert_true(base64_get(BASE64_STANDARD, "Zm9vYmE=", 8, out, 5, &len));
    assert_int_equal(len, 5);
    assert_int_equal(out[5], 0x55);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_texts_both_ways),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(malformed_is_refused),
        cmocka_unit_test(room_is_respected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
