#include "flow/relay.h"

#include <stdlib.h>

#include "base/log.h"

enum way_state {
    WAY_OPEN,
    WAY_ENDED,   /* EOF was passed on */
    WAY_STOPPED, /* the receiver takes no more; the rest is not read */
};

/* One direction. */
struct way {
    struct stream *from, *to;
    enum way_state state;
    uint64_t bytes;
};

struct relay {
    struct relay_config cfg;
    struct way up, down;
    struct loop_timer idle;
    uint64_t active; /* when a byte moved last */
    struct loop_timer again; /* goes on in the next turn of the loop, after everyone's I/O */
    struct defer finish;
    struct relay_end end;
    bool over;
};

static const char *const way_words[] = {"open", "ended", "stopped"};

static void set_state(struct relay *r, struct way *w, enum way_state state) {
    log_trace("relay", "%s from=%s to=%s", w == &r->up ? "up" : "down", way_words[w->state], way_words[state]);
    w->state = state;
}

/* The end is known: no event touches the streams any more; the report follows from the deferred queue. */
static void finish(struct relay *r, enum err err, enum relay_side by) {
    if (r->over) return;
    r->over = true;
    r->end.err = err;
    r->end.by = by;
    stream_own(r->cfg.client, NULL, NULL);
    stream_own(r->cfg.far, NULL, NULL);
    loop_timer_stop(&r->idle);
    loop_timer_stop(&r->again);
    defer_post(loop_defer(r->cfg.loop), &r->finish);
}

static enum relay_side side_of(const struct relay *r, const struct stream *s) {
    return s == r->cfg.client ? RELAY_CLIENT : RELAY_FAR;
}

/* What a write that was refused means: the receiver takes no more, or it is dead and its DEAD event says so (what it
 * sent before may still be on its way to the other side). Anything else fails the flow. Returns false then. */
static bool refused(struct relay *r, struct way *w, long why) {
    if (!w->to->err && why != ERR_UPSTREAM_STOPPED && why != ERR_CLIENT_GONE) {
        finish(r, (enum err)why, RELAY_SELF);
        return false;
    }
    set_state(r, w, WAY_STOPPED);
    return true;
}

/* The sender is dead and its last bytes wait for the other side: not for hours, nor for ever. */
static void hurry(struct relay *r) {
    if (r->cfg.idle_timeout && r->cfg.idle_timeout <= RELAY_LAST_BYTES) return;
    r->cfg.idle_timeout = RELAY_LAST_BYTES;
    r->active = loop_now(r->cfg.loop);
    loop_timer_set(&r->idle, r->active + RELAY_LAST_BYTES * LOOP_MS);
}

/* Moves what can be moved one way. Returns false when the relay is over. */
static bool move(struct relay *r, struct way *w) {
    size_t turn = 0;
    while (w->state == WAY_OPEN) {
        const uint8_t *p;
        size_t n;
        int got = stream_peek(w->from, &p, &n);
        if (got == STREAM_NONE) return true;
        if (got == STREAM_EOF) {
            stream_finish(w->to);
            set_state(r, w, WAY_ENDED);
            r->active = loop_now(r->cfg.loop);
            return true;
        }
        if (got < 0) {
            finish(r, got, side_of(r, w->from));
            return false;
        }
        long took = stream_write(w->to, p, n);
        if (took < 0) return refused(r, w, took);
        if (took) r->active = loop_now(r->cfg.loop);
        stream_consume(w->from, (size_t)took);
        w->bytes += (size_t)took;
        turn += (size_t)took;
        if ((size_t)took < n) {
            if (w->from->err) hurry(r);
            return true;
        }
        if (turn >= RELAY_TURN) {
            loop_timer_set(&r->again, loop_now(r->cfg.loop));
            return true;
        }
    }
    return true;
}

/* Over when nothing more can come to the client and nothing more is taken from it: in order, unless a direction was
 * cut off because its receiver died. */
static void settle(struct relay *r) {
    const struct way *cut = NULL;
    if (r->over || r->down.state == WAY_OPEN || r->up.state == WAY_OPEN) return;
    if (r->down.state == WAY_STOPPED && r->down.to->err) cut = &r->down;
    if (r->up.state == WAY_STOPPED && r->up.to->err) cut = &r->up;
    if (cut) finish(r, cut->to->err, side_of(r, cut->to));
    else finish(r, ERR_OK, r->end.by);
}

static void pump(struct relay *r) {
    enum way_state up = r->up.state, down = r->down.state;
    if (!move(r, &r->up) || !move(r, &r->down)) return;
    if (up == WAY_OPEN && down == WAY_OPEN) {
        /* the first direction that ended names who closed: its sender, or the receiver that takes no more */
        if (r->up.state == WAY_ENDED || r->down.state == WAY_STOPPED) r->end.by = RELAY_CLIENT;
        else if (r->down.state == WAY_ENDED || r->up.state == WAY_STOPPED) r->end.by = RELAY_FAR;
    }
    settle(r);
}

static void on_again(void *arg) { pump(arg); }

static void on_stream(struct stream *s, unsigned events, void *arg) {
    struct relay *r = arg;
    if (r->over) return;
    pump(r);
    if (r->over || !(events & STREAM_DEAD)) return;
    /* what had arrived was offered by pump(); bytes that the other side cannot take now are lost with the stream */
    struct way *from = s == r->cfg.client ? &r->up : &r->down;
    const uint8_t *p;
    size_t n;
    if (from->state == WAY_OPEN && stream_peek(s, &p, &n) == STREAM_BYTES) return; /* go on; peek tells the end */
    finish(r, s->err, side_of(r, s));
}

static void on_idle(void *arg) {
    struct relay *r = arg;
    uint64_t at = r->active + r->cfg.idle_timeout * LOOP_MS;
    if (loop_now(r->cfg.loop) >= at) finish(r, ERR_IDLE, RELAY_SELF);
    else loop_timer_set(&r->idle, at);
}

/* The side that did not fail is told as its transport can: in order by a close, else by a reset. */
static void close_streams(struct relay *r) {
    struct stream *client = r->cfg.client, *far = r->cfg.far;
    enum err err = r->end.err;
    if (err == ERR_OK) {
        stream_free(far);
        if (r->up.state == WAY_STOPPED) linger_close(r->cfg.lingers, client, NULL, 0);
        else stream_free(client);
        return;
    }
    stream_reset(far, err);
    stream_reset(client, err);
    stream_free(far);
    stream_free(client);
}

static void relay_release(struct relay *r) {
    loop_timer_stop(&r->idle);
    loop_timer_stop(&r->again);
    defer_cancel(&r->finish);
    close_streams(r);
    free(r);
}

static struct relay_end end_of(const struct relay *r) {
    struct relay_end end = r->end;
    end.up = r->up.bytes;
    end.down = r->down.bytes;
    end.up_eof = r->up.state == WAY_ENDED;
    end.down_eof = r->down.state == WAY_ENDED;
    return end;
}

static void on_finish(void *arg) {
    struct relay *r = arg;
    relay_cb *done = r->cfg.done;
    void *done_arg = r->cfg.arg;
    struct relay_end end = end_of(r);
    relay_release(r);
    done(&end, done_arg);
}

struct relay *relay_start(const struct relay_config *c) {
    struct relay *r = calloc(1, sizeof *r);
    if (!r) {
        stream_free(c->client);
        stream_free(c->far);
        return NULL;
    }
    r->cfg = *c;
    r->up = (struct way){.from = c->client, .to = c->far};
    r->down = (struct way){.from = c->far, .to = c->client};
    r->end.by = RELAY_SELF;
    defer_init(&r->finish, on_finish, r);
    loop_timer_init(&r->again, c->loop, on_again, r);
    loop_timer_init(&r->idle, c->loop, on_idle, r);
    r->active = loop_now(c->loop);
    if (c->idle_timeout) loop_timer_set(&r->idle, r->active + c->idle_timeout * LOOP_MS);
    stream_own(c->client, on_stream, r);
    stream_own(c->far, on_stream, r);
    loop_timer_set(&r->again, r->active);
    return r;
}

void relay_abort(struct relay *r, enum err why) { finish(r, why, RELAY_SELF); }

void relay_free(struct relay *r, struct relay_end *end) {
    if (!r) return;
    if (!r->over) {
        r->over = true;
        r->end.err = ERR_SHUTDOWN;
        r->end.by = RELAY_SELF;
    }
    if (end) *end = end_of(r);
    relay_release(r);
}
