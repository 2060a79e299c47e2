/* http1_impl.h - what the readers of request heads, response heads and bodies share. Private to src/codec.
 *
 * The parts of a head are given without their line ends; p and n as for http1_parse().
 */
#ifndef ADIT_CODEC_HTTP1_IMPL_H
#define ADIT_CODEC_HTTP1_IMPL_H

#include "codec/http1.h"

/* tchar of RFC 9110 section 5.6.2. */
bool http1_is_token(char c);
/* Control characters that no header line may hold; HTAB, CR and LF are not among them. */
bool http1_is_control(char c);

/* "HTTP/1.0" or "HTTP/1.1"; VERSION for others, REQUEST_LINE for what is no version. */
enum http1_fault http1_split_version(unsigned *minor, const char *p, size_t n);
/* Of a response, in http1_response.c. */
enum http1_fault http1_check_status_line(const char *p, size_t n);
/* The fields of a head that http1_head_end() has judged; the first begins at `at`. */
enum http1_fault http1_split_fields(struct http1_fields *fields, const char *p, size_t n, size_t at);
/* Content-Length and Transfer-Encoding together (RFC 9112 section 6.3): NO_BODY when there is neither. */
enum http1_fault http1_check_framing(enum http1_framing *framing, uint64_t *content_length,
                                     const struct http1_fields *fields, unsigned minor);

#endif
