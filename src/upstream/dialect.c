#include "upstream/dialect.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "codec/base64.h"

char *dialect_basic(const char *user, const char *password) {
    size_t user_len = strlen(user), password_len = strlen(password);
    size_t plain_len = user_len + 1 + password_len, cap = BASE64_TEXT_LEN(plain_len);
    char *plain = malloc(plain_len), *out = malloc(sizeof "Basic " + cap);
    if (plain && out) {
        memcpy(plain, user, user_len);
        plain[user_len] = ':';
        memcpy(plain + user_len + 1, password, password_len);
        memcpy(out, "Basic ", 6);
        struct writer w = writer_of(out + 6, cap);
        base64_put(&w, BASE64_STANDARD, plain, plain_len);
        out[6 + writer_len(&w)] = 0;
    } else {
        free(out);
        out = NULL;
    }
    if (plain) secret_wipe(plain, plain_len);
    free(plain);
    return out;
}
