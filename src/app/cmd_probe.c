/* cmd_probe.c - tries every address of the endpoint over every transport, one session after another, and says how far each
 * came: name, handshake, certificate, protocol, credentials. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "app/cmd.h"
#include "app/upstream.h"
#include "base/log.h"
#include "base/secret.h"
#include "net/resolve.h"
#include "upstream/link.h"

#define RESOLVE_TIMEOUT 5000 /* ms */
#define ROWS_MAX (CONF_ADDRESSES_MAX * RESOLVE_MAX)

struct row {
    struct addr addr; /* none: the name was not resolved */
    const char *name; /* as configured */
    bool up, checked;
    int status;
    enum err err;
    char text[256];
    struct session_info info;
};

struct probe {
    struct conf *conf;
    struct loop *loop;
    struct resolver *resolver;
    struct creds *creds;
    struct dialect_context context;
    char names[CONF_ADDRESSES_MAX][DEST_TEXT_MAX];
    struct row rows[ROWS_MAX];
    size_t n, at, resolved;
    enum transport transport;
    struct resolve *q;
    struct link *link;
    struct loop_timer limit;
    struct defer next;
    bool good; /* one row is as it should be */
    json_t *json; /* the rows; NULL: a table is printed */
};

/* --- what was found --- */

static const char *verdict(const struct row *r) {
    if (r->err) return r->text;
    return r->info.unverified ? "ok, NOT VERIFIED" : "ok";
}

static json_t *row_json(const struct row *r, enum transport t) {
    char at[ADDR_TEXT_MAX] = "";
    if (r->addr.len) addr_format(&r->addr, at, sizeof at);
    json_t *j = json_pack("{s:s,s:s,s:s,s:b,s:b,s:s,s:s}", "name", r->name, "address", at, "transport", transport_word(t), "up",
                          r->up, "ok", r->err == 0, "error", err_word(r->err), "detail", r->err ? r->text : "");
    if (r->up)
        json_object_set_new(j, "session",
                            json_pack("{s:I,s:s,s:s,s:b,s:b,s:i}", "handshake_us",
                                      (json_int_t)((r->info.up - r->info.started) / 1000), "alpn", r->info.alpn, "tls",
                                      r->info.tls, "verified", !r->info.unverified, "checked", r->checked, "check_status",
                                      r->status));
    return j;
}

static void tell(struct probe *p, const struct row *r) {
    char at[ADDR_TEXT_MAX] = "-", took[24] = "-", check[16] = "-";
    if (r->err == 0) p->good = true;
    if (p->json) {
        json_array_append_new(p->json, row_json(r, p->transport));
        return;
    }
    if (r->addr.len) addr_format(&r->addr, at, sizeof at);
    if (r->up) snprintf(took, sizeof took, "%.1f ms", (double)(r->info.up - r->info.started) / 1e6);
    if (r->status) snprintf(check, sizeof check, "%d", r->status);
    printf("%-30s %-9s %-10s %-5s %-6s %s\n", at, transport_word(p->transport), took, r->up && *r->info.alpn ? r->info.alpn : "-",
           check, verdict(r));
    fflush(stdout);
}

/* --- one session --- */

static void finish_row(struct probe *p, enum err err) {
    struct row *r = &p->rows[p->at++];
    r->err = err;
    loop_timer_stop(&p->limit);
    link_free(p->link);
    p->link = NULL;
    tell(p, r);
    defer_post(loop_defer(p->loop), &p->next);
}

static void row_done(struct probe *p, enum err err, const char *text) {
    snprintf(p->rows[p->at].text, sizeof p->rows[p->at].text, "%s", text && *text ? text : err_text(err));
    finish_row(p, err);
}

static void on_link(struct link *l, enum link_event ev, void *arg) {
    struct probe *p = arg;
    struct row *r = &p->rows[p->at];
    char text[240];
    switch (ev) {
    case LINK_UP: r->up = link_info(l, &r->info); break;
    case LINK_CHECKED:
        r->checked = true;
        r->status = link_check_status(l);
        row_done(p, r->status / 100 == 2 ? ERR_OK : ERR_UPSTREAM_STATUS, "the health check was answered oddly");
        break;
    case LINK_AUTH:
        r->status = link_check_status(l);
        snprintf(text, sizeof text, "credentials rejected: %.200s", link_error_text(l));
        row_done(p, ERR_UPSTREAM_AUTH, text);
        break;
    case LINK_ENDED: row_done(p, link_error(l) ? link_error(l) : ERR_UPSTREAM_CLOSED, link_error_text(l)); break;
    case LINK_SILENT:
    case LINK_STALE: row_done(p, ERR_UPSTREAM_TIMEOUT, "up, but the health check was not answered"); break;
    case LINK_DRAIN:
    case LINK_ROOM: break;
    }
}

static void on_limit(void *arg) {
    struct probe *p = arg;
    row_done(p, ERR_UPSTREAM_TIMEOUT, p->rows[p->at].up ? "up, but the health check was not answered" : NULL);
}

static void start_row(struct probe *p) {
    struct row *r = &p->rows[p->at];
    const struct conf_endpoint *e = &p->conf->endpoint;
    struct link_config c = {.loop = p->loop,
                            .transport = p->transport,
                            .addrs = &r->addr,
                            .n_addrs = 1,
                            .dialect = &dialect_trusttunnel,
                            .context = &p->context,
                            .health_timeout = (uint32_t)e->health_timeout,
                            .cb = on_link,
                            .arg = p};
    const char *name = r->name;
    struct addr addr = r->addr;
    *r = (struct row){.addr = addr, .name = name};
    upstream_session(e, p->creds, &c.session);
    loop_timer_set(&p->limit, loop_now(p->loop) + (e->handshake_timeout + e->health_timeout) * LOOP_MS);
    p->link = link_new(&c);
    if (!p->link) row_done(p, ERR_NO_MEMORY, NULL);
}

/* Over HTTP/2 first, then over HTTP/3. */
static void on_next(void *arg) {
    struct probe *p = arg;
    if (p->at == p->n && p->transport == TRANSPORT_H2 && upstream_choice(&p->conf->endpoint) == TRANSPORT_AUTO) {
        p->at = 0;
        p->transport = TRANSPORT_H3;
    }
    if (p->at == p->n) loop_stop(p->loop);
    else if (p->rows[p->at].addr.len) start_row(p);
    else finish_row(p, ERR_UPSTREAM_DNS); /* its text was written when the name was not found */
}

/* --- names --- */

static void resolve_next(struct probe *p);

static void on_resolved(int err, const char *why, const struct addr *addrs, size_t n, void *arg) {
    struct probe *p = arg;
    const char *name = p->names[p->resolved++];
    p->q = NULL;
    if (err) {
        struct row r = {.name = name};
        snprintf(r.text, sizeof r.text, "%.100s: %.100s", name, *why ? why : err_text(err));
        p->rows[p->n++] = r;
    }
    for (size_t i = 0; !err && i < n && p->n < ROWS_MAX; i++) p->rows[p->n++] = (struct row){.name = name, .addr = addrs[i]};
    resolve_next(p);
}

static void resolve_next(struct probe *p) {
    const struct conf_addresses *a = &p->conf->endpoint.addresses;
    if (p->resolved == a->n) {
        defer_post(loop_defer(p->loop), &p->next);
        return;
    }
    const struct dest *d = &a->v[p->resolved];
    dest_format(d, p->names[p->resolved], sizeof p->names[0]);
    p->q = resolve_start(p->resolver, d->host, d->port, RESOLVE_TIMEOUT, on_resolved, p);
    if (!p->q) on_resolved(ERR_NO_MEMORY, "", NULL, 0, p);
}

/* --- the command --- */

static int run(struct probe *p, char *why, size_t cap) {
    const struct conf_endpoint *e = &p->conf->endpoint;
    char agent[UPSTREAM_AGENT_MAX];
    int r = upstream_creds(p->conf, &p->creds, why, cap);
    if (r) return r == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
    snprintf(why, cap, "%s", err_text(ERR_NO_MEMORY));
    p->loop = loop_new();
    p->resolver = p->loop ? resolver_new(p->loop) : NULL;
    p->context = (struct dialect_context){.authorization = dialect_basic(e->username, e->password),
                                          .user_agent = (char *)upstream_agent(e, agent)};
    if (!p->resolver || !p->context.authorization) return EXIT_RUNTIME;
    p->transport = upstream_choice(e) == TRANSPORT_ONLY_H3 ? TRANSPORT_H3 : TRANSPORT_H2;
    loop_timer_init(&p->limit, p->loop, on_limit, p);
    defer_init(&p->next, on_next, p);
    if (!p->json) printf("%-30s %-9s %-10s %-5s %-6s %s\n", "address", "transport", "handshake", "alpn", "check", "result");
    resolve_next(p);
    loop_run(p->loop);
    return p->good ? EXIT_OK : EXIT_RUNTIME;
}

static void probe_free(struct probe *p) {
    secret_free(p->context.authorization);
    resolver_free(p->resolver);
    creds_unref(p->creds);
    if (p->loop) loop_free(p->loop);
    json_decref(p->json);
    free(p);
}

static bool read_options(struct cmd_globals *g, bool *json, int argc, char **argv) {
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"log-level", required_argument, NULL, 'l'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "c:l:", options, NULL)) != -1) {
        if (opt == 'c') g->config = optarg;
        else if (opt == 'j') *json = true;
        else if (opt != 'l') cmd_usage_error("unknown option or missing argument", NULL);
        if (opt == 'l' ? !cmd_log_level(g, optarg) : opt == '?') return false;
    }
    if (optind == argc) return true;
    cmd_usage_error("unexpected argument", argv[optind]);
    return false;
}

int cmd_probe(struct cmd_globals *g, int argc, char **argv) {
    bool json = false;
    char why[512] = "";
    if (!read_options(g, &json, argc, argv)) return EXIT_USAGE;
    struct probe *p = calloc(1, sizeof *p);
    if (!p) return EXIT_RUNTIME;
    int code = cmd_load(g, &p->conf);
    if (code) {
        free(p);
        return code;
    }
    if (g->log_level < 0) log_set_level(LOG_ERROR); /* the table says it */
    if (json) p->json = json_array();
    code = run(p, why, sizeof why);
    if (code && p->n == 0) fprintf(stderr, "adit: %s\n", why);
    if (p->json && p->n) {
        json_dumpf(p->json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    conf_unref(p->conf);
    probe_free(p);
    return code;
}
