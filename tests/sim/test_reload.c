/* test_reload.c - scenarios: another configuration while flows run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/sock.h"
#include "sim/world.h"

#define S LOOP_S
#define FLOWS 10

static struct world *up(const char *transport) {
    struct world *w = world_new(&(struct world_config){.transport = transport});
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    return w;
}

static int reload(struct world *w, const struct world_config *c) {
    char why[GATEWAY_WHY_MAX] = "";
    struct conf *conf = world_conf(w, c);
    int r = gateway_reload(w->gw, conf, why, sizeof why);
    conf_unref(conf);
    if (r) assert_string_not_equal(why, "");
    return r;
}

static void must_reload(struct world *w, const struct world_config *c) { assert_int_equal(reload(w, c), 0); }

static unsigned established(const struct world *w) {
    const struct endpoint_counts *n = endpoint_counts(w->ep);
    return n->sessions_h2 + n->sessions_h3;
}

static struct client *served(struct world *w) {
    struct client *c = client_open(w, "target.test", 7, 500, false);
    assert_true(world_all_answered(w, 15 * S));
    assert_int_equal(c->rep, 0);
    return c;
}

static void must_echo(struct client *c, uint64_t upload) {
    c->upload = upload;
    client_go(c);
    sim_pass(c->world->loop, 3 * S);
    assert_false(c->dead || c->corrupt);
    assert_int_equal(c->received, upload);
}

static bool refused(struct world *w, const char *address) {
    struct addr at;
    int err;
    assert_int_equal(addr_parse(&at, address), 0);
    struct stream *s = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    sim_pass(w->loop, S);
    bool dead = s->err != 0;
    stream_free(s);
    sim_pass(w->loop, S);
    return dead;
}

/* The method that is picked when none but "no authentication" is offered. */
static int greeting(struct world *w) {
    struct addr at;
    int err, method = -1;
    const uint8_t *p;
    size_t n;
    addr_parse(&at, "127.0.0.1:1080");
    struct stream *s = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    sim_pass(w->loop, S);
    stream_write(s, (const uint8_t *)"\5\1\0", 3);
    sim_pass(w->loop, S);
    if (stream_peek(s, &p, &n) == STREAM_BYTES && n == 2) method = p[1];
    stream_free(s);
    sim_pass(w->loop, S);
    return method;
}

static void nothing_changed(void **state) {
    (void)state;
    struct world *w = up("auto");
    struct client *c = served(w);
    for (int i = 0; i < 20; i++) must_reload(w, &(struct world_config){.transport = "auto"});
    assert_int_equal(established(w), 1);
    must_echo(c, 3000);
    served(w);
    assert_int_equal(established(w), 1);
    world_free(w);
}

static void another_upstream(void **state) {
    (void)state;
    struct world *w = up("http3");
    struct client *old = served(w);
    must_reload(w, &(struct world_config){.transport = "http2"});
    struct client *new = served(w);
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    assert_int_equal(established(w), 2);
    must_echo(old, 5000); /* on its old session */
    must_echo(new, 5000);
    assert_int_equal(endpoint_counts(w->ep)->sessions, 2);
    client_close(old, false);
    sim_pass(w->loop, 60 * S);
    assert_int_equal(endpoint_counts(w->ep)->sessions, 1); /* it went with its last flow */
    must_echo(new, 9000);
    world_free(w);
}

static void requests_without_an_answer_are_sent_anew(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.transport = "http3", .endpoint = "recovery_wait = \"60s\""});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    world_start(w);
    struct client *c[FLOWS];
    for (int i = 0; i < FLOWS; i++) c[i] = client_open(w, "target.test", 7, 100, false);
    sim_pass(w->loop, 3 * S);
    must_reload(w, &(struct world_config){.transport = "http2"});
    assert_true(world_all_answered(w, 3 * S));
    for (int i = 0; i < FLOWS; i++) assert_int_equal(c[i]->rep, 0);
    /* and such as are on their way to a slow endpoint */
    endpoint_faults(w->ep)->slow_accept = 3000;
    for (int i = 0; i < FLOWS; i++) c[i] = client_open(w, "target.test", 7, 100, false);
    sim_pass(w->loop, S);
    endpoint_faults(w->ep)->slow_accept = 0;
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    must_reload(w, &(struct world_config){.transport = "http3"});
    assert_true(world_all_answered(w, S));
    for (int i = 0; i < FLOWS; i++) assert_int_equal(c[i]->rep, 0);
    world_free(w);
}

static void listeners_come_and_go(void **state) {
    (void)state;
    struct world *w = up("http2");
    struct client *c = served(w);
    const char *second = "[listener.second]\naddress = \"127.0.0.1:1081\"";
    assert_int_equal(greeting(w), 0);
    assert_true(refused(w, "127.0.0.1:1081"));
    must_reload(w, &(struct world_config){.transport = "http2", .listener = second});
    assert_false(refused(w, "127.0.0.1:1081"));
    must_echo(c, 2000);
    must_reload(w, &(struct world_config){.transport = "http2"});
    assert_true(refused(w, "127.0.0.1:1081"));
    /* the same socket, with other rules: credentials are asked for from now on */
    must_reload(w, &(struct world_config){.transport = "http2",
                                          .listener = "username = \"bob\"\npassword = \"builder\""});
    assert_int_equal(greeting(w), 0xff);
    must_echo(c, 4000);
    assert_int_equal(established(w), 1);
    world_free(w);
}

static void what_cannot_be_changes_nothing(void **state) {
    (void)state;
    struct world *w = up("http2");
    struct client *c = served(w);
    /* an address that is taken; the endpoint would change too */
    assert_int_equal(reload(w, &(struct world_config){
                                   .transport = "http3",
                                   .listener = "[listener.a]\naddress = \"127.0.0.1:1082\"\n[listener.b]\n"
                                               "address = \"10.0.0.1:443\"\nallow_open = true"}),
                     ERR_IO);
    assert_true(refused(w, "127.0.0.1:1082")); /* bound for a moment, and given back */
    served(w);
    must_echo(c, 4000);
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    assert_int_equal(established(w), 1);
    world_free(w);
}

static void wrong_credentials_and_right_ones_again(void **state) {
    (void)state;
    struct world *w = up("auto");
    struct client *old = served(w);
    must_reload(w, &(struct world_config){.transport = "auto", .password = "wrong"});
    struct client *c = client_open(w, "target.test", 7, 500, false);
    assert_true(world_all_answered(w, 15 * S));
    assert_int_not_equal(c->rep, 0);
    assert_int_equal(world_pool(w).state, POLICY_REJECTED);
    must_echo(old, 2000);
    must_reload(w, &(struct world_config){.transport = "auto"}); /* at once, not after the long wait */
    served(w);
    world_free(w);
}

static void a_hundred_times_under_load(void **state) {
    (void)state;
    static const char *const transports[] = {"http2", "http3", "auto"};
    struct world *w = up("auto");
    struct client *c[100];
    for (int i = 0; i < 100; i++) {
        c[i] = client_open(w, "target.test", 7, 20000, true);
        must_reload(w, &(struct world_config){.transport = transports[i % 3],
                                              .listener = i & 1 ? "idle_timeout = \"1h\"" : NULL});
        sim_pass(w->loop, LOOP_MS * (uint64_t)(i * 7 % 40));
    }
    assert_true(world_all_ended(w, 60 * S));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(c[i]->rep, 0);
        assert_true(c[i]->eof && !c[i]->corrupt);
        assert_int_equal(c[i]->received, 20000);
    }
    sim_pass(w->loop, 60 * S);
    assert_int_equal(endpoint_counts(w->ep)->sessions, 1); /* nothing of the old ones is left */
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed),
        cmocka_unit_test(another_upstream),
        cmocka_unit_test(requests_without_an_answer_are_sent_anew),
        cmocka_unit_test(listeners_come_and_go),
        cmocka_unit_test(what_cannot_be_changes_nothing),
        cmocka_unit_test(wrong_credentials_and_right_ones_again),
        cmocka_unit_test(a_hundred_times_under_load),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("reload", tests, NULL, NULL);
}
