/* version.h - what `adit --version` prints: its own version and those of the libraries in use. */
#ifndef ADIT_APP_VERSION_H
#define ADIT_APP_VERSION_H

#include <stdio.h>

void version_print(FILE *to);

#endif
