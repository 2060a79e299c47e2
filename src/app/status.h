/* status.h - what a running gateway tells of itself: as JSON over the control socket, and as text for people.
 *
 * The JSON is for programs: members are only added, never renamed. Times are ms, sizes bytes. It holds no secret and no
 * destination of a flow.
 */
#ifndef ADIT_APP_STATUS_H
#define ADIT_APP_STATUS_H

#include <jansson.h>
#include <stdio.h>

#include "app/gateway.h"

/* NULL when out of memory. now, started: ns of the loop. */
json_t *status_json(const struct gateway *g, uint64_t now, uint64_t started, bool draining);
/* One line for a service manager: "h3 to vpn.example, 12 flows", "no session to vpn.example: ...". */
void status_line(const struct gateway *g, char *buf, size_t cap);
/* What status_json() made, perhaps by another version, as a page of text. */
void status_print(const json_t *status, FILE *to);

#endif
