#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static unsigned malloc_left = UINT32_MAX; /* allocations until memory is out */
static size_t allocated;

static void *buf_malloc(size_t n) {
    if (!malloc_left) return NULL;
    malloc_left--;
    allocated++;
    return malloc(n);
}

static void buf_free(void *p) {
    if (p) allocated--;
    free(p);
}

/* The module itself, with an allocator that is counted and can fail. */
#define malloc buf_malloc
#define free buf_free
#include "base/buf.c"
#undef malloc
#undef free

static int setup(void **state) {
    (void)state;
    malloc_left = UINT32_MAX;
    buf_trim();
    return 0;
}

/* Nothing may be left over by any test. */
static int teardown(void **state) {
    (void)state;
    buf_trim();
    assert_int_equal(buf_chunks(), 0);
    assert_int_equal(allocated, 0);
    return 0;
}

static uint8_t at(uint64_t pos) {
    return (uint8_t)(pos * 131 + (pos >> 8) * 7);
}

/* Appends n bytes of the pattern from pos on. */
static long append(struct buf *b, uint64_t pos, size_t n) {
    static uint8_t p[5 * BUF_CHUNK];
    assert_true(n <= sizeof p);
    for (size_t i = 0; i < n; i++) p[i] = at(pos + i);
    return buf_append(b, p, n);
}

/* The queue holds exactly the pattern's bytes from pos on, by every way of looking. */
static void check(const struct buf *b, uint64_t pos) {
    const uint8_t *p;
    struct iovec iov[8];
    size_t n = buf_peek(b, &p), seen = 0;
    assert_int_equal(n > 0, b->len > 0);
    assert_true(n <= b->len);
    for (size_t i = 0; i < n; i++) assert_int_equal(p[i], at(pos + i));
    int count = buf_peek_iov(b, 0, iov, 8);
    if (n) {
        assert_ptr_equal(iov[0].iov_base, p);
        assert_int_equal(iov[0].iov_len, n);
    }
    for (int k = 0; k < count; k++) {
        const uint8_t *q = iov[k].iov_base;
        assert_true(iov[k].iov_len > 0);
        for (size_t i = 0; i < iov[k].iov_len; i++) assert_int_equal(q[i], at(pos + seen + i));
        seen += iov[k].iov_len;
    }
    if (count < 8) assert_int_equal(seen, b->len);
    assert_int_equal(buf_room(b), b->max - b->len);
}

static void empty_holds_nothing(void **state) {
    (void)state;
    struct buf b;
    const uint8_t *p = (const uint8_t *)"x";
    struct iovec iov;
    buf_init(&b, 100);
    assert_int_equal(buf_peek(&b, &p), 0);
    assert_int_equal(buf_peek_iov(&b, 0, &iov, 1), 0);
    assert_int_equal(buf_room(&b), 100);
    assert_int_equal(buf_append(&b, "", 0), 0);
    buf_consume(&b, 0);
    buf_clear(&b);
    assert_int_equal(buf_chunks(), 0);
    assert_int_equal(allocated, 0);
}

static void takes_up_to_its_maximum(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, 3 * BUF_CHUNK + 5);
    assert_int_equal(append(&b, 0, 1), 1);
    assert_int_equal(append(&b, 1, 4 * BUF_CHUNK), 3 * BUF_CHUNK + 4);
    assert_int_equal(buf_room(&b), 0);
    assert_int_equal(append(&b, 0, 1), 0);
    uint8_t *room;
    assert_int_equal(buf_reserve(&b, &room), 0);
    assert_null(room);
    assert_int_equal(buf_chunks(), 4);
    check(&b, 0);
    buf_consume(&b, 10);
    check(&b, 10);
    assert_int_equal(append(&b, 3 * BUF_CHUNK + 5, 100), 10);
    check(&b, 10);
    buf_consume(&b, b.len);
    assert_int_equal(buf_chunks(), 0);
    buf_clear(&b);
}

static void memory_leaves_with_the_bytes(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(append(&b, 0, 5 * BUF_CHUNK), 5 * BUF_CHUNK);
    for (unsigned k = 5; k > 0; k--) {
        assert_int_equal(buf_chunks(), k);
        buf_consume(&b, BUF_CHUNK - 1);
        assert_int_equal(buf_chunks(), k);
        check(&b, (uint64_t)(5 - k) * BUF_CHUNK + BUF_CHUNK - 1);
        buf_consume(&b, 1);
    }
    assert_int_equal(buf_chunks(), 0);
    assert_int_equal(b.len, 0);
    /* Small appends share chunks. */
    for (unsigned i = 0; i < BUF_CHUNK; i++) assert_int_equal(append(&b, i, 1), 1);
    assert_int_equal(buf_chunks(), 1);
    check(&b, 0);
    buf_clear(&b);
    assert_int_equal(buf_chunks(), 0);
    assert_int_equal(append(&b, 7, 3), 3);
    check(&b, 7);
    buf_clear(&b);
}

static void spare_chunks_are_bounded(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b, SIZE_MAX);
    for (unsigned i = 0; i < 3 * BUF_SPARE_MAX; i++) assert_int_equal(append(&b, 0, BUF_CHUNK), BUF_CHUNK);
    assert_int_equal(allocated, 3 * BUF_SPARE_MAX);
    buf_clear(&b);
    assert_int_equal(buf_chunks(), 0);
    assert_int_equal(allocated, BUF_SPARE_MAX);
    /* They are used before new ones are made. */
    malloc_left = 0;
    for (unsigned i = 0; i < BUF_SPARE_MAX; i++) assert_int_equal(append(&b, 0, BUF_CHUNK), BUF_CHUNK);
    assert_int_equal(append(&b, 0, 1), ERR_NO_MEMORY);
    buf_clear(&b);
    buf_trim();
    assert_int_equal(allocated, 0);
}

static void reserve_and_commit(void **state) {
    (void)state;
    struct buf b;
    uint8_t *p, *again;
    const uint8_t *q;
    buf_init(&b, BUF_CHUNK + 100);
    assert_int_equal(buf_reserve(&b, &p), BUF_CHUNK);
    /* Without a commit nothing happened. */
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_peek(&b, &q), 0);
    assert_int_equal(buf_reserve(&b, &again), BUF_CHUNK);
    assert_ptr_equal(again, p);
    for (size_t i = 0; i < BUF_CHUNK; i++) p[i] = at(i);
    buf_commit(&b, BUF_CHUNK - 10);
    check(&b, 0);
    assert_int_equal(buf_reserve(&b, &p), 10);
    for (size_t i = 0; i < 10; i++) p[i] = at(BUF_CHUNK - 10 + i);
    buf_commit(&b, 10);
    check(&b, 0);
    /* Never past max, even where the chunk has room. */
    assert_int_equal(buf_reserve(&b, &p), 100);
    for (size_t i = 0; i < 100; i++) p[i] = at(BUF_CHUNK + i);
    buf_commit(&b, 100);
    assert_int_equal(buf_reserve(&b, &p), 0);
    check(&b, 0);
    buf_clear(&b);
}

static void an_unused_reservation_goes_back(void **state) {
    (void)state;
    struct buf b;
    uint8_t *p;
    const uint8_t *q;
    struct iovec iov;
    buf_init(&b, 10 * BUF_CHUNK);
    assert_true(buf_reserve(&b, &p) > 0);
    buf_commit(&b, 0);
    assert_int_equal(buf_chunks(), 0);
    buf_commit(&b, 0);
    /* Behind full chunks, too. */
    assert_int_equal(append(&b, 0, 2 * BUF_CHUNK), 2 * BUF_CHUNK);
    assert_true(buf_reserve(&b, &p) > 0);
    assert_int_equal(buf_chunks(), 3);
    assert_int_equal(buf_peek_iov(&b, 2 * BUF_CHUNK, &iov, 1), 0);
    buf_commit(&b, 0);
    assert_int_equal(buf_chunks(), 2);
    check(&b, 0);
    /* A tail with bytes stays. */
    buf_commit(&b, 0);
    assert_int_equal(buf_chunks(), 2);
    assert_int_equal(append(&b, 2 * BUF_CHUNK, 5), 5);
    check(&b, 0);
    /* And one that nobody committed goes when the queue runs empty. */
    buf_consume(&b, 5 + 2 * BUF_CHUNK);
    assert_true(buf_reserve(&b, &p) > 0);
    assert_int_equal(append(&b, 0, 5), 5);
    assert_int_equal(buf_chunks(), 1);
    assert_int_equal(append(&b, 5, BUF_CHUNK - 5), BUF_CHUNK - 5);
    assert_true(buf_reserve(&b, &p) > 0);
    buf_consume(&b, BUF_CHUNK);
    assert_int_equal(buf_peek(&b, &q), 0);
    assert_int_equal(buf_chunks(), 0);
}

static void iovecs_skip_and_stop(void **state) {
    (void)state;
    struct buf b;
    struct iovec iov[4];
    buf_init(&b, SIZE_MAX);
    assert_int_equal(append(&b, 0, 3 * BUF_CHUNK + 10), 3 * BUF_CHUNK + 10);
    buf_consume(&b, 100);
    static const size_t skips[] = {0, 1, BUF_CHUNK - 101, BUF_CHUNK - 100, BUF_CHUNK, 3 * BUF_CHUNK - 91};
    for (size_t k = 0; k < sizeof skips / sizeof skips[0]; k++) {
        int n = buf_peek_iov(&b, skips[k], iov, 4);
        size_t seen = 0;
        assert_true(n > 0);
        for (int i = 0; i < n; i++) {
            for (size_t m = 0; m < iov[i].iov_len; m++)
                assert_int_equal(((uint8_t *)iov[i].iov_base)[m], at(100 + skips[k] + seen + m));
            seen += iov[i].iov_len;
        }
        assert_int_equal(seen, b.len - skips[k]);
    }
    assert_int_equal(buf_peek_iov(&b, 0, iov, 2), 2);
    assert_int_equal(iov[0].iov_len + iov[1].iov_len, 2 * BUF_CHUNK - 100);
    assert_int_equal(buf_peek_iov(&b, 0, iov, 0), 0);
    assert_int_equal(buf_peek_iov(&b, b.len, iov, 4), 0);
    assert_int_equal(buf_peek_iov(&b, SIZE_MAX, iov, 4), 0);
    buf_clear(&b);
}

static void peeked_bytes_stay(void **state) {
    (void)state;
    struct buf b, other;
    const uint8_t *p;
    buf_init(&b, SIZE_MAX);
    buf_init(&other, SIZE_MAX);
    assert_int_equal(append(&b, 0, 1000), 1000);
    size_t n = buf_peek(&b, &p);
    /* Whatever other queues do. */
    assert_int_equal(append(&other, 5, 3 * BUF_CHUNK), 3 * BUF_CHUNK);
    buf_consume(&other, 2 * BUF_CHUNK);
    buf_clear(&other);
    buf_trim();
    for (size_t i = 0; i < n; i++) assert_int_equal(p[i], at(i));
    buf_clear(&b);
}

static void no_memory(void **state) {
    (void)state;
    struct buf b;
    uint8_t *p;
    buf_init(&b, SIZE_MAX);
    malloc_left = 0;
    assert_int_equal(append(&b, 0, 10), ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&b, &p), ERR_NO_MEMORY);
    assert_null(p);
    assert_int_equal(b.len, 0);
    /* What there was memory for is taken. */
    malloc_left = 2;
    assert_int_equal(append(&b, 0, 3 * BUF_CHUNK), 2 * BUF_CHUNK);
    assert_int_equal(append(&b, 0, 1), ERR_NO_MEMORY);
    assert_int_equal(buf_reserve(&b, &p), ERR_NO_MEMORY);
    check(&b, 0);
    /* It goes on as soon as there is some. */
    buf_consume(&b, BUF_CHUNK);
    assert_int_equal(append(&b, 2 * BUF_CHUNK, 10), 10);
    check(&b, BUF_CHUNK);
    buf_clear(&b);
}

/* Long random lives, compared with two counters: what was put in and what was taken out. */
static void random_lives(void **state) {
    (void)state;
    uint32_t seed = 12345;
    for (unsigned life = 0; life < 20; life++) {
        struct buf b;
        uint64_t in = 0, out = 0;
        size_t max = 1000 + life * 7919;
        buf_init(&b, max);
        for (unsigned step = 0; step < 500; step++) {
            seed = seed * 1664525 + 1013904223;
            uint32_t r = seed >> 8;
            size_t n = (r >> 3) % (step % 3 ? 3000 : 40000);
            if ((r & 7) < 3) {
                long taken = append(&b, in, n);
                assert_true(taken >= 0 && (taken == (long)n || b.len == max));
                in += (uint64_t)taken;
            } else if ((r & 7) < 5) {
                uint8_t *p;
                long room = buf_reserve(&b, &p);
                assert_true(room >= 0 && (room > 0 || b.len == max));
                if ((long)n > room) n = (size_t)room;
                for (size_t i = 0; i < n; i++) p[i] = at(in + i);
                if (n % 5) buf_commit(&b, n), in += n;
            } else {
                if (n > b.len) n = b.len;
                buf_consume(&b, n);
                out += n;
            }
            assert_int_equal(b.len, in - out);
            assert_true(buf_chunks() <= b.len / BUF_CHUNK + 3);
            if (step % 10 == 0) check(&b, out);
        }
        check(&b, out);
        buf_clear(&b);
        assert_int_equal(buf_chunks(), 0);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(empty_holds_nothing),
        TEST(takes_up_to_its_maximum),
        TEST(memory_leaves_with_the_bytes),
        TEST(spare_chunks_are_bounded),
        TEST(reserve_and_commit),
        TEST(an_unused_reservation_goes_back),
        TEST(iovecs_skip_and_stop),
        TEST(peeked_bytes_stay),
        TEST(no_memory),
        TEST(random_lives),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
