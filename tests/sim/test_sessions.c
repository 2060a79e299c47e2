/* test_sessions.c - scenarios: more sessions than one, their limits, and their renewal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "sim/world.h"

#define S LOOP_S
#define FLOWS 40

#define EACH_TRANSPORT(t) for (const char *t = "http2"; t; t = strcmp(t, "http2") ? NULL : "http3")

static struct world *up(const char *transport, const char *options) {
    struct world *w = world_new(&(struct world_config){.transport = transport, .endpoint = options});
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    return w;
}

static unsigned established(const struct world *w) {
    const struct endpoint_counts *n = endpoint_counts(w->ep);
    return n->sessions_h2 + n->sessions_h3;
}

/* Opens flows a tenth of a second apart; all must be served. */
static void open_flows(struct world *w, struct client **c, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        c[i] = client_open(w, "target.test", 7, 500, false);
        sim_pass(w->loop, S / 10);
    }
    assert_true(world_all_answered(w, 10 * S));
    for (unsigned i = 0; i < n; i++) assert_int_equal(c[i]->rep, 0);
}

/* Each flow still echoes what it is given. */
static void all_live(struct world *w, struct client **c, unsigned n, uint64_t upload) {
    for (unsigned i = 0; i < n; i++) {
        c[i]->upload = upload;
        client_go(c[i]);
    }
    sim_pass(w->loop, 5 * S);
    for (unsigned i = 0; i < n; i++) {
        assert_false(c[i]->dead || c[i]->corrupt);
        assert_int_equal(c[i]->received, upload);
    }
}

static void loaded_sessions_get_company(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_streams = 10\nmax_sessions = 3");
        struct client *c[FLOWS];
        open_flows(w, c, FLOWS);
        assert_int_equal(established(w), 3); /* the limit */
        assert_int_equal(world_pool(w).sessions, 3);
        all_live(w, c, FLOWS, 5000);
        for (int i = 0; i < FLOWS; i++) client_close(c[i], false);
        sim_pass(w->loop, 300 * S); /* without streams they are not kept */
        assert_int_equal(endpoint_counts(w->ep)->sessions, 1);
        assert_int_equal(world_pool(w).sessions, 1);
        world_free(w);
    }
}

static void one_session_when_one_is_enough(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_streams = 100");
        struct client *c[FLOWS];
        open_flows(w, c, FLOWS);
        assert_int_equal(established(w), 1);
        world_free(w);
        w = up(t, "session_streams = 10\nmax_sessions = 1");
        open_flows(w, c, FLOWS);
        assert_int_equal(established(w), 1);
        world_free(w);
    }
}

static void a_refused_session_is_done_without(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_streams = 10\nmax_sessions = 4");
        endpoint_faults(w->ep)->max_sessions = 2;
        struct client *c[FLOWS];
        open_flows(w, c, FLOWS);
        assert_int_equal(world_pool(w).state, POLICY_UP); /* the credentials are not to blame */
        assert_int_equal(world_pool(w).sessions, 2);
        assert_int_equal(established(w), 3); /* two, and the one that was refused; no hammering */
        all_live(w, c, FLOWS, 3000);
        sim_pass(w->loop, 61 * S);
        endpoint_faults(w->ep)->max_sessions = 0;
        struct client *more = client_open(w, "target.test", 7, 500, false); /* it asks again, later */
        sim_pass(w->loop, 5 * S);
        assert_int_equal(more->rep, 0);
        assert_int_equal(world_pool(w).sessions, 3);
        all_live(w, c, FLOWS, 6000);
        world_free(w);
    }
}

static void the_session_in_use_is_lost_beside_others(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_streams = 10\nmax_sessions = 2");
        struct client *c[20];
        open_flows(w, c, 20);
        assert_int_equal(world_pool(w).sessions, 2);
        endpoint_goaway(w->ep); /* both */
        sim_pass(w->loop, S);
        struct client *d[5];
        open_flows(w, d, 5);
        all_live(w, c, 20, 4000); /* on sessions that drain */
        all_live(w, d, 5, 4000);
        assert_int_equal(world_pool(w).state, POLICY_UP);
        world_free(w);
    }
}

/* All sessions of HTTP/3 fall silent while requests are on their way on each of them. */
static void requests_on_all_silent_sessions_are_carried_over(void **state) {
    (void)state;
    struct world *w = up("auto", "session_streams = 5\nmax_sessions = 3");
    struct client *c[15], *d[6];
    open_flows(w, c, 15);
    assert_int_equal(world_pool(w).sessions, 3);
    sim_rule(WORLD_ENDPOINT_PORT, SIM_DROP, SIM_PASS);
    for (int i = 0; i < 6; i++) d[i] = client_open(w, "target.test", 7, 500, false);
    uint64_t from = loop_now(w->loop);
    assert_true(world_all_answered(w, 60 * S));
    assert_in_range(loop_now(w->loop) - from, S, 12 * S); /* the health timeout, not the death of the sessions */
    for (int i = 0; i < 6; i++) assert_int_equal(d[i]->rep, 0);
    assert_int_equal(world_pool(w).use, TRANSPORT_H2);
    world_free(w);
}

static void a_session_is_renewed(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_lifetime = \"10m\"");
        struct client *c[5], *d[5];
        open_flows(w, c, 5);
        sim_pass(w->loop, 500 * S);
        assert_int_equal(established(w), 1);
        sim_pass(w->loop, 120 * S);
        assert_int_equal(established(w), 2);
        open_flows(w, d, 5);
        all_live(w, c, 5, 2000); /* on the old one */
        all_live(w, d, 5, 2000);
        assert_int_equal(endpoint_counts(w->ep)->sessions, 2);
        for (int i = 0; i < 5; i++) client_close(c[i], false);
        sim_pass(w->loop, 100 * S);
        assert_int_equal(endpoint_counts(w->ep)->sessions, 1);
        all_live(w, d, 5, 4000);
        world_free(w);
    }
}

static void a_renewal_that_is_refused_changes_nothing(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "session_lifetime = \"10m\"");
        struct client *c[5];
        endpoint_faults(w->ep)->max_sessions = 1;
        open_flows(w, c, 5);
        sim_pass(w->loop, 1800 * S);
        assert_int_equal(world_pool(w).state, POLICY_UP);
        assert_in_range(established(w), 3, 8); /* it tried, ever more seldom */
        all_live(w, c, 5, 2000);
        world_free(w);
    }
}

/* A session over its buffer budget gives no connection credit: new flows need another one. */
static void new_flows_avoid_a_congested_session(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, "buffer_budget = \"1MiB\"\nstream_window = \"1MiB\"\nsession_window = \"1MiB\"");
        struct client *stuck[8];
        w->source_bytes = 4 << 20;
        for (int i = 0; i < 8; i++) {
            stuck[i] = client_open(w, "target.test", 19, 0, false);
            stuck[i]->stuck = true;
        }
        sim_pass(w->loop, 30 * S);
        client_open(w, "target.test", 7, 0, false);
        sim_pass(w->loop, 5 * S);
        struct client *fine = client_open(w, "target.test", 19, 0, false);
        sim_pass(w->loop, 30 * S);
        assert_int_equal(fine->received, w->source_bytes);
        assert_int_equal(established(w), 2);
        world_free(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaded_sessions_get_company),
        cmocka_unit_test(one_session_when_one_is_enough),
        cmocka_unit_test(a_refused_session_is_done_without),
        cmocka_unit_test(the_session_in_use_is_lost_beside_others),
        cmocka_unit_test(requests_on_all_silent_sessions_are_carried_over),
        cmocka_unit_test(a_session_is_renewed),
        cmocka_unit_test(a_renewal_that_is_refused_changes_nothing),
        cmocka_unit_test(new_flows_avoid_a_congested_session),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
