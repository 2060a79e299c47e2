/* http1_impl.h - what http1.c (requests) and http1_response.c share. Private to src/codec.
 *
 * The fields of a head as an array, and the rules of RFC 9110 and 9112 that hold for requests and responses alike.
 */
#ifndef ADIT_CODEC_HTTP1_IMPL_H
#define ADIT_CODEC_HTTP1_IMPL_H

#include "codec/http1.h"

/* "HTTP/1.0" or "HTTP/1.1"; n bytes. */
enum http1_fault http1_split_version(unsigned *minor, const char *p, size_t n);
/* version SP 3DIGIT SP reason, without the line end; the reason may be missing with its SP. */
enum http1_fault http1_split_status_line(unsigned *minor, int *status, const char *p, size_t n);
/* The lines p[at .. n), each ending in CR LF and the last one empty, as http1_head_end() has judged them. */
enum http1_fault http1_split_fields(struct http1_field *fields, unsigned *count, const char *p, size_t at, size_t n);
/* The first field of that name after `after` (NULL: from the start); NULL: no more. */
const struct http1_field *http1_find(const struct http1_field *fields, unsigned count, const char *name,
                                     const struct http1_field *after);
/* Whether any Connection field holds the option. */
bool http1_option(const struct http1_field *fields, unsigned count, const char *option);
/* Content-Length and Transfer-Encoding; NO_BODY if there is neither. */
enum http1_fault http1_find_framing(const struct http1_field *fields, unsigned count, unsigned minor,
                                    enum http1_framing *framing, uint64_t *length);

#endif
