/* test_inbound_http.c - what HTTP clients say to a listener, well or badly. The numbers are those of a list of attacks by
 * local HTTP clients (B). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/http1.h"
#include "lib/inbound_talk.h"
#include "lib/pipe.h"

#define HEAD "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"
#define ALICE "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"
#define OK200 "HTTP/1.1 200 Connection established\r\n\r\n"

static const struct listen_user users[] = {{"alice", "secret"}, {"bob", "buil:der"}};

static int begin(void **state) {
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_ALL});
    return 0;
}

static void with_users(void) {
    talk_fresh(&(struct listen_config){.protocols = LISTEN_ALL, .users = users, .n_users = 2});
}

/* --- answers --- */

struct answer {
    int status;
    char head[FLOW_REPLY_MAX + 1];
    const char *body; /* in head, behind its empty line */
};

static void has(const char *text, const char *part) {
    if (!strstr(text, part)) print_message("# no \"%s\" in: %s\n", part, text);
    assert_non_null(strstr(text, part));
}

/* Takes a refusal, of which all must be right whatever it says: nothing but lines in its head, a body of the length that
 * is told, and nothing that a browser would run. */
static void hears_refusal(struct talk *t, struct answer *a) {
    char length[64];
    size_t n = talk_take(t, a->head, FLOW_REPLY_MAX);
    a->head[n] = 0;
    assert_int_equal(strlen(a->head), n);
    assert_int_equal(sscanf(a->head, "HTTP/1.1 %d ", &a->status), 1);
    char *end = strstr(a->head, "\r\n\r\n");
    assert_non_null(end);
    a->body = end + 4;
    end[2] = 0;
    for (const char *c = a->head; *c; c++)
        assert_true((*c >= ' ' && *c < 0x7f) || (*c == '\r' && c[1] == '\n') || (*c == '\n' && c[-1] == '\r'));
    snprintf(length, sizeof length, "\r\nContent-Length: %zu\r\n", strlen(a->body));
    has(a->head, length);
    has(a->head, "\r\nConnection: close\r\n");
    has(a->head, "\r\nContent-Type: text/html; charset=utf-8\r\n");
    has(a->head, "\r\nContent-Security-Policy: default-src 'none'\r\n");
    has(a->head, "\r\nX-Content-Type-Options: nosniff\r\n");
    has(a->head, "\r\nProxy-Status: adit; error=");
    assert_null(strstr(a->body, "<script"));
    bool challenge = strstr(a->head, "\r\nProxy-Authenticate: Basic realm=\"adit\"") != NULL;
    assert_int_equal(challenge, a->status == 407);
}

struct refused {
    const char *say;
    size_t n;
    int status;
    const char *record;
};
#define REFUSED(say, status, record) {say, sizeof(say) - 1, status, "protocol=http " record}
#define BAD(say) REFUSED(say, 400, "reason=client-protocol by=client dest=-")
#define LOST(say) REFUSED(say, 400, "reason=client-destination by=client dest=-")

/* However it is cut. */
static void is_refused(const struct refused *s, struct answer *a) {
    for (size_t way = 0; way < talk_ways(s->n); way++) {
        unsigned records = rig->records, opens = rig->n_opens;
        struct talk t = talk_open();
        talk_say_cut(&t, s->say, s->n, way);
        hears_refusal(&t, a);
        if (a->status != s->status) print_message("# %d, not %d, for: %.200s\n", a->status, s->status, s->say);
        assert_int_equal(a->status, s->status);
        assert_int_equal(listener_connections(rig->listener), 0);
        talk_is_closed(&t); /* one answer and no more, whatever follows */
        assert_int_equal(rig->records, records + 1);
        assert_int_equal(rig->n_opens, opens);
        talk_recorded(s->record);
    }
}

static void are_refused(const struct refused *list, size_t n) {
    struct answer a;
    for (size_t i = 0; i < n; i++) is_refused(&list[i], &a);
}
#define ARE_REFUSED(list) are_refused(list, sizeof(list) / sizeof *(list))

#define SERVED(head, payload, dest) \
    {head payload, sizeof(head payload) - 1, sizeof(head) - 1, "", 0, OK200, sizeof OK200 - 1, dest}
static void are_served(const struct served *list, size_t n) {
    for (size_t i = 0; i < n; i++) talk_served(&list[i]);
}
#define ARE_SERVED(list) are_served(list, sizeof(list) / sizeof *(list))

/* --- CONNECT --- */

static void connects(void **state) {
    static const struct served all[] = {
        SERVED(HEAD "\r\n", "", "a.test:443"),
        SERVED("CONNECT A.Test.:80 HTTP/1.0\r\n\r\n", "", "a.test:80"),
        SERVED("CONNECT a.test:443 HTTP/1.1\r\n\r\n", "", "a.test:443"), /* some clients leave out Host */
        SERVED("\r\n" HEAD "\r\n", "", "a.test:443"),
        SERVED("CONNECT [2001:DB8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n", "", "[2001:db8::1]:443"),
        SERVED("CONNECT 127.1:65535 HTTP/1.1\r\nHost: x\r\n\r\n", "", "127.0.0.1:65535"),
        SERVED(HEAD "Proxy-Connection: keep-alive\r\nUser-Agent: x\r\n" ALICE "\r\n", "", "a.test:443"),
    };
    (void)state;
    ARE_SERVED(all);
    talk_recorded("protocol=http dest=a.test:443 upstream=fake transport=h2 by=target reason=ok");
}

static void b09_the_authority_wins_over_host(void **state) {
    static const struct served all[] = {SERVED("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:80\r\n\r\n", "", "a.test:443")};
    (void)state;
    ARE_SERVED(all);
}

static void b17_what_follows_is_the_tunnels(void **state) {
    static const struct served all[] = {
        SERVED(HEAD "\r\n", "\x16\3\1\0\0", "a.test:443"),
        SERVED(HEAD "\r\n", "\r\n\r\n" HEAD "\r\n", "a.test:443"),
        SERVED(HEAD "\r\n", "GET / HTTP/0.9\n\n\0", "a.test:443"),
        SERVED(HEAD "Content-Length: 3\r\n\r\n", "abcdef", "a.test:443"), /* a CONNECT has no body */
        SERVED(HEAD "Transfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "a.test:443"),
    };
    (void)state;
    ARE_SERVED(all);
}

/* --- size and time --- */

static char *filled(size_t n, const char *begin, const char *end) {
    char *p = malloc(n + 1);
    assert_non_null(p);
    memset(p, 'a', n);
    p[n] = 0;
    memcpy(p, begin, strlen(begin));
    memcpy(p + n - strlen(end), end, strlen(end));
    return p;
}

static void is_too_large(char *say, size_t n, int status) {
    struct answer a;
    is_refused(&(struct refused){say, n, status, "protocol=http reason=client-too-large dest=-"}, &a);
    free(say);
}

/* More than will ever be read: the answer comes first, and what is held is bounded. */
static void flood(char *say, size_t n, int status) {
    struct answer a;
    struct talk t = talk_open();
    size_t taken = talk_say(&t, say, n);
    assert_in_range(taken, 1, HTTP1_HEAD_MAX + LINGER_BYTES + 2 * RIG_ROOM);
    hears_refusal(&t, &a);
    assert_int_equal(a.status, status);
    assert_true(pipe_peer_freed(t.stream));
    talk_close(&t, true);
    assert_int_equal(listener_connections(rig->listener), 0);
    talk_recorded("protocol=http reason=client-too-large");
    free(say);
}

static void b01_request_lines_without_end(void **state) {
    (void)state;
    is_too_large(filled(HTTP1_LINE_MAX, "CONNECT ", ""), HTTP1_LINE_MAX, 414);
    is_too_large(filled(65536, "GET http://a.test/", " HTTP/1.1\r\n\r\n"), 65536, 414);
    is_too_large(filled(20000, "", ""), 20000, 414);
    flood(filled(1 << 20, "GET /", ""), 1 << 20, 414);
    struct talk t = talk_open(); /* and not a byte earlier */
    char *line = filled(HTTP1_LINE_MAX - 1, "CONNECT ", "");
    talk_say(&t, line, HTTP1_LINE_MAX - 1);
    talk_is_open(&t);
    talk_close(&t, true);
    free(line);
}

static void b02_headers_without_end(void **state) {
    (void)state;
    is_too_large(filled(HTTP1_HEAD_MAX, HEAD "X: ", ""), HTTP1_HEAD_MAX, 431);
    flood(filled(1 << 20, HEAD "X: ", "\r\n\r\n"), 1 << 20, 431);
    size_t head = sizeof HEAD - 1, n = head + 10000 * 6 + 2;
    char *many = malloc(n);
    memcpy(many, HEAD, head);
    for (size_t i = 0; i < 10000; i++) memcpy(many + head + i * 6, "A: b\r\n", 6);
    memcpy(many + n - 2, "\r\n", 2);
    is_too_large(many, n, 431);
}

static void b02_the_largest_head_is_served(void **state) {
    (void)state;
    char *most = filled(HTTP1_HEAD_MAX - 1 + 3, HEAD "X: ", "\r\n\r\nabc");
    static const char hear[] = OK200;
    talk_served(&(struct served){most, HTTP1_HEAD_MAX + 2, HTTP1_HEAD_MAX - 1, "", 0, hear, sizeof hear - 1, "a.test:443"});
    free(most);
    size_t head = sizeof HEAD - 1, n = head + (HTTP1_FIELDS_MAX - 1) * 6 + 2; /* Host is one more */
    char *many = malloc(n);
    memcpy(many, HEAD, head);
    for (size_t i = 0; i < HTTP1_FIELDS_MAX - 1; i++) memcpy(many + head + i * 6, "A: b\r\n", 6);
    memcpy(many + n - 2, "\r\n", 2);
    talk_served(&(struct served){many, n, n, "", 0, hear, sizeof hear - 1, "a.test:443"});
    free(many);
}

static void b03_a_head_that_takes_its_time(void **state) {
    struct answer a;
    (void)state;
    for (int whole_lines = 0; whole_lines < 2; whole_lines++) {
        struct talk t = talk_open();
        if (whole_lines) SAY(&t, HEAD);
        for (int i = 0; i < 9; i++) {
            talk_say(&t, whole_lines ? "A: b\r\n" : "A", whole_lines ? 6 : 1);
            talk_pass_ms(1000);
            talk_is_open(&t);
        }
        talk_pass_ms(1000);
        hears_refusal(&t, &a);
        assert_int_equal(a.status, 408);
        talk_is_closed(&t);
        talk_recorded("protocol=http by=client reason=client-timeout dest=- total_ms=10000");
    }
    assert_int_equal(rig->n_opens, 0);
}

static void a_client_leaves_within_its_head(void **state) {
    (void)state;
    for (size_t n = 1; n < sizeof HEAD; n++) {
        struct talk t = talk_open();
        talk_say(&t, HEAD, n);
        stream_finish(t.stream);
        talk_is_closed(&t); /* nothing is said */
        talk_recorded("protocol=http reason=client-gone");
        t = talk_open();
        talk_say(&t, HEAD, n);
        talk_close(&t, true);
        talk_recorded("protocol=http reason=client-reset");
        assert_int_equal(listener_connections(rig->listener), 0);
    }
}

/* --- syntax --- */

static void b04_what_parsers_disagree_on(void **state) {
    static const struct refused all[] = {
        BAD("CONNECT a.test:443 HTTP/1.1\nHost: a.test\n\n"), BAD(HEAD "X: y\n\r\n"), BAD(HEAD "X: y\rZ: z\r\n\r\n"),
        BAD(HEAD "X: a\0b\r\n\r\n"),  BAD(HEAD "X\0: b\r\n\r\n"), BAD("CONNECT a.test\0:443 HTTP/1.1\r\n\r\n"),
        BAD(HEAD "X : y\r\n\r\n"),    BAD(HEAD "X: y\r\n z\r\n\r\n"), BAD(HEAD "X: y\r\n\tz\r\n\r\n"),
        BAD(HEAD " X: y\r\n\r\n"),    BAD(HEAD ": y\r\n\r\n"),     BAD(HEAD "X\r\n\r\n"),
        BAD("CON\tNECT a.test:443 HTTP/1.1\r\n\r\n"),              BAD("CONNECT\ta.test:443 HTTP/1.1\r\n\r\n"),
        BAD("CONNECT  a.test:443 HTTP/1.1\r\n\r\n"),               BAD("CONNECT a.test:443  HTTP/1.1\r\n\r\n"),
        BAD("CONNECT a.test:443 HTTP/1.1 \r\n\r\n"),               BAD("CONNECT a.test:443 http/1.1\r\n\r\n"),
        BAD("CONNECT\r\n\r\n"),       BAD("\r\n\r\n" HEAD "\r\n"), BAD("\r" HEAD "\r\n"),
        BAD("CONNECT a.test:443#x HTTP/1.1\r\n\r\n"),              BAD("CONNECT a\200.test:443 HTTP/1.1\r\n\r\n"),
        BAD("CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        LOST("connect a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n"),   /* another method, and no target of one */
        BAD("GET http://a.test/ HTTP/1.1\r\n\r\n"),               /* no Host */
        BAD("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test/x y\r\n\r\n"),
    };
    (void)state;
    ARE_REFUSED(all);
}

static void b05_other_versions(void **state) {
    static const struct refused all[] = {
        REFUSED("GET /\r\n", 505, "reason=client-protocol"),
        REFUSED("CONNECT a.test:443\r\n", 505, "reason=client-protocol"),
        REFUSED("CONNECT a.test:443 HTTP/0.9\r\n\r\n", 505, "reason=client-protocol"),
        REFUSED("CONNECT a.test:443 HTTP/2.0\r\n\r\n", 505, "reason=client-protocol"),
        REFUSED("CONNECT a.test:443 HTTP/1.2\r\n\r\n", 505, "reason=client-protocol"),
        REFUSED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505, "reason=client-protocol"),
    };
    (void)state;
    ARE_REFUSED(all);
}

#define POST "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"

static void b06_two_framings(void **state) {
    static const struct refused all[] = {
        BAD(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde"),
        BAD(HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        BAD("POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        BAD(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"),
        BAD(POST "Transfer-Encoding: xchunked\r\n\r\n"),
        BAD(POST "Transfer-Encoding:\r\n\r\n"),
        REFUSED(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "reason=client-protocol"),
    };
    (void)state;
    ARE_REFUSED(all);
}

static void b07_lengths(void **state) {
    static const struct refused all[] = {
        BAD(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"), BAD(POST "Content-Length: +5\r\n\r\nabcde"),
        BAD(POST "Content-Length: 5,5\r\n\r\nabcde"),                     BAD(POST "Content-Length: 0x10\r\n\r\n"),
        BAD(POST "Content-Length: 9223372036854775808\r\n\r\n"),          BAD(POST "Content-Length: -1\r\n\r\n"),
        BAD(POST "Content-Length:\r\n\r\n"),                              BAD(POST "Content-Length: 5 5\r\n\r\n"),
        BAD(HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    };
    (void)state;
    ARE_REFUSED(all);
}

/* --- destinations --- */

#define TO(target) "CONNECT " target " HTTP/1.1\r\nHost: a.test\r\n\r\n"

static void b08_authorities_that_are_none(void **state) {
    static const struct refused all[] = {
        LOST(TO("a.test")),        LOST(TO("a.test:")),       LOST(TO("a.test:0")),      LOST(TO("a.test:65536")),
        LOST(TO("a.test:443x")),   LOST(TO("a.test:+443")),   LOST(TO("a.test:0443443")), LOST(TO("a.test:443/path")),
        LOST(TO("/")),             LOST(TO("*")),             LOST(TO("http://a.test:443")), LOST(TO("2001:db8::1:443")),
        LOST(TO("2001:db8::1")),   LOST(TO("[2001:db8::1]")), LOST(TO("[2001:db8::1:443")), LOST(TO("[a.test]:443")),
        LOST(TO("[127.0.0.1]:1")), LOST(TO("[fe80::1%25lo]:1")), LOST(TO(":443")),       LOST(TO("a..b:443")),
        LOST(TO("a%00.test:443")), LOST(TO("_udp2:443")),     LOST(TO("_check:443")),    LOST(TO("_ICMP.:443")),
        LOST(TO("256.1.1.1:443")), LOST(TO("a_b.-c:443")),
    };
    (void)state;
    ARE_REFUSED(all);
}

static void b10_credentials_in_targets(void **state) {
    static const struct refused all[] = {
        LOST("GET http://a@b:c/ HTTP/1.1\r\nHost: b\r\n\r\n"),
        LOST("GET http://user:PW@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        LOST("GET https://user:PW@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        LOST(TO("user:PW@a.test:443")),
        LOST(TO("PW@a.test:443")),
    };
    struct answer a;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        is_refused(&all[i], &a);
        assert_null(strstr(rig->record, "PW"));
        assert_null(strstr(a.head, "PW"));
        assert_null(strstr(a.body, "PW"));
    }
}

/* Not even for a Host that names someone else: a web page could send that. */
static void b11_requests_to_the_proxy_itself(void **state) {
    static const struct refused all[] = {
        LOST("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        LOST("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nOrigin: http://evil.test\r\n\r\n"),
        LOST("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n\5\1\0\5\1\0\1\1\1"),
        LOST("GET / HTTP/1.0\r\n\r\n"),
        LOST("OPTIONS * HTTP/1.1\r\nHost: a.test\r\nAccess-Control-Request-Private-Network: true\r\n\r\n"),
    };
    struct answer a;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        is_refused(&all[i], &a);
        assert_null(strstr(a.head, "Access-Control"));
    }
}

static void b12_the_listener_itself(void **state) {
    static const struct refused all[] = {
        REFUSED(TO("127.0.0.1:1080"), 403, "reason=client-loop dest=127.0.0.1:1080 by=client"),
        REFUSED(TO("LOCALHOST.:1080"), 403, "reason=client-loop dest=localhost:1080"),
        REFUSED(TO("[::ffff:127.0.0.1]:1080"), 403, "reason=client-loop dest=127.0.0.1:1080"),
    };
    struct answer a;
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        is_refused(&all[i], &a);
        has(a.head, "error=proxy_loop_detected");
    }
}

/* --- credentials --- */

#define AUTH(text) HEAD "Proxy-Authorization: " text "\r\n\r\n"
#define DENIED(say) REFUSED(say, 407, "reason=client-auth by=client dest=-")

static void b14_credentials(void **state) {
    static const struct refused wrong[] = {
        DENIED(HEAD "\r\n"),
        DENIED(HEAD "Authorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n"),
        DENIED(AUTH("Basic YWxpY2U6c2VjcmVU")),         /* alice:secreT */
        DENIED(AUTH("Basic YWxpY2U6c2VjcmU=")),         /* alice:secre */
        DENIED(AUTH("Basic YWxpY2U6c2VjcmV0AA==")),     /* alice:secret and a NUL */
        DENIED(AUTH("Basic bWFsbG9yeTpzZWNyZXQ=")),     /* mallory:secret */
        DENIED(AUTH("Basic YWxpY2U6YnVpbDpkZXI=")),     /* alice:buil:der, which is bob's */
        DENIED(AUTH("Basic Og==")),                     /* : */
        DENIED(TO("127.0.0.1:1080")),                   /* what is where is told to those who may know */
        DENIED(TO("_udp2:443")),
        DENIED("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        DENIED("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    };
    static const struct served right[] = {
        SERVED(HEAD ALICE "\r\n", "payload", "a.test:443"),
        SERVED(AUTH("bAsIc  Ym9iOmJ1aWw6ZGVy"), "", "a.test:443"), /* bob:buil:der */
    };
    (void)state;
    with_users();
    ARE_REFUSED(wrong);
    ARE_SERVED(right);
}

static void b15_credentials_that_are_none(void **state) {
    static const struct refused wrong[] = {
        DENIED(AUTH("Basic !!!!")),   DENIED(AUTH("Basic YWxpY2U6c2VjcmV0=")), DENIED(AUTH("Basic YWxp Y2U6c2VjcmV0")),
        DENIED(AUTH("Basic YWxpY2U=")) /* no colon */,                        DENIED(AUTH("Basic")),
        DENIED(AUTH("Basic ")),       DENIED(AUTH("")),                        DENIED(AUTH("Bearer YWxpY2U6c2VjcmV0")),
        DENIED(AUTH("YWxpY2U6c2VjcmV0")),                                     DENIED(HEAD ALICE ALICE "\r\n"),
    };
    struct answer a;
    (void)state;
    with_users();
    ARE_REFUSED(wrong);
    char *say = filled(sizeof HEAD + 8300, HEAD "Proxy-Authorization: Basic ", "\r\n\r\n");
    is_refused(&(struct refused){say, sizeof HEAD + 8300, 407, "protocol=http reason=client-auth"}, &a);
    free(say);
    assert_null(strstr(rig->record, "aaaa"));
}

static void credentials_nobody_asked_for(void **state) {
    static const struct served any[] = {SERVED(HEAD ALICE "\r\n", "", "a.test:443"),
                                        SERVED(AUTH("nonsense"), "", "a.test:443")};
    (void)state;
    ARE_SERVED(any);
}

/* --- after the request --- */

static void b16_a_refusal_ends_the_connection(void **state) {
    static const struct refused all[] = {
        LOST("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" HEAD "\r\n"),
        LOST(TO("a.test") HEAD "\r\n"),
        BAD(HEAD "X : y\r\n\r\n" HEAD "\r\n"),
    };
    (void)state;
    ARE_REFUSED(all);
}

static struct pool_open *ask(struct talk *t) {
    *t = talk_open();
    SAY(t, HEAD "\r\n");
    talk_is_open(t); /* nothing is said before the answer */
    return rig_opened(rig, rig->n_opens - 1);
}

static void reasons_reach_the_client(void **state) {
    static const struct {
        int err, status;
        const char *type, *record;
    } all[] = {
        {ERR_TARGET_REFUSED, 502, "connection_refused", "by=target reason=target-refused dest=a.test:443 transport=h2"},
        {ERR_TARGET_DNS, 502, "dns_error", "by=target reason=target-dns"},
        {ERR_TARGET_TIMEOUT, 504, "connection_timeout", "by=target reason=target-timeout"},
        {ERR_TARGET_DENIED, 403, "destination_ip_prohibited", "by=target reason=target-denied"},
        {ERR_UPSTREAM_AUTH, 502, "proxy_configuration_error", "by=upstream reason=upstream-auth"},
        {ERR_UPSTREAM_CERTIFICATE, 502, "tls_certificate_error", "by=upstream reason=upstream-certificate"},
        {ERR_UPSTREAM_TIMEOUT, 504, "connection_timeout", "by=upstream reason=upstream-timeout"},
        {ERR_UPSTREAM_BUSY, 503, "connection_limit_reached", "by=upstream reason=upstream-busy"},
        {ERR_SHUTDOWN, 503, "proxy_internal_error", "by=adit reason=shutdown"},
        {ERR_NO_MEMORY, 503, "proxy_internal_error", "by=adit reason=no-memory"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct talk t;
        struct answer a;
        rig_refuse(ask(&t), all[i].err, "the reason");
        hears_refusal(&t, &a);
        assert_int_equal(a.status, all[i].status);
        has(a.head, all[i].type);
        has(a.head, "the reason");
        has(a.body, "the reason");
        assert_int_equal(listener_connections(rig->listener), 0);
        talk_is_closed(&t);
        talk_recorded(all[i].record);
        assert_int_equal(rig->records, i + 1);
    }
}

#define LT64 "<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<"
#define QUOTE16 "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""
#define QUOTE64 QUOTE16 QUOTE16 QUOTE16 QUOTE16

static void b20_foreign_text_stays_text(void **state) {
    static const char *const texts[] = {
        "<script>alert(1)</script>",
        "\r\nSet-Cookie: a=b\r\n\r\n<html>",
        "\"; error=connection_refused; details=\"",
        "\\\"\n\t\177\200\377",
        LT64 LT64 LT64 LT64 LT64, /* longer than what is shown of it */
        QUOTE64 QUOTE64 QUOTE64 QUOTE64 QUOTE64,
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct talk t;
        struct answer a;
        rig_refuse(ask(&t), ERR_TARGET_DNS, texts[i]);
        hears_refusal(&t, &a);
        assert_int_equal(a.status, 502);
        assert_null(strstr(a.head, "\nSet-Cookie"));
        assert_null(strstr(a.body, "<html>"));
        assert_null(strstr(a.head, "\"; error=connection_refused; details=\"\""));
        talk_is_closed(&t);
        assert_null(strchr(rig->record, '\n'));
    }
}

static void a27_one_connection_too_many(void **state) {
    static const struct refused full[] = {
        REFUSED(HEAD "\r\n", 503, "reason=limit by=adit dest=a.test:443"),
        BAD(HEAD "X : y\r\n\r\n"), /* has its own reason */
    };
    struct talk t, u;
    struct answer a;
    (void)state;
    talk_fresh(&(struct listen_config){.protocols = LISTEN_ALL, .max_connections = 1});
    ask(&t);
    for (size_t i = 0; i < 2; i++) {
        u = talk_open();
        talk_say(&u, full[i].say, full[i].n);
        hears_refusal(&u, &a);
        assert_int_equal(a.status, full[i].status);
        talk_is_closed(&u);
        talk_recorded(full[i].record);
    }
    talk_is_open(&t);
    talk_close(&t, true);
    talk_recorded("protocol=http by=client reason=client-reset");
    ask(&u);
    talk_close(&u, true);
}

int main(void) {
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, talk_teardown)
    const struct CMUnitTest tests[] = {
        CASE(connects),
        CASE(b01_request_lines_without_end),
        CASE(b02_headers_without_end),
        CASE(b02_the_largest_head_is_served),
        CASE(b03_a_head_that_takes_its_time),
        CASE(a_client_leaves_within_its_head),
        CASE(b04_what_parsers_disagree_on),
        CASE(b05_other_versions),
        CASE(b06_two_framings),
        CASE(b07_lengths),
        CASE(b08_authorities_that_are_none),
        CASE(b09_the_authority_wins_over_host),
        CASE(b10_credentials_in_targets),
        CASE(b11_requests_to_the_proxy_itself),
        CASE(b12_the_listener_itself),
        CASE(b14_credentials),
        CASE(b15_credentials_that_are_none),
        CASE(credentials_nobody_asked_for),
        CASE(b16_a_refusal_ends_the_connection),
        CASE(b17_what_follows_is_the_tunnels),
        CASE(reasons_reach_the_client),
        CASE(b20_foreign_text_stays_text),
        CASE(a27_one_connection_too_many),
    };
    return cmocka_run_group_tests_name("inbound_http", tests, NULL, NULL);
}
