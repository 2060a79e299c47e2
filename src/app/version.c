#include "app/version.h"

#include "base/dest.h"
#include "base/loop.h"
#include "net/resolve.h"
#include "session/session.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0"
#endif

void version_print(FILE *to) {
    fprintf(to, "adit " PACKAGE_VERSION "\n");
    fprintf(to, "nghttp2 %s, nghttp3 %s, ngtcp2 %s, GnuTLS %s\n", session_h2_library_version(),
            session_h3_library_version(), session_quic_library_version(), session_tls_library_version());
    fprintf(to, "c-ares %s, libev %s, libidn2 %s\n", resolve_library_version(), loop_library_version(),
            dest_library_version());
}
