/* quic_raw.h - two QUIC peers without HTTP/3, for the tests of what is below it.
 *
 * On top of h3_pair.h. Everything here fails the running cmocka case when it does not come through.
 */
#ifndef ADIT_TESTS_LIB_QUIC_RAW_H
#define ADIT_TESTS_LIB_QUIC_RAW_H

#include "lib/h3_pair.h"

/* What every case says in every other line. */
static inline struct session *client(struct session_pair *p) { return p->side[PAIR_CLIENT].session; }
static inline struct session *server(struct session_pair *p) { return p->side[PAIR_SERVER].session; }

struct session_pair_config quicraw_config(bool retry);
/* Both are UP. */
struct session_pair *quicraw_pair(bool retry);

/* For session_pair_until(), with the pair. */
bool quicraw_client_down(void *arg);
/* The client is down with this error, and `part` in its words. */
void quicraw_assert_down(struct session_pair *p, enum err err, const char *part);

/* n bytes that differ by their place and the key; free() them. */
uint8_t *quicraw_pattern(size_t n, unsigned key);
/* For session_pair_until(): n bytes and the end came to s. */
struct quicraw_wait {
    struct session *s;
    int64_t id;
    size_t n;
};
bool quicraw_has_all(void *arg);
/* n bytes each way on one stream; returns the virtual time that it took, which must be at most `limit` each way. */
uint64_t quicraw_exchange(struct session_pair *p, size_t n, uint64_t limit);

#endif
