/* testca_impl.h - what the files of testca share. */
#ifndef ADIT_TESTS_LIB_TESTCA_IMPL_H
#define ADIT_TESTS_LIB_TESTCA_IMPL_H

#include <gnutls/x509.h>

#include "lib/testca.h"

struct testca {
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
};

#endif
