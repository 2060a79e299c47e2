#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static const int all[] = {
#define X(symbol, value, class_, word, text) symbol,
    ERR_TABLE(X)
#undef X
};

#define COUNT (sizeof all / sizeof all[0])

static void every_error_is_described(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(all[i] < 0);
        assert_int_not_equal(err_class(all[i]), ERR_CLASS_NONE);
        assert_string_not_equal(err_word(all[i]), "unknown");
        assert_true(strlen(err_text(all[i])) > 0);
        /* Words stand in logs and metrics without quotes. */
        assert_int_equal(strspn(err_word(all[i]), "abcdefghijklmnopqrstuvwxyz-"), strlen(err_word(all[i])));
    }
}

static void values_and_words_are_unique(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        for (size_t k = i + 1; k < COUNT; k++) {
            assert_int_not_equal(all[i], all[k]);
            assert_string_not_equal(err_word(all[i]), err_word(all[k]));
        }
}

static void classes_match_the_words(void **state) {
    (void)state;
    static const char *const prefixes[] = {
        [ERR_CLASS_CLIENT] = "client-", [ERR_CLASS_TARGET] = "target-", [ERR_CLASS_UPSTREAM] = "upstream-"};
    for (size_t i = 0; i < COUNT; i++) {
        enum err_class c = err_class(all[i]);
        for (int k = ERR_CLASS_CLIENT; k <= ERR_CLASS_UPSTREAM; k++) {
            int has = strncmp(err_word(all[i]), prefixes[k], strlen(prefixes[k])) == 0;
            assert_int_equal(has, k == (int)c);
        }
    }
    assert_int_equal(err_class(ERR_CLIENT_LOOP), ERR_CLASS_CLIENT);
    assert_int_equal(err_class(ERR_TARGET_DNS), ERR_CLASS_TARGET);
    assert_int_equal(err_class(ERR_UPSTREAM_DNS), ERR_CLASS_UPSTREAM);
    assert_int_equal(err_class(ERR_NO_MEMORY), ERR_CLASS_LOCAL);
}

static void other_values(void **state) {
    (void)state;
    assert_int_equal(err_class(ERR_OK), ERR_CLASS_NONE);
    assert_string_equal(err_word(ERR_OK), "ok");
    static const int strange[] = {1, -6000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        assert_int_equal(err_class(strange[i]), ERR_CLASS_LOCAL);
        assert_string_equal(err_word(strange[i]), "unknown");
        assert_non_null(err_text(strange[i]));
    }
    assert_string_equal(err_class_word(ERR_CLASS_NONE), "none");
    assert_string_equal(err_class_word(ERR_CLASS_CLIENT), "client");
    assert_string_equal(err_class_word(ERR_CLASS_TARGET), "target");
    assert_string_equal(err_class_word(ERR_CLASS_UPSTREAM), "upstream");
    assert_string_equal(err_class_word(ERR_CLASS_LOCAL), "local");
}

static void errno_depends_on_the_side(void **state) {
    (void)state;
    static const struct {
        int errnum, target, upstream;
    } rows[] = {
        {ECONNREFUSED, ERR_TARGET_REFUSED, ERR_UPSTREAM_REFUSED},
        {EHOSTUNREACH, ERR_TARGET_HOST_UNREACHABLE, ERR_UPSTREAM_UNREACHABLE},
        {ENETUNREACH, ERR_TARGET_NET_UNREACHABLE, ERR_UPSTREAM_UNREACHABLE},
        {ETIMEDOUT, ERR_TARGET_TIMEOUT, ERR_UPSTREAM_TIMEOUT},
        {ECONNRESET, ERR_TARGET_RESET, ERR_UPSTREAM_RESET},
        {EPIPE, ERR_TARGET_RESET, ERR_UPSTREAM_RESET},
        {EMFILE, ERR_IO, ERR_IO},
        {0, ERR_IO, ERR_IO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(err_from_errno(rows[i].errnum, 1), rows[i].target);
        assert_int_equal(err_from_errno(rows[i].errnum, 0), rows[i].upstream);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_is_described), cmocka_unit_test(values_and_words_are_unique),
        cmocka_unit_test(classes_match_the_words),  cmocka_unit_test(other_values),
        cmocka_unit_test(errno_depends_on_the_side),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
