#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "app/conf_impl.h"
#include "base/secret.h"
#include "codec/base64.h"

/* ---- numbers with units ---- */

struct unit {
    const char *word;
    uint64_t factor;
};

/* Largest first. */
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
static const struct unit size_units[] = {{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}};
static const struct unit plain_units[] = {{"", 1}};

static const struct unit *units_of(enum conf_type type, size_t *n) {
    switch (type) {
    case CONF_DURATION: *n = sizeof duration_units / sizeof *duration_units; return duration_units;
    case CONF_SIZE: *n = sizeof size_units / sizeof *size_units; return size_units;
    default: *n = 1; return plain_units;
    }
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool conf_parse_number(enum conf_type type, const char *text, size_t n, uint64_t *v) {
    size_t n_units, next = 0, i = 0;
    const struct unit *units = units_of(type, &n_units);
    *v = 0;
    do {
        uint64_t number = 0;
        size_t digits = i;
        for (; i < n && is_digit(text[i]); i++)
            if (__builtin_mul_overflow(number, 10, &number) ||
                __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
                return false;
        if (i == digits) return false;
        size_t word = i;
        while (i < n && !is_digit(text[i])) i++;
        /* Each unit once, the larger before the smaller. */
        while (next < n_units &&
               (strlen(units[next].word) != i - word || memcmp(units[next].word, text + word, i - word) != 0))
            next++;
        if (next == n_units) return false;
        if (__builtin_mul_overflow(number, units[next++].factor, &number) ||
            __builtin_add_overflow(*v, number, v))
            return false;
    } while (i < n);
    return true;
}

const char *conf_format_number(enum conf_type type, uint64_t v, char *buf, size_t cap) {
    size_t n_units, at = 0;
    const struct unit *units = units_of(type, &n_units);
    buf[0] = 0;
    for (size_t i = 0; i < n_units; i++) {
        /* A size has one unit only: the largest that leaves no rest. */
        if (v < units[i].factor || (type == CONF_SIZE && v % units[i].factor != 0)) continue;
        int m = snprintf(buf + at, cap - at, "%" PRIu64 "%s", v / units[i].factor, units[i].word);
        if (m < 0 || (size_t)m >= cap - at) return buf;
        at += (size_t)m;
        v %= units[i].factor;
    }
    if (at == 0) snprintf(buf, cap, "0");
    return buf;
}

static enum conf_outcome read_number(struct conf_loader *l, const struct conf_option *o,
                                     const struct toml_node *node, uint64_t *v) {
    char show[CONF_SHOW_MAX], min[CONF_VALUE_TEXT], max[CONF_VALUE_TEXT];
    uint64_t number = 0;
    bool fits = true;
    if (node->kind == TOML_INTEGER) {
        fits = node->u.integer >= 0;
        number = (uint64_t)node->u.integer;
    } else if (!conf_parse_number(o->type, node->u.string.p, node->u.string.n, &number)) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must be %s, not %s", o->key, conf_type_expected(o->type),
                 conf_show(node->u.string.p, node->u.string.n, show));
        return CONF_BAD;
    }
    if (!fits || number < o->min || number > o->max) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must be from %s to %s", o->key,
                 conf_format_number(o->type, o->min, min, sizeof min),
                 conf_format_number(o->type, o->max, max, sizeof max));
        return CONF_BAD;
    }
    *v = number;
    return CONF_SET;
}

/* ---- texts ---- */

/* Says what is wrong with a string as a value of this option, or returns NULL. */
static const char *text_fault(const struct conf_option *o, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bool blank = c == '\n' || c == '\r' || c == '\t';
        if ((c < 0x20 || c == 0x7f) && !(blank && (o->type == CONF_PEM || o->type == CONF_KEY)))
            return "must not hold control characters";
        if (c == ':' && o->flags & CONF_NO_COLON) return "must not hold a colon";
        if (c >= 0x80 && o->flags & CONF_ASCII) return "must be plain ASCII";
    }
    if (o->type == CONF_PEM && !strstr(p, "-----BEGIN CERTIFICATE-----"))
        return "must be certificates in PEM format, beginning with -----BEGIN CERTIFICATE-----";
    if (o->type == CONF_KEY && !strstr(p, "PRIVATE KEY-----"))
        return "must be a private key in PEM format, beginning with -----BEGIN PRIVATE KEY-----";
    return NULL;
}

/* A string for any type that is written as one: CONF_SET if it may be read on. */
static enum conf_outcome check_text(struct conf_loader *l, const struct conf_option *o,
                                    const struct toml_node *node) {
    if (node->u.string.n == 0) return CONF_UNSET;
    const char *fault = text_fault(o, node->u.string.p, node->u.string.n);
    if (fault) {
        conf_say(l, CONF_ERROR, node->place, "'%s' %s", o->key, fault);
        return CONF_BAD;
    }
    if (o->max && (node->u.string.n < o->min || node->u.string.n > o->max)) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must have %" PRIu64 " to %" PRIu64 " bytes, not %zu", o->key,
                 o->min, o->max, node->u.string.n);
        return CONF_BAD;
    }
    return CONF_SET;
}

static enum conf_outcome keep_text(struct conf_loader *l, const char *p, size_t n, const char **at) {
    char *copy = arena_dup(&l->conf->arena, p, n);
    if (!copy) {
        l->no_memory = true;
        return CONF_BAD;
    }
    *at = copy;
    return CONF_SET;
}

static enum conf_outcome read_word(struct conf_loader *l, const struct conf_option *o,
                                   const struct toml_node *node, unsigned *at) {
    int i = conf_word_index(o->words, node->u.string.p, node->u.string.n);
    if (i < 0) {
        char show[CONF_SHOW_MAX];
        conf_say(l, CONF_ERROR, node->place, "'%s' must be one of %s, not %s", o->key, o->words,
                 conf_show(node->u.string.p, node->u.string.n, show));
        return CONF_BAD;
    }
    *at = (unsigned)i;
    return CONF_SET;
}

static enum conf_outcome read_host(struct conf_loader *l, const struct conf_option *o,
                                   const struct toml_node *node, const char **at) {
    struct dest d;
    char show[CONF_SHOW_MAX];
    if (dest_set_name(&d, DEST_TCP, node->u.string.p, node->u.string.n, 443) ||
        (o->flags & CONF_NAME_ONLY && d.kind != DEST_NAME)) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must be a host name%s, not %s", o->key,
                 o->flags & CONF_NAME_ONLY ? "" : " or an IP address",
                 conf_show(node->u.string.p, node->u.string.n, show));
        return CONF_BAD;
    }
    return keep_text(l, d.host, strlen(d.host), at);
}

/* ---- client_random ---- */

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool read_hex(const char *text, size_t n, uint8_t out[CONF_RANDOM_MAX], size_t *len) {
    if (n == 0 || n % 2 || n / 2 > CONF_RANDOM_MAX) return false;
    for (size_t i = 0; i < n; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) return false;
        out[i / 2] = (uint8_t)(high << 4 | low);
    }
    *len = n / 2;
    return true;
}

static enum conf_outcome read_random(struct conf_loader *l, const struct conf_option *o,
                                     const struct toml_node *node, struct conf_random *at) {
    struct conf_random r = {0};
    const char *text = node->u.string.p, *slash = strchr(text, '/');
    size_t n = node->u.string.n, prefix = slash ? (size_t)(slash - text) : n, mask = 0;
    bool good = read_hex(text, prefix, r.prefix, &r.len);
    if (good && slash) {
        good = read_hex(slash + 1, n - prefix - 1, r.mask, &mask);
        if (mask < r.len) r.len = mask;
    } else {
        memset(r.mask, 0xff, sizeof r.mask);
    }
    if (!good) {
        conf_say(l, CONF_ERROR, node->place,
                 "'%s' must be 1 to %d bytes in hexadecimal, and the same after a '/' for a mask", o->key,
                 CONF_RANDOM_MAX);
        return CONF_BAD;
    }
    /* What the shorter of the two does not cover stays free; so that equal settings compare equal, it is zero. */
    memset(r.prefix + r.len, 0, sizeof r.prefix - r.len);
    memset(r.mask + r.len, 0, sizeof r.mask - r.len);
    *at = r;
    return CONF_SET;
}

/* ---- lists ---- */

static enum conf_outcome check_count(struct conf_loader *l, const struct conf_option *o,
                                     const struct toml_node *node) {
    size_t n = node->u.children.n;
    if (n <= o->max && n >= o->min) return CONF_SET;
    if (n == 0)
        conf_say(l, CONF_ERROR, node->place, "'%s' must not be empty", o->key);
    else
        conf_say(l, CONF_ERROR, node->place, "'%s' may have at most %" PRIu64 " elements, not %zu", o->key,
                 o->max, n);
    return CONF_BAD;
}

/* Every element must be a string. */
static enum conf_outcome check_strings(struct conf_loader *l, const struct conf_option *o,
                                       const struct toml_node *node) {
    enum conf_outcome r = check_count(l, o, node);
    for (const struct toml_node *e = node->u.children.first; e; e = e->next) {
        if (e->kind == TOML_STRING) continue;
        conf_say(l, CONF_ERROR, e->place, "'%s' must be %s; this element is %s", o->key,
                 conf_type_expected(o->type), toml_kind_text(e->kind));
        r = CONF_BAD;
    }
    return r == CONF_SET && node->u.children.n == 0 ? CONF_UNSET : r;
}

static enum conf_outcome read_words(struct conf_loader *l, const struct conf_option *o,
                                    const struct toml_node *node, unsigned *at) {
    enum conf_outcome r = check_strings(l, o, node);
    unsigned set = 0, i;
    if (r != CONF_SET) return r;
    for (const struct toml_node *e = node->u.children.first; e; e = e->next) {
        if (read_word(l, o, e, &i) == CONF_SET)
            set |= 1u << i;
        else
            r = CONF_BAD;
    }
    if (r == CONF_SET) *at = set;
    return r;
}

static bool parse_port(const char *text, size_t n, uint16_t *port) {
    uint64_t v;
    if (!conf_parse_number(CONF_INTEGER, text, n, &v) || v < 1 || v > 65535) return false;
    *port = (uint16_t)v;
    return true;
}

/* "host", "host:port", "[v6]", "[v6]:port", "v6"; the port is 443 if left out. */
static bool parse_address(const char *text, size_t n, struct dest *d) {
    const char *end = text + n, *colon = memchr(text, ':', n), *host_end = end;
    uint16_t port = 443;
    if (text[0] == '[') {
        const char *bracket = memchr(text, ']', n);
        if (!bracket) return false;
        host_end = bracket + 1;
        colon = host_end < end ? host_end : NULL;
        if (colon && *colon != ':') return false;
    } else if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        colon = NULL; /* several: an IPv6 address without brackets */
    } else if (colon) {
        host_end = colon;
    }
    if (colon && !parse_port(colon + 1, (size_t)(end - colon - 1), &port)) return false;
    return dest_set_name(d, DEST_TCP, text, (size_t)(host_end - text), port) == 0;
}

static enum conf_outcome read_addresses(struct conf_loader *l, const struct conf_option *o,
                                        const struct toml_node *node, struct conf_addresses *at) {
    char show[CONF_SHOW_MAX];
    enum conf_outcome r = check_strings(l, o, node);
    if (r != CONF_SET) return r;
    struct dest *v = arena_alloc(&l->conf->arena, node->u.children.n * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return CONF_BAD;
    }
    size_t n = 0;
    for (const struct toml_node *e = node->u.children.first; e; e = e->next) {
        const char *text = e->u.string.p;
        if (e->u.string.n == 0 || !parse_address(text, e->u.string.n, &v[n])) {
            conf_say(l, CONF_ERROR, e->place,
                     "'%s' must have elements such as 192.0.2.1:443, [2001:db8::1]:443 or vpn.example:443, not %s",
                     o->key, conf_show(text, e->u.string.n, show));
            r = CONF_BAD;
            continue;
        }
        size_t same = 0;
        while (same < n && !dest_equal(&v[same], &v[n])) same++;
        if (same < n)
            conf_say(l, CONF_WARNING, e->place, "this address is in the list already");
        else
            n++;
    }
    if (r == CONF_SET) *at = (struct conf_addresses){v, n};
    return r;
}

/* ---- pins ---- */

#define PIN_KEY "sha256//"
#define PIN_CERTIFICATE "cert-sha256:"

/* Hexadecimal as programs print fingerprints: with colons between the bytes, or without. */
static bool read_fingerprint(const char *text, uint8_t out[32]) {
    size_t n = strlen(text), step = n == 32 * 3 - 1 ? 3 : 2;
    if (n != 32 * 2 && step == 2) return false;
    for (size_t i = 0; i < 32; i++) {
        int high = hex_digit(text[i * step]), low = hex_digit(text[i * step + 1]);
        if (high < 0 || low < 0 || (step == 3 && i < 31 && text[i * step + 2] != ':')) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool read_pin(const char *text, size_t n, struct conf_pin *pin) {
    const size_t key = sizeof PIN_KEY - 1, certificate = sizeof PIN_CERTIFICATE - 1;
    size_t len;
    if (strlen(text) != n) return false;
    *pin = (struct conf_pin){.certificate = strncmp(text, PIN_CERTIFICATE, certificate) == 0};
    if (pin->certificate) return read_fingerprint(text + certificate, pin->sha256);
    return strncmp(text, PIN_KEY, key) == 0 &&
           base64_get(BASE64_STANDARD, text + key, n - key, pin->sha256, sizeof pin->sha256, &len) &&
           len == sizeof pin->sha256;
}

static enum conf_outcome read_pins(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                   struct conf_pins *at) {
    char show[CONF_SHOW_MAX];
    enum conf_outcome r = check_strings(l, o, node);
    if (r != CONF_SET) return r;
    struct conf_pin *v = arena_alloc(&l->conf->arena, node->u.children.n * sizeof *v);
    if (!v) {
        l->no_memory = true;
        return CONF_BAD;
    }
    size_t n = 0;
    for (const struct toml_node *e = node->u.children.first; e; e = e->next) {
        if (read_pin(e->u.string.p, e->u.string.n, &v[n++])) continue;
        conf_say(l, CONF_ERROR, e->place,
                 "'%s' must have elements such as " PIN_KEY " and 44 characters of base64, or " PIN_CERTIFICATE
                 " and 64 hexadecimal digits, not %s",
                 o->key, conf_show(e->u.string.p, e->u.string.n, show));
        r = CONF_BAD;
    }
    if (r == CONF_SET) *at = (struct conf_pins){v, n};
    return r;
}

/* ---- any type ---- */

static bool kind_fits(enum conf_type type, enum toml_kind kind) {
    switch (type) {
    case CONF_TABLE: return kind == TOML_TABLE;
    case CONF_BOOLEAN: return kind == TOML_BOOLEAN;
    case CONF_INTEGER: return kind == TOML_INTEGER;
    case CONF_DURATION:
    case CONF_SIZE:
    case CONF_MODE: return kind == TOML_INTEGER || kind == TOML_STRING;
    case CONF_WORDS:
    case CONF_STRINGS:
    case CONF_ADDRESSES:
    case CONF_PINS:
    case CONF_UIDS:
    case CONF_GIDS:
    case CONF_USERS: return kind == TOML_ARRAY;
    case CONF_ANY: return true;
    default: return kind == TOML_STRING;
    }
}

static enum conf_outcome read_any(const struct toml_node *node) {
    switch (node->kind) {
    case TOML_STRING: return node->u.string.n ? CONF_SET : CONF_UNSET;
    case TOML_BOOLEAN: return node->u.boolean ? CONF_SET : CONF_UNSET;
    case TOML_ARRAY:
    case TOML_TABLE: return node->u.children.n ? CONF_SET : CONF_UNSET;
    default: return CONF_SET;
    }
}

static enum conf_outcome read_integer(struct conf_loader *l, const struct conf_option *o,
                                      const struct toml_node *node, unsigned *at) {
    uint64_t v;
    enum conf_outcome r = read_number(l, o, node, &v);
    if (r == CONF_SET) *at = (unsigned)v;
    return r;
}

enum conf_outcome conf_value_read(struct conf_loader *l, const struct conf_option *o, const struct toml_node *node,
                                  void *at) {
    if (!kind_fits(o->type, node->kind)) {
        conf_say(l, CONF_ERROR, node->place, "'%s' must be %s, not %s", o->key, conf_type_expected(o->type),
                 toml_kind_text(node->kind));
        return CONF_BAD;
    }
    switch (o->type) {
    case CONF_TABLE: return CONF_SET;
    case CONF_ANY: return read_any(node);
    case CONF_BOOLEAN: *(bool *)at = node->u.boolean; return CONF_SET;
    case CONF_DURATION:
    case CONF_SIZE: return read_number(l, o, node, at);
    case CONF_INTEGER: return read_integer(l, o, node, at);
    case CONF_WORDS: return read_words(l, o, node, at);
    case CONF_STRINGS: return check_strings(l, o, node);
    case CONF_ADDRESSES: return read_addresses(l, o, node, at);
    case CONF_PINS: return read_pins(l, o, node, at);
    case CONF_USERS: return conf_parse_users(l, node, at);
    case CONF_UIDS:
    case CONF_GIDS: return conf_listen_ids(l, o, node, at);
    case CONF_MODE: return conf_listen_mode(l, o, node, at);
    default: break;
    }
    enum conf_outcome r = check_text(l, o, node);
    if (r != CONF_SET) return r;
    switch (o->type) {
    case CONF_WORD: return read_word(l, o, node, at);
    case CONF_HOST: return read_host(l, o, node, at);
    case CONF_LISTEN: return conf_listen_address(l, o, node, at);
    case CONF_RANDOM: return read_random(l, o, node, at);
    case CONF_PATH:
        if (!o->file_of) return conf_file_path(l, o, node, at);
        return keep_text(l, node->u.string.p, node->u.string.n, at);
    default: return keep_text(l, node->u.string.p, node->u.string.n, at);
    }
}

void conf_value_default(struct conf_loader *l, const struct conf_option *o, void *at) {
    if (!o->preset) return;
    struct toml_node node = {.kind = TOML_STRING, .u.string = {o->preset, strlen(o->preset)}}, words[8];
    if (o->type == CONF_BOOLEAN) {
        node.kind = TOML_BOOLEAN;
        node.u.boolean = strcmp(o->preset, "true") == 0;
    } else if (o->type == CONF_INTEGER) {
        node.kind = TOML_INTEGER;
        node.u.integer = strtoll(o->preset, NULL, 10);
    } else if (o->type == CONF_WORDS) {
        node.kind = TOML_ARRAY;
        node.u.children.first = NULL;
        node.u.children.n = 0;
        size_t n;
        const char *word;
        for (int i = 0; i < 8 && (word = conf_word_at(o->preset, i, &n)); i++) {
            words[i] = (struct toml_node){
                .kind = TOML_STRING, .next = node.u.children.first, .u.string = {word, n}};
            node.u.children.first = &words[i];
            node.u.children.n++;
        }
    }
    conf_value_read(l, o, &node, at);
}

/* ---- comparison ---- */

static bool same_text(const char *a, const char *b) {
    return secret_equal(a, a ? strlen(a) : 0, b, b ? strlen(b) : 0);
}

static bool same_addresses(const struct conf_addresses *a, const struct conf_addresses *b) {
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++) same = dest_equal(&a->v[i], &b->v[i]);
    return same;
}

static bool same_ids(const struct conf_ids *a, const struct conf_ids *b) {
    return a->n == b->n && (a->n == 0 || memcmp(a->v, b->v, a->n * sizeof *a->v) == 0);
}

static bool same_users(const struct conf_users *a, const struct conf_users *b) {
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = same_text(a->v[i].username, b->v[i].username) && same_text(a->v[i].password, b->v[i].password);
    return same;
}

static bool same_pins(const struct conf_pins *a, const struct conf_pins *b) {
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n; i++)
        same = a->v[i].certificate == b->v[i].certificate &&
               memcmp(a->v[i].sha256, b->v[i].sha256, sizeof a->v[i].sha256) == 0;
    return same;
}

bool conf_value_equal(const struct conf_option *o, const void *a, const void *b) {
    switch (o->type) {
    case CONF_TABLE:
    case CONF_ANY:
    case CONF_STRINGS: return true; /* not kept */
    case CONF_BOOLEAN: return *(const bool *)a == *(const bool *)b;
    case CONF_DURATION:
    case CONF_SIZE: return *(const uint64_t *)a == *(const uint64_t *)b;
    case CONF_INTEGER:
    case CONF_MODE:
    case CONF_WORD:
    case CONF_WORDS: return *(const unsigned *)a == *(const unsigned *)b;
    case CONF_LISTEN: return conf_address_equal(a, b);
    case CONF_UIDS:
    case CONF_GIDS: return same_ids(a, b);
    case CONF_ADDRESSES: return same_addresses(a, b);
    case CONF_RANDOM: return memcmp(a, b, sizeof(struct conf_random)) == 0;
    case CONF_USERS: return same_users(a, b);
    case CONF_PINS: return same_pins(a, b);
    default: return same_text(*(const char *const *)a, *(const char *const *)b);
    }
}
