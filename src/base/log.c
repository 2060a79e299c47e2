#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CUT_MARK "\xe2\x80\xa6" /* "…" */
#define LIMIT_NS UINT64_C(1000000000)

static struct {
    enum log_level level;
    void (*sink)(enum log_level level, const char *line, void *arg);
    void *sink_arg;
    bool journal;
    unsigned long lost; /* lines that stderr had no room for since the last one written */
} state = {.level = LOG_INFO};

static const char *const level_words[] = {"error", "warn", "info", "debug", "trace"};

void log_set_level(enum log_level level) { state.level = level; }

enum log_level log_get_level(void) { return state.level; }

int log_level_parse(const char *word) {
    for (int i = 0; i <= LOG_TRACE; i++)
        if (word && strcmp(word, level_words[i]) == 0) return i;
    return -1;
}

void log_set_sink(void (*sink)(enum log_level level, const char *line, void *arg), void *arg) {
    state.sink = sink;
    state.sink_arg = arg;
}

bool log_enabled(enum log_level level) { return level <= state.level; }

void log_set_journal(bool journal) { state.journal = journal; }

bool log_stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long dev, ino;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino;
}

/* Writes "<time> <level> <subsystem>: "; returns its length, less than cap, which is 80 at least. */
static size_t put_head(char *line, size_t cap, enum log_level level, const char *subsystem) {
    struct timespec ts = {0};
    struct tm tm = {0};
    if (state.journal) {
        static const char priority[] = "34677"; /* of syslog(3): error is 3, trace debug's 7 */
        int m = snprintf(line, cap, "<%c>%.32s: ", priority[level], subsystem);
        return m < 0 ? 0 : (size_t)m;
    }
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    int n = snprintf(line, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %.32s: ", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000000,
                     level_words[level], subsystem);
    if (n < 0) return 0;
    return (size_t)n < cap ? (size_t)n : cap - 1;
}

/* Cuts the text at `line` to at most cap bytes with the mark, not inside a UTF-8 sequence; returns its length. */
static size_t cut(char *line, size_t len, size_t cap) {
    size_t at = cap - strlen(CUT_MARK);
    if (at > len) at = len;
    for (int i = 0; i < 3 && at && ((unsigned char)line[at] & 0xc0) == 0x80; i++) at--;
    memcpy(line + at, CUT_MARK, strlen(CUT_MARK));
    return at + strlen(CUT_MARK);
}

static void write_line(const char *line, size_t n) {
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    /* A reader of stderr that is stuck must not stop the program: without room for the line it is lost. */
    if (poll(&p, 1, 0) == 0) {
        state.lost++;
        return;
    }
    ssize_t r;
    do r = write(STDERR_FILENO, line, n);
    while (r < 0 && errno == EINTR);
}

static void report_lost(void) {
    unsigned long lost = state.lost;
    char line[128];
    state.lost = 0;
    size_t n = put_head(line, sizeof line, LOG_WARN, "log");
    int m = snprintf(line + n, sizeof line - n, "lines were lost count=%lu\n", lost);
    write_line(line, n + (size_t)m);
    if (state.lost) state.lost = lost; /* still no room */
}

void log_line(enum log_level level, const char *subsystem, const char *fmt, ...) {
    if (!log_enabled(level)) return;
    int saved = errno;
    char line[LOG_LINE_MAX + 1]; /* the line, then '\n' replaced by NUL for a sink */
    const size_t cap = LOG_LINE_MAX - 1;
    size_t n = put_head(line, cap, level, subsystem);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, cap + 1 - n, fmt, ap);
    va_end(ap);
    size_t len = m < 0 ? n : n + (size_t)m;
    if (len > cap) len = cut(line, cap, cap);
    /* Foreign text was quoted by the caller; this keeps a forgotten quote from splitting a line. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) line[i] = '?';
    if (state.sink) {
        line[len] = 0;
        state.sink(level, line, state.sink_arg);
    } else {
        line[len] = '\n';
        if (state.lost) report_lost();
        write_line(line, len + 1);
    }
    errno = saved;
}

bool log_limit_pass(struct log_limit *l, uint64_t now, unsigned *suppressed) {
    bool pass = now >= l->next;
    if (!pass) l->suppressed++;
    if (suppressed) *suppressed = l->suppressed;
    if (pass) {
        l->next = now + LIMIT_NS;
        l->suppressed = 0;
    }
    return pass;
}

static bool is_plain(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c != 0 && strchr("-._:/@+,*%[]", c));
}

/* One byte as it stands inside double quotes; returns the length of the text in out. */
static size_t escape(unsigned char c, char out[4]) {
    static const char hex[] = "0123456789abcdef";
    if (c == '"' || c == '\\') {
        out[0] = '\\';
        out[1] = (char)c;
        return 2;
    }
    if (c >= 0x20 && c < 0x7f) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[c >> 4];
    out[3] = hex[c & 15];
    return 4;
}

const char *log_quote(const void *text, size_t n, char *buf, size_t cap) {
    const unsigned char *t = text;
    if (!cap) return buf;
    bool plain = n > 0;
    for (size_t i = 0; i < n && plain; i++) plain = is_plain(t[i]);
    if (plain) {
        size_t m = n < cap ? n : cap - 1;
        memcpy(buf, t, m);
        buf[m] = 0;
        return buf;
    }
    if (cap < sizeof "\"\"") {
        buf[0] = 0;
        return buf;
    }
    size_t at = 0;
    buf[at++] = '"';
    for (size_t i = 0; i < n; i++) {
        char out[4];
        size_t m = escape(t[i], out);
        if (at + m + 2 > cap) break; /* the closing quote and the NUL */
        memcpy(buf + at, out, m);
        at += m;
    }
    buf[at++] = '"';
    buf[at] = 0;
    return buf;
}

const char *log_quote_str(const char *text, char *buf, size_t cap) {
    if (!text) text = "";
    return log_quote(text, strlen(text), buf, cap);
}
