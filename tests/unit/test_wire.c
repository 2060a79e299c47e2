#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"

static const uint8_t bytes[] = {0x01, 0x02, 0x03, 0xff, 0xfe, 0xfd, 0xfc, 0x80};

static void reads_network_order(void **state) {
    (void)state;
    struct reader r = reader_of(bytes, sizeof bytes);
    assert_int_equal(reader_left(&r), 8);
    assert_int_equal(reader_u8(&r), 0x01);
    assert_int_equal(reader_u16(&r), 0x0203);
    assert_int_equal(reader_u32(&r), 0xfffefdfc);
    assert_int_equal(reader_left(&r), 1);
    assert_ptr_equal(reader_bytes(&r, 1), bytes + 7);
    assert_false(r.bad);
    /* Nothing of nothing is there. */
    assert_non_null(reader_bytes(&r, 0));
    assert_false(r.bad);
    assert_int_equal(reader_left(&r), 0);
}

/* Every step at every shortage, over memory of exactly the size. */
static void a_short_reader_turns_bad(void **state) {
    (void)state;
    for (size_t n = 0; n < 7; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        assert_non_null(exact);
        memcpy(exact, bytes, n);
        struct reader r = reader_of(exact, n);
        uint8_t a = reader_u8(&r);
        uint16_t b = reader_u16(&r);
        uint32_t c = reader_u32(&r);
        assert_true(r.bad);
        assert_int_equal(a, n >= 1 ? 0x01 : 0);
        assert_int_equal(b, n >= 3 ? 0x0203 : 0);
        assert_int_equal(c, 0);
        assert_int_equal(reader_left(&r), 0);
        free(exact);
    }
}

static void a_bad_reader_stays_bad(void **state) {
    (void)state;
    struct reader r = reader_of(bytes, sizeof bytes);
    assert_null(reader_bytes(&r, 9));
    assert_true(r.bad);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_int_equal(reader_u16(&r), 0);
    assert_int_equal(reader_u32(&r), 0);
    assert_null(reader_bytes(&r, 0));
    struct reader huge = reader_of(bytes, sizeof bytes);
    assert_null(reader_bytes(&huge, SIZE_MAX));
    assert_true(huge.bad);
}

static void writes_network_order(void **state) {
    (void)state;
    uint8_t out[8];
    struct writer w = writer_of(out, sizeof out);
    writer_u8(&w, 0x01);
    writer_u16(&w, 0x0203);
    writer_u32(&w, 0xfffefdfc);
    writer_bytes(&w, NULL, 0);
    assert_int_equal(writer_len(&w), 7);
    writer_bytes(&w, "\x80", 1);
    assert_false(w.bad);
    assert_int_equal(writer_len(&w), 8);
    assert_memory_equal(out, bytes, 8);
}

static void a_full_writer_turns_bad(void **state) {
    (void)state;
    for (size_t n = 0; n < 7; n++) {
        uint8_t out[8];
        memset(out, 0x55, sizeof out);
        struct writer w = writer_of(out, n);
        writer_u8(&w, 0x01);
        writer_u16(&w, 0x0203);
        writer_u32(&w, 0xfffefdfc);
        assert_true(w.bad);
        /* What did not fit whole was not written at all, nor was anything after it. */
        size_t written = n < 1 ? 0 : n < 3 ? 1 : 3;
        assert_int_equal(writer_len(&w), written);
        assert_memory_equal(out, bytes, written);
        writer_u8(&w, 9);
        writer_bytes(&w, "", 0);
        assert_int_equal(writer_len(&w), written);
        for (size_t i = written; i < sizeof out; i++) assert_int_equal(out[i], 0x55);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_network_order),    cmocka_unit_test(a_short_reader_turns_bad),
        cmocka_unit_test(a_bad_reader_stays_bad), cmocka_unit_test(writes_network_order),
        cmocka_unit_test(a_full_writer_turns_bad),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
