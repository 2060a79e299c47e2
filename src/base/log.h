/* log.h - one line per event on stderr, key=value, nothing secret.
 *
 * Lines look like `2026-11-22T10:00:00.123Z info pool: session up transport=h3 rtt_ms=12`. The text before the keys is
 * a short phrase, and every foreign text passes log_quote() so that no line can be forged or split. A failed write is
 * ignored: logging never stops the program. Process-wide state, set once by main.
 */
#ifndef ADIT_BASE_LOG_H
#define ADIT_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Most bytes of one line; longer ones are cut and end in "…". */
#define LOG_LINE_MAX 2048

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error", "warn", "info", "debug", "trace"; -1 if unknown. */
int log_level_parse(const char *word);
/* Where lines go instead of stderr (tests); NULL restores stderr. */
void log_set_sink(void (*sink)(enum log_level level, const char *line, void *arg), void *arg);

/* Lines go to the journal, which has its own time stamps and reads a priority at the front (sd-daemon(3)). */
void log_set_journal(bool journal);
/* Whether stderr is the journal's stream, by $JOURNAL_STREAM. */
bool log_stderr_is_journal(void);

bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *subsystem, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(sub, ...) log_line(LOG_ERROR, sub, __VA_ARGS__)
#define log_warn(sub, ...) log_line(LOG_WARN, sub, __VA_ARGS__)
#define log_info(sub, ...) log_line(LOG_INFO, sub, __VA_ARGS__)
#define log_debug(sub, ...) ((void)(log_enabled(LOG_DEBUG) ? (log_line(LOG_DEBUG, sub, __VA_ARGS__), 0) : 0))
#define log_trace(sub, ...) ((void)(log_enabled(LOG_TRACE) ? (log_line(LOG_TRACE, sub, __VA_ARGS__), 0) : 0))

/* A limit of one line a second for one reason: embed one, ask before logging. Returns false while the second is not
 * over (the suppressed lines are counted and *suppressed tells how many since the last true). now in ns. */
struct log_limit {
    uint64_t next;
    unsigned suppressed;
};
bool log_limit_pass(struct log_limit *l, uint64_t now, unsigned *suppressed);

/* Quotes n bytes of foreign text for a value: plain words stay as they are, anything else is put into double quotes
 * with \xNN for control and non-ASCII bytes, cut to fit cap. Always terminated; returns buf. */
const char *log_quote(const void *text, size_t n, char *buf, size_t cap);
const char *log_quote_str(const char *text, char *buf, size_t cap);

#endif
