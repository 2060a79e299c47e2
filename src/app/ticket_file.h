/* ticket_file.h - session tickets from one run to the next.
 *
 * The file is a convenience: whatever is wrong with it is one line in the log, and the next handshakes are full ones. It is
 * read at the start and removed then, since a ticket must not be used twice, and written anew at the end of a run in
 * order; after a crash there is none. Only a regular file of our own that nobody else has access to is read. Blocking, for
 * the start and the end of the program only.
 */
#ifndef ADIT_APP_TICKET_FILE_H
#define ADIT_APP_TICKET_FILE_H

#include "session/creds.h"

/* Reads, removes and takes in. No file is no news. */
void ticket_file_load(const char *path, struct creds *creds);
/* Writes the tickets that are there, by a temporary file (mode 0600) that takes the place of the old one. */
void ticket_file_save(const char *path, const struct creds *creds);

#endif
