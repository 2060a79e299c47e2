#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"

static bool no_memory;
static size_t watched; /* bytes that must be zero when they are freed */
static unsigned frees;

static void *secret_malloc(size_t n) {
    return no_memory ? NULL : malloc(n);
}

static void watching_free(void *p) {
    for (size_t i = 0; i < watched; i++) assert_int_equal(((uint8_t *)p)[i], 0);
    frees++;
    free(p);
}

/* The module itself, with an allocator that is watched. */
#define malloc secret_malloc
#define free watching_free
#include "base/secret.c"
#undef malloc
#undef free

static void copies_and_terminates(void **state) {
    (void)state;
    char *s = secret_dup("password and more", 8);
    assert_string_equal(s, "password");
    watched = 8;
    secret_free(s);
    assert_int_equal(frees, 1);
    s = secret_dup("", 0);
    assert_non_null(s);
    assert_int_equal(s[0], 0);
    watched = 0;
    secret_free(s);
    assert_int_equal(frees, 2);
}

static void not_set_is_allowed(void **state) {
    (void)state;
    unsigned before = frees;
    assert_null(secret_dup(NULL, 0));
    assert_null(secret_dup(NULL, 5));
    secret_free(NULL);
    secret_wipe(NULL, 5);
    assert_int_equal(frees, before);
}

static void no_memory_is_null(void **state) {
    (void)state;
    assert_null(secret_dup("x", SIZE_MAX));
    no_memory = true;
    assert_null(secret_dup("x", 1));
    no_memory = false;
}

static void wipes_what_it_is_told(void **state) {
    (void)state;
    char text[] = "secret!";
    secret_wipe(text + 1, 5);
    assert_memory_equal(text, "s\0\0\0\0\0!", 8);
    secret_wipe(text, 0);
    assert_int_equal(text[0], 's');
}

static void equal(void **state) {
    (void)state;
    assert_true(secret_equal("abc", 3, "abc", 3));
    assert_true(secret_equal("abcd", 3, "abce", 3));
    assert_true(secret_equal("", 0, "", 0));
    assert_true(secret_equal("a\0b", 3, "a\0b", 3));
    assert_true(secret_equal(NULL, 0, NULL, 0));
    assert_false(secret_equal("abc", 3, "abcd", 4));
    assert_false(secret_equal("", 0, "a", 1));
    assert_false(secret_equal("a\0b", 3, "a\0c", 3));
    /* Not set is not the same as empty. */
    assert_false(secret_equal(NULL, 0, "", 0));
    assert_false(secret_equal("", 0, NULL, 0));
    /* One bit, anywhere. */
    uint8_t a[16] = {0}, b[16] = {0};
    for (int bit = 0; bit < 128; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(secret_equal(a, sizeof a, b, sizeof b));
        b[bit / 8] = 0;
    }
    assert_true(secret_equal(a, sizeof a, b, sizeof b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_terminates), cmocka_unit_test(not_set_is_allowed),
        cmocka_unit_test(no_memory_is_null),     cmocka_unit_test(wipes_what_it_is_told),
        cmocka_unit_test(equal),
    };
    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
