/* test_policy.c - the transport policy: every transition by name, and the invariants under random events. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "upstream/policy.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)
#define NEVER UINT64_MAX
#define H2 TRANSPORT_H2
#define H3 TRANSPORT_H3

static struct policy p;
static uint64_t now;

static void begin(enum transport_choice choice) {
    struct policy_config c;
    policy_config_init(&c);
    c.choice = choice;
    policy_init(&p, &c);
    now = 1000 * S;
}

static struct policy_actions feed(enum policy_event_kind kind, enum transport t, enum err err) {
    struct policy_event e = {kind, t, err, false};
    return policy_event(&p, &e, now);
}

static struct policy_actions tick_at_deadline(void) {
    uint64_t at = policy_deadline(&p);
    assert_true(at != NEVER);
    now = at;
    return feed(POLICY_TICK, H2, ERR_OK);
}

static void assert_started(struct policy_actions a, bool h2, bool h3) {
    assert_int_equal(a.start[H2], h2);
    assert_int_equal(a.start[H3], h3);
}

/* H2 in use after H3 had failed. */
static void on_h2(void) {
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_REFUSED), true, false);
    feed(POLICY_T_UP, H2, ERR_OK);
    assert_int_equal(p.use, H2);
}

static void on_h3(void) {
    begin(TRANSPORT_AUTO);
    assert_started(feed(POLICY_START, H2, ERR_OK), false, true);
    feed(POLICY_T_UP, H3, ERR_OK);
    assert_int_equal(p.use, H3);
}

static void the_race(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    assert_started(feed(POLICY_START, H2, ERR_OK), false, true);
    assert_int_equal(policy_deadline(&p) - now, 1000 * MS);
    now += 999 * MS;
    assert_started(feed(POLICY_TICK, H2, ERR_OK), false, false); /* ticks are harmless */
    assert_started(tick_at_deadline(), true, false);
    struct policy_actions a = feed(POLICY_T_UP, H2, ERR_OK);
    assert_true(a.cancel[H3]); /* the loser */
    assert_int_equal(p.use, H2);
    assert_int_equal(policy_deadline(&p) - now, 30000 * MS); /* and is probed later */
}

static void h3_wins(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    tick_at_deadline();
    assert_true(feed(POLICY_T_UP, H3, ERR_OK).cancel[H2]);
    assert_int_equal(p.use, H3);
    assert_true(policy_deadline(&p) == NEVER);
}

static void a_verdict_starts_nothing(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    struct policy_actions a = feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_CERTIFICATE);
    assert_started(a, false, false);
    assert_true(a.fail_pending);
    assert_int_equal(p.state, POLICY_WAITING);

    on_h3();
    a = feed(POLICY_T_AUTH, H3, ERR_UPSTREAM_AUTH);
    assert_started(a, false, false);
    assert_true(a.fail_pending && a.retire[H3]);
    assert_int_equal(p.state, POLICY_REJECTED);
    assert_int_equal(policy_deadline(&p) - now, 300000 * MS);
    assert_started(feed(POLICY_DEMAND, H2, ERR_OK), false, false);
    tick_at_deadline();
    assert_int_equal(p.state, POLICY_CONNECTING);
}

static void a_verdict_ends_the_race(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    tick_at_deadline();
    struct policy_actions a = feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_CERTIFICATE);
    assert_true(a.cancel[H3] && a.fail_pending);
    assert_int_equal(p.reason, ERR_UPSTREAM_CERTIFICATE);
    assert_int_equal(p.state, POLICY_WAITING);
    for (int i = 0; i < 5; i++) { /* and the next round does not begin with the other one because of it */
        assert_started(tick_at_deadline(), false, true);
        assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_CERTIFICATE), false, false);
    }
    assert_started(tick_at_deadline(), false, true);
    a = feed(POLICY_T_AUTH, H3, ERR_UPSTREAM_AUTH); /* of an attempt: a code that says so */
    assert_true(a.cancel[H3] && a.fail_pending);
    assert_int_equal(p.state, POLICY_REJECTED);
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, false); /* another network changes no credentials */
    assert_int_equal(policy_deadline(&p) - now, 300000 * MS);
}

static void both_fail(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    tick_at_deadline();
    assert_started(feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED), false, false);
    assert_int_equal(p.state, POLICY_CONNECTING); /* HTTP/3 may still come */
    assert_true(policy_deadline(&p) == NEVER);
    assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_TIMEOUT), false, false); /* one each in a round */
    assert_int_equal(p.state, POLICY_WAITING);
    assert_int_equal(p.reason, ERR_UPSTREAM_TIMEOUT);
}

static void held_down_is_not_shut_out(void **state) {
    (void)state;
    on_h3();
    feed(POLICY_T_SILENT, H3, ERR_UPSTREAM_TIMEOUT);
    /* HTTP/2 goes first, but where TCP is what the network drops HTTP/3 must come back */
    assert_started(feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_TIMEOUT), false, true);
    assert_int_equal(p.state, POLICY_CONNECTING);
    assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_TIMEOUT), false, false);
    assert_int_equal(p.state, POLICY_WAITING);
    for (int i = 0; i < 20; i++) { /* a long outage */
        assert_started(tick_at_deadline(), true, false);
        assert_started(feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_TIMEOUT), false, true);
        feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_TIMEOUT);
    }
    assert_in_range(policy_deadline(&p) - now, 48000 * MS, 60000 * MS);
    tick_at_deadline();
    feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_TIMEOUT);
    feed(POLICY_T_UP, H3, ERR_OK);
    assert_int_equal(p.use, H3);
    assert_int_equal(p.held_until, 0);
}

static void the_probe(void **state) {
    (void)state;
    on_h2();
    uint64_t hold = 30000;
    for (int i = 0; i < 10; i++) { /* fails again and again: the time doubles up to half an hour */
        assert_int_equal(policy_deadline(&p) - now, hold * MS);
        assert_started(tick_at_deadline(), false, true);
        assert_true(policy_deadline(&p) == NEVER); /* it runs */
        assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_TIMEOUT), false, false);
        assert_int_equal(p.use, H2);
        hold = hold * 2 > 1800000 ? 1800000 : hold * 2;
    }
    tick_at_deadline();
    struct policy_actions a = feed(POLICY_T_UP, H3, ERR_OK);
    assert_int_equal(p.use, H2); /* up is not enough */
    assert_false(a.retire[H2]);
    a = feed(POLICY_T_CHECKED, H3, ERR_OK);
    assert_int_equal(p.use, H3);
    assert_true(a.retire[H2]);
}

static void probing(void) {
    on_h2();
    tick_at_deadline();
}

static void on_probation(void) {
    probing();
    feed(POLICY_T_UP, H3, ERR_OK);
    assert_int_equal(p.way[H3], WAY_PROBATION);
}

/* However a probe ends, the session in use stays, and the next probe is not due at once. */
static void a_failed_probe_harms_nobody(void **state) {
    static const struct {
        bool up;
        enum policy_event_kind kind;
        enum err err;
        bool cancelled;
    } ends[] = {
        {false, POLICY_T_FAILED, ERR_UPSTREAM_TIMEOUT, false},
        {false, POLICY_T_FAILED, ERR_UPSTREAM_CERTIFICATE, false},
        {false, POLICY_T_AUTH, ERR_UPSTREAM_AUTH, true},
        {true, POLICY_T_DOWN, ERR_UPSTREAM_CLOSED, false},
        {true, POLICY_T_SILENT, ERR_UPSTREAM_TIMEOUT, true},
        {true, POLICY_T_DRAIN, ERR_UPSTREAM_CLOSED, true},
        {true, POLICY_T_AUTH, ERR_UPSTREAM_AUTH, true}, /* one session too many for this user */
    };
    (void)state;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i].up) on_probation();
        else probing();
        struct policy_actions a = feed(ends[i].kind, H3, ends[i].err);
        assert_started(a, false, false);
        assert_false(a.retire[H2] || a.cancel[H2] || a.fail_pending);
        assert_int_equal(a.cancel[H3], ends[i].cancelled);
        assert_int_equal(p.state, POLICY_UP);
        assert_int_equal(p.use, H2);
        assert_int_equal(p.reason, ends[i].err);
        assert_int_equal(policy_deadline(&p) - now, 60000 * MS);
    }
}

static void the_session_is_lost_beside_a_probe(void **state) {
    (void)state;
    probing();
    struct policy_actions a = feed(POLICY_T_DOWN, H2, ERR_UPSTREAM_CLOSED);
    assert_started(a, false, false); /* the probe is an attempt like others now, with the fallback behind it */
    assert_int_equal(p.state, POLICY_CONNECTING);
    assert_int_equal(policy_deadline(&p) - now, 1000 * MS);
    assert_started(tick_at_deadline(), true, false);
    assert_true(feed(POLICY_T_UP, H3, ERR_OK).cancel[H2]);
    assert_int_equal(p.use, H3);

    static const enum policy_event_kind losses[] = {POLICY_T_DOWN, POLICY_T_SILENT, POLICY_T_DRAIN};
    for (int i = 0; i < 3; i++) {
        on_probation(); /* better than none */
        a = feed(losses[i], H2, ERR_UPSTREAM_CLOSED);
        assert_started(a, false, false);
        assert_int_equal(a.retire[H2], losses[i] != POLICY_T_DOWN);
        assert_int_equal(p.use, H3);
        assert_int_equal(p.state, POLICY_UP);
        assert_true(policy_deadline(&p) == NEVER);
    }
}

static void silence(void **state) {
    (void)state;
    on_h3();
    struct policy_actions a = feed(POLICY_T_SILENT, H3, ERR_UPSTREAM_TIMEOUT);
    assert_true(a.retire[H3]);
    assert_started(a, true, false); /* at once, and only the other one */
    assert_int_equal(p.use, -1);

    begin(TRANSPORT_ONLY_H3);
    feed(POLICY_START, H2, ERR_OK);
    feed(POLICY_T_UP, H3, ERR_OK);
    assert_started(feed(POLICY_T_SILENT, H3, ERR_UPSTREAM_TIMEOUT), false, true);
}

static void one_transport_stays_one(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        enum transport t = i ? H3 : H2;
        begin(i ? TRANSPORT_ONLY_H3 : TRANSPORT_ONLY_H2);
        assert_started(feed(POLICY_START, H2, ERR_OK), t == H2, t == H3);
        for (int k = 0; k < 50; k++) {
            assert_started(feed(POLICY_T_FAILED, t, ERR_UPSTREAM_UNREACHABLE), false, false);
            assert_int_equal(p.state, POLICY_WAITING);
            assert_started(tick_at_deadline(), t == H2, t == H3);
        }
    }
}

static void back_off(void **state) {
    (void)state;
    begin(TRANSPORT_ONLY_H2);
    feed(POLICY_START, H2, ERR_OK);
    double want = 1000;
    for (int i = 0; i < 30; i++) {
        feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
        double ms = (double)(policy_deadline(&p) - now) / 1e6;
        assert_true(ms <= want + 1 && ms >= want * 0.79);
        want = want * 1.3 > 60000 ? 60000 : want * 1.3;
        tick_at_deadline();
    }
    feed(POLICY_T_UP, H2, ERR_OK);
    now += 61 * S; /* stable: the next loss costs nothing, and the steps begin anew */
    assert_started(feed(POLICY_T_DOWN, H2, ERR_UPSTREAM_CLOSED), true, false);
    feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
    assert_in_range(policy_deadline(&p) - now, 790 * MS, 1000 * MS);
}

static void an_unstable_session_waits(void **state) {
    (void)state;
    begin(TRANSPORT_ONLY_H2);
    feed(POLICY_START, H2, ERR_OK);
    feed(POLICY_T_UP, H2, ERR_OK);
    now += S;
    assert_started(feed(POLICY_T_DOWN, H2, ERR_UPSTREAM_PROTOCOL), true, false); /* the first loss costs nothing */
    double want = 1300;
    for (int i = 0; i < 30; i++) {
        feed(POLICY_T_UP, H2, ERR_OK);
        now += 59 * S;
        assert_started(feed(i % 2 ? POLICY_T_DOWN : POLICY_T_DRAIN, H2, ERR_UPSTREAM_PROTOCOL), false, false);
        assert_int_equal(p.state, POLICY_WAITING);
        double ms = (double)(policy_deadline(&p) - now) / 1e6;
        assert_true(ms <= want + 1 && ms >= want * 0.79);
        want = want * 1.3 > 60000 ? 60000 : want * 1.3;
        tick_at_deadline();
    }
}

static void growth_stops_at_the_ceiling(void **state) {
    (void)state;
    struct policy_config c;
    policy_config_init(&c);
    c.backoff_first = c.backoff_max = 500;
    c.hold_down_first = c.hold_down_max = UINT32_MAX;
    policy_init(&p, &c);
    now = 1000 * S;
    feed(POLICY_START, H2, ERR_OK);
    for (int i = 0; i < 5; i++) {
        feed(POLICY_T_UP, H3, ERR_OK);
        feed(POLICY_T_DOWN, H3, ERR_UPSTREAM_CLOSED);
        if (p.state == POLICY_WAITING) tick_at_deadline();
        assert_int_equal(p.backoff, 500);
        assert_int_equal(p.hold_down, UINT32_MAX);
    }
}

static void jitter_spreads(void **state) {
    (void)state;
    uint64_t least = NEVER, most = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        struct policy_config c;
        policy_config_init(&c);
        c.seed = seed * 2654435769u;
        c.choice = TRANSPORT_ONLY_H2;
        policy_init(&p, &c);
        feed(POLICY_START, H2, ERR_OK);
        feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
        uint64_t wait = policy_deadline(&p) - now;
        if (wait < least) least = wait;
        if (wait > most) most = wait;
    }
    assert_in_range(least, 800 * MS, 830 * MS);
    assert_in_range(most, 970 * MS, 1000 * MS);
}

static void the_network_changed(void **state) {
    (void)state;
    on_h2(); /* up, but the other way is tried at once */
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, false);
    assert_true(policy_deadline(&p) <= now);
    assert_started(feed(POLICY_TICK, H2, ERR_OK), false, true);
    begin(TRANSPORT_AUTO); /* nothing begins before the start */
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, false);
    assert_int_equal(p.state, POLICY_STOPPED);
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_UNREACHABLE);
    feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_UNREACHABLE);
    assert_int_equal(p.state, POLICY_WAITING);
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, true); /* HTTP/3 is not held down any more */
}

static void attempts_begin_anew_on_another_network(void **state) {
    (void)state;
    begin(TRANSPORT_AUTO);
    feed(POLICY_START, H2, ERR_OK);
    tick_at_deadline(); /* both run */
    now += S;
    struct policy_actions a = feed(POLICY_KICK, H2, ERR_OK);
    assert_true(a.cancel[H2] && a.cancel[H3]);
    assert_started(a, false, true);
    assert_true(policy_deadline(&p) == now + S); /* the race as at first */
    now += S;
    a = feed(POLICY_KICK, H2, ERR_OK); /* changes without end do not keep them from ending */
    assert_false(a.cancel[H2] || a.cancel[H3]);
    assert_started(a, false, false);
    now += S;
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, true);
}

static void stale(void **state) {
    (void)state;
    on_h3(); /* replaced at once, by the same transport: it is not to blame */
    struct policy_actions a = feed(POLICY_T_STALE, H3, ERR_UPSTREAM_TIMEOUT);
    assert_true(a.retire[H3]);
    assert_started(a, false, true);
    assert_int_equal(p.held_until, 0);
    assert_true(policy_deadline(&p) == now + S);
    feed(POLICY_T_UP, H3, ERR_OK);
    a = feed(POLICY_T_STALE, H3, ERR_UPSTREAM_TIMEOUT); /* also again and again */
    assert_started(a, false, true);
    begin(TRANSPORT_ONLY_H2);
    feed(POLICY_START, H2, ERR_OK);
    feed(POLICY_T_UP, H2, ERR_OK);
    a = feed(POLICY_T_STALE, H2, ERR_UPSTREAM_TIMEOUT);
    assert_true(a.retire[H2]);
    assert_started(a, true, false);
    on_h3(); /* not one that is not in use */
    assert_started(feed(POLICY_T_STALE, H2, ERR_UPSTREAM_TIMEOUT), false, false);
    assert_int_equal(p.use, H3);
}

static void goaway(void **state) {
    (void)state;
    on_h3();
    struct policy_actions a = feed(POLICY_T_DRAIN, H3, ERR_UPSTREAM_CLOSED);
    assert_true(a.retire[H3]);
    assert_started(a, false, true);
}

static void parked(void **state) {
    (void)state;
    on_h3();
    struct policy_event e = {POLICY_T_DOWN, H3, ERR_UPSTREAM_CLOSED, true};
    assert_started(policy_event(&p, &e, now), false, false);
    assert_int_equal(p.state, POLICY_PARKED);
    assert_true(policy_deadline(&p) == NEVER);
    assert_started(feed(POLICY_KICK, H2, ERR_OK), false, false);
    assert_started(feed(POLICY_TICK, H2, ERR_OK), false, false);
    assert_started(feed(POLICY_DEMAND, H2, ERR_OK), false, true);

    on_h3(); /* an error is no orderly end, used or not */
    e.err = ERR_UPSTREAM_PROTOCOL;
    assert_started(policy_event(&p, &e, now), false, true);

    probing(); /* and what runs is not thrown away */
    e = (struct policy_event){POLICY_T_DOWN, H2, ERR_UPSTREAM_CLOSED, true};
    policy_event(&p, &e, now);
    assert_int_equal(p.state, POLICY_CONNECTING);

    begin(TRANSPORT_ONLY_H2); /* a session that was stable before it was parked forgives what was before it */
    feed(POLICY_START, H2, ERR_OK);
    for (int i = 0; i < 10; i++) {
        feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
        tick_at_deadline();
    }
    feed(POLICY_T_UP, H2, ERR_OK);
    now += 61 * S;
    policy_event(&p, &e, now);
    assert_int_equal(p.state, POLICY_PARKED);
    feed(POLICY_DEMAND, H2, ERR_OK);
    feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
    assert_in_range(policy_deadline(&p) - now, 790 * MS, 1000 * MS);
}

static void demand_and_start_hurry_nothing(void **state) {
    (void)state;
    static const enum policy_event_kind kinds[] = {POLICY_DEMAND, POLICY_START};
    for (int i = 0; i < 2; i++) {
        begin(TRANSPORT_AUTO);
        if (kinds[i] == POLICY_DEMAND) assert_started(feed(kinds[i], H2, ERR_OK), false, false);
        feed(POLICY_START, H2, ERR_OK);
        assert_started(feed(kinds[i], H2, ERR_OK), false, false); /* connecting */
        feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_REFUSED);
        feed(POLICY_T_FAILED, H2, ERR_UPSTREAM_REFUSED);
        uint64_t at = policy_deadline(&p);
        assert_started(feed(kinds[i], H2, ERR_OK), false, false); /* waiting */
        assert_true(policy_deadline(&p) == at);
        on_h3();
        assert_started(feed(kinds[i], H2, ERR_OK), false, false); /* up */
    }
}

/* Events of a way that is gone, or that contradict what runs. */
static void late_events_change_nothing(void **state) {
    (void)state;
    for (int kind = POLICY_T_UP; kind <= POLICY_T_AUTH; kind++) {
        on_h3();
        struct policy before = p;
        struct policy_actions a = feed((enum policy_event_kind)kind, H2, ERR_UPSTREAM_CERTIFICATE);
        assert_started(a, false, false);
        assert_false(a.cancel[H2] || a.cancel[H3] || a.retire[H2] || a.retire[H3] || a.fail_pending);
        assert_memory_equal(&before, &p, sizeof p);
    }
    begin(TRANSPORT_AUTO); /* an attempt that is "down" has failed */
    feed(POLICY_START, H2, ERR_OK);
    assert_started(feed(POLICY_T_DOWN, H3, ERR_UPSTREAM_CLOSED), true, false);
    on_h3(); /* a session that "failed" is down */
    assert_started(feed(POLICY_T_FAILED, H3, ERR_UPSTREAM_CLOSED), false, true);
}

static void words(void **state) {
    (void)state;
    assert_string_equal(transport_word(H2), "h2");
    assert_string_equal(transport_word(H3), "h3");
    assert_string_equal(policy_state_word(POLICY_STOPPED), "stopped");
    assert_string_equal(policy_state_word(POLICY_PARKED), "parked");
    assert_string_equal(policy_state_word((enum policy_state)99), "?");
}

static void stop(void **state) {
    (void)state;
    on_h3();
    struct policy_actions a = feed(POLICY_STOP, H2, ERR_OK);
    assert_true(a.retire[H3] && a.fail_pending);
    assert_int_equal(p.state, POLICY_STOPPED);
    assert_started(feed(POLICY_TICK, H2, ERR_OK), false, false);
    assert_started(feed(POLICY_T_UP, H2, ERR_OK), false, false);
    assert_started(feed(POLICY_DEMAND, H2, ERR_OK), false, false);
    assert_true(policy_deadline(&p) == NEVER);
    assert_started(feed(POLICY_START, H2, ERR_OK), false, true);

    begin(TRANSPORT_AUTO); /* both attempts of a race */
    feed(POLICY_START, H2, ERR_OK);
    tick_at_deadline();
    a = feed(POLICY_STOP, H2, ERR_OK);
    assert_true(a.cancel[H2] && a.cancel[H3]);

    on_probation();
    a = feed(POLICY_STOP, H2, ERR_OK);
    assert_true(a.retire[H2] && a.cancel[H3]);
}

/* What the pool believes; any contradiction is a fault of the policy. */
static void random_events(void **state) {
    static const enum err errs[] = {ERR_UPSTREAM_TIMEOUT, ERR_UPSTREAM_CERTIFICATE, ERR_UPSTREAM_REFUSED,
                                    ERR_UPSTREAM_CLOSED};
    (void)state;
    for (unsigned seed = 1; seed <= 300; seed++) {
        unsigned r = seed * 2654435769u;
        int slot[2] = {0, 0}; /* 0 none, 1 attempt, 2 up */
        begin((enum transport_choice)(seed % 3));
        feed(POLICY_START, H2, ERR_OK);
        for (int t = 0; t < 2; t++) slot[t] = p.way[t] == WAY_STARTING;
        for (int i = 0; i < 2000; i++) {
            r = r * 1664525u + 1013904223u;
            enum policy_event_kind kind = (enum policy_event_kind)((r >> 16) % (POLICY_T_AUTH + 1));
            enum transport t = r >> 8 & 1;
            if (kind == POLICY_START || (kind == POLICY_STOP && r % 50)) continue;
            if (kind == POLICY_T_UP ? slot[t] != 1 : kind == POLICY_T_FAILED ? slot[t] != 1 : 0) continue;
            if (kind >= POLICY_T_CHECKED && kind != POLICY_T_FAILED && slot[t] != 2) continue;
            if (kind == POLICY_T_AUTH && r % 10) continue;
            if (kind == POLICY_TICK && policy_deadline(&p) != NEVER) now = policy_deadline(&p);
            else now += (r >> 20) % 5000 * MS;
            struct policy_event e = {kind, t, errs[r % 4], (r >> 5 & 7) == 0};
            struct policy_actions a = policy_event(&p, &e, now);
            if (kind == POLICY_T_UP) slot[t] = 2;
            if (kind == POLICY_T_FAILED || kind == POLICY_T_DOWN) slot[t] = 0;
            for (int k = 0; k < 2; k++) {
                if (a.cancel[k] || a.retire[k]) slot[k] = 0;
                if (a.start[k]) {
                    assert_int_equal(slot[k], 0); /* never two of one kind */
                    slot[k] = 1;
                }
                assert_int_equal(slot[k], p.way[k] == WAY_IDLE ? 0 : p.way[k] == WAY_STARTING ? 1 : 2);
                bool mine = p.cfg.choice == TRANSPORT_AUTO || (k == H3) == (p.cfg.choice == TRANSPORT_ONLY_H3);
                assert_true(mine || slot[k] == 0);
            }
            assert_int_equal(p.state == POLICY_UP, p.use >= 0);
            if (p.use >= 0) assert_int_equal(p.way[p.use], WAY_UP);
            if (p.state == POLICY_CONNECTING) assert_true(slot[0] == 1 || slot[1] == 1);
            if (p.state == POLICY_WAITING || p.state == POLICY_REJECTED) assert_true(policy_deadline(&p) != NEVER);
            if (p.state == POLICY_UP && p.use == H2 && p.cfg.choice == TRANSPORT_AUTO)
                assert_true(policy_deadline(&p) != NEVER || slot[H3]);
            assert_in_range(p.backoff, 1000, 60000);
            assert_in_range(p.hold_down, 30000, 1800000);
            if (p.state == POLICY_STOPPED) break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_race),
        cmocka_unit_test(h3_wins),
        cmocka_unit_test(a_verdict_starts_nothing),
        cmocka_unit_test(a_verdict_ends_the_race),
        cmocka_unit_test(both_fail),
        cmocka_unit_test(held_down_is_not_shut_out),
        cmocka_unit_test(the_probe),
        cmocka_unit_test(a_failed_probe_harms_nobody),
        cmocka_unit_test(the_session_is_lost_beside_a_probe),
        cmocka_unit_test(silence),
        cmocka_unit_test(one_transport_stays_one),
        cmocka_unit_test(back_off),
        cmocka_unit_test(an_unstable_session_waits),
        cmocka_unit_test(growth_stops_at_the_ceiling),
        cmocka_unit_test(jitter_spreads),
        cmocka_unit_test(the_network_changed),
        cmocka_unit_test(attempts_begin_anew_on_another_network), cmocka_unit_test(stale), cmocka_unit_test(goaway),
        cmocka_unit_test(parked),
        cmocka_unit_test(demand_and_start_hurry_nothing),
        cmocka_unit_test(late_events_change_nothing),
        cmocka_unit_test(stop),
        cmocka_unit_test(words),
        cmocka_unit_test(random_events),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
