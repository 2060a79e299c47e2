#include "app/upstream.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

int upstream_creds(const struct conf *conf, struct creds **out, char *why, size_t cap) {
    const struct conf_endpoint *e = &conf->endpoint;
    char text[CREDS_WHY_MAX];
    unsigned line = 0, col = 0;
    enum creds_fault fault;
    static const char *const options[] = {[CREDS_FAULT_TRUST] = "certificate",
                                          [CREDS_FAULT_CERTIFICATE] = "client_certificate"};
    struct creds_pin pins[CONF_PINS_MAX];
    for (size_t i = 0; i < e->pins.n; i++) {
        pins[i].certificate = e->pins.v[i].certificate;
        memcpy(pins[i].sha256, e->pins.v[i].sha256, sizeof pins[i].sha256);
    }
    struct creds_config c = {.hostname = e->hostname,
                             .sni = e->custom_sni,
                             .trust_pem = e->certificate,
                             .certificate_pem = e->client_certificate,
                             .key_pem = e->client_key,
                             .fault = &fault,
                             .skip_verification = e->skip_verification,
                             .pins = pins,
                             .n_pins = e->pins.n,
                             .random_len = e->client_random.len};
    memcpy(c.random_prefix, e->client_random.prefix, sizeof c.random_prefix);
    memcpy(c.random_mask, e->client_random.mask, sizeof c.random_mask);
    int r = creds_new(out, &c, text, sizeof text);
    if (r == 0) return 0;
    const char *option = r == ERR_CONFIG ? options[fault] : NULL;
    char path[64];
    snprintf(path, sizeof path, "endpoint.%s", option ? option : "");
    if (option && conf_place(conf, path, &line, &col))
        snprintf(why, cap, "%s:%u:%u: %s: %s", conf->name, line, col, option, text);
    else
        snprintf(why, cap, "%s: %s", conf->name, text);
    return r;
}

/* "<platform> <app>", as endpoints of this protocol expect it. */
const char *upstream_agent(const struct conf_endpoint *e, char *buf) {
    struct utsname u;
    if (e->user_agent) return e->user_agent;
    if (uname(&u)) strcpy(u.sysname, "Linux");
    snprintf(buf, UPSTREAM_AGENT_MAX, "%.32s adit/" PACKAGE_VERSION, u.sysname);
    return buf;
}

enum transport_choice upstream_choice(const struct conf_endpoint *e) {
    if (e->transport == CONF_TRANSPORT_HTTP2) return TRANSPORT_ONLY_H2;
    return e->transport == CONF_TRANSPORT_HTTP3 ? TRANSPORT_ONLY_H3 : TRANSPORT_AUTO;
}

void upstream_session(const struct conf_endpoint *e, struct creds *creds, struct session_config *c) {
    session_config_init(c);
    c->creds = creds;
    c->handshake_timeout = (uint32_t)e->handshake_timeout;
    c->stream_window = (uint32_t)e->stream_window;
    c->session_window = (uint32_t)e->session_window;
    c->budget = e->buffer_budget;
    c->allow_no_alpn = true;
}
