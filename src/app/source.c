#include "app/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/conf_impl.h"
#include "base/secret.h"
#include "codec/base64.h"
#include "codec/deeplink.h"

#define TEXT_MAX (256 * 1024) /* of the configuration that a link makes */
#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"
#define PEM_END "-----END CERTIFICATE-----"
#define PEM_LINE 48 /* bytes that make a line of 64 characters */

/* --- certificates --- */

/* The length of the DER value at p with its head; 0 if it is malformed or longer than n. */
static size_t der_length(const uint8_t *p, size_t n) {
    size_t len, head = 2;
    if (n < 2 || p[0] != 0x30) return 0;
    len = p[1];
    if (len & 0x80) {
        size_t more = len & 0x7f;
        if (more == 0 || more > 3 || n < 2 + more) return 0;
        len = 0;
        for (size_t i = 0; i < more; i++) len = len << 8 | p[2 + i];
        head += more;
    }
    return len <= n - head ? head + len : 0;
}

static bool put_certificates(FILE *to, struct deeplink_span s) {
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t left = s.n, len; left; p += len, left -= len) {
        len = der_length(p, left);
        if (!len) return false;
        fprintf(to, PEM_BEGIN "\n");
        for (size_t at = 0; at < len; at += PEM_LINE) {
            char line[65];
            struct writer w = writer_of(line, 64);
            base64_put(&w, BASE64_STANDARD, p + at, len - at < PEM_LINE ? len - at : PEM_LINE);
            fprintf(to, "%.*s\n", (int)writer_len(&w), line);
        }
        fprintf(to, PEM_END "\n");
    }
    return true;
}

/* All certificates of a PEM text as DER; the number of bytes, 0 if one is malformed or they do not fit. */
static size_t get_certificates(const char *pem, uint8_t *out, size_t cap) {
    size_t n = 0, len;
    char *line = malloc(strlen(pem) + 1);
    while (line && (pem = strstr(pem, PEM_BEGIN))) {
        const char *end = strstr(pem += strlen(PEM_BEGIN), PEM_END);
        size_t m = 0;
        for (; end && pem < end; pem++)
            if (*pem > ' ') line[m++] = *pem;
        if (!end || !base64_get(BASE64_STANDARD, line, m, out + n, cap - n, &len)) n = SIZE_MAX;
        if (n == SIZE_MAX) break;
        n += len;
    }
    free(line);
    return n == SIZE_MAX ? 0 : n;
}

/* --- a link becomes a configuration --- */

static void put_field(FILE *to, const char *key, struct deeplink_span s) {
    char *text = s.n ? secret_dup(s.p, s.n) : NULL;
    if (!text) return;
    fprintf(to, "%s = ", key);
    conf_put_text(to, text);
    fputc('\n', to);
    secret_free(text);
}

static void put_list(FILE *to, const char *key, const struct deeplink_span *v, size_t n) {
    if (!n) return;
    fprintf(to, "%s = [", key);
    for (size_t i = 0; i < n; i++) {
        char *text = secret_dup(v[i].p, v[i].n);
        if (i) fprintf(to, ", ");
        if (text) conf_put_text(to, text);
        secret_free(text);
    }
    fprintf(to, "]\n");
}

static bool put_link(FILE *to, const struct deeplink *l) {
    static const char *const protocols[] = {"auto", "http2", "http3"};
    bool good = true;
    fprintf(to, "[endpoint]\n");
    put_field(to, "name", l->name);
    put_field(to, "hostname", l->hostname);
    put_list(to, "addresses", l->addresses, l->n_addresses);
    put_field(to, "username", l->username);
    put_field(to, "password", l->password);
    put_field(to, "custom_sni", l->custom_sni);
    put_field(to, "client_random", l->client_random);
    if (!l->has_ipv6) fprintf(to, "has_ipv6 = false\n");
    if (l->skip_verification) fprintf(to, "skip_verification = true\n");
    if (l->protocol) fprintf(to, "transport = \"%s\"\n", protocols[l->protocol]);
    if (l->anti_dpi) fprintf(to, "anti_dpi = true\n");
    put_list(to, "dns_upstreams", l->dns, l->n_dns);
    if (l->certificates.n) {
        fprintf(to, "certificate = \"\"\"\n");
        good = put_certificates(to, l->certificates);
        fprintf(to, "\"\"\"\n");
    }
    return good;
}

static int refuse(struct conf_report *rep, const char *name, const char *text) {
    struct conf_loader l = {.rep = rep};
    conf_report_init(rep, name);
    conf_say(&l, CONF_ERROR, (struct toml_place){0}, "%s", text);
    return ERR_CONFIG;
}

static int load_link(const char *text, size_t n, bool insecure, struct conf **out, struct conf_report *rep) {
    static const char *const malformed = "the certificates are malformed";
    struct deeplink l;
    const char *why;
    char *made = calloc(1, TEXT_MAX);
    uint8_t *payload = calloc(1, DEEPLINK_TEXT_MAX);
    int r = made && payload ? deeplink_decode(&l, text, n, payload, DEEPLINK_TEXT_MAX, &why) : ERR_NO_MEMORY;
    if (r == ERR_CONFIG) refuse(rep, "link", why);
    if (r == 0 && l.skip_verification && !insecure)
        r = refuse(rep, "link", "it turns off the verification of the certificate (skip_verification): whoever is on the way could "
                                "read and change everything; --insecure takes it all the same");
    FILE *to = r == 0 ? fmemopen(made, TEXT_MAX, "w") : NULL;
    if (r == 0 && !to) r = ERR_NO_MEMORY;
    if (r == 0) {
        bool good = put_link(to, &l);
        bool fits = fclose(to) == 0 && strlen(made) < TEXT_MAX - 1;
        r = good && fits ? conf_load_text("link", made, strlen(made), out, rep) : refuse(rep, "link", malformed);
    }
    if (made) secret_wipe(made, TEXT_MAX);
    if (payload) secret_wipe(payload, DEEPLINK_TEXT_MAX);
    free(made);
    free(payload);
    return r;
}

int source_load(const char *where, bool insecure, struct conf **out, struct conf_report *rep) {
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    if (deeplink_is(where, strlen(where))) return load_link(where, strlen(where), insecure, out, rep);
    bool input = strcmp(where, "-") == 0;
    int fd = input ? STDIN_FILENO : open(where, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int r = fd < 0 ? ERR_IO : conf_read_all(fd, &text, &n);
    if (r == ERR_IO) {
        refuse(rep, input ? "standard input" : where, strerror(errno));
    } else if (r == 0 && deeplink_is(text, n)) {
        r = load_link(text, n, insecure, out, rep);
    } else if (r == 0 && input) {
        r = conf_load_text("standard input", text, n, out, rep);
    } else if (r == 0) {
        r = conf_load_file(where, out, rep); /* with the files that it names */
    }
    if (text) secret_wipe(text, n);
    free(text);
    if (fd >= 0 && !input) close(fd);
    return r;
}

/* --- a configuration becomes a link --- */

static struct deeplink_span span_of(const char *text) {
    return (struct deeplink_span){text, text ? strlen(text) : 0};
}

static void put_hex(char *to, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) snprintf(to + 2 * i, 3, "%02x", p[i]);
}

char *source_link(const struct conf *c, size_t *n) {
    const struct conf_endpoint *e = &c->endpoint;
    char texts[CONF_ADDRESSES_MAX][DEST_TEXT_MAX], random[4 * CONF_RANDOM_MAX + 2] = "";
    struct deeplink l = {.hostname = span_of(e->hostname),
                         .username = span_of(e->username),
                         .password = span_of(e->password),
                         .custom_sni = span_of(e->custom_sni),
                         .name = span_of(e->name),
                         .has_ipv6 = e->has_ipv6,
                         .skip_verification = e->skip_verification,
                         .anti_dpi = e->anti_dpi,
                         .protocol = e->transport == CONF_TRANSPORT_HTTP2   ? DEEPLINK_HTTP2
                                     : e->transport == CONF_TRANSPORT_HTTP3 ? DEEPLINK_HTTP3
                                                                            : DEEPLINK_AUTO};
    for (size_t i = 0; i < e->addresses.n; i++)
        l.addresses[l.n_addresses++] = span_of(dest_format(&e->addresses.v[i], texts[i], sizeof texts[i]));
    if (e->client_random.len) {
        put_hex(random, e->client_random.prefix, e->client_random.len);
        strcat(random, "/");
        put_hex(random + strlen(random), e->client_random.mask, e->client_random.len);
        l.client_random = span_of(random);
    }
    uint8_t *der = calloc(1, DEEPLINK_TEXT_MAX), *payload = calloc(1, DEEPLINK_TEXT_MAX);
    char *text = calloc(1, DEEPLINK_TEXT_MAX + 1);
    bool good = der && payload && text;
    if (good && e->certificate) {
        l.certificates = (struct deeplink_span){(char *)der, get_certificates(e->certificate, der, DEEPLINK_TEXT_MAX)};
        good = l.certificates.n > 0;
    }
    if (good) {
        struct writer w = writer_of(text, DEEPLINK_TEXT_MAX);
        deeplink_encode(&w, &l, payload, DEEPLINK_TEXT_MAX);
        good = !w.bad;
        *n = writer_len(&w);
    }
    char *link = good ? secret_dup(text, *n) : NULL;
    if (text) secret_wipe(text, DEEPLINK_TEXT_MAX);
    if (payload) secret_wipe(payload, DEEPLINK_TEXT_MAX);
    free(text);
    free(payload);
    free(der);
    return link;
}

/* --- the command line --- */

void source_hide(int argc, char **argv) {
    static const char *const marks[] = {"tt://", "#tt="};
    for (int i = 1; i < argc; i++)
        for (size_t k = 0; k < sizeof marks / sizeof *marks; k++) {
            char *at = strstr(argv[i], marks[k]);
            char *copy = at ? secret_dup(argv[i], strlen(argv[i])) : NULL;
            if (!copy) continue;
            at += strlen(marks[k]);
            secret_wipe(at, strlen(at));
            argv[i] = copy; /* lives as long as the process */
            break;
        }
}
