/* inbound_talk.h - scripted clients of an inbound_rig.h, for cmocka cases.
 *
 * What a client says is taken as the listener reads it; what it hears is compared byte by byte, and at the end nothing
 * may be left. Every function lets the loop settle first, or after it spoke. Bytes are written as string literals, NUL
 * and all: SAY(t, "\5\1\0").
 */
#ifndef ADIT_TESTS_LIB_INBOUND_TALK_H
#define ADIT_TESTS_LIB_INBOUND_TALK_H

#include "lib/inbound_rig.h"

extern struct rig *rig; /* of the running case */

/* Makes another rig (see rig_new()); one that was there must have become clean. */
void talk_fresh(const struct listen_config *c);
/* The teardown of a case. */
int talk_teardown(void **state);
void talk_pass_ms(uint64_t ms);

/* Someone who talks: a client, or a target at the other end. */
struct talk {
    struct stream *stream; /* his end */
};

struct talk talk_open(void);
/* Writes all of it, or what is taken until the listener has closed. Returns how much that was. */
size_t talk_say(struct talk *t, const void *p, size_t n);
/* The same in different ways, so that whatever the cuts are the same must follow: way 0 in one piece, 1 in the smallest
 * pieces (bytes, unless there are thousands), the others cut in two, at each place if it is not long. */
size_t talk_ways(size_t n);
void talk_say_cut(struct talk *t, const char *p, size_t n, size_t way);
/* Exactly these bytes are there to be read, and are taken. n may be 0. */
void talk_hears(struct talk *t, const void *p, size_t n);
/* Takes up to cap bytes of what is there; returns how many. */
size_t talk_take(struct talk *t, void *out, size_t cap);

#define SAY(t, bytes) ((void)talk_say(t, bytes, sizeof(bytes) - 1))
#define HEARS(t, bytes) talk_hears(t, bytes, sizeof(bytes) - 1)
#define HEARS_NOTHING(t) talk_hears(t, "", 0)

/* Neither side has ended anything and nothing is there to be read. */
void talk_is_open(struct talk *t);
/* The listener has ended its direction in order and nothing more is there to be read. Closes the client's end too, upon
 * which the connection must be gone without a reset. */
void talk_is_closed(struct talk *t);
/* The connection was aborted. Frees the client's end. */
void talk_is_reset(struct talk *t);
/* Closes the client's end: in order, or by a reset. */
void talk_close(struct talk *t, bool reset);

/* The last record holds all of these words, which are separated by blanks. */
void talk_recorded(const char *words);

/* A conversation in which the client speaks without waiting, and which the listener ends by itself. */
struct scene {
    const char *say;
    size_t say_n;
    const char *hear;
    size_t hear_n;
    const char *record; /* as for talk_recorded() */
};
#define SCENE(say, hear, record) {say, sizeof(say) - 1, hear, sizeof(hear) - 1, record}

/* Plays it in all ways: each time the same is heard, recorded once, and no tunnel is asked for. */
void talk_scene(const struct scene *s);
#define SCENES(list) \
    for (size_t i_ = 0; i_ < sizeof(list) / sizeof *(list); i_++) talk_scene(&(list)[i_])

/* The same for a request that is served: the client then hears `hear`, the tunnel is asked for `dest` (as of
 * dest_format()), and the bytes of `say` from `payload` on come out of it once. The flow is ended again. */
struct served {
    const char *say;
    size_t say_n, payload;
    const char *before; /* what is heard before the upstream's answer */
    size_t before_n;
    const char *hear;   /* and after it */
    size_t hear_n;
    const char *dest;
};
void talk_served(const struct served *s);

/* --- what SOCKS5 clients say, and hear --- */

#define GREETING "\5\1\0"
#define CHOSEN "\5\0"
#define AUTH_GREETING "\5\2\0\2"
#define AUTH_CHOSEN "\5\2"
#define CONNECT "\5\1\0\1\300\0\2\1\1\273" /* 192.0.2.1:443 */
#define REP(code) "\5" code "\0\1\0\0\0\0\0\0"

#endif
