/* notify.h - the service manager's notification socket, as sd_notify(3) describes it: readiness, status, watchdog.
 *
 * Everything is a no-op when $NOTIFY_SOCKET is not set. Messages are sent without blocking, and a failure is ignored.
 * Process-wide.
 */
#ifndef ADIT_APP_NOTIFY_H
#define ADIT_APP_NOTIFY_H

#include <stdbool.h>

#include "base/loop.h"

/* Reads $NOTIFY_SOCKET and the watchdog's variables and removes them from the environment. */
void notify_start(struct loop *l);
void notify_stop(void);
bool notify_wanted(void);

/* "READY=1"; after a reload too. */
void notify_ready(void);
/* "RELOADING=1" with the time, as Type=notify-reload asks for. */
void notify_reloading(void);
void notify_stopping(void);
/* Sent only when it differs from the last one. */
void notify_status(const char *line);

#endif
