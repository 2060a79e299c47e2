/* The configuration: any bytes are either a complete snapshot or a report with an error in it. Beyond memory
 * safety: what the header promises of a snapshot holds, messages are printable and name places inside the text,
 * and the same text gives the same snapshot again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/conf.h"

#define CHECK(cond) ((cond) ? (void)0 : abort())

static struct conf_report rep;

/* Lines that the text has, and one more for the line feed that the parser sees after it. */
static unsigned lines_of(const uint8_t *data, size_t size) {
    unsigned lines = 2;
    for (size_t i = 0; i < size; i++) lines += data[i] == '\n';
    return lines;
}

static void check_text(const char *s, size_t min, size_t max) {
    CHECK(strlen(s) >= min && strlen(s) <= max);
    for (; *s; s++) CHECK((unsigned char)*s >= 0x20 && *s != 0x7f);
}

static void check_report(unsigned lines) {
    unsigned kept = 0;
    for (int s = 0; s < 3; s++) kept += rep.found[s] < CONF_MESSAGES_MAX ? rep.found[s] : CONF_MESSAGES_MAX;
    CHECK(rep.n == kept);
    for (size_t i = 0; i < rep.n; i++) {
        const struct conf_message *m = &rep.messages[i];
        CHECK(m->line >= 1 && m->line <= lines && m->col >= 1);
        CHECK(i == 0 || rep.messages[i - 1].line <= m->line);
        CHECK(m->text[0]);
        for (const char *c = m->text; *c; c++) CHECK(*c >= 0x20 && *c < 0x7f);
    }
}

static void check_endpoint(const struct conf_endpoint *e) {
    check_text(e->hostname, 1, DEST_NAME_MAX);
    check_text(e->username, 1, 1024);
    check_text(e->password, 1, 1024);
    CHECK(!strchr(e->username, ':'));
    if (e->name) check_text(e->name, 1, 255);
    if (e->custom_sni) check_text(e->custom_sni, 1, DEST_NAME_MAX);
    if (e->user_agent) check_text(e->user_agent, 1, 255);
    if (e->certificate) CHECK(strstr(e->certificate, "BEGIN CERTIFICATE"));
    CHECK(e->addresses.n >= 1 && e->addresses.n <= CONF_ADDRESSES_MAX);
    for (size_t i = 0; i < e->addresses.n; i++) CHECK(e->addresses.v[i].port && e->addresses.v[i].host[0]);
    CHECK(e->client_random.len <= CONF_RANDOM_MAX);
    CHECK(e->transport <= CONF_TRANSPORT_HTTP3);
    CHECK(e->fallback_delay <= 60000 && e->connect_timeout >= 1000 && e->handshake_timeout >= 500);
    CHECK(e->stream_window >= 65536 && e->stream_window <= 1 << 30);
    CHECK(e->session_window >= 65536 && e->session_window <= 1 << 30);
    CHECK(e->buffer_budget >= 65536 && e->max_pending >= 1);
}

static void check_listener(const struct conf_listener *li) {
    check_text(li->name, 1, 32);
    CHECK((li->address.addr.len != 0) == (li->address.activated == NULL));
    if (li->address.activated) check_text(li->address.activated, 1, CONF_SOCKET_NAME_MAX);
    CHECK(li->mode <= 0777 && li->allow_uids.n <= CONF_IDS_MAX && li->allow_gids.n <= CONF_IDS_MAX);
    for (size_t i = 0; i < li->allow_uids.n; i++) CHECK(li->allow_uids.v[i] != UINT32_MAX);
    for (size_t i = 0; i < li->allow_gids.n; i++) CHECK(li->allow_gids.v[i] != UINT32_MAX);
    CHECK(li->protocols && !(li->protocols & ~(unsigned)(CONF_SOCKS5 | CONF_HTTP | CONF_SOCKS4)));
    CHECK(li->users.n <= CONF_USERS_MAX);
    for (size_t i = 0; i < li->users.n; i++) {
        check_text(li->users.v[i].username, 1, 255);
        check_text(li->users.v[i].password, 1, 255);
    }
    CHECK(li->users.n || li->allow_open || li->address.activated || addr_is_loopback(&li->address.addr));
    CHECK(li->handshake_timeout >= 100 && li->max_connections >= 1);
}

static void check_snapshot(const struct conf *c, const struct conf *again) {
    CHECK(c->log_level <= LOG_TRACE);
    CHECK(c->n_listeners >= 1 && c->n_listeners <= CONF_LISTENERS_MAX && c->n_listeners == again->n_listeners);
    for (size_t i = 0; i < c->n_listeners; i++) {
        check_listener(&c->listeners[i]);
        CHECK(conf_listener_find(c, c->listeners[i].name) == &c->listeners[i]);
        CHECK(conf_listener_diff(&c->listeners[i], &again->listeners[i]) == CONF_RELOAD_SAME);
    }
    check_endpoint(&c->endpoint);
    CHECK(conf_endpoint_diff(&c->endpoint, &again->endpoint) == CONF_RELOAD_SAME);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct conf *c, *again;
    unsigned lines = lines_of(data, size);
    int r = conf_load_text("fuzz", data, size, &c, &rep);
    check_report(lines);
    CHECK(r == 0 || r == ERR_CONFIG);
    CHECK((r == 0) == (rep.found[CONF_ERROR] == 0) && (r == 0) == (c != NULL));
    CHECK(conf_load_text("fuzz", data, size, &again, &rep) == r);
    if (c) check_snapshot(c, again);
    conf_unref(c);
    conf_unref(again);
    return 0;
}
