#include "lib/quic_raw.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

struct session_pair_config quicraw_config(bool retry) {
    struct session_pair_config c;
    h3_pair_config_init(&c, retry);
    c.make = qraw_new;
    return c;
}

struct session_pair *quicraw_pair(bool retry) {
    struct session_pair_config c = quicraw_config(retry);
    struct session_pair *p = h3_pair_new(&c);
    assert_non_null(p);
    return p;
}

bool quicraw_client_down(void *arg) {
    return ((struct session_pair *)arg)->side[PAIR_CLIENT].states[SESSION_DOWN] > 0;
}

void quicraw_assert_down(struct session_pair *p, enum err err, const char *part) {
    assert_int_equal(session_get_state(client(p)), SESSION_DOWN);
    if (session_error(client(p)) != err) {
        fail_msg("error is %s (%s), not %s", err_word(session_error(client(p))), session_error_text(client(p)),
                 err_word(err));
    }
    if (!strstr(session_error_text(client(p)), part))
        fail_msg("text is %s, without %s", session_error_text(client(p)), part);
}

uint8_t *quicraw_pattern(size_t n, unsigned key) {
    uint8_t *p = malloc(n);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)((i * 2654435761u >> 7) + key);
    return p;
}

bool quicraw_has_all(void *arg) {
    struct quicraw_wait *w = arg;
    struct qraw_stream *t = qraw_stream(w->s, w->id);
    return t && t->in_len == w->n && t->fin;
}

uint64_t quicraw_exchange(struct session_pair *p, size_t n, uint64_t limit) {
    uint8_t *up = quicraw_pattern(n, 1), *down = quicraw_pattern(n, 2);
    uint64_t start = p->now;
    int64_t id = qraw_open(client(p), true);
    qraw_write(client(p), id, up, n, true);
    struct quicraw_wait at_server = {server(p), id, n}, at_client = {client(p), id, n};
    if (!session_pair_until(p, quicraw_has_all, &at_server, limit)) fail_msg("not everything came up");
    qraw_write(server(p), id, down, n, true);
    if (!session_pair_until(p, quicraw_has_all, &at_client, limit)) fail_msg("not everything came down");
    assert_memory_equal(qraw_stream(server(p), id)->in, up, n);
    assert_memory_equal(qraw_stream(client(p), id)->in, down, n);
    free(up);
    free(down);
    return p->now - start;
}
