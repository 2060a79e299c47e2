#include "base/buf.h"
#include "lib/session_pair.h"
#include "lib/stream_suite.h"

#define WINDOW (256 << 10)
#define SEND_BUFFER (64 << 10)
#define WAY (256 << 10)

static void *setup(void) {
    struct session_pair_config c;
    session_pair_config_init(&c, SESSION_H2);
    c.client.stream_window = c.server.stream_window = WINDOW;
    c.client.session_window = c.server.session_window = 4 * WINDOW;
    c.client.send_buffer = c.server.send_buffer = SEND_BUFFER;
    c.link[0].queue = c.link[1].queue = WAY;
    struct session_pair *p = session_pair_new(&c);
    assert_non_null(p);
    assert_true(session_pair_up(p));
    return p;
}

static int pair(void *env, struct stream **a, struct stream **b) {
    return session_pair_tunnel(env, 200, a, b) ? 0 : ERR_INTERNAL;
}

static bool io(void *env) { return session_pair_io(env, 100 * PAIR_MS); }

static struct defer_queue *queue(void *env) { return &((struct session_pair *)env)->queue; }

static void teardown(void *env) {
    struct session_pair *p = env;
    struct session_info i;
    for (int k = 0; k < 2; k++) {
        session_get_info(p->side[k].session, &i);
        assert_int_equal(i.state, SESSION_UP);
        assert_int_equal(i.unread, 0);
        assert_int_equal(i.streams, 0);
        assert_false(i.congested);
    }
    session_pair_free(p);
}

int main(void) {
    const struct stream_factory f = {
        .name = "h2",
        .setup = setup,
        .pair = pair,
        .io = io,
        .queue = queue,
        .teardown = teardown,
        .bound = WINDOW + SEND_BUFFER,
        .reset_err = ERR_TARGET_RESET,
    };
    int r = stream_suite_run(&f, NULL, 0);
    session_pair_cleanup();
    buf_trim();
    return r;
}
