/* control.h - the control socket: a Unix socket through which `adit status`, `reload`, `drain` and `stop` reach the process.
 *
 * A client sends one line, a JSON object with "command", and gets one line, a JSON object, back; then the connection ends.
 * Only root and the user that adit runs as are answered, whatever the file's mode (0600). Requests are at most
 * CONTROL_REQUEST_MAX bytes, have CONTROL_TIMEOUT ms, and at most CONTROL_CLIENTS are served at a time.
 */
#ifndef ADIT_APP_CONTROL_H
#define ADIT_APP_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/loop.h"

#define CONTROL_REQUEST_MAX 4096
#define CONTROL_REPLY_MAX (1024 * 1024)
#define CONTROL_TIMEOUT 5000
#define CONTROL_CLIENTS 8

struct control;

/* The answer, owned by the caller; NULL when out of memory. It may not free the control. */
typedef json_t *control_cb(const char *command, void *arg);

/* path is copied. NULL with *errnum as unix_sock_listen(). */
struct control *control_new(struct loop *l, const char *path, control_cb *cb, void *arg, int *errnum);
/* Answers that were not sent are lost. NULL is allowed. */
void control_free(struct control *c);
const char *control_path(const struct control *c);

/* Where the socket is if nothing else is said: $RUNTIME_DIRECTORY/control, $XDG_RUNTIME_DIR/adit.control, for root
 * /run/adit.control. False if there is no such place. */
bool control_default_path(char *buf, size_t cap);

/* The client's side; blocks for CONTROL_TIMEOUT at most. The answer, to be json_decref()ed, or NULL with a reason in why. */
json_t *control_ask(const char *path, const char *command, char *why, size_t cap);

#endif
