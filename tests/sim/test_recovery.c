/* test_recovery.c - scenarios: sleep, idleness and changes of the network; the first request after each is served soon. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/log.h"
#include "sim/world.h"

#define S LOOP_S

static const char *const transports[] = {"http2", "http3", "auto"};

static struct world *up(const char *transport) {
    struct world *w = world_new(&(struct world_config){.transport = transport});
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    sim_pass(w->loop, S);
    return w;
}

static unsigned established(const struct world *w) {
    const struct endpoint_counts *n = endpoint_counts(w->ep);
    return n->sessions_h2 + n->sessions_h3;
}

static struct client *served_within(struct world *w, uint64_t ns) {
    struct client *c = client_open(w, "target.test", 7, 500, false);
    uint64_t from = loop_now(w->loop);
    assert_true(world_all_answered(w, 60 * S));
    assert_int_equal(c->rep, 0);
    assert_in_range(loop_now(w->loop) - from, 0, ns);
    sim_pass(w->loop, S);
    assert_int_equal(c->received, 500);
    return c;
}

static void the_first_request_after_a_sleep(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        int used = world_pool(w).use;
        struct client *old = served_within(w, S);
        sim_cut();
        sim_wake(w->loop);
        served_within(w, 3 * S);
        assert_int_equal(world_pool(w).use, used); /* a sleep is no argument against HTTP/3 */
        assert_int_equal(established(w), 2);
        assert_false(old->dead); /* its session may come back; it is given up later */
        sim_pass(w->loop, 40 * S);
        assert_true(old->dead || old->eof);
        world_free(w);
    }
}

static void awake_before_anyone_asks(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        sim_cut();
        sim_wake(w->loop);
        sim_pass(w->loop, 2 * S);
        assert_int_equal(established(w), 2);
        served_within(w, S / 2);
        world_free(w);
    }
}

static void a_session_that_lives_is_kept(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        struct client *c = served_within(w, S);
        for (int k = 0; k < 20; k++) {
            sim_wake(w->loop);
            sim_network_changed();
            sim_pass(w->loop, 3 * S);
        }
        assert_int_equal(established(w), 1);
        c->upload = 4000;
        client_go(c);
        sim_pass(w->loop, S);
        assert_int_equal(c->received, 4000);
        world_free(w);
    }
}

static void idleness_is_verified(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        int used = world_pool(w).use;
        sim_pass(w->loop, 5 * S);
        sim_cut(); /* nobody tells */
        sim_pass(w->loop, 17 * S);
        assert_int_equal(established(w), 1);
        served_within(w, 3 * S);
        assert_int_equal(world_pool(w).use, used);
        world_free(w);
    }
}

static void another_network_ends_the_back_off(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        sim_source("");
        sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_DROP);
        sim_cut();
        sim_network_changed();
        sim_pass(w->loop, 600 * S); /* attempts are far apart by now */
        assert_int_not_equal(world_pool(w).state, POLICY_UP);
        sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
        sim_source("10.0.0.77");
        sim_network_changed();
        served_within(w, 3 * S);
        world_free(w);
    }
}

/* HTTP/3 is blocked and held down; links of containers come and go meanwhile. */
static void changes_elsewhere_change_nothing(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.transport = "auto"});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    served_within(w, S);
    sim_pass(w->loop, 10 * S);
    uint64_t before = w->net->datagrams;
    for (int k = 0; k < 10; k++) {
        sim_network_changed();
        sim_pass(w->loop, S);
    }
    assert_int_equal(w->net->datagrams, before); /* no probe before its time */
    assert_int_equal(established(w), 1);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    sim_source("10.0.0.88"); /* now it is another network */
    sim_network_changed();
    sim_pass(w->loop, 3 * S);
    assert_int_equal(world_pool(w).use, TRANSPORT_H3);
    world_free(w);
}

/* Requests that were on their way when the network went away are carried over to the next session. */
static void requests_under_way_are_carried_over(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct world *w = up(transports[i]);
        struct client *c[10];
        sim_cut();
        for (int k = 0; k < 10; k++) c[k] = client_open(w, "target.test", 7, 100, false);
        sim_pass(w->loop, S / 10);
        sim_source("10.0.0.99");
        sim_network_changed();
        uint64_t from = loop_now(w->loop);
        assert_true(world_all_answered(w, 60 * S));
        assert_in_range(loop_now(w->loop) - from, 0, 3 * S);
        for (int k = 0; k < 10; k++) assert_int_equal(c[k]->rep, 0);
        world_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_request_after_a_sleep),   cmocka_unit_test(awake_before_anyone_asks),
        cmocka_unit_test(a_session_that_lives_is_kept),      cmocka_unit_test(idleness_is_verified),
        cmocka_unit_test(another_network_ends_the_back_off), cmocka_unit_test(changes_elsewhere_change_nothing),
        cmocka_unit_test(requests_under_way_are_carried_over),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
