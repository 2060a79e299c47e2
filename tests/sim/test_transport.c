/* test_transport.c - scenarios: which transport carries flows, when it changes, and what never happens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sim/world.h"

#define MS LOOP_MS
#define S LOOP_S

static unsigned ms_to_answer(const struct client *c) { return (unsigned)((c->opened_at - c->asked_at) / MS); }

static struct client *ask(struct world *w) { return client_open(w, "target.test", 7, 1000, true); }

static bool has_ended(void *arg) {
    const struct client *c = arg;
    return c->eof || c->dead;
}

/* One echo that must work; returns how long the answer took, ms. */
static unsigned good_echo(struct world *w, uint64_t limit) {
    struct client *c = ask(w);
    assert_true(world_all_answered(w, limit));
    assert_int_equal(c->rep, 0);
    assert_true(sim_until(w->loop, has_ended, c, limit));
    assert_true(c->eof);
    assert_int_equal(c->received, 1000);
    assert_false(c->corrupt);
    unsigned ms = ms_to_answer(c);
    client_close(c, false);
    return ms;
}

static void h3_is_preferred(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    world_start(w);
    assert_in_range(good_echo(w, 5 * S), 1, 300);
    const struct endpoint_counts *n = endpoint_counts(w->ep);
    assert_int_equal(n->sessions_h3, 1);
    assert_int_equal(n->sessions_h2, 0);
    assert_int_equal(n->checks, 1);
    assert_int_equal(world_pool(w).use, TRANSPORT_H3);
    world_free(w);
}

static void retry_costs_one_round_trip(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.retry = true});
    world_start(w);
    assert_in_range(good_echo(w, 5 * S), 1, 300);
    assert_int_equal(endpoint_counts(w->ep)->sessions_h3, 1);
    world_free(w);
}

static void udp_dropped_at_start(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    world_start(w);
    assert_in_range(good_echo(w, 5 * S), 1000, 2000);
    assert_int_equal(endpoint_counts(w->ep)->sessions_h2, 1);
    assert_in_range(good_echo(w, 5 * S), 1, 200); /* and from then on at once */
    world_free(w);
}

static void udp_refused_at_start(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_REFUSE, SIM_PASS);
    world_start(w);
    assert_in_range(good_echo(w, 5 * S), 1, 500); /* no waiting for the fallback delay */
    assert_int_equal(endpoint_counts(w->ep)->sessions_h2, 1);
    world_free(w);
}

static void udp_dropped_in_mid_session(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    world_start(w);
    good_echo(w, 5 * S);
    sim_pass(w->loop, 3 * S);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    unsigned first = good_echo(w, 20 * S);
    assert_in_range(first, 100, 7500); /* the health timeout and one handshake */
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    assert_in_range(good_echo(w, 5 * S), 1, 200);
    world_free(w);
}

static void download_over_a_dying_path(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    w->source_bytes = 64 << 20;
    w->net->rate = 2 << 20;
    world_start(w);
    struct client *c = client_open(w, "target.test", 19, 0, false);
    assert_true(world_all_answered(w, 5 * S));
    sim_pass(w->loop, 2 * S);
    assert_true(c->received > 100000);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    sim_pass(w->loop, 7500 * MS); /* noticed by the download alone */
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    assert_in_range(good_echo(w, 300 * S), 1, 2500);
    assert_false(c->corrupt);
    world_free(w);
}

static bool uses_h3(void *arg) { return world_pool(arg).use == TRANSPORT_H3; }

static void h3_is_taken_back(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    world_start(w);
    good_echo(w, 5 * S);
    struct client *c = client_open(w, "target.test", 7, 0, false);
    assert_true(world_all_answered(w, 5 * S));
    sim_pass(w->loop, 60 * S);
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    assert_true(sim_until(w->loop, uses_h3, w, 200 * S));
    good_echo(w, 5 * S);
    assert_true(endpoint_counts(w->ep)->requests_h3 >= 1);
    /* the flow on HTTP/2 was not harmed */
    c->upload = 5000;
    client_go(c);
    sim_pass(w->loop, S);
    assert_int_equal(c->received, 5000);
    assert_false(c->dead);
    world_free(w);
}

static void http3_never_becomes_http2(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.transport = "http3"});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    world_start(w);
    struct client *c = ask(w);
    assert_true(world_all_answered(w, 60 * S));
    assert_int_equal(c->rep, 3);
    sim_pass(w->loop, 60 * S);
    assert_int_equal(endpoint_counts(w->ep)->sessions_h2, 0);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    assert_true(world_until_up(w, 90 * S));
    good_echo(w, 5 * S);
    assert_int_equal(endpoint_counts(w->ep)->sessions_h2, 0);
    world_free(w);
}

static void http2_sends_no_datagram(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.transport = "http2"});
    world_start(w);
    good_echo(w, 5 * S);
    assert_int_equal(w->net->datagrams, 0);
    world_free(w);
}

static void refused_certificates(void **state) {
    (void)state;
    static const char *const transports[] = {"http2", "http3", "auto"};
    for (int kind = 0; kind < 3; kind++) {
        for (int t = 0; t < 3; t++) {
            struct world_config c = {.transport = transports[t], .certificate_name = kind == 0 ? "other.test" : NULL,
                                     .expired = kind == 1, .self_signed = kind == 2};
            struct world *w = world_new(&c);
            world_start(w);
            struct client *cl = ask(w);
            assert_true(world_all_answered(w, 15 * S));
            assert_int_equal(cl->rep, 1);
            sim_pass(w->loop, 100 * S);
            const struct endpoint_counts *n = endpoint_counts(w->ep);
            assert_int_equal(n->tunnels, 0);
            assert_int_equal(n->checks, 0);
            assert_int_equal(n->requests_h2 + n->requests_h3, 0);
            assert_int_equal(world_pool(w).reason, ERR_UPSTREAM_CERTIFICATE);
            if (t == 2) assert_int_equal(n->sessions_h2, 0); /* not even tried */
            world_free(w);
        }
    }
}

static void skip_verification_is_obeyed(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2", .self_signed = true,
                                                           .endpoint = "skip_verification = true"});
        world_start(w);
        good_echo(w, 5 * S);
        assert_true(world_pool(w).session.unverified);
        world_free(w);
    }
}

static void credentials_rejected(void **state) {
    (void)state;
    for (int t = 0; t < 3; t++) {
        static const char *const transports[] = {"http2", "http3", "auto"};
        struct world *w = world_new(&(struct world_config){.transport = transports[t], .password = "wrong"});
        world_start(w);
        struct client *c = ask(w);
        assert_true(world_all_answered(w, 5 * S));
        assert_int_equal(c->rep, 1);
        assert_int_equal(world_pool(w).state, POLICY_REJECTED);
        for (int i = 0; i < 20; i++) {
            c = ask(w);
            assert_true(world_all_answered(w, 5 * S));
            assert_int_equal(c->rep, 1);
            assert_in_range(ms_to_answer(c), 0, 60); /* told at once */
        }
        sim_pass(w->loop, 250 * S);
        assert_in_range(endpoint_counts(w->ep)->refused_auth, 1, 2); /* no hammering */
        if (t == 2) assert_int_equal(endpoint_counts(w->ep)->sessions_h2, 0);
        world_free(w);
    }
}

static void endpoint_down_at_start(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    sim_rule(WORLD_ENDPOINT_PORT, SIM_REFUSE, SIM_REFUSE);
    world_start(w);
    struct client *early = ask(w);
    assert_true(world_all_answered(w, 60 * S));
    assert_int_equal(early->rep, 3);
    assert_in_range(ms_to_answer(early), 9900, 10200); /* recovery_wait */
    struct client *waiting = ask(w);
    sim_pass(w->loop, 2 * S);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    assert_true(world_all_answered(w, 60 * S));
    assert_int_equal(waiting->rep, 0);
    world_free(w);
}

static void everything_dropped_then_back(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    world_start(w);
    good_echo(w, 5 * S);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_DROP);
    struct client *c = ask(w);
    assert_true(world_all_answered(w, 60 * S));
    assert_int_not_equal(c->rep, 0);
    assert_in_range(ms_to_answer(c), 1000, 20000);
    sim_pass(w->loop, 120 * S);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
    assert_true(world_until_up(w, 70 * S)); /* within one step of the back-off */
    good_echo(w, 5 * S);
    world_free(w);
}

static void dead_man_never_fires(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2"});
        endpoint_faults(w->ep)->dead_man = 600000;
        world_start(w);
        struct client *c = client_open(w, "target.test", 7, 100, false);
        assert_true(world_all_answered(w, 5 * S));
        sim_pass(w->loop, 3600 * S);
        const struct endpoint_counts *n = endpoint_counts(w->ep);
        assert_int_equal(n->sessions_h2 + n->sessions_h3, 1);
        assert_in_range(n->checks, 6, 30);
        c->upload = 200;
        client_go(c);
        sim_pass(w->loop, S);
        assert_int_equal(c->received, 200);
        world_free(w);
    }
}

static void idle_costs_no_wakeups(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2"});
        world_start(w);
        good_echo(w, 5 * S);
        sim_pass(w->loop, 60 * S);
        uint64_t turns = sim_turns(w->loop);
        sim_pass(w->loop, 600 * S);
        /* a PING and its answer every 25 s, seen from both ends and the wire */
        assert_in_range(sim_turns(w->loop) - turns, 1, 1200);
        world_free(w);
    }
}

static void goaway_in_mid_flow(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2"});
        world_start(w);
        struct client *c = client_open(w, "target.test", 7, 10000, false);
        assert_true(world_all_answered(w, 5 * S));
        sim_pass(w->loop, S);
        endpoint_goaway(w->ep);
        sim_pass(w->loop, S);
        good_echo(w, 5 * S); /* on a new session */
        c->upload = 50000;
        c->half_close = true;
        client_go(c);
        assert_true(world_all_ended(w, 5 * S));
        assert_int_equal(c->received, 50000);
        assert_true(c->eof);
        const struct endpoint_counts *n = endpoint_counts(w->ep);
        assert_int_equal(n->sessions_h2 + n->sessions_h3, 2);
        sim_pass(w->loop, 100 * S);
        assert_int_equal(n->sessions, 1); /* the retired one ended with its last flow */
        world_free(w);
    }
}

static void session_lost(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2"});
        endpoint_faults(w->ep)->session_life = 5000;
        world_start(w);
        struct client *c = client_open(w, "target.test", 7, 1000, false);
        assert_true(world_all_answered(w, 3 * S));
        sim_pass(w->loop, 5 * S);
        endpoint_faults(w->ep)->session_life = 0;
        if (t == 1) sim_pass(w->loop, 30 * S); /* over QUIC it is only noticed by silence */
        assert_true(c->dead);   /* an aborted flow is never a clean end */
        assert_false(c->eof);
        good_echo(w, 15 * S);
        world_free(w);
    }
}

static void a_short_outage_is_survived(void **state) {
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct world *w = world_new(&(struct world_config){.transport = t ? "http3" : "http2"});
        world_start(w);
        struct client *c = client_open(w, "target.test", 7, 10000, false);
        assert_true(world_all_answered(w, 3 * S));
        sim_pass(w->loop, S);
        sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_DROP);
        c->upload = 20000;
        client_go(c);
        sim_pass(w->loop, 12 * S);
        sim_rule(WORLD_ENDPOINT_PORT, SIM_PASS, SIM_PASS);
        sim_pass(w->loop, 15 * S);
        assert_false(c->dead);
        assert_int_equal(c->received, 20000);
        good_echo(w, 15 * S);
        world_free(w);
    }
}

static void many_addresses(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){0});
    sim_name("gate.test", NULL);
    world_start(w); /* the name does not resolve at first */
    struct client *c = ask(w);
    sim_pass(w->loop, 3 * S);
    assert_int_equal(c->state, CLIENT_REQUESTED);
    sim_name("gate.test", "10.0.0.1");
    assert_true(world_all_answered(w, 20 * S));
    assert_int_equal(c->rep, 0);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(h3_is_preferred),          cmocka_unit_test(retry_costs_one_round_trip),
        cmocka_unit_test(udp_dropped_at_start),     cmocka_unit_test(udp_refused_at_start),
        cmocka_unit_test(udp_dropped_in_mid_session), cmocka_unit_test(download_over_a_dying_path),
        cmocka_unit_test(h3_is_taken_back),         cmocka_unit_test(http3_never_becomes_http2),
        cmocka_unit_test(http2_sends_no_datagram),  cmocka_unit_test(refused_certificates),
        cmocka_unit_test(skip_verification_is_obeyed), cmocka_unit_test(credentials_rejected),
        cmocka_unit_test(endpoint_down_at_start),   cmocka_unit_test(everything_dropped_then_back),
        cmocka_unit_test(dead_man_never_fires),     cmocka_unit_test(idle_costs_no_wakeups),
        cmocka_unit_test(goaway_in_mid_flow),       cmocka_unit_test(session_lost),
        cmocka_unit_test(a_short_outage_is_survived), cmocka_unit_test(many_addresses),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
