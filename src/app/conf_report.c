#include <stdarg.h>
#include <string.h>

#include "app/conf_impl.h"
#include "base/suggest.h"

const char *conf_severity_word(enum conf_severity s) {
    static const char *const words[] = {"error", "warning", "note"};
    return words[s];
}

void conf_report_init(struct conf_report *rep, const char *name) {
    rep->n = 0;
    memset(rep->found, 0, sizeof rep->found);
    snprintf(rep->name, sizeof rep->name, "%s", name);
    for (char *c = rep->name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
}

void conf_say(struct conf_loader *l, enum conf_severity severity, struct toml_place place, const char *fmt, ...) {
    struct conf_report *rep = l->rep;
    if (rep->found[severity]++ >= CONF_MESSAGES_MAX) return;

    /* By place, those of one place in the order of their coming. */
    size_t at = rep->n++;
    for (; at > 0; at--) {
        const struct conf_message *before = &rep->messages[at - 1];
        if (before->line < place.line || (before->line == place.line && before->col <= place.col)) break;
        rep->messages[at] = *before;
    }
    struct conf_message *m = &rep->messages[at];
    m->severity = severity;
    m->line = place.line;
    m->col = place.col;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->text, sizeof m->text, fmt, ap);
    va_end(ap);
}

void conf_report_print(const struct conf_report *rep, FILE *to) {
    for (size_t i = 0; i < rep->n; i++) {
        const struct conf_message *m = &rep->messages[i];
        fputs(rep->name, to);
        if (m->line) fprintf(to, ":%u:%u", m->line, m->col);
        if (m->severity != CONF_ERROR) fprintf(to, ": %s", conf_severity_word(m->severity));
        fprintf(to, ": %s\n", m->text);
    }
    for (int s = CONF_ERROR; s <= CONF_NOTE; s++)
        if (rep->found[s] > CONF_MESSAGES_MAX)
            fprintf(to, "%s: %u more of severity %s\n", rep->name, rep->found[s] - CONF_MESSAGES_MAX,
                    conf_severity_word((enum conf_severity)s));
}

const char *conf_show(const void *text, size_t n, char buf[CONF_SHOW_MAX]) {
    log_quote(text, n, buf + 1, CONF_SHOW_MAX - 2);
    if (buf[1] == '"') return buf + 1;
    size_t len = strlen(buf + 1);
    buf[0] = buf[len + 1] = '\'';
    buf[len + 2] = 0;
    return buf;
}

const struct conf_option *conf_suggest(unsigned scopes, const char *key, size_t n) {
    if (n > SUGGEST_MAX) return NULL;
    const struct conf_option *best = NULL, *o;
    unsigned limit = suggest_limit(n);
    for (size_t i = 0; (o = conf_option_at(i)); i++) {
        size_t len = strlen(o->key);
        if (!(scopes >> o->scope & 1) || len > SUGGEST_MAX) continue;
        unsigned d = suggest_distance(key, n, o->key, len);
        if (d > limit || (best && d == limit)) continue;
        best = o;
        limit = d;
    }
    return best;
}
