/* h2_raw.h - one HTTP/2 session in the clear, and a peer of which the test writes every frame.
 *
 * Everything the session sends is taken apart and kept by h2raw_run(); HPACK is left encoded. Time is virtual.
 */
#ifndef ADIT_TESTS_LIB_H2_RAW_H
#define ADIT_TESTS_LIB_H2_RAW_H

#include "base/defer.h"
#include "session/session.h"

#define H2RAW_MS UINT64_C(1000000)
#define H2RAW_FRAMES 4096

enum h2raw_type {
    H2RAW_DATA,
    H2RAW_HEADERS,
    H2RAW_PRIORITY,
    H2RAW_RST,
    H2RAW_SETTINGS,
    H2RAW_PUSH,
    H2RAW_PING,
    H2RAW_GOAWAY,
    H2RAW_WINDOW,
    H2RAW_CONTINUATION,
};
#define H2RAW_END_STREAM 1
#define H2RAW_ACK 1
#define H2RAW_END_HEADERS 4
#define H2RAW_PADDED 8

struct h2raw_frame {
    unsigned type, flags;
    uint32_t id, len;
    uint32_t word; /* the first four bytes of the payload: RST_STREAM's code, WINDOW_UPDATE's increment */
    uint32_t code; /* GOAWAY's */
};

struct h2raw {
    struct session *s;
    struct defer_queue queue;
    uint64_t now;
    struct session_config config;
    unsigned states[4];
    struct stream *request; /* the last one, for a server */
    unsigned requests;
    /* What was sent by the session. */
    uint8_t *out;
    size_t out_len, out_cap, parsed;
    struct h2raw_frame frames[H2RAW_FRAMES]; /* the first ones */
    unsigned n_frames;
    unsigned count[256]; /* of all, by type */
    size_t data;         /* bytes of DATA */
    bool deaf;           /* nothing is taken from the session */
    size_t piece;        /* most bytes taken at once; 0: any */
};

/* A client (or server) whose preface was taken; change config in between. */
void h2raw_init(struct h2raw *r, bool server);
void h2raw_start(struct h2raw *r);
/* Both, and the peer's empty SETTINGS: a client that is UP. */
void h2raw_up(struct h2raw *r);
/* Frees the session and what was kept; streams are the test's. */
void h2raw_fini(struct h2raw *r);

/* Hands bytes to the session, in one piece. */
void h2raw_bytes(struct h2raw *r, const void *p, size_t n);
void h2raw_frame(struct h2raw *r, unsigned type, unsigned flags, uint32_t id, const void *p, size_t n);
/* HEADERS with only a status. */
void h2raw_status(struct h2raw *r, uint32_t id, int status, bool fin);
void h2raw_rst(struct h2raw *r, uint32_t id, uint32_t code);
void h2raw_window(struct h2raw *r, uint32_t id, uint32_t more);
void h2raw_goaway(struct h2raw *r, uint32_t last, uint32_t code, const char *text);
void h2raw_setting(struct h2raw *r, unsigned id, uint32_t value);
/* Runs the deferred queue and takes what the session sends, until there is nothing. */
void h2raw_run(struct h2raw *r);
/* Lets time pass, obeying the session's deadline. */
void h2raw_pass(struct h2raw *r, uint64_t ns);
/* Forgets the frames taken so far. */
void h2raw_forget(struct h2raw *r);
/* The last frame of this type and stream (0: any), NULL if none. */
const struct h2raw_frame *h2raw_last(const struct h2raw *r, unsigned type, uint32_t id);
/* A CONNECT with an authority. */
struct stream *h2raw_open(struct h2raw *r, int *err);

#endif
