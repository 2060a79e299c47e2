/* test_link.c - one link against the test endpoint, over both transports, under the virtual clock: what it says of its
 * session, and when. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/secret.h"
#include "endpoint/endpoint.h"
#include "lib/session_pair.h"
#include "net/sock.h"
#include "sim/sim.h"
#include "upstream/link.h"

#define MS LOOP_MS
#define S LOOP_S
#define HEALTH 7000
#define GOOD "10.0.0.1:443"
#define PORT 443
#define STREAMS 3 /* that the endpoint allows */
#define TARGETS 8
#define EVENTS (LINK_ENDED + 1)

static struct loop *loop;
static struct endpoint *endpoint;
static struct listener_sock *target;
static struct stream *targets[TARGETS];
static unsigned n_targets;
static enum transport transport; /* of the case that runs */

/* ---- the link, and what it says ---- */

static struct link *the_link;
static struct dialect_context context;
static unsigned said[EVENTS];
static uint64_t said_at[EVENTS]; /* when last */
static bool inside;              /* link_new() has not returned */
static int free_at;              /* the event in which it is freed; -1: never */

static void on_link(struct link *l, enum link_event ev, void *arg) {
    assert_ptr_equal(arg, &said);
    assert_ptr_equal(l, the_link);
    assert_false(inside);
    assert_int_equal(said[LINK_ENDED], 0); /* the last one */
    assert_true(ev == LINK_UP || ev == LINK_ENDED || said[LINK_UP] == 1);
    said[ev]++;
    said_at[ev] = loop_now(loop);
    if ((int)ev != free_at) return;
    link_free(l);
    the_link = NULL;
}

static void start(const char *const *addresses, size_t n, const char *password) {
    struct addr addrs[LINK_ADDRESSES];
    struct link_config c = {.loop = loop, .transport = transport, .addrs = addrs, .n_addrs = n,
                            .dialect = &dialect_trusttunnel, .context = &context, .health_timeout = HEALTH,
                            .cb = on_link, .arg = &said};
    for (size_t i = 0; i < n; i++) assert_int_equal(addr_parse(&addrs[i], addresses[i]), 0);
    session_config_init(&c.session);
    c.session.creds = session_pair_client_creds();
    context.authorization = dialect_basic("u", password);
    inside = true;
    the_link = link_new(&c);
    inside = false;
    assert_non_null(the_link);
    assert_int_equal(link_transport(the_link), transport);
    assert_false(link_is_up(the_link));
    assert_int_equal(link_capacity(the_link), 0);
}

static void start_good(void) {
    const char *address = GOOD;
    start(&address, 1, "p");
}

static bool was_said(void *arg) { return said[*(enum link_event *)arg] > 0; }

/* The event, within the limit. */
static void await(enum link_event ev, uint64_t limit) {
    if (!sim_until(loop, was_said, &ev, limit))
        fail_msg("%s: event %d did not come", transport_word(transport), (int)ev);
}

static void up(void) {
    start_good();
    await(LINK_CHECKED, S);
    assert_true(link_is_up(the_link));
}

static struct stream *open_to(const char *host, int *err) {
    struct dest d;
    assert_int_equal(dest_set_name(&d, DEST_TCP, host, strlen(host), 7), 0);
    return link_open(the_link, &d, err);
}

static bool answered(void *arg) { return ((struct stream *)arg)->status != 0; }

static struct stream *tunnel(void) {
    int err;
    struct stream *st = open_to("10.0.0.5", &err);
    assert_non_null(st);
    assert_true(sim_until(loop, answered, st, S));
    assert_int_equal(st->status, 200);
    return st;
}

/* ---- the world ---- */

static void on_target(struct stream *s, const struct addr *remote, void *arg) {
    (void)remote;
    (void)arg;
    assert_true(n_targets < TARGETS);
    targets[n_targets++] = s;
}

static int begin(enum transport t) {
    struct addr at, bound;
    int errnum;
    transport = t;
    loop = loop_new();
    sim_net_init(loop, 1);
    memset(said, 0, sizeof said);
    n_targets = 0;
    free_at = -1;
    context = (struct dialect_context){.user_agent = (char *)"test"};
    struct endpoint_config c = {.loop = loop, .creds = session_pair_server_creds(), .user = "u", .password = "p",
                                .max_streams = STREAMS, .any_target = true};
    endpoint = endpoint_new(&c);
    assert_non_null(endpoint);
    assert_int_equal(addr_parse(&at, GOOD), 0);
    assert_int_equal(endpoint_listen_udp(endpoint, &at, &bound), 0);
    assert_int_equal(endpoint_listen_tcp(endpoint, &at, &bound), 0);
    assert_int_equal(addr_parse(&at, "10.0.0.5:7"), 0);
    target = sock_listen(loop, &at, 16, on_target, NULL, &errnum);
    assert_non_null(target);
    return 0;
}

static int begin_h2(void **state) {
    (void)state;
    return begin(TRANSPORT_H2);
}

static int begin_h3(void **state) {
    (void)state;
    return begin(TRANSPORT_H3);
}

static int finish(void **state) {
    (void)state;
    link_free(the_link);
    the_link = NULL;
    sim_pass(loop, S);
    endpoint_free(endpoint);
    sock_listen_free(target);
    while (n_targets) stream_free(targets[--n_targets]);
    sim_pass(loop, S);
    assert_true(sim_net_done());
    loop_free(loop);
    secret_free(context.authorization);
    assert_int_equal(buf_chunks(), 0);
    return 0;
}

static void network(enum sim_rule rule) { sim_rule(PORT, rule, rule); }

/* ---- up ---- */

static void up_and_checked(void **state) {
    struct session_info i;
    struct addr good;
    (void)state;
    start_good();
    assert_false(link_info(the_link, &i));
    await(LINK_UP, S);
    assert_int_equal(said[LINK_CHECKED], 0);
    assert_true(link_is_up(the_link));
    await(LINK_CHECKED, S);
    assert_int_equal(link_check_status(the_link), 200);
    assert_int_equal(endpoint_counts(endpoint)->checks, 1);
    assert_int_equal(addr_parse(&good, GOOD), 0);
    assert_true(addr_equal(link_address(the_link), &good));
    assert_true(link_info(the_link, &i));
    assert_int_equal(i.kind, transport == TRANSPORT_H2 ? SESSION_H2 : SESSION_H3);
    assert_int_equal(link_error(the_link), ERR_OK);
    sim_pass(loop, S);
    assert_int_equal(link_capacity(the_link), STREAMS);
}

static void refused_credentials(void **state) {
    const char *address = GOOD;
    (void)state;
    start(&address, 1, "wrong");
    await(LINK_AUTH, S);
    assert_int_equal(link_error(the_link), ERR_UPSTREAM_AUTH);
    assert_int_equal(link_check_status(the_link), 407);
    assert_string_equal(link_error_text(the_link), "status 407 to the health check");
    /* The session stays: what becomes of it is the pool's business. */
    sim_pass(loop, 10 * S);
    assert_true(link_is_up(the_link));
    assert_int_equal(said[LINK_CHECKED] + said[LINK_ENDED], 0);
    assert_int_equal(said[LINK_AUTH], 1);
}

/* A server without health checks proves nothing against the credentials. */
static void an_odd_check(void **state) {
    (void)state;
    endpoint_faults(endpoint)->check_status = 404;
    start_good();
    await(LINK_CHECKED, S);
    assert_int_equal(link_check_status(the_link), 404);
    assert_int_equal(said[LINK_AUTH], 0);
    assert_true(link_is_up(the_link));
}

static void streams(void **state) {
    struct link_load load;
    int err;
    (void)state;
    start_good();
    assert_null(open_to("10.0.0.5", &err));
    assert_int_equal(err, ERR_UPSTREAM_CLOSED);
    await(LINK_CHECKED, S);
    sim_pass(loop, S);
    link_load(the_link, &load);
    assert_int_equal(load.streams, 0);
    struct stream *st = tunnel();
    link_load(the_link, &load);
    assert_int_equal(load.streams, 1);
    assert_int_equal(load.room, STREAMS - 1);
    assert_false(load.congested);
    assert_int_equal(endpoint_counts(endpoint)->requests_h2, transport == TRANSPORT_H2);
    assert_int_equal(endpoint_counts(endpoint)->requests_h3, transport == TRANSPORT_H3);
    context.no_ipv6 = true;
    assert_null(open_to("2001:db8::1", &err));
    assert_int_equal(err, ERR_TARGET_NET_UNREACHABLE);
    stream_free(st);
}

static void room_is_told_once(void **state) {
    struct stream *st[STREAMS];
    int err;
    (void)state;
    up();
    sim_pass(loop, S);
    for (unsigned i = 0; i < STREAMS; i++) st[i] = tunnel();
    assert_int_equal(link_capacity(the_link), 0);
    assert_null(open_to("10.0.0.5", &err));
    assert_int_equal(err, ERR_UPSTREAM_BUSY);
    link_want_room(the_link);
    sim_pass(loop, 5 * S);
    assert_int_equal(said[LINK_ROOM], 0);
    /* The targets end, so that the peer says it, too. */
    for (unsigned i = 0; i < STREAMS; i++) {
        stream_finish(targets[i]);
        stream_finish(st[i]);
        sim_pass(loop, S);
        stream_free(st[i]);
    }
    sim_pass(loop, S);
    assert_int_equal(said[LINK_ROOM], 1);
    assert_int_equal(link_capacity(the_link), STREAMS);
}

/* ---- addresses ---- */

static void the_next_address(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", GOOD, "10.0.0.1:446"};
    struct addr good;
    (void)state;
    assert_int_equal(addr_parse(&good, GOOD), 0);
    uint64_t begun = loop_now(loop);
    start(addresses, 3, "p");
    await(LINK_CHECKED, S);
    assert_true(addr_equal(link_address(the_link), &good));
    assert_true(said_at[LINK_UP] - begun < 200 * MS); /* a refusal is not waited for */
    sim_pass(loop, 20 * S);
    assert_int_equal(said[LINK_UP], 1);
    assert_int_equal(said[LINK_ENDED], 0);
}

static void a_silent_address_costs_the_stagger(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", GOOD};
    (void)state;
    sim_rule(444, SIM_DROP, SIM_DROP);
    uint64_t begun = loop_now(loop);
    start(addresses, 2, "p");
    await(LINK_CHECKED, 2 * S);
    assert_in_range(said_at[LINK_UP] - begun, 250 * MS, 450 * MS);
    sim_pass(loop, 20 * S);
    assert_int_equal(said[LINK_ENDED], 0);
}

static void no_address_answers(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", "10.0.0.1:445"};
    (void)state;
    start(addresses, 2, "p");
    await(LINK_ENDED, S);
    assert_int_equal(link_error(the_link), ERR_UPSTREAM_REFUSED);
    assert_true(*link_error_text(the_link));
    assert_int_equal(said[LINK_UP], 0);
    sim_pass(loop, 20 * S);
}

static void all_addresses_are_silent(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", GOOD};
    (void)state;
    sim_rule(444, SIM_DROP, SIM_DROP);
    network(SIM_DROP);
    uint64_t begun = loop_now(loop);
    start(addresses, 2, "p");
    await(LINK_ENDED, 60 * S);
    assert_int_equal(link_error(the_link), ERR_UPSTREAM_TIMEOUT);
    assert_in_range(said_at[LINK_ENDED] - begun, 10 * S, 11 * S);
}

/* ---- health ---- */

static void idleness_is_no_silence(void **state) {
    (void)state;
    up();
    uint64_t turns = sim_turns(loop);
    sim_pass(loop, 200 * S);
    assert_int_equal(said[LINK_SILENT] + said[LINK_STALE] + said[LINK_ENDED], 0);
    assert_int_equal(endpoint_counts(endpoint)->checks, 1);
    assert_true(sim_turns(loop) - turns < 400);
    /* Well inside an endpoint's 600 s one more stream is opened. */
    sim_pass(loop, 100 * S);
    assert_int_equal(endpoint_counts(endpoint)->checks, 2);
    sim_pass(loop, 600 * S);
    assert_in_range(endpoint_counts(endpoint)->checks, 4, 5);
    assert_true(link_is_up(the_link));
}

/* Once per silence, although an answer is due; then the session is given up. */
static void silence(void **state) {
    (void)state;
    up();
    struct stream *st = tunnel();
    sim_pass(loop, S);
    network(SIM_DROP);
    assert_int_equal(stream_write(st, "x", 1), 1);
    link_expect(the_link);
    uint64_t begun = loop_now(loop);
    await(LINK_SILENT, 20 * S);
    assert_in_range(said_at[LINK_SILENT] - begun, HEALTH / 2 * MS, 2 * HEALTH * MS);
    assert_true(link_is_up(the_link));
    await(LINK_ENDED, 60 * S);
    assert_int_equal(said[LINK_SILENT], 1);
    assert_int_equal(link_error(the_link), ERR_UPSTREAM_TIMEOUT);
    assert_in_range(said_at[LINK_ENDED] - said_at[LINK_SILENT], (LINK_DEAD_AFTER - 1) * HEALTH * MS,
                    LINK_DEAD_AFTER * HEALTH * MS);
    assert_int_equal(st->err, ERR_UPSTREAM_TIMEOUT);
    stream_free(st);
}

static void an_outage_is_survived(void **state) {
    (void)state;
    up();
    struct stream *st = tunnel();
    for (unsigned i = 1; i <= 2; i++) {
        sim_pass(loop, S);
        network(SIM_DROP);
        assert_int_equal(stream_write(st, "x", 1), 1);
        link_expect(the_link);
        sim_pass(loop, 12 * S);
        assert_int_equal(said[LINK_SILENT], i);
        network(SIM_PASS);
        sim_pass(loop, 40 * S);
        assert_int_equal(said[LINK_SILENT], i);
    }
    assert_int_equal(said[LINK_ENDED], 0);
    assert_true(link_is_up(the_link));
    stream_free(st);
}

static void a_long_unused_session_is_verified(void **state) {
    int err;
    (void)state;
    up();
    /* With an answer nothing is said. */
    sim_pass(loop, LINK_IDLE * MS + S);
    stream_free(tunnel());
    sim_pass(loop, LINK_IDLE * MS + 2 * S);
    assert_int_equal(said[LINK_STALE], 0);
    network(SIM_DROP);
    uint64_t begun = loop_now(loop);
    struct stream *st = open_to("10.0.0.5", &err);
    assert_non_null(st);
    link_verify(the_link);
    await(LINK_STALE, 5 * S);
    assert_in_range(said_at[LINK_STALE] - begun, LINK_VERIFY * MS, LINK_VERIFY_MAX * MS);
    assert_true(link_is_up(the_link));
    sim_pass(loop, 5 * S);
    assert_int_equal(said[LINK_STALE], 1);
    /* It lives on, if the peer does. */
    network(SIM_PASS);
    sim_pass(loop, 10 * S);
    assert_int_equal(said[LINK_ENDED], 0);
    assert_int_equal(st->status, 200);
    stream_free(st);
}

/* ---- ends ---- */

static void the_peer_goes_away(void **state) {
    int err;
    (void)state;
    up();
    sim_pass(loop, S);
    struct stream *st = tunnel();
    endpoint_goaway(endpoint);
    await(LINK_DRAIN, S);
    assert_false(link_is_up(the_link));
    assert_null(open_to("10.0.0.5", &err));
    assert_int_equal(err, ERR_UPSTREAM_CLOSED);
    sim_pass(loop, 5 * S);
    assert_int_equal(said[LINK_ENDED], 0);
    assert_int_equal(stream_write(st, "x", 1), 1); /* it goes on */
    sim_pass(loop, S);
    stream_free(st);
    await(LINK_ENDED, 30 * S);
    assert_int_equal(link_error(the_link), ERR_UPSTREAM_CLOSED);
    assert_int_equal(said[LINK_DRAIN], 1);
}

static void retired(void **state) {
    int err;
    (void)state;
    up();
    sim_pass(loop, S);
    struct stream *st = tunnel();
    link_retire(the_link);
    assert_null(open_to("10.0.0.5", &err));
    assert_int_equal(link_capacity(the_link), 0);
    sim_pass(loop, 60 * S);
    assert_int_equal(said[LINK_ENDED], 0);
    stream_free(st);
    await(LINK_ENDED, 30 * S);
    sim_pass(loop, S);
    assert_int_equal(endpoint_counts(endpoint)->sessions, 0);
}

static void retired_at_rest(void **state) {
    (void)state;
    up();
    link_retire(the_link);
    await(LINK_ENDED, S);
}

static void the_endpoint_is_gone(void **state) {
    (void)state;
    up();
    struct stream *st = tunnel();
    endpoint_close(endpoint);
    assert_int_equal(stream_write(st, "x", 1), 1);
    link_expect(the_link);
    await(LINK_ENDED, 60 * S);
    assert_int_equal(link_error(the_link), transport == TRANSPORT_H2 ? ERR_UPSTREAM_CLOSED : ERR_UPSTREAM_TIMEOUT);
    assert_int_equal(st->err, link_error(the_link));
    stream_free(st);
}

/* ---- the callback may free the link, whatever it is told ---- */

static void freed_when_up(void **state) {
    (void)state;
    free_at = LINK_UP;
    start_good();
    await(LINK_UP, S);
    assert_null(the_link);
    sim_pass(loop, S);
    assert_int_equal(endpoint_counts(endpoint)->sessions, 0);
}

static void freed_when_checked(void **state) {
    (void)state;
    free_at = LINK_CHECKED;
    start_good();
    await(LINK_CHECKED, S);
    assert_null(the_link);
}

static void freed_when_refused(void **state) {
    const char *address = GOOD;
    (void)state;
    free_at = LINK_AUTH;
    start(&address, 1, "wrong");
    await(LINK_AUTH, S);
    assert_null(the_link);
}

static void freed_when_silent(void **state) {
    (void)state;
    free_at = LINK_SILENT;
    up();
    network(SIM_DROP);
    link_expect(the_link);
    await(LINK_SILENT, 60 * S);
    assert_null(the_link);
}

static void freed_when_stale(void **state) {
    (void)state;
    free_at = LINK_STALE;
    up();
    sim_pass(loop, 20 * S);
    network(SIM_DROP);
    link_verify(the_link);
    await(LINK_STALE, 5 * S);
    assert_null(the_link);
}

static void freed_when_draining(void **state) {
    (void)state;
    free_at = LINK_DRAIN;
    up();
    struct stream *st = tunnel();
    endpoint_goaway(endpoint);
    await(LINK_DRAIN, S);
    assert_null(the_link);
    assert_true((int)st->err < 0); /* it has died with the link */
    stream_free(st);
}

static void freed_when_there_is_room(void **state) {
    (void)state;
    free_at = LINK_ROOM;
    up();
    struct stream *st = tunnel();
    link_want_room(the_link);
    stream_finish(targets[0]);
    await(LINK_ROOM, S);
    stream_free(st);
    assert_null(the_link);
}

static void freed_when_ended(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", "10.0.0.1:445"};
    (void)state;
    free_at = LINK_ENDED;
    start(addresses, 2, "p");
    await(LINK_ENDED, S);
    assert_null(the_link);
}

/* At every moment of the beginning. */
static void freed_at_any_time(void **state) {
    const char *const addresses[] = {"10.0.0.1:444", GOOD, "10.0.0.1:446"};
    (void)state;
    for (unsigned ms = 0; ms < 100; ms += 5) {
        memset(said, 0, sizeof said);
        secret_free(context.authorization);
        start(addresses, 3, "p");
        sim_pass(loop, ms * MS);
        link_free(the_link);
        the_link = NULL;
        memset(said, 0, sizeof said);
        sim_pass(loop, S);
        for (unsigned i = 0; i < EVENTS; i++) assert_int_equal(said[i], 0);
        assert_int_equal(endpoint_counts(endpoint)->sessions, 0);
    }
    link_free(NULL);
}

static int cleanup(void **state) {
    (void)state;
    session_pair_cleanup();
    buf_trim();
    return 0;
}

#define H2(f) {"h2_" #f, f, begin_h2, finish, NULL}
#define H3(f) {"h3_" #f, f, begin_h3, finish, NULL}
#define BOTH(f) H2(f), H3(f)

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(up_and_checked),
        BOTH(refused_credentials),
        BOTH(an_odd_check),
        BOTH(streams),
        BOTH(room_is_told_once),
        BOTH(the_next_address),
        BOTH(a_silent_address_costs_the_stagger),
        BOTH(no_address_answers),
        BOTH(all_addresses_are_silent),
        BOTH(idleness_is_no_silence),
        BOTH(silence),
        BOTH(an_outage_is_survived),
        BOTH(a_long_unused_session_is_verified),
        BOTH(the_peer_goes_away),
        BOTH(retired),
        BOTH(retired_at_rest),
        BOTH(the_endpoint_is_gone),
        BOTH(freed_when_up),
        BOTH(freed_when_checked),
        BOTH(freed_when_refused),
        BOTH(freed_when_silent),
        BOTH(freed_when_stale),
        BOTH(freed_when_draining),
        BOTH(freed_when_there_is_room),
        BOTH(freed_when_ended),
        BOTH(freed_at_any_time),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, cleanup);
}
