/* sim.h - the virtual world: loop.h with a virtual clock, and sock.h and resolve.h over a virtual network.
 *
 * Linked instead of base/loop.c and of net's socket and resolver files, it runs the whole core, the test endpoint, targets
 * and clients in one process without a descriptor. Time passes only when nothing is left to do, so minutes take
 * milliseconds, and the same seed gives the same run. The network has one delay, loss for datagrams, and rules per port
 * that drop or refuse; a dropped TCP segment is sent again until the rule is gone.
 */
#ifndef ADIT_TESTS_SIM_H
#define ADIT_TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/loop.h"
#include "base/stream.h"

/* --- time --- */

/* Runs for exactly this much virtual time. */
void sim_pass(struct loop *l, uint64_t ns);
/* Runs until done(arg), at most `limit` ns; returns the last done(arg). */
bool sim_until(struct loop *l, bool (*done)(void *arg), void *arg, uint64_t limit);
/* Turns of the loop so far: tells a busy loop. */
uint64_t sim_turns(const struct loop *l);
/* The machine has just woken from a sleep, in which no time passed by this clock. */
void sim_wake(struct loop *l);

/* --- the network; one per process --- */

enum sim_rule { SIM_PASS, SIM_DROP, SIM_REFUSE };

struct sim_net {
    uint64_t delay;  /* ns one way */
    uint64_t jitter; /* ns, datagrams only: 0..jitter more */
    unsigned loss;   /* datagrams lost of 1000 */
    uint64_t rate;   /* bytes per second of each TCP direction and each UDP socket; 0: no limit */
    size_t window;   /* bytes under way and unread per TCP direction */
    uint64_t random; /* the seed */
    struct {
        uint16_t port;
        enum sim_rule udp, tcp;
    } rules[8];      /* by the port of the listening side, both directions */
    uint64_t datagrams, segments, lost;
    unsigned sockets; /* now open: TCP ends, listeners and UDP sockets */
};

/* Must be called once before anything of sock.h; forgets an earlier world (all of whose sockets must be gone). */
struct sim_net *sim_net_init(struct loop *l, uint64_t seed);
/* Ends the world; false if sockets are left. */
bool sim_net_done(void);
void sim_rule(uint16_t port, enum sim_rule udp, enum sim_rule tcp);
/* Cuts off all sockets to upstreams that are there now, for good and without a word, as a NAT that forgot them does. */
void sim_cut(void);
/* Tells what a monitor of this world would: something of the network changed. */
void sim_network_changed(void);
/* The local address that leads everywhere: NULL: 10.0.0.2 again; "": none, as without a network. */
void sim_source(const char *ip);
/* A name that the resolver knows; ip NULL: it is forgotten. */
void sim_name(const char *name, const char *ip);

#endif
