#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/activation.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

/* Every case runs in a process of its own, whose descriptors from 3 on are its to fill. */

static char why[ACTIVATION_WHY_MAX];

static void put(int fd, int at) {
    if (fd == at) return;
    if (dup2(fd, at) != at) abort();
    close(fd);
}

static int listener(int family, int type) {
    int fd = socket(family, type, 0);
    struct sockaddr_storage ss = {.ss_family = (sa_family_t)family};
    socklen_t len = family == AF_UNIX ? sizeof(sa_family_t) : family == AF_INET ? sizeof(struct sockaddr_in)
                                                                                : sizeof(struct sockaddr_in6);
    if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len)) abort();
    if (type == SOCK_STREAM && listen(fd, 1)) abort();
    return fd;
}

static void environment(pid_t pid, const char *fds, const char *names) {
    char text[32];
    snprintf(text, sizeof text, "%d", (int)pid);
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", fds, 1);
    if (names) setenv("LISTEN_FDNAMES", names, 1);
    else unsetenv("LISTEN_FDNAMES");
}

#define WANT(cond)                                                         \
    do {                                                                   \
        if (!(cond)) {                                                     \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #cond, why); \
            return 1;                                                      \
        }                                                                  \
    } while (0)

static int in_child(int (*body)(void)) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int fd = 3; fd < 64; fd++) close(fd);
        int r = body();
        activation_close();
        exit(r); /* leaks count */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int cleared(void) {
    return !getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES");
}

static int no_activation(void) {
    int fd;
    WANT(activation_take(why, sizeof why) == 0);
    WANT(!activation_name(0));
    WANT(activation_open("web", &fd, why, sizeof why) == ERR_CONFIG);
    WANT(strstr(why, "not started by socket activation"));
    return 0;
}

static int of_another_process(void) {
    put(listener(AF_INET, SOCK_STREAM), 3);
    environment(getppid(), "1", "web");
    WANT(activation_take(why, sizeof why) == 0);
    WANT(cleared());
    WANT(!activation_name(0));
    WANT(!(fcntl(3, F_GETFD) & FD_CLOEXEC)); /* not ours to touch */
    static const char *const pids[] = {"", "x", "-1", " 1", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof pids / sizeof *pids; i++) {
        environment(0, "1", "web");
        setenv("LISTEN_PID", pids[i], 1);
        WANT(activation_take(why, sizeof why) == 0 && !activation_name(0));
    }
    environment(0, "1", "web");
    unsetenv("LISTEN_PID");
    WANT(activation_take(why, sizeof why) == 0 && !activation_name(0));
    return 0;
}

static int names_select(void) {
    int a, b;
    put(listener(AF_INET, SOCK_STREAM), 3);
    put(listener(AF_INET6, SOCK_STREAM), 4);
    put(listener(AF_UNIX, SOCK_STREAM), 5);
    environment(getpid(), "3", "one:two:three");
    WANT(activation_take(why, sizeof why) == 0);
    WANT(cleared());
    for (int fd = 3; fd <= 5; fd++) WANT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    WANT(strcmp(activation_name(0), "one") == 0 && strcmp(activation_name(2), "three") == 0 && !activation_name(3));
    WANT(activation_open("two", &a, why, sizeof why) == 0);
    WANT(activation_open("two", &b, why, sizeof why) == 0 && a != b); /* again, after a reload */
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    WANT(getsockname(a, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family == AF_INET6);
    WANT(fcntl(a, F_GETFD) & FD_CLOEXEC && fcntl(a, F_GETFL) & O_NONBLOCK);
    WANT(close(a) == 0 && close(b) == 0);
    WANT(activation_open("four", &a, why, sizeof why) == ERR_CONFIG);
    WANT(strstr(why, "no socket 'four' was passed; there is: one, two, three"));
    WANT(activation_open("", &a, why, sizeof why) == ERR_CONFIG);
    return 0;
}

static int without_names(void) {
    int fd;
    put(listener(AF_INET, SOCK_STREAM), 3);
    environment(getpid(), "1", NULL);
    WANT(activation_take(why, sizeof why) == 0);
    WANT(activation_open("unknown", &fd, why, sizeof why) == 0);
    close(fd);
    return 0;
}

static int fewer_names_and_twice_the_same(void) {
    int fd;
    for (int i = 3; i < 7; i++) put(listener(AF_INET, SOCK_STREAM), i);
    environment(getpid(), "4", "web:web:odd\n\"name");
    WANT(activation_take(why, sizeof why) == 0);
    WANT(activation_open("web", &fd, why, sizeof why) == ERR_CONFIG);
    WANT(strstr(why, "2 sockets 'web' were passed"));
    WANT(activation_open("other", &fd, why, sizeof why) == ERR_CONFIG);
    WANT(strstr(why, "\"odd\\x0a\\\"name\", unknown"));
    return 0;
}

static int wrong_descriptors(void) {
    static const struct {
        const char *name, *part;
    } cases[] = {{"file", "is no socket"},
                 {"udp", "datagrams"},
                 {"quiet", "does not listen"},
                 {"pair", "does not listen"},
                 {"dgram", "datagrams"}};
    int pair[2], fd;
    put(open("/dev/null", O_RDWR), 3);
    put(listener(AF_INET, SOCK_DGRAM), 4);
    put(socket(AF_INET, SOCK_STREAM, 0), 5);
    WANT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    int far = fcntl(pair[1], F_DUPFD, 20);
    close(pair[1]);
    put(pair[0], 6);
    put(listener(AF_UNIX, SOCK_DGRAM), 7);
    environment(getpid(), "5", "file:udp:quiet:pair:dgram");
    WANT(activation_take(why, sizeof why) == 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        WANT(activation_open(cases[i].name, &fd, why, sizeof why) == ERR_CONFIG);
        WANT(strstr(why, cases[i].part) && strstr(why, cases[i].name));
    }
    close(far);
    return 0;
}

static int wrong_counts(void) {
    static const char *const counts[] = {"", "x", "-1", "1x", "65", "4294967297", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        environment(getpid(), counts[i], NULL);
        WANT(activation_take(why, sizeof why) == ERR_CONFIG);
        WANT(strstr(why, "LISTEN_FDS") && cleared());
    }
    environment(getpid(), "0", NULL);
    WANT(activation_take(why, sizeof why) == 0 && !activation_name(0));
    put(listener(AF_INET, SOCK_STREAM), 3);
    environment(getpid(), "2", NULL);
    WANT(activation_take(why, sizeof why) == ERR_CONFIG);
    WANT(strstr(why, "descriptor 4 is not open"));
    return 0;
}

static int a_name_that_is_too_long(void) {
    char names[600];
    put(listener(AF_INET, SOCK_STREAM), 3);
    put(listener(AF_INET, SOCK_STREAM), 4);
    memset(names, 'n', sizeof names);
    strcpy(names + 300, ":web");
    environment(getpid(), "2", names);
    WANT(activation_take(why, sizeof why) == 0);
    WANT(strcmp(activation_name(0), "") == 0 && strcmp(activation_name(1), "web") == 0);
    return 0;
}

#define BODY(f) \
    static void test_##f(void **state) { \
        (void)state; \
        assert_int_equal(in_child(f), 0); \
    }
BODY(no_activation)
BODY(of_another_process)
BODY(names_select)
BODY(without_names)
BODY(fewer_names_and_twice_the_same)
BODY(wrong_descriptors)
BODY(wrong_counts)
BODY(a_name_that_is_too_long)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_activation),
        cmocka_unit_test(test_of_another_process),
        cmocka_unit_test(test_names_select),
        cmocka_unit_test(test_without_names),
        cmocka_unit_test(test_fewer_names_and_twice_the_same),
        cmocka_unit_test(test_wrong_descriptors),
        cmocka_unit_test(test_wrong_counts),
        cmocka_unit_test(test_a_name_that_is_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
