/* The parser's own behaviour is toml++'s; here is what the wrapper adds: the tree, places, bounds, and errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "app/toml.h"
#include "base/err.h"

static struct toml_doc *parse(const char *text) {
    struct toml_doc *doc;
    struct toml_error e;
    int r = toml_parse(&doc, text, strlen(text), &e);
    if (r) fail_msg("%u:%u: %s", e.place.line, e.place.col, e.why);
    return doc;
}

static const struct toml_node *child(const struct toml_node *of, const char *key) {
    const struct toml_node *c = of->u.children.first;
    while (c && strcmp(c->key, key) != 0) c = c->next;
    assert_non_null(c);
    return c;
}

static void check_place(struct toml_place p, unsigned line, unsigned col) {
    assert_int_equal(p.line, line);
    assert_int_equal(p.col, col);
}

static void values_of_every_kind(void **state) {
    (void)state;
    struct toml_doc *doc = parse("s = \"a\\u0000b\"\ni = -9223372036854775808\nf = 1.5\nb = true\nt = 1979-05-27\n"
                                 "a = [1, [2, 3], {x = 4}]\n[q.r]\n\"z z\" = 5\n");
    const struct toml_node *root = toml_root(doc), *n;
    assert_int_equal(root->kind, TOML_TABLE);
    assert_int_equal(root->u.children.n, 7);
    n = child(root, "s");
    assert_int_equal(n->kind, TOML_STRING);
    assert_int_equal(n->u.string.n, 3);
    assert_memory_equal(n->u.string.p, "a\0b", 4);
    assert_true(child(root, "i")->u.integer == INT64_MIN);
    assert_int_equal(child(root, "f")->kind, TOML_FLOAT);
    assert_true(child(root, "f")->u.number > 1.4 && child(root, "f")->u.number < 1.6);
    assert_int_equal(child(root, "b")->kind, TOML_BOOLEAN);
    assert_true(child(root, "b")->u.boolean);
    assert_int_equal(child(root, "t")->kind, TOML_TIME);
    n = child(root, "a");
    assert_int_equal(n->kind, TOML_ARRAY);
    assert_int_equal(n->u.children.n, 3);
    n = n->u.children.first;
    assert_null(n->key);
    assert_int_equal(n->u.integer, 1);
    assert_int_equal(n->next->u.children.first->next->u.integer, 3);
    assert_int_equal(child(n->next->next, "x")->u.integer, 4);
    assert_null(n->next->next->next);
    n = child(child(child(root, "q"), "r"), "z z");
    assert_int_equal(n->u.integer, 5);
    assert_int_equal(n->key_len, 3);
    toml_free(doc);
}

static void places_and_order_are_those_of_the_text(void **state) {
    (void)state;
    struct toml_doc *doc = parse("zz = 1\n  aa = \"\xc3\xa4\" # \xc3\xa4\n\n[tab]\nk = [ 1,\n 2 ]\nd.e = 3\n");
    const struct toml_node *n = toml_root(doc)->u.children.first;
    assert_string_equal(n->key, "zz");
    check_place(n->key_place, 1, 1);
    check_place(n->place, 1, 6);
    n = n->next;
    assert_string_equal(n->key, "aa");
    check_place(n->key_place, 2, 3);
    check_place(n->place, 2, 8);
    n = n->next;
    assert_string_equal(n->key, "tab");
    check_place(n->key_place, 4, 2);
    check_place(n->place, 4, 1);
    assert_null(n->next);
    n = n->u.children.first;
    check_place(n->u.children.first->next->place, 6, 2);
    check_place(n->next->u.children.first->place, 7, 7);
    toml_free(doc);
}

static void check_error_of(const char *text, size_t n, unsigned line, unsigned col, const char *part) {
    struct toml_doc *doc = (struct toml_doc *)1;
    struct toml_error e;
    assert_int_equal(toml_parse(&doc, text, n, &e), ERR_CONFIG);
    assert_null(doc);
    if (!strstr(e.why, part)) fail_msg("\"%s\" is not in \"%s\"", part, e.why);
    for (const char *c = e.why; *c; c++) assert_in_range(*c, 0x20, 0x7e);
    if (e.place.line != line || e.place.col != col)
        fail_msg("%u:%u, not %u:%u: %s", e.place.line, e.place.col, line, col, e.why);
}

static void check_error(const char *text, unsigned line, unsigned col, const char *part) {
    check_error_of(text, strlen(text), line, col, part);
}

static void errors_have_a_place_and_a_reason(void **state) {
    (void)state;
    check_error("a = 1\na = 2\n", 2, 5, "cannot redefine existing integer 'a'");
    check_error("a = 1\n[a]\n", 2, 1, "cannot redefine");
    check_error("a = \n", 1, 5, "expected value");
    check_error("a = \"x\n", 1, 7, "control characters");
    check_error("a = tru", 1, 8, "true");
    check_error("a = 1\rb = 2\n", 1, 7, "\\r");
    check_error("a = 1\r", 1, 7, "\\r");
    check_error("# \xc3\xa4\n\xc3\xa4 = 1", 2, 1, "not ASCII");
    check_error("a = \"\xc3\xa4\"\xc2\xa0", 1, 8, "not ASCII");
    check_error("a = 1\"\xc3\xa4\"", 1, 6, "an unquoted value");
    check_error("a = 1=\"\xc3\xa4\"", 1, 6, "an unquoted value");
    check_error("a = [\n1.\"\xc3\xa4\"]", 2, 3, "an unquoted value");
    check_error("a = {b = 1979-05-27 1'\xc3\xa4'}", 1, 22, "an unquoted value");
    check_error("a = \"\"\"x\\\n\n \t\xc3\xa4\"\"\"", 1, 9, "backslash");
    check_error("a = \"x\xff\"", 1, 6, "utf-8");
    check_error("a = \"\xed\xa0\x80\"", 1, 5, "utf-8");
    check_error_of("a = \"x\0\"\n", 9, 1, 7, "control characters");
    check_error_of("\0", 1, 1, 1, "\\u0000");
    check_error("a = 9223372036854775808", 1, 24, "the number is not representable in 64 bits");
    check_error("a = \"\\q\"", 1, 7, "unknown escape sequence '\\q'");
}

/* Texts that end in the middle of something, with and without a line feed. */
static void unfinished_texts_are_errors(void **state) {
    (void)state;
    static const char *const texts[] = {"[",  "[[",   "[a",   "[a.",  "[[a]", "a",     "a.",      "a =",
                                        "a = [",
                                        "a = [1,", "a = {", "a = {b", "a = {b =", "a = {b = 1,", "a = \"", "a = '",
                                        "a = \"\"\"", "a = \"\"\"\\", "a = '''", "a = \"\\u", "\"", "'", "\"a",
                                            "a = -"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char with[32];
        struct toml_doc *doc;
        struct toml_error e;
        snprintf(with, sizeof with, "%s\n", texts[i]);
        for (int feed = 0; feed < 2; feed++) {
            const char *text = feed ? with : texts[i];
            if (toml_parse(&doc, text, strlen(text), &e) != ERR_CONFIG) fail_msg("taken: %s", text);
            assert_true(e.place.line >= 1 && e.place.line <= 2);
            assert_string_not_equal(e.why, "");
        }
    }
}

/* Whoever forgets the quotes around a password must not find it in a message. */
static void values_are_not_shown(void **state) {
    (void)state;
    static const char *const values[] = {"99999999999999999999", "0xFFFFFFFFFFFFFFFFFFFFF", "1e999999", "s3cret",
                                         "trueblood",            "123456.789.1",            "nanny99",
                                             "2020-99-77"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[64];
        struct toml_doc *doc;
        struct toml_error e;
        int n = snprintf(text, sizeof text, "password = %s\n", values[i]);
        assert_int_equal(toml_parse(&doc, text, (size_t)n, &e), ERR_CONFIG);
        for (size_t at = 0; at + 4 <= strlen(values[i]); at++) {
            char part[5] = {0};
            memcpy(part, values[i] + at, 4);
            if (strstr(e.why, part) && strcmp(part, "true") != 0) fail_msg("%s: %s", values[i], e.why);
        }
    }
}

static void byte_order_mark_and_carriage_returns_are_fine(void **state) {
    (void)state;
    struct toml_doc *doc = parse("\xef\xbb\xbf" "a = 1\r\n[b]\r\nc = 2\r\n");
    check_place(toml_root(doc)->u.children.first->key_place, 1, 1);
    assert_int_equal(child(child(toml_root(doc), "b"), "c")->u.integer, 2);
    toml_free(doc);
    doc = parse("");
    assert_int_equal(toml_root(doc)->u.children.n, 0);
    toml_free(doc);
}

/* What repeats: "a = " + n times open + "1" + n times close. */
static char *nested(const char *head, const char *open, size_t n, const char *middle, const char *close) {
    char *text = malloc(strlen(head) + n * (strlen(open) + strlen(close)) + strlen(middle) + 1);
    assert_non_null(text);
    char *at = stpcpy(text, head);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, open);
    at = stpcpy(at, middle);
    for (size_t i = 0; i < n; i++) at = stpcpy(at, close);
    return text;
}

static void check_depth(const char *head, const char *open, size_t n, const char *middle, const char *close,
                        bool good) {
    char *text = nested(head, open, n, middle, close);
    struct toml_doc *doc;
    struct toml_error e;
    int r = toml_parse(&doc, text, strlen(text), &e);
    if (good) {
        if (r) fail_msg("%zu times %s: %s", n, open, e.why);
        toml_free(doc);
    } else {
        assert_int_equal(r, ERR_CONFIG);
        if (!strstr(e.why, "16")) fail_msg("%zu times %s: %s", n, open, e.why);
        check_place((struct toml_place){e.place.line, 1}, 1, 1);
    }
    free(text);
}

static void depth_is_bounded(void **state) {
    (void)state;
    check_depth("a = ", "[", 16, "1", "]", true);
    check_depth("a = ", "[", 17, "1", "]", false);
    check_depth("a = ", "[", 500000, "1", "]", false);
    check_depth("a = ", "{b = ", 16, "1", "}", true);
    check_depth("a = ", "{b = ", 17, "1", "}", false);
    check_depth("a", ".a", 15, " = 1", "", true);
    check_depth("a", ".a", 16, " = 1", "", false);
    check_depth("a", ".a", 500000, " = 1", "", false);
    check_depth("[a", " . 'a'", 15, "]", "", true);
    check_depth("[a", " . 'a'", 16, "]", "", false);
    check_depth("[a", ".a", 500000, "]", "", false);
    check_depth("a = 'x' # '\nb", ".a", 0, " = 1", "", true);
    /* Together too deep, each by itself not. */
    check_depth("[a.a.a.a.a.a.a.a.a]\nb", ".b", 6, " = 1", "", true);
    struct toml_doc *doc;
    struct toml_error e;
    const char *text = "[a.a.a.a.a.a.a.a.a.a]\nb.b.b.b.b.b.b.b.b.b = 1";
    assert_int_equal(toml_parse(&doc, text, strlen(text), &e), ERR_CONFIG);
    check_place(e.place, 2, 13);
}

/* Dots elsewhere than in keys do not count. */
static void dots_in_strings_and_comments_do_not_count(void **state) {
    (void)state;
#define DOTS "........................"
    struct toml_doc *doc = parse("# " DOTS "\na = \"" DOTS "\\\"" DOTS "\"\nb = '" DOTS "\\'\n"
                                 "c = \"\"\"\n" DOTS "\"" DOTS
                                 "\"\"\"\"\" # " DOTS "\nd = '''" DOTS "''''\n\"" DOTS "\" = 1.5\n"
                                 "e = [1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5,1.5]\n");
    assert_int_equal(toml_root(doc)->u.children.n, 6);
    toml_free(doc);
    struct toml_doc *keys = parse("1.\"\xc3\xa4\" = {c . '\xc3\xa4' = ''}\n[[b.\"\xc3\xa4\"]]\n");
    assert_int_equal(toml_root(keys)->u.children.n, 2);
    toml_free(keys);
    check_error("a = '''x'''''\nb.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b = 1", 2, 32, "more than 16 parts");
    check_error("a = \"\"\"\\\"\"\"\"\nb.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b.b = 1", 2, 32, "more than 16 parts");
}

static void size_and_number_of_values_are_bounded(void **state) {
    (void)state;
    size_t n = TOML_TEXT_MAX + 1;
    char *text = malloc(n);
    struct toml_doc *doc;
    struct toml_error e;
    assert_non_null(text);
    memset(text, ' ', n);
    text[0] = '#';
    check_error_of(text, n, 1, 1, "larger than 1 MiB");
    assert_int_equal(toml_parse(&doc, text, n - 1, &e), 0);
    toml_free(doc);

    char *at = stpcpy(text, "a=[");
    for (int i = 0; i < TOML_NODES_MAX - 1; i++) at = stpcpy(at, "1,");
    strcpy(at, "]");
    doc = parse(text);
    assert_int_equal(toml_root(doc)->u.children.first->u.children.n, TOML_NODES_MAX - 1);
    toml_free(doc);
    strcpy(at, "1]");
    check_error_of(text, strlen(text), 1, 3 + 2 * (TOML_NODES_MAX - 1) + 1, "65536");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_kind),
        cmocka_unit_test(places_and_order_are_those_of_the_text),
        cmocka_unit_test(errors_have_a_place_and_a_reason),
        cmocka_unit_test(unfinished_texts_are_errors),
        cmocka_unit_test(values_are_not_shown),
        cmocka_unit_test(byte_order_mark_and_carriage_returns_are_fine),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(dots_in_strings_and_comments_do_not_count),
        cmocka_unit_test(size_and_number_of_values_are_bounded),
    };
    return cmocka_run_group_tests_name("toml", tests, NULL, NULL);
}
