#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "app/arena.h"

static void memory_is_zeroed_aligned_and_apart(void **state) {
    (void)state;
    struct arena a;
    char *last = NULL;
    arena_init(&a, 1 << 20);
    for (size_t n = 1; n < 300; n++) {
        char *p = arena_alloc(&a, n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % sizeof(void *), 0);
        for (size_t i = 0; i < n; i++) assert_int_equal(p[i], 0);
        memset(p, 0xaa, n);
        if (last) assert_int_equal((unsigned char)last[n - 2], 0xaa);
        last = p;
    }
    arena_free(&a);
}

static void copies_are_terminated(void **state) {
    (void)state;
    struct arena a;
    arena_init(&a, 1 << 20);
    char *s = arena_dup(&a, "abc", 2);
    assert_string_equal(s, "ab");
    assert_string_equal(arena_dup(&a, NULL, 0), "");
    arena_free(&a);
}

static void it_ends_at_its_maximum(void **state) {
    (void)state;
    struct arena a;
    size_t taken = 0;
    arena_init(&a, 100000);
    assert_null(arena_alloc(&a, 100001));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_dup(&a, "", SIZE_MAX));
    assert_non_null(arena_alloc(&a, 60000));
    while (arena_alloc(&a, 1000)) taken += 1000;
    assert_in_range(taken, 20000, 40000);
    arena_free(&a);
    assert_null(arena_alloc(&a, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(it_ends_at_its_maximum),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
