/* conf_text.h - configurations given as text, and what must become of them.
 *
 * Everything here fails the running cmocka case when it is not as wanted, and prints the report then.
 */
#ifndef ADIT_TESTS_LIB_CONF_TEXT_H
#define ADIT_TESTS_LIB_CONF_TEXT_H

#include <stddef.h>

#include "app/conf.h"

/* A complete endpoint, four lines; the password must never be seen in a message. */
#define CONF_TEXT_REST "addresses = [\"192.0.2.1:443\"]\nusername = \"u\"\npassword = \"" CONF_TEXT_SECRET "\"\n"
#define CONF_TEXT_SECRET "swordfish-\xc3\xa4"
#define CONF_TEXT_ENDPOINT "hostname = \"vpn.example\"\n" CONF_TEXT_REST

/* The report of the last one, and how to print it. */
extern struct conf_report conf_said;
void conf_text_print(void);

/* Loads without an error; unref it. must_load_with: after a complete endpoint. */
struct conf *must_load(const char *text);
struct conf *must_load_with(const char *text);
/* Refused with this one error (_bytes: with any). must_refuse_with: after a complete endpoint, whose lines are not
 * counted. */
void must_refuse(const char *text, unsigned line, unsigned col, const char *part);
void must_refuse_with(const char *text, unsigned line, unsigned col, const char *part);
void must_refuse_bytes(const char *text, size_t n);
/* The message of the last report that is at this place and has these words. */
const struct conf_message *must_say(enum conf_severity s, unsigned line, unsigned col, const char *part);

#endif
