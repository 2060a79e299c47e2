/* source.h - a configuration from elsewhere than the usual file: a deep link, a file that holds one, or standard input.
 *
 * What is read is as secret as a configuration: texts are wiped before they are freed.
 */
#ifndef ADIT_APP_SOURCE_H
#define ADIT_APP_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "app/conf.h"

/* where: a link itself, "-" for standard input, or a file's path; the latter two hold a link or a configuration. A link that
 * asks for skip_verification is refused unless `insecure`. 0 and *out to be unreferenced; ERR_CONFIG, ERR_IO or ERR_NO_MEMORY
 * with what is wrong in the report. */
int source_load(const char *where, bool insecure, struct conf **out, struct conf_report *rep);
/* The link of a configuration: a secret of *n bytes, to be freed by secret_free(). NULL when out of memory or when it does not
 * fit into a link. What a link cannot hold is left out. */
char *source_link(const struct conf *c, size_t *n);
/* Hides links in the arguments from those who list processes: each argument that holds one is replaced by a copy, and the
 * original is overwritten. Before anything else is done with argv. */
void source_hide(int argc, char **argv);

#endif
