/* world.h - a complete virtual world for scenarios: targets, the test endpoint, adit's gateway, and SOCKS5 clients.
 *
 * The endpoint is at 10.0.0.1:443 (TCP and UDP), adit listens at 127.0.0.1:1080, the targets are at 10.0.0.5:
 * port 7 echoes; 9 swallows until EOF and then answers with the number of bytes and EOF; 19 sends `source_bytes` of the
 * pattern and EOF, and swallows; 20 sends EOF at once and swallows, counting; 21 resets after the first byte;
 * nothing listens on other ports. Everything is checked for leaks by world_free().
 */
#ifndef ADIT_TESTS_WORLD_H
#define ADIT_TESTS_WORLD_H

#include "app/gateway.h"
#include "endpoint/endpoint.h"
#include "sim/sim.h"

#define WORLD_ENDPOINT_PORT 443

struct world {
    struct loop *loop;
    struct sim_net *net;
    struct endpoint *ep;
    struct gateway *gw;
    struct conf *conf;
    struct creds *server_creds;
    char *trust;          /* PEM of the CA */
    uint64_t source_bytes;
    uint64_t swallowed;   /* by all targets */
    unsigned swallowed_eofs;
    struct client *clients;
    struct target *targets;
    struct target_port *ports;
};

struct world_config {
    const char *transport;  /* "auto" */
    const char *endpoint;   /* more lines for [endpoint] */
    const char *listener;   /* more lines for [listener.mixed] */
    const char *certificate_name; /* the name in the endpoint's certificate; NULL: the right one */
    bool expired, self_signed;
    const char *password;   /* that adit uses; NULL: the right one */
    bool retry;
    uint64_t seed;
};

struct world *world_new(const struct world_config *c);
/* The snapshot that world_new() makes of this; the caller unrefs it. */
struct conf *world_conf(struct world *w, const struct world_config *c);
/* Starts the gateway (world_new leaves it bound but not connecting). */
void world_start(struct world *w);
/* Frees everything and fails the test if sockets are left. */
void world_free(struct world *w);

/* --- clients --- */

enum client_state { CLIENT_CONNECTING, CLIENT_GREETED, CLIENT_REQUESTED, CLIENT_OPEN, CLIENT_FAILED };

struct client {
    struct world *world;
    struct client *next;
    struct stream *stream;
    enum client_state state;
    uint8_t rep;                /* of the SOCKS reply; 255: none came */
    uint64_t upload, sent;      /* bytes of the pattern to send, and sent */
    bool half_close;            /* finish after the upload */
    bool finished;
    bool stuck;                 /* does not read */
    bool raw;                   /* what comes is not the pattern: the last 8 bytes are kept */
    uint8_t tail[8];
    uint64_t received;
    uint64_t opened_at, asked_at, ended_at;
    bool eof, dead, corrupt;
    enum err err;
};

/* host: an IP or a name. The client lives until world_free() or client_close(). */
struct client *client_open(struct world *w, const char *host, uint16_t port, uint64_t upload, bool half_close);
/* Goes on reading after `stuck` was cleared, or sending after `upload` was raised. */
void client_go(struct client *c);
/* Closes its socket: in order, or by a reset. */
void client_close(struct client *c, bool reset);

/* Runs until all clients are open or failed, ended (EOF or dead), or `limit` ns passed. */
bool world_all_answered(struct world *w, uint64_t limit);
bool world_all_ended(struct world *w, uint64_t limit);
bool world_until_up(struct world *w, uint64_t limit);

struct pool_info world_pool(const struct world *w);

uint8_t world_pattern(uint64_t at);

#endif
