#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/defer.h"

struct node {
    struct defer d;
    struct defer_queue *q;
    char name;
    struct node *post, *cancel; /* what it does when it runs */
    bool again, gone;
    unsigned runs;
};

static char order[64]; /* names in the order in which they ran */

static void run(void *arg) {
    struct node *n = arg;
    size_t at = strlen(order);
    if (at + 1 < sizeof order) order[at] = n->name;
    n->runs++;
    assert_false(defer_pending(&n->d));
    if (n->post) defer_post(n->q, &n->post->d);
    if (n->cancel) defer_cancel(&n->cancel->d);
    if (n->again) defer_post(n->q, &n->d);
    if (n->gone) free(n);
}

static int setup(void **state) {
    (void)state;
    memset(order, 0, sizeof order);
    return 0;
}

static void node_init(struct node *n, struct defer_queue *q, char name) {
    *n = (struct node){.q = q, .name = name};
    defer_init(&n->d, run, n);
}

static void runs_in_order_and_once(void **state) {
    (void)state;
    struct defer_queue q;
    struct node n[4];
    defer_queue_init(&q, NULL, NULL);
    assert_true(defer_queue_run(&q, 0));
    for (int i = 0; i < 4; i++) {
        node_init(&n[i], &q, (char)('a' + i));
        assert_false(defer_pending(&n[i].d));
        defer_post(&q, &n[i].d);
        assert_true(defer_pending(&n[i].d));
    }
    defer_post(&q, &n[0].d); /* already queued: keeps its place */
    assert_true(defer_queue_run(&q, 0));
    assert_string_equal(order, "abcd");
    assert_true(defer_queue_run(&q, 0));
    assert_string_equal(order, "abcd");
    for (int i = 0; i < 4; i++) assert_false(defer_pending(&n[i].d));
}

static void cancel_anywhere(void **state) {
    (void)state;
    /* Every subset of four nodes, cancelled in both directions. */
    for (unsigned set = 0; set < 16; set++)
        for (int back = 0; back < 2; back++) {
            struct defer_queue q;
            struct node n[4];
            char expected[5] = "";
            size_t m = 0;
            memset(order, 0, sizeof order);
            defer_queue_init(&q, NULL, NULL);
            for (int i = 0; i < 4; i++) {
                node_init(&n[i], &q, (char)('a' + i));
                defer_post(&q, &n[i].d);
                if (!(set & 1u << i)) expected[m++] = (char)('a' + i);
            }
            for (int i = 0; i < 4; i++) {
                int k = back ? 3 - i : i;
                if (set & 1u << k) {
                    defer_cancel(&n[k].d);
                    assert_false(defer_pending(&n[k].d));
                    defer_cancel(&n[k].d);
                }
            }
            assert_true(defer_queue_run(&q, 0));
            assert_string_equal(order, expected);
        }
}

static void what_is_posted_meanwhile_runs_too(void **state) {
    (void)state;
    struct defer_queue q;
    struct node a, b, c;
    defer_queue_init(&q, NULL, NULL);
    node_init(&a, &q, 'a');
    node_init(&b, &q, 'b');
    node_init(&c, &q, 'c');
    a.post = &c;
    b.cancel = &c;
    c.post = &b;
    defer_post(&q, &a.d);
    assert_true(defer_queue_run(&q, 0));
    assert_string_equal(order, "acb");
    /* And what is cancelled meanwhile does not. */
    memset(order, 0, sizeof order);
    c.post = NULL;
    defer_post(&q, &b.d);
    defer_post(&q, &c.d);
    assert_true(defer_queue_run(&q, 0));
    assert_string_equal(order, "b");
}

static void a_node_may_go_in_its_callback(void **state) {
    (void)state;
    struct defer_queue q;
    defer_queue_init(&q, NULL, NULL);
    for (int i = 0; i < 3; i++) {
        struct node *n = calloc(1, sizeof *n);
        assert_non_null(n);
        node_init(n, &q, 'x');
        n->gone = true;
        defer_post(&q, &n->d);
    }
    assert_true(defer_queue_run(&q, 0));
    assert_string_equal(order, "xxx");
}

static void two_that_wake_each_other_stop_at_the_bound(void **state) {
    (void)state;
    struct defer_queue q;
    struct node a, b;
    defer_queue_init(&q, NULL, NULL);
    node_init(&a, &q, 'a');
    node_init(&b, &q, 'b');
    a.post = &b;
    b.post = &a;
    defer_post(&q, &a.d);
    assert_false(defer_queue_run(&q, 5));
    assert_string_equal(order, "ababa");
    assert_false(defer_queue_run(&q, 1));
    assert_string_equal(order, "ababab");
    a.runs = b.runs = 0;
    assert_false(defer_queue_run(&q, 0));
    assert_int_equal(a.runs + b.runs, 10000);
    /* Exactly as many as there are: the queue is empty. */
    b.post = NULL;
    defer_cancel(&a.d);
    defer_cancel(&b.d);
    defer_post(&q, &a.d);
    assert_true(defer_queue_run(&q, 2));
}

static void posting_itself_again(void **state) {
    (void)state;
    struct defer_queue q;
    struct node a;
    defer_queue_init(&q, NULL, NULL);
    node_init(&a, &q, 'a');
    a.again = true;
    defer_post(&q, &a.d);
    assert_false(defer_queue_run(&q, 3));
    assert_string_equal(order, "aaa");
    assert_true(defer_pending(&a.d));
    defer_cancel(&a.d);
    assert_true(defer_queue_run(&q, 3));
}

static void wake(void *arg) {
    ++*(unsigned *)arg;
}

static void wakes_when_it_becomes_non_empty(void **state) {
    (void)state;
    struct defer_queue q;
    struct node a, b;
    unsigned woken = 0;
    defer_queue_init(&q, wake, &woken);
    node_init(&a, &q, 'a');
    node_init(&b, &q, 'b');
    assert_int_equal(woken, 0);
    defer_post(&q, &a.d);
    assert_int_equal(woken, 1);
    defer_post(&q, &a.d);
    defer_post(&q, &b.d);
    assert_int_equal(woken, 1);
    defer_cancel(&a.d);
    defer_cancel(&b.d);
    defer_post(&q, &b.d);
    assert_int_equal(woken, 2);
    assert_true(defer_queue_run(&q, 0));
    defer_post(&q, &a.d);
    assert_int_equal(woken, 3);
    defer_cancel(&a.d);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(runs_in_order_and_once),
        TEST(cancel_anywhere),
        TEST(what_is_posted_meanwhile_runs_too),
        TEST(a_node_may_go_in_its_callback),
        TEST(two_that_wake_each_other_stop_at_the_bound),
        TEST(posting_itself_again),
        TEST(wakes_when_it_becomes_non_empty),
    };
    return cmocka_run_group_tests_name("defer", tests, NULL, NULL);
}
