// POSIX threads: creation, mutexes, conditions, thread-local storage, barriers, cancellation.
#include "test.h"
#include <pthread.h>
#include <semaphore.h>

enum { THREADS = 6, ROUNDS = 2000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter;
static int turn;
static __thread int mine = 5;

static void *counts(void *argument) {
    mine += (int)(intptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
    }
    return (void *)(intptr_t)mine;
}

static void *takes_turns(void *argument) {
    int me = (int)(intptr_t)argument;
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != me) pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return 0;
}

static void *meets(void *argument) {
    long serial = 0;
    for (int i = 0; i < 20; i++) serial += pthread_barrier_wait(&barrier) != 0;
    __atomic_fetch_add((long *)argument, serial, __ATOMIC_SEQ_CST);
    return 0;
}

static void *sleeps(void *argument) {
    for (;;) pause();
    return argument;
}

static void *identifies(void *argument) {
    pid_t *ids = argument;
    ids[0] = getpid();
    ids[1] = gettid();
    return 0;
}

static void all(void *(*body)(void *), int shared, void *pointer, const char *what) {
    pthread_t threads[THREADS];
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *argument = shared ? pointer : (void *)(intptr_t)i;
        if (pthread_create(&threads[i], 0, body, argument) != 0) say("no thread %d\n", i);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result = 0;
        pthread_join(threads[i], &result);
        sum += (intptr_t)result;
    }
    say("%s: results sum to %ld\n", what, sum);
}

int main(void) {
    all(counts, 0, 0, "mutex");
    SHOW(counter);
    SHOW(mine);
    all(takes_turns, 0, 0, "condition");
    SHOW(turn);
    pthread_barrier_init(&barrier, 0, THREADS);
    long serial = 0;
    all(meets, 1, &serial, "barrier");
    SHOW(serial);

    pthread_t thread;
    pid_t ids[2];
    pthread_create(&thread, 0, identifies, ids);
    pthread_join(thread, 0);
    TRUE(ids[0] == getpid() && ids[1] != ids[0] && gettid() == getpid());
    pthread_create(&thread, 0, sleeps, 0);
    SHOW(pthread_cancel(thread));
    void *result;
    pthread_join(thread, &result);
    TRUE(result == PTHREAD_CANCELED);

    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_nsec += 30000000;
    if (deadline.tv_nsec >= 1000000000) deadline.tv_sec++, deadline.tv_nsec -= 1000000000;
    SHOW(sem_timedwait(&semaphore, &deadline));
    sem_post(&semaphore);
    SHOW(sem_wait(&semaphore));
    pthread_mutex_lock(&mutex);
    say("timed wait: %s\n", strerrorname_np(pthread_cond_timedwait(&condition, &mutex, &deadline)));
    pthread_mutex_unlock(&mutex);

    // Many short threads; their stacks are used again.
    for (int i = 0; i < 100; i++) {
        if (pthread_create(&thread, 0, counts, 0) != 0 || pthread_join(thread, 0) != 0) say("bad\n");
    }
    SHOW(counter);
    return 0;
}
