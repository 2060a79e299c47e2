#include "lib/conf_text.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

struct conf_report conf_said;

void conf_text_print(void) { conf_report_print(&conf_said, stderr); }

struct conf *must_load(const char *text) {
    struct conf *c;
    if (conf_load_text("test", text, strlen(text), &c, &conf_said)) {
        conf_text_print();
        fail_msg("not loaded: %s", text);
    }
    assert_int_equal(conf_said.found[CONF_ERROR], 0);
    return c;
}

struct conf *must_load_with(const char *text) {
    char whole[4096];
    snprintf(whole, sizeof whole, "%s%s", CONF_TEXT_ENDPOINT, text);
    return must_load(whole);
}

const struct conf_message *must_say(enum conf_severity s, unsigned line, unsigned col, const char *part) {
    for (size_t i = 0; i < conf_said.n; i++) {
        const struct conf_message *m = &conf_said.messages[i];
        if (m->severity == s && m->line == line && m->col == col && strstr(m->text, part)) return m;
    }
    conf_text_print();
    fail_msg("no %s at %u:%u with \"%s\"", conf_severity_word(s), line, col, part);
    return NULL;
}

void must_refuse_bytes(const char *text, size_t n) {
    struct conf *c = (struct conf *)1;
    assert_int_equal(conf_load_text("test", text, n, &c, &conf_said), ERR_CONFIG);
    assert_null(c);
    assert_true(conf_said.found[CONF_ERROR] > 0);
    for (size_t i = 0; i < conf_said.n; i++) assert_null(strstr(conf_said.messages[i].text, "swordfish"));
}

void must_refuse(const char *text, unsigned line, unsigned col, const char *part) {
    must_refuse_bytes(text, strlen(text));
    must_say(CONF_ERROR, line, col, part);
    if (conf_said.found[CONF_ERROR] != 1) {
        conf_text_print();
        fail_msg("%u errors", conf_said.found[CONF_ERROR]);
    }
}

void must_refuse_with(const char *text, unsigned line, unsigned col, const char *part) {
    char whole[8192];
    snprintf(whole, sizeof whole, "%s%s", CONF_TEXT_ENDPOINT, text);
    must_refuse(whole, line + 4, col, part);
}
