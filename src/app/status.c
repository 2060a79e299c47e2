#include "app/status.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "inbound/listen.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

static json_int_t ms_since(uint64_t at, uint64_t now) { return at && now > at ? (json_int_t)((now - at) / LOOP_MS) : 0; }

static json_t *listener_json(const struct listener *l) {
    char at[ADDR_TEXT_MAX];
    const struct listen_counts *n = listener_counts(l);
    return json_pack("{s:s,s:s,s:i,s:I,s:I,s:I}", "name", listener_name(l), "address",
                     addr_format(listener_addr(l), at, sizeof at), "connections", (int)listener_connections(l), "accepted",
                     (json_int_t)n->accepted, "refused_user", (json_int_t)n->refused_user, "refused_limit",
                     (json_int_t)n->refused_limit);
}

static json_t *listeners_json(const struct gateway *g) {
    json_t *all = json_array();
    const struct listener *l;
    for (size_t i = 0; (l = gateway_listener_at(g, i)); i++)
        json_array_append_new(all, listener_json(l));
    return all;
}

static json_t *session_json(const struct session_info *s, uint64_t now) {
    return json_pack("{s:s,s:s,s:s,s:b,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "transport", session_kind_word(s->kind), "alpn",
                     s->alpn, "tls", s->tls, "verified", !s->unverified, "streams", (int)s->streams, "age_ms",
                     ms_since(s->up, now), "last_received_ms", ms_since(s->last_rx, now), "rtt_us",
                     (json_int_t)(s->rtt / 1000), "bytes_in", (json_int_t)s->bytes_in, "bytes_out",
                     (json_int_t)s->bytes_out, "unread", (json_int_t)s->unread, "congested", s->congested);
}

static json_t *upstream_json(const struct gateway *g, uint64_t now) {
    struct pool_info p;
    pool_get_info(gateway_pool(g), &p);
    json_t *j = json_pack("{s:s,s:s,s:s?,s:s,s:s,s:i,s:i,s:i,s:i,s:I,s:I,s:I}", "name", gateway_upstream(g), "state",
                          policy_state_word(p.state), "transport", p.use >= 0 ? transport_word(p.use) : NULL, "reason",
                          err_word(p.reason), "detail", p.reason ? pool_reason_text(gateway_pool(g)) : "", "sessions",
                          (int)p.sessions, "connections", (int)p.links, "requests_waiting", (int)p.pending,
                          "requests_sent", (int)p.opening, "opened", (json_int_t)p.opened, "failed",
                          (json_int_t)p.failed, "retried", (json_int_t)p.retried);
    if (p.use >= 0) json_object_set_new(j, "session", session_json(&p.session, now));
    return j;
}

json_t *status_json(const struct gateway *g, uint64_t now, uint64_t started, bool draining) {
    return json_pack("{s:b,s:s,s:i,s:s,s:I,s:i,s:o,s:o}", "ok", 1, "version", PACKAGE_VERSION, "pid", (int)getpid(), "state",
                     draining ? "draining" : "running", "uptime_ms", ms_since(started, now), "flows",
                     (int)gateway_flows(g), "listeners", listeners_json(g), "upstream", upstream_json(g, now));
}

void status_line(const struct gateway *g, char *buf, size_t cap) {
    struct pool_info p;
    pool_get_info(gateway_pool(g), &p);
    if (p.use >= 0)
        snprintf(buf, cap, "%s to %s, %u flows", transport_word(p.use), gateway_upstream(g), gateway_flows(g));
    else
        snprintf(buf, cap, "%s: no session to %s%s%s", policy_state_word(p.state), gateway_upstream(g),
                 p.reason ? ": " : "", p.reason ? err_text(p.reason) : "");
}

/* --- text --- */

static const char *text(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static json_int_t number(const json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

static void print_session(const json_t *s, FILE *to) {
    fprintf(to, "  session      %s, up %" JSON_INTEGER_FORMAT " s, %" JSON_INTEGER_FORMAT " streams, rtt %.1f ms%s%s\n",
            text(s, "tls"), number(s, "age_ms") / 1000, number(s, "streams"), (double)number(s, "rtt_us") / 1000,
            json_is_true(json_object_get(s, "verified")) ? "" : ", NOT VERIFIED",
            json_is_true(json_object_get(s, "congested")) ? ", congested" : "");
    fprintf(to, "  bytes        %" JSON_INTEGER_FORMAT " in, %" JSON_INTEGER_FORMAT " out\n", number(s, "bytes_in"),
            number(s, "bytes_out"));
}

static void print_listener(const json_t *l, FILE *to) {
    json_int_t users = number(l, "refused_user"), limit = number(l, "refused_limit");
    fprintf(to, "listener %s at %s, %" JSON_INTEGER_FORMAT " connections", text(l, "name"), text(l, "address"),
            number(l, "connections"));
    if (users) fprintf(to, ", %" JSON_INTEGER_FORMAT " refused by user", users);
    if (limit) fprintf(to, ", %" JSON_INTEGER_FORMAT " refused by limit", limit);
    fputc('\n', to);
}

void status_print(const json_t *status, FILE *to) {
    const json_t *u = json_object_get(status, "upstream"), *l, *session = json_object_get(u, "session");
    size_t i;
    fprintf(to, "adit %s, %s, up %" JSON_INTEGER_FORMAT " s, %" JSON_INTEGER_FORMAT " flows\n", text(status, "version"),
            text(status, "state"), number(status, "uptime_ms") / 1000, number(status, "flows"));
    json_array_foreach(json_object_get(status, "listeners"), i, l)
        print_listener(l, to);
    fprintf(to, "upstream %s: %s", text(u, "name"), text(u, "state"));
    if (session) fprintf(to, " over %s, %" JSON_INTEGER_FORMAT " sessions", text(u, "transport"), number(u, "sessions"));
    fputc('\n', to);
    if (strcmp(text(u, "reason"), "ok") != 0)
        fprintf(to, "  reason       %s%s%s\n", text(u, "reason"), *text(u, "detail") ? ": " : "", text(u, "detail"));
    if (session) print_session(session, to);
    fprintf(to,
            "  requests     %" JSON_INTEGER_FORMAT " opened, %" JSON_INTEGER_FORMAT " failed, %" JSON_INTEGER_FORMAT
            " sent again, %" JSON_INTEGER_FORMAT " waiting\n",
            number(u, "opened"), number(u, "failed"), number(u, "retried"),
            number(u, "requests_waiting") + number(u, "requests_sent"));
}
