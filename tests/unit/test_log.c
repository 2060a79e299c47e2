#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char last[LOG_LINE_MAX + 2];
static enum log_level last_level;
static unsigned lines;

static void sink(enum log_level level, const char *line, void *arg) {
    assert_ptr_equal(arg, last);
    assert_true(strlen(line) < LOG_LINE_MAX); /* with the newline that a sink does not see */
    strcpy(last, line);
    last_level = level;
    lines++;
}

static int setup(void **state) {
    (void)state;
    lines = 0;
    last[0] = 0;
    log_set_level(LOG_TRACE);
    log_set_sink(sink, last);
    return 0;
}

/* What follows "2026-11-22T10:00:00.123Z ", whose form is checked. */
static const char *after_time(const char *line) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ ";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        if (form[i] == 'd')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], form[i]);
    }
    return line + sizeof form - 1;
}

static void a_line(void **state) {
    (void)state;
    log_info("pool", "session up transport=%s rtt_ms=%d", "h3", 12);
    assert_int_equal(lines, 1);
    assert_int_equal(last_level, LOG_INFO);
    assert_string_equal(after_time(last), "info pool: session up transport=h3 rtt_ms=12");
    log_error("x", "y");
    assert_string_equal(after_time(last), "error x: y");
    log_warn("x", "y");
    assert_string_equal(after_time(last), "warn x: y");
    log_debug("x", "y");
    assert_string_equal(after_time(last), "debug x: y");
    log_trace("x", "y");
    assert_string_equal(after_time(last), "trace x: y");
}

static unsigned asked;

static int ask(void) {
    return (int)++asked;
}

static void levels(void **state) {
    (void)state;
    static const char *const words[] = {"error", "warn", "info", "debug", "trace"};
    for (int i = LOG_ERROR; i <= LOG_TRACE; i++) {
        assert_int_equal(log_level_parse(words[i]), i);
        log_set_level((enum log_level)i);
        assert_int_equal(log_get_level(), i);
        lines = 0;
        for (int k = LOG_ERROR; k <= LOG_TRACE; k++) {
            assert_int_equal(log_enabled((enum log_level)k), k <= i);
            log_line((enum log_level)k, "x", "y");
        }
        assert_int_equal(lines, i + 1);
    }
    assert_int_equal(log_level_parse("verbose"), -1);
    assert_int_equal(log_level_parse("INFO"), -1);
    assert_int_equal(log_level_parse(""), -1);
    assert_int_equal(log_level_parse(NULL), -1);
    /* What nobody reads is not worked out. */
    log_set_level(LOG_INFO);
    log_debug("x", "%d", ask());
    log_trace("x", "%d", ask());
    assert_int_equal(asked, 0);
    log_set_level(LOG_TRACE);
    log_debug("x", "%d", ask());
    log_trace("x", "%d", ask());
    assert_int_equal(asked, 2);
}

static void a_line_cannot_be_split(void **state) {
    (void)state;
    log_info("x", "a%sb", "\r\n2026 error y: forged\x1b[1m\t\x7f");
    assert_string_equal(after_time(last), "info x: a??2026 error y: forged?[1m??b");
    log_info("x", "%s", "gr\xc3\xbc\xc3\x9f"
                        "e");
    assert_string_equal(after_time(last), "info x: gr\xc3\xbc\xc3\x9f"
                                          "e");
}

/* Lines around the limit are whole up to it, and cut above it, never inside a character. */
static void long_lines_are_cut(void **state) {
    (void)state;
    static char text[3 * LOG_LINE_MAX];
    log_info("x", "%s", "");
    size_t head = strlen(last);
    for (size_t n = LOG_LINE_MAX - head - 6; n < LOG_LINE_MAX - head + 6; n++) {
        memset(text, 'a', n);
        text[n] = 0;
        log_info("x", "%s", text);
        if (head + n < LOG_LINE_MAX) {
            assert_int_equal(strlen(last), head + n);
            assert_string_equal(last + head, text);
        } else {
            assert_int_equal(strlen(last), LOG_LINE_MAX - 1);
            assert_string_equal(last + LOG_LINE_MAX - 4, "\xe2\x80\xa6");
            assert_memory_equal(last + head, text, LOG_LINE_MAX - 4 - head);
        }
    }
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xf0\x9f\x91\x8d", 5);
        log_info("x", "%s", text);
        size_t len = strlen(last);
        assert_in_range(len, LOG_LINE_MAX - 5, LOG_LINE_MAX - 1);
        assert_string_equal(last + len - 3, "\xe2\x80\xa6");
        assert_int_equal((len - 3 - head - shift) % 4, 0);
    }
    memset(text, 's', sizeof text - 1);
    log_line(LOG_INFO, text, "y");
    assert_string_equal(after_time(last), "info ssssssssssssssssssssssssssssssss: y");
}

static void errno_is_kept(void **state) {
    (void)state;
    errno = EXDEV;
    log_info("x", "y");
    assert_int_equal(errno, EXDEV);
}

/* --- stderr --- */

static int saved_stderr;
static int pipe_ends[2];

static void stderr_to_pipe(void) {
    assert_int_equal(pipe2(pipe_ends, O_NONBLOCK), 0);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(saved_stderr >= 0);
    assert_true(dup2(pipe_ends[1], STDERR_FILENO) >= 0);
    close(pipe_ends[1]);
    log_set_sink(NULL, NULL);
}

static void stderr_back(void) {
    log_set_sink(sink, last);
    assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
    close(saved_stderr);
}

static void one_write_per_line(void **state) {
    (void)state;
    char got[2 * LOG_LINE_MAX];
    char text[LOG_LINE_MAX];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    stderr_to_pipe();
    log_info("x", "one");
    log_info("x", "%s", text);
    ssize_t n = read(pipe_ends[0], got, sizeof got);
    stderr_back();
    close(pipe_ends[0]);
    char *end = memchr(got, '\n', (size_t)n);
    assert_non_null(end);
    *end = 0;
    assert_string_equal(after_time(got), "info x: one");
    assert_int_equal(n - (end + 1 - got), LOG_LINE_MAX);
    assert_int_equal(got[n - 1], '\n');
    assert_string_equal(last, ""); /* the sink was not asked */
}

static void a_dead_stderr_does_no_harm(void **state) {
    (void)state;
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    stderr_to_pipe();
    close(pipe_ends[0]);
    errno = 0;
    log_info("x", "nobody reads");
    int e = errno;
    close(STDERR_FILENO);
    log_info("x", "no descriptor");
    stderr_back();
    signal(SIGPIPE, before);
    assert_int_equal(e, 0);
    log_info("x", "y");
    assert_int_equal(lines, 1);
}

static void a_stuck_stderr_does_not_stop_the_program(void **state) {
    (void)state;
    static char got[1 << 20];
    stderr_to_pipe();
    /* Blocking, as stderr is: a write to a full pipe would wait for ever. */
    assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
    alarm(10);
    for (int i = 0; i < 5000; i++) log_info("x", "line %d of many, to fill whatever the kernel keeps", i);
    ssize_t n = read(pipe_ends[0], got, sizeof got - 1);
    log_info("x", "again");
    ssize_t m = read(pipe_ends[0], got + (n > 0 ? n : 0), sizeof got - 1 - (size_t)(n > 0 ? n : 0));
    log_info("x", "and again");
    ssize_t k = read(pipe_ends[0], last, sizeof last - 1);
    alarm(0);
    stderr_back();
    close(pipe_ends[0]);
    assert_true(n > 0 && m > 0 && k > 0);
    unsigned whole = 0;
    for (ssize_t i = 0; i < n; i++) whole += got[i] == '\n';
    got[n + m] = 0;
    /* Those that were lost are told, once. */
    char expected[64];
    snprintf(expected, sizeof expected, "warn log: lines were lost count=%u\n", 5000 - whole);
    const char *told = after_time(got + n);
    assert_true(whole < 5000);
    assert_memory_equal(told, expected, strlen(expected));
    assert_string_equal(after_time(told + strlen(expected)), "info x: again\n");
    last[k] = 0;
    assert_string_equal(after_time(last), "info x: and again\n");
}

/* --- limit and quotes --- */

static void one_line_a_second(void **state) {
    (void)state;
    const uint64_t s = UINT64_C(1000000000);
    struct log_limit l = {0};
    unsigned suppressed = 99;
    assert_true(log_limit_pass(&l, 5 * s, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(log_limit_pass(&l, 5 * s, &suppressed));
    assert_false(log_limit_pass(&l, 6 * s - 1, NULL));
    assert_true(log_limit_pass(&l, 6 * s, &suppressed));
    assert_int_equal(suppressed, 2);
    assert_true(log_limit_pass(&l, 100 * s, &suppressed));
    assert_int_equal(suppressed, 0);
    struct log_limit start = {0};
    assert_true(log_limit_pass(&start, 0, NULL));
}

static void quotes(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *quoted;
    } rows[] = {
        {"example.com:443", 15, "example.com:443"},
        {"[::1]:80", 8, "[::1]:80"},
        {"a_b-c/d@e+f,g", 13, "a_b-c/d@e+f,g"},
        {"", 0, "\"\""},
        {"two words", 9, "\"two words\""},
        {"a=b", 3, "\"a=b\""},
        {"say \"hi\"", 8, "\"say \\\"hi\\\"\""},
        {"back\\slash", 10, "\"back\\\\slash\""},
        {"a\r\nb", 4, "\"a\\x0d\\x0ab\""},
        {"a\0b", 3, "\"a\\x00b\""},
        {"\x1b[1m\x7f", 5, "\"\\x1b[1m\\x7f\""},
        {"\xc3\xbc\xff", 3, "\"\\xc3\\xbc\\xff\""},
        {"cut", 2, "cu"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char buf[64];
        assert_ptr_equal(log_quote(rows[i].text, rows[i].n, buf, sizeof buf), buf);
        assert_string_equal(buf, rows[i].quoted);
    }
    char buf[8];
    assert_string_equal(log_quote_str("a b", buf, sizeof buf), "\"a b\"");
    assert_string_equal(log_quote_str("plain", buf, sizeof buf), "plain");
    assert_string_equal(log_quote_str(NULL, buf, sizeof buf), "\"\"");
    assert_string_equal(log_quote(NULL, 0, buf, sizeof buf), "\"\"");
}

/* Whatever the room: terminated, inside it, and no half escape or open quote. */
static void quotes_fit(void **state) {
    (void)state;
    static const char *const texts[] = {"plainword", "a\x01\"\\b c", "\x01\x02\x03", ""};
    for (size_t t = 0; t < 4; t++)
        for (size_t cap = 0; cap < 32; cap++) {
            char buf[40];
            memset(buf, '#', sizeof buf);
            log_quote_str(texts[t], buf, cap);
            for (size_t i = cap; i < sizeof buf; i++) assert_int_equal(buf[i], '#');
            if (!cap) continue;
            size_t n = strnlen(buf, cap);
            assert_true(n < cap);
            if (t == 0) {
                assert_memory_equal(buf, texts[0], n);
                assert_int_equal(n, cap > 9 ? 9 : cap - 1);
                continue;
            }
            if (cap < 3) {
                assert_int_equal(n, 0);
                continue;
            }
            assert_int_equal(buf[0], '"');
            assert_int_equal(buf[n - 1], '"');
            size_t i = 1;
            while (i < n - 1) i += buf[i] != '\\' ? 1 : buf[i + 1] == 'x' ? 4 : 2;
            assert_int_equal(i, n - 1);
        }
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_line),
        TEST(levels),
        TEST(a_line_cannot_be_split),
        TEST(long_lines_are_cut),
        TEST(errno_is_kept),
        TEST(one_write_per_line),
        TEST(a_dead_stderr_does_no_harm),
        TEST(a_stuck_stderr_does_not_stop_the_program),
        TEST(one_line_a_second),
        TEST(quotes),
        TEST(quotes_fit),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
