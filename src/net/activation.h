/* activation.h - sockets that the program was started with: systemd's socket activation.
 *
 * The environment tells which descriptors they are and what they are called. They belong to whoever passed them, who may
 * go on listening without us: so they stay open as long as the process lives, users get duplicates, and their files are
 * never removed. Process-wide. Source: sd_listen_fds(3).
 */
#ifndef ADIT_NET_ACTIVATION_H
#define ADIT_NET_ACTIVATION_H

#include <stddef.h>

#define ACTIVATION_MAX 64      /* sockets */
#define ACTIVATION_NAME_MAX 255 /* bytes of a name, as systemd has it */
#define ACTIVATION_WHY_MAX 512

/* Takes over what LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES tell, makes it close-on-exec and clears the environment. To be
 * called once, before the process opens descriptors of its own that stay. 0, also when nothing was passed; or ERR_CONFIG
 * with a sentence in why when the environment is wrong. */
int activation_take(char *why, size_t cap);
/* A duplicate, non-blocking and close-on-exec, of the socket of that name: a listening one, of TCP or at a Unix path. 0; or
 * ERR_CONFIG with a sentence in why. */
int activation_open(const char *name, int *fd, char *why, size_t cap);
/* The i-th name; NULL past the end. Sockets that were given none are called "unknown". */
const char *activation_name(size_t i);
/* Closes all; for tests. */
void activation_close(void);

#endif
