#include "lib/inbound_talk.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/pipe.h"

struct rig *rig;

void talk_fresh(const struct listen_config *c) {
    if (rig) assert_true(rig_free(rig));
    rig = rig_new(c);
}

int talk_teardown(void **state) {
    (void)state;
    bool clean = rig_free(rig);
    rig = NULL;
    assert_true(clean);
    return 0;
}

void talk_pass_ms(uint64_t ms) { sim_pass(rig->loop, ms * LOOP_MS); }

struct talk talk_open(void) { return (struct talk){rig_connect(rig)}; }

size_t talk_say(struct talk *t, const void *p, size_t n) {
    size_t at = 0;
    for (int idle = 0; at < n && idle < 2;) {
        long took = stream_write(t->stream, (const uint8_t *)p + at, n - at);
        if (took < 0) break;
        idle = took ? 0 : idle + 1;
        at += (size_t)took;
        rig_settle(rig);
    }
    return at;
}

size_t talk_take(struct talk *t, void *out, size_t cap) {
    const uint8_t *p;
    size_t n, at = 0;
    rig_settle(rig);
    while (at < cap && stream_peek(t->stream, &p, &n) == STREAM_BYTES) {
        if (n > cap - at) n = cap - at;
        memcpy((uint8_t *)out + at, p, n);
        stream_consume(t->stream, n);
        at += n;
    }
    return at;
}

void talk_hears(struct talk *t, const void *p, size_t n) {
    uint8_t got[8192];
    assert_true(n < sizeof got);
    size_t got_n = talk_take(t, got, n + 1);
    assert_int_equal(got_n, n);
    if (n) assert_memory_equal(got, p, n);
}

static int peeked(struct stream *s) {
    const uint8_t *p;
    size_t n;
    return stream_peek(s, &p, &n);
}

void talk_is_open(struct talk *t) {
    rig_settle(rig);
    assert_int_equal(peeked(t->stream), STREAM_NONE);
    assert_false(pipe_peer_freed(t->stream));
}

void talk_is_closed(struct talk *t) {
    rig_settle(rig);
    assert_int_equal(peeked(t->stream), STREAM_EOF);
    stream_finish(t->stream);
    rig_settle(rig);
    assert_true(pipe_peer_freed(t->stream));
    assert_false(pipe_peer_reset(t->stream));
    stream_free(t->stream);
    t->stream = NULL;
}

void talk_is_reset(struct talk *t) {
    rig_settle(rig);
    assert_true(peeked(t->stream) < 0);
    assert_true(pipe_peer_reset(t->stream));
    stream_free(t->stream);
    t->stream = NULL;
}

void talk_close(struct talk *t, bool reset) {
    if (reset) stream_reset(t->stream, ERR_CLIENT_RESET);
    else stream_finish(t->stream);
    stream_free(t->stream);
    t->stream = NULL;
    rig_settle(rig);
}

void talk_recorded(const char *words) {
    char line[LOG_LINE_MAX + 2], word[400];
    snprintf(line, sizeof line, "%s ", rig->record);
    for (size_t n; *words; words += n + (words[n] == ' ')) {
        n = strcspn(words, " ");
        snprintf(word, sizeof word, " %.*s ", (int)n, words);
        if (!strstr(line, word)) print_message("# no%sin: %s\n", word, line);
        assert_non_null(strstr(line, word));
    }
}

size_t talk_ways(size_t n) { return n <= 300 ? n + 1 : 2; }

void talk_say_cut(struct talk *t, const char *p, size_t n, size_t way) {
    size_t step = n / 1000 + 1;
    if (way == 0) {
        talk_say(t, p, n);
    } else if (way == 1) {
        for (size_t i = 0; i < n; i += step) talk_say(t, p + i, n - i < step ? n - i : step);
    } else {
        talk_say(t, p, way - 1);
        talk_say(t, p + way - 1, n - way + 1);
    }
}

void talk_scene(const struct scene *s) {
    for (size_t way = 0; way < talk_ways(s->say_n); way++) {
        unsigned records = rig->records, opens = rig->n_opens;
        struct talk t = talk_open();
        talk_say_cut(&t, s->say, s->say_n, way);
        talk_hears(&t, s->hear, s->hear_n);
        assert_int_equal(listener_connections(rig->listener), 0); /* before the client has closed */
        talk_is_closed(&t);
        assert_int_equal(rig->records, records + 1);
        talk_recorded(s->record);
        assert_int_equal(rig->n_opens, opens);
    }
}

void talk_served(const struct served *s) {
    char text[DEST_TEXT_MAX];
    for (size_t way = 0; way < talk_ways(s->say_n); way++) {
        unsigned records = rig->records, opens = rig->n_opens;
        struct talk t = talk_open();
        talk_say_cut(&t, s->say, s->say_n, way);
        talk_hears(&t, s->before, s->before_n);
        talk_is_open(&t);
        assert_int_equal(rig->n_opens, opens + 1);
        struct pool_open *o = rig_opened(rig, opens);
        assert_string_equal(dest_format(&o->dest, text, sizeof text), s->dest);
        rig_answer(o);
        struct talk far = {o->far};
        talk_hears(&t, s->hear, s->hear_n);
        talk_hears(&far, s->say + s->payload, s->say_n - s->payload);
        talk_is_open(&t);
        talk_is_open(&far);
        stream_finish(o->far);
        talk_is_closed(&t);
        assert_int_equal(rig->records, records + 1);
        snprintf(text, sizeof text, "reason=ok up=%zu down=0", s->say_n - s->payload);
        talk_recorded(text);
    }
}
