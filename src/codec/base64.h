/* base64.h - RFC 4648 base64 in its two alphabets, strict in both directions.
 *
 * BASE64_STANDARD (section 4) is always padded with '=': HTTP credentials. BASE64_URL (section 5) is never padded:
 * links. One text stands for one byte string and the other way round: no white space, no line breaks, no foreign
 * padding, and the unused low bits of the last character are zero. Pure functions; no state, no allocation.
 */
#ifndef ADIT_CODEC_BASE64_H
#define ADIT_CODEC_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

enum base64_alphabet { BASE64_STANDARD, BASE64_URL };

/* Characters that n bytes take at most (exactly, for BASE64_STANDARD). n is at most SIZE_MAX / 2. */
#define BASE64_TEXT_LEN(n) (((n) + 2) / 3 * 4)
/* Bytes that n characters give at most. */
#define BASE64_BYTES_LEN(n) ((n) / 4 * 3 + (n) % 4)

/* Appends the text of n bytes to w, which turns bad when it does not fit. */
void base64_put(struct writer *w, enum base64_alphabet alphabet, const void *bytes, size_t n);

/* Decodes n characters into out and sets *len. false, with *len 0, when the text is not what the encoder above
 * would have written or its bytes do not fit cap; out may then hold a part. An empty text gives no bytes and is
 * valid. out must not overlap text. */
bool base64_get(enum base64_alphabet alphabet, const void *text, size_t n, uint8_t *out, size_t cap, size_t *len);

#endif
