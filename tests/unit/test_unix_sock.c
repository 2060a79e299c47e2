#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "net/unix_sock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static struct addr at;
static const char *path;

static int open_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static int setup(void **state) {
    char text[128];
    (void)state;
    strcpy(dir, "/tmp/test_unix_sock.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(text, sizeof text, "%s/s", dir);
    assert_int_equal(addr_from_path(&at, text), 0);
    path = at.u.un.sun_path;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    unlink(path);
    return rmdir(dir); /* fails if anything was left there */
}

static struct stat what(void) {
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st;
}

static int try(struct unix_sock *made, int *fd) { return unix_sock_listen(&at, 0600, 4, made, fd); }

static void must_listen(struct unix_sock *made, int *fd) { assert_int_equal(try(made, fd), 0); }

static void must_refuse(int errnum) {
    struct unix_sock made;
    struct stat before = what();
    int fd, fds = open_fds();
    assert_int_equal(try(&made, &fd), errnum);
    assert_int_equal(open_fds(), fds);
    assert_int_equal(what().st_ino, before.st_ino);
    assert_int_equal(what().st_mode, before.st_mode);
    assert_true(strlen(unix_sock_text(errnum)) > 10);
}

static int connects(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = connect(fd, &at.u.sa, at.len) ? errno : 0;
    close(fd);
    return r == EAGAIN ? 0 : r; /* nobody accepts here */
}

/* A socket at the path that nobody listens at. */
static void leave_stale(int type) {
    int fd = socket(AF_UNIX, type, 0);
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    close(fd);
}

static void test_modes(void **state) {
    (void)state;
    static const unsigned modes[] = {0600, 0660, 0666, 0, 0777};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct unix_sock made;
        int fd;
        mode_t was = umask(i % 2 ? 0 : 077);
        assert_int_equal(unix_sock_listen(&at, modes[i], 4, &made, &fd), 0);
        assert_int_equal(umask(was), i % 2 ? 0 : 077); /* as it was */
        assert_int_equal(what().st_mode, S_IFSOCK | modes[i]);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        if (modes[i]) assert_int_equal(connects(), 0);
        unix_sock_remove(&made);
        close(fd);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void test_another_mode(void **state) {
    (void)state;
    struct unix_sock made;
    int fd;
    must_listen(&made, &fd);
    assert_int_equal(unix_sock_set_mode(&made, 0660), 0);
    assert_int_equal(what().st_mode, S_IFSOCK | 0660);
    /* Whatever took its place is left alone. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unix_sock_set_mode(&made, 0666), ENOENT);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(unix_sock_set_mode(&made, 0666), ENOENT);
    assert_int_equal(what().st_mode, S_IFREG | 0600);
    close(fd);
}

static void test_stale_is_replaced(void **state) {
    (void)state;
    struct unix_sock made;
    int fd;
    leave_stale(SOCK_STREAM);
    assert_int_equal(connects(), ECONNREFUSED);
    must_listen(&made, &fd);
    assert_int_equal(connects(), 0);
    unix_sock_remove(&made);
    close(fd);
}

static void test_live_is_left(void **state) {
    (void)state;
    struct unix_sock made;
    int fd;
    must_listen(&made, &fd);
    must_refuse(EADDRINUSE);
    assert_int_equal(connects(), 0);
    /* A queue that is full is alive too. */
    int queue[64], n = 0;
    for (; n < 64; n++) {
        queue[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(queue[n], &at.u.sa, at.len)) break;
    }
    assert_int_equal(errno, EAGAIN);
    must_refuse(EADDRINUSE);
    for (; n >= 0; n--) close(queue[n]);
    close(fd);
    /* Of another kind: no way to know. */
    unlink(path);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, &at.u.sa, at.len), 0);
    must_refuse(EADDRINUSE);
    close(fd);
}

static void test_files_are_left(void **state) {
    (void)state;
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    assert_int_equal(write(fd, "precious", 8), 8);
    close(fd);
    must_refuse(ENOTSOCK);
    assert_int_equal(what().st_size, 8);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    must_refuse(ENOTSOCK);
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    must_refuse(ENOTSOCK);
    assert_int_equal(rmdir(path), 0);
}

/* Neither the link nor what it points to, be it a stale socket, a file, or nothing. */
static void test_links_are_left(void **state) {
    (void)state;
    char elsewhere[128];
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", dir);
    assert_int_equal(symlink(elsewhere, path), 0);
    must_refuse(ENOTSOCK);
    assert_int_equal(access(elsewhere, F_OK), -1);
    unlink(path);
    leave_stale(SOCK_STREAM);
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    must_refuse(ENOTSOCK);
    assert_int_equal(access(elsewhere, F_OK), 0);
    unlink(elsewhere);
}

/* As root a stale socket of another user; else the same asked by another one is not to be had, and a directory of root's
 * stands for what is not ours. */
static void test_other_users_are_left(void **state) {
    (void)state;
    if (geteuid() == 0) {
        leave_stale(SOCK_STREAM);
        assert_int_equal(lchown(path, 65534, 65534), 0);
        must_refuse(EEXIST);
        return;
    }
    struct unix_sock made;
    struct addr root;
    int fd;
    assert_int_equal(addr_from_path(&root, "/test_unix_sock"), 0);
    assert_int_equal(unix_sock_listen(&root, 0600, 4, &made, &fd), EACCES);
}

static void test_removes_its_own_only(void **state) {
    (void)state;
    struct unix_sock made, next;
    int fd, second;
    must_listen(&made, &fd);
    unlink(path);
    unix_sock_remove(&made); /* nothing there */
    must_listen(&next, &second);
    unix_sock_remove(&made); /* another socket */
    assert_int_equal(what().st_ino, next.ino);
    unix_sock_remove(&next);
    assert_int_equal(access(path, F_OK), -1);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    unix_sock_remove(&next); /* a file */
    assert_true(S_ISREG(what().st_mode));
    close(fd);
    close(second);
}

static void test_errors(void **state) {
    (void)state;
    struct unix_sock made;
    struct addr a;
    char text[128];
    int fd, fds = open_fds();
    snprintf(text, sizeof text, "%s/missing/s", dir);
    assert_int_equal(addr_from_path(&a, text), 0);
    assert_int_equal(unix_sock_listen(&a, 0600, 4, &made, &fd), ENOENT);
    assert_string_equal(unix_sock_text(ENOENT), strerror(ENOENT));
    /* A left-over in a directory that another program holds: waited for, but not for ever. */
    leave_stale(SOCK_STREAM);
    int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(try(&made, &fd), EBUSY);
    close(lock);
    assert_int_equal(open_fds(), fds);
    assert_int_equal(access(path, F_OK), 0); /* as it was */
    unlink(path);
}

/* Many at once, over a stale socket: one wins, and what it listens at is there. */
static void test_a_race(void **state) {
    (void)state;
    enum { RACERS = 8 };
    for (int round = 0; round < 20; round++) {
        pid_t pid[RACERS];
        int ready[2], done[2], won = 0, status;
        char c;
        leave_stale(SOCK_STREAM);
        assert_int_equal(pipe(ready), 0);
        assert_int_equal(pipe(done), 0);
        for (int i = 0; i < RACERS; i++) {
            pid[i] = fork();
            if (pid[i]) continue;
            struct unix_sock made;
            int fd;
            close(ready[1]);
            close(done[1]);
            (void)!read(ready[0], &c, 1);
            int r = try(&made, &fd);
            if (r) _exit(r == EADDRINUSE || r == EBUSY ? 1 : 2);
            (void)!read(done[0], &c, 1); /* listens until all have tried */
            _exit(0);
        }
        close(ready[1]);
        for (int i = 0, left = RACERS; left > 1; i = (i + 1) % RACERS) {
            if (!pid[i] || waitpid(pid[i], &status, WNOHANG) != pid[i]) {
                usleep(500);
                continue;
            }
            assert_int_equal(WEXITSTATUS(status), 1);
            pid[i] = 0;
            left--;
        }
        assert_int_equal(connects(), 0);
        close(done[1]);
        for (int i = 0; i < RACERS; i++) {
            if (!pid[i]) continue;
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            won += status == 0;
        }
        assert_int_equal(won, 1);
        close(ready[0]);
        close(done[0]);
        unlink(path);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(test_modes),          CASE(test_another_mode),        CASE(test_stale_is_replaced),
        CASE(test_live_is_left),   CASE(test_files_are_left),      CASE(test_links_are_left),
        CASE(test_other_users_are_left), CASE(test_removes_its_own_only), CASE(test_errors),
        CASE(test_a_race),
    };
    alarm(60); /* the race waits for its racers */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
