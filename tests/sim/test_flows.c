/* test_flows.c - scenarios: what single flows see, on either transport. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "net/sock.h"
#include "sim/world.h"

#define S LOOP_S

static struct world *up(const char *transport, const struct world_config *more) {
    struct world_config c = more ? *more : (struct world_config){0};
    c.transport = transport;
    struct world *w = world_new(&c);
    world_start(w);
    assert_true(world_until_up(w, 5 * S));
    return w;
}

#define EACH_TRANSPORT(t) for (const char *t = "http2"; t; t = strcmp(t, "http2") == 0 ? "http3" : NULL)

static uint8_t rep_of(struct world *w, const char *host, uint16_t port) {
    struct client *c = client_open(w, host, port, 0, false);
    assert_true(world_all_answered(w, 40 * S));
    uint8_t rep = c->rep;
    client_close(c, true);
    return rep;
}

static void reasons_reach_the_client(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        struct endpoint_faults *f = endpoint_faults(w->ep);
        assert_int_equal(rep_of(w, "target.test", 7), 0);
        assert_int_equal(rep_of(w, "10.0.0.5", 99), 5);
        assert_int_equal(rep_of(w, "nowhere.test", 7), 4);
        static const int codes[][2] = {{300, 5}, {301, 4}, {302, 6}, {310, 2}, {311, 2}, {399, 1}};
        for (size_t i = 0; i < 6; i++) {
            f->x_warning = codes[i][0];
            assert_int_equal(rep_of(w, "target.test", 7), codes[i][1]);
        }
        f->x_warning = 0;
        static const int statuses[] = {302, 403, 404, 429, 500, 503};
        for (size_t i = 0; i < 6; i++) {
            f->status = statuses[i];
            assert_int_equal(rep_of(w, "target.test", 7), 1);
        }
        f->status = 0;
        assert_int_equal(rep_of(w, "target.test", 7), 0); /* the session was not harmed */
        assert_int_equal(endpoint_counts(w->ep)->sessions_h2 + endpoint_counts(w->ep)->sessions_h3, 1);
        world_free(w);
    }
}

static void refused_destinations(void **state) {
    (void)state;
    struct world *w = up("http2", NULL);
    unsigned before = endpoint_counts(w->ep)->requests_h2;
    static const char *const names[] = {"_udp2", "_icmp", "_check", "_CHECK.", "a b", "a/b", "a@b", "..", "x..y", ".x"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_int_equal(rep_of(w, names[i], 443), 2);
    static const char *const self[] = {"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "LOCALHOST.",
                                       "::ffff:127.0.0.1", "127.3.2.1", "0.0.0.0", "a.localhost"};
    for (size_t i = 0; i < sizeof self / sizeof *self; i++) assert_int_equal(rep_of(w, self[i], 1080), 2);
    assert_int_equal(rep_of(w, "target.test", 0), 2);
    assert_int_equal(endpoint_counts(w->ep)->requests_h2, before); /* none of them left */
    world_free(w);
}

static void client_half_closes_first(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        struct client *c = client_open(w, "target.test", 9, 3000000, true);
        assert_true(world_all_answered(w, 5 * S));
        assert_true(world_all_ended(w, 60 * S));
        assert_true(c->eof);
        assert_false(c->dead);
        assert_int_equal(c->received, 8);
        uint64_t count = 0;
        for (int i = 0; i < 8; i++) count = count << 8 | c->tail[i];
        assert_int_equal(count, 3000000);
        assert_int_equal(w->swallowed_eofs, 1);
        client_close(c, false);
        sim_pass(w->loop, 5 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        world_free(w);
    }
}

static void half_close_in_one_segment_with_the_request(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        /* the client's EOF is there long before the endpoint's answer */
        struct world *w = up(t, NULL);
        endpoint_faults(w->ep)->slow_accept = 500;
        struct client *c = client_open(w, "target.test", 9, 0, true);
        stream_finish(c->stream);
        c->finished = true;
        assert_true(world_all_ended(w, 10 * S));
        assert_int_equal(c->received, 8);
        assert_true(c->eof);
        world_free(w);
    }
}

static void target_half_closes_first(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        struct client *c = client_open(w, "target.test", 20, 0, false);
        assert_true(world_all_answered(w, 5 * S));
        assert_true(world_all_ended(w, 5 * S));
        assert_true(c->eof);
        c->upload = 2000000;
        c->half_close = true;
        client_go(c);
        sim_pass(w->loop, 60 * S);
        assert_false(c->dead);
        assert_int_equal(w->swallowed, 2000000);
        assert_int_equal(w->swallowed_eofs, 1);
        assert_int_equal(gateway_flows(w->gw), 0);
        world_free(w);
    }
}

static void stuck_reader_beside_a_healthy_one(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, &(struct world_config){.endpoint = "stream_window = \"1MiB\""});
        w->source_bytes = 24 << 20;
        struct client *stuck = client_open(w, "target.test", 19, 0, false);
        assert_true(world_all_answered(w, 5 * S));
        stuck->stuck = true;
        struct client *healthy = client_open(w, "target.test", 19, 0, false);
        assert_true(world_all_answered(w, 5 * S));
        sim_pass(w->loop, 120 * S);
        assert_true(healthy->eof);
        assert_int_equal(healthy->received, w->source_bytes);
        assert_false(healthy->corrupt);
        /* what the stuck one holds is its window, and what the virtual sockets take */
        assert_in_range(world_pool(w).session.unread, 0, (1 << 20) + 65536);
        stuck->stuck = false;
        client_go(stuck);
        assert_true(world_all_ended(w, 120 * S));
        assert_int_equal(stuck->received, w->source_bytes);
        assert_false(stuck->corrupt);
        world_free(w);
    }
}

static void note_holders(enum log_level level, const char *line, void *arg) {
    char *held = arg;
    const char *at = strstr(line, "held_by=");
    if (level == LOG_WARN && at && strstr(line, "the buffer budget is used up kind=")) snprintf(held, 200, "%s", at);
}

static void a_hundred_stuck_readers_are_bounded_by_the_budget(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        char held[200] = "";
        log_set_sink(note_holders, held);
        log_set_level(LOG_WARN);
        struct world *w = up(t, &(struct world_config){
                                    .endpoint = "buffer_budget = \"4MiB\"\nstream_window = \"1MiB\""});
        w->source_bytes = 8 << 20;
        struct client *all[40];
        w->net->rate = 2 << 20; /* slow enough that all are open before one of them is through */
        for (int i = 0; i < 40; i++) all[i] = client_open(w, "target.test", 19, 0, false);
        assert_true(world_all_answered(w, 25 * S));
        for (int i = 0; i < 40; i++) all[i]->stuck = true;
        w->net->rate = 0;
        sim_pass(w->loop, 60 * S);
        struct pool_info i = world_pool(w);
        assert_in_range(i.session.unread, 1 << 20, (4 << 20) + (16 << 20)); /* budget and what was on its way */
        assert_int_equal(i.state, POLICY_UP);
        /* who holds the bytes is told by name, the one that holds most first */
        unsigned long most = 0, next = 0;
        assert_int_equal(sscanf(held, "held_by=\"target.test:19 %lu, target.test:19 %lu,", &most, &next), 2);
        assert_in_range(most, next, 1 << 20);
        assert_true(next > 0);
        for (int k = 0; k < 40; k++) {
            all[k]->stuck = false;
            client_go(all[k]);
        }
        assert_true(world_all_ended(w, 600 * S));
        for (int k = 0; k < 40; k++) {
            assert_int_equal(all[k]->received, w->source_bytes);
            assert_false(all[k]->corrupt);
        }
        log_set_level(LOG_ERROR);
        log_set_sink(NULL, NULL);
        world_free(w);
    }
}

static void resets_are_resets(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        struct client *c = client_open(w, "target.test", 21, 1000, false);
        assert_true(world_all_answered(w, 5 * S));
        sim_pass(w->loop, 5 * S);
        assert_true(c->dead); /* not a clean EOF */
        /* and the other way: the client resets, the target hears of it */
        c = client_open(w, "target.test", 7, 1000, false);
        assert_true(world_all_answered(w, 5 * S));
        sim_pass(w->loop, S);
        client_close(c, true);
        sim_pass(w->loop, 5 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        world_free(w);
    }
}

static void refused_streams_are_tried_again(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        assert_int_equal(rep_of(w, "target.test", 7), 0); /* the first health check is over, too */
        endpoint_faults(w->ep)->refuse_streams = 1;
        assert_int_equal(rep_of(w, "target.test", 7), 0);
        assert_int_equal(world_pool(w).retried, 1);
        endpoint_faults(w->ep)->refuse_streams = 100; /* but not for ever */
        assert_int_equal(rep_of(w, "target.test", 7), 1);
        assert_in_range(endpoint_faults(w->ep)->refuse_streams, 90, 99);
        world_free(w);
    }
}

static void a_200_that_ends_at_once(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        endpoint_faults(w->ep)->instant_200 = true;
        struct client *c = client_open(w, "target.test", 99, 0, false);
        assert_true(world_all_answered(w, 5 * S));
        assert_int_equal(c->rep, 0);
        assert_true(world_all_ended(w, 10 * S));
        assert_int_equal(c->received, 0);
        world_free(w);
    }
}

static void hanging_connects_time_out(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, &(struct world_config){.endpoint = "connect_timeout = \"3s\""});
        endpoint_faults(w->ep)->slow_accept = 3600000;
        struct client *c = client_open(w, "target.test", 7, 0, false);
        assert_true(world_all_answered(w, 10 * S));
        assert_int_equal(c->rep, 6);
        assert_in_range((c->opened_at - c->asked_at) / LOOP_MS, 2900, 3300);
        endpoint_faults(w->ep)->slow_accept = 0;
        assert_int_equal(rep_of(w, "target.test", 7), 0);
        assert_int_equal(world_pool(w).state, POLICY_UP); /* a silent target is no silent endpoint */
        world_free(w);
    }
}

static void impatient_clients_do_not_reset_in_bursts(void **state) {
    (void)state;
    /* deployed endpoints end an HTTP/2 session after a burst of cancelled requests */
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        endpoint_faults(w->ep)->slow_accept = 20000;
        struct client *all[50];
        for (int i = 0; i < 50; i++) all[i] = client_open(w, "target.test", 7, 0, false);
        sim_pass(w->loop, S);
        for (int i = 0; i < 50; i++) client_close(all[i], true);
        sim_pass(w->loop, S / 10);
        assert_int_equal(gateway_flows(w->gw), 0); /* the clients are forgotten at once */
        if (strcmp(t, "http2") == 0) assert_in_range(endpoint_counts(w->ep)->tunnels_open, 35, 40);
        sim_pass(w->loop, 3 * S);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        endpoint_faults(w->ep)->slow_accept = 0;
        assert_int_equal(rep_of(w, "target.test", 7), 0);
        world_free(w);
    }
}

static void idle_flows_end(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, &(struct world_config){.listener = "idle_timeout = \"60s\""});
        struct client *idle = client_open(w, "target.test", 7, 10, false);
        struct client *busy = client_open(w, "target.test", 7, 10, false);
        assert_true(world_all_answered(w, 5 * S));
        for (int i = 0; i < 4; i++) {
            sim_pass(w->loop, 25 * S);
            busy->upload += 10;
            client_go(busy);
        }
        assert_true(idle->dead);
        assert_false(busy->dead);
        world_free(w);
    }
}

static void loss_and_reordering_leave_data_intact(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world *w = world_new(&(struct world_config){.transport = "http3", .seed = seed});
        w->net->delay = 50 * LOOP_MS;
        w->net->jitter = 10 * LOOP_MS;
        w->net->loss = 50;
        world_start(w);
        assert_true(world_until_up(w, 60 * S));
        struct client *all[20];
        for (int i = 0; i < 20; i++) all[i] = client_open(w, "target.test", 7, 100000, true);
        assert_true(world_all_ended(w, 600 * S));
        for (int i = 0; i < 20; i++) {
            assert_true(all[i]->eof);
            assert_int_equal(all[i]->received, 100000);
            assert_false(all[i]->corrupt);
        }
        assert_true(w->net->lost > 50);
        world_free(w);
    }
}

static void a_thousand_flows(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        w->source_bytes = 30000;
        for (int i = 0; i < 1000; i++) client_open(w, "target.test", 19, 0, false);
        assert_true(world_all_answered(w, 60 * S));
        assert_true(world_all_ended(w, 300 * S));
        for (struct client *c = w->clients; c; c = c->next) {
            assert_int_equal(c->rep, 0);
            assert_true(c->eof);
            assert_int_equal(c->received, 30000);
            assert_false(c->corrupt);
            client_close(c, false);
        }
        sim_pass(w->loop, 10 * S);
        assert_int_equal(gateway_flows(w->gw), 0);
        assert_int_equal(endpoint_counts(w->ep)->tunnels_open, 0);
        world_free(w);
    }
    buf_trim();
    assert_int_equal(buf_chunks(), 0);
}

static void on_drained(void *arg) { *(bool *)arg = true; }

static void drain_waits_for_flows(void **state) {
    (void)state;
    EACH_TRANSPORT(t) {
        struct world *w = up(t, NULL);
        struct client *c = client_open(w, "target.test", 7, 1000, false);
        bool drained = false;
        assert_true(world_all_answered(w, 5 * S));
        gateway_drain(w->gw, on_drained, &drained);
        sim_pass(w->loop, 20 * S);
        assert_false(drained);
        c->upload = 5000;
        c->half_close = true;
        client_go(c);
        assert_true(world_all_ended(w, 10 * S));
        assert_int_equal(c->received, 5000);
        assert_true(c->eof);
        sim_pass(w->loop, 5 * S);
        assert_true(drained);
        world_free(w);
    }
}

static void handshakes_have_a_deadline(void **state) {
    (void)state;
    struct world *w = up("http2", NULL);
    struct addr at;
    int err;
    addr_parse(&at, "127.0.0.1:1080");
    struct stream *silent = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    sim_pass(w->loop, S);
    struct stream *slow = sock_connect(w->loop, &at, NULL, SOCK_TARGET, &err);
    sim_pass(w->loop, S);
    const uint8_t *p;
    size_t n;
    for (int i = 0; i < 8; i++) { /* one byte a second moves no deadline */
        stream_write(slow, &(uint8_t){i == 0 ? 5 : 200}, 1);
        sim_pass(w->loop, S);
    }
    assert_int_equal(stream_peek(slow, &p, &n), STREAM_NONE);
    sim_pass(w->loop, 3 * S);
    assert_int_not_equal(stream_peek(silent, &p, &n), STREAM_NONE);
    assert_int_not_equal(stream_peek(slow, &p, &n), STREAM_NONE);
    stream_free(silent);
    stream_free(slow);
    world_free(w);
}

static void no_alpn_is_taken_as_h2(void **state) {
    (void)state;
    struct world *w = world_new(&(struct world_config){.transport = "http2"});
    endpoint_faults(w->ep)->no_alpn = true;
    world_start(w);
    assert_int_equal(rep_of(w, "target.test", 7), 0);
    assert_string_equal(world_pool(w).session.alpn, "");
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reasons_reach_the_client),
        cmocka_unit_test(refused_destinations),
        cmocka_unit_test(client_half_closes_first),
        cmocka_unit_test(half_close_in_one_segment_with_the_request),
        cmocka_unit_test(target_half_closes_first),
        cmocka_unit_test(stuck_reader_beside_a_healthy_one),
        cmocka_unit_test(a_hundred_stuck_readers_are_bounded_by_the_budget),
        cmocka_unit_test(resets_are_resets),
        cmocka_unit_test(refused_streams_are_tried_again),
        cmocka_unit_test(a_200_that_ends_at_once),
        cmocka_unit_test(hanging_connects_time_out),
        cmocka_unit_test(impatient_clients_do_not_reset_in_bursts),
        cmocka_unit_test(idle_flows_end),
        cmocka_unit_test(loss_and_reordering_leave_data_intact),
        cmocka_unit_test(a_thousand_flows),
        cmocka_unit_test(drain_waits_for_flows),
        cmocka_unit_test(handshakes_have_a_deadline),
        cmocka_unit_test(no_alpn_is_taken_as_h2),
    };
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("flows", tests, NULL, NULL);
}
