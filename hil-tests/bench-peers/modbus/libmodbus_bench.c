/* libmodbus as a server and as a client, for `cargo xtask bench modbus`.
 *
 *   libmodbus_bench serve                          prints "PORT\n", serves until its standard input ends
 *   libmodbus_bench ask PORT WIDTH SECONDS [store] reads WIDTH registers at a time, one request after another
 *
 * Register a holds a. The client adds up what it reads, so that no compiler leaves it out; with
 * `store` it keeps each register as a sample with its number, time, quality and value, as a gateway
 * must. It prints one JSON object: requests, values, seconds, cpu_seconds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REGISTERS = 65536, MOST_CLIENTS = 8 };

static int fail(const char *what) {
    fprintf(stderr, "libmodbus_bench: %s: %s\n", what, modbus_strerror(errno));
    return 1;
}

static int serve(void) {
    modbus_t *bus = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(0, 0, REGISTERS, REGISTERS);
    if (bus == NULL || map == NULL) return fail("no memory");
    for (int at = 0; at < REGISTERS; at++) map->tab_registers[at] = map->tab_input_registers[at] = at;
    int listener = modbus_tcp_listen(bus, MOST_CLIENTS);
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&own, &length) < 0) return fail("listen");
    printf("%u\n", ntohs(own.sin_port));
    fflush(stdout);

    struct pollfd watched[2 + MOST_CLIENTS] = {{0, POLLIN, 0}, {listener, POLLIN, 0}};
    int count = 2;
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    for (;;) {
        if (poll(watched, count, -1) < 0) return fail("poll");
        if (watched[0].revents) return 0;
        if (watched[1].revents && count < 2 + MOST_CLIENTS) {
            int client = accept(listener, NULL, NULL);
            int on = 1;
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            watched[count].fd = client;
            watched[count].events = POLLIN;
            watched[count++].revents = 0;
        }
        for (int at = 2; at < count; at++) {
            if (!watched[at].revents) continue;
            modbus_set_socket(bus, watched[at].fd);
            int got = modbus_receive(bus, query);
            if (got > 0) {
                modbus_reply(bus, query, got, map);
            } else if (got < 0) {
                close(watched[at].fd);
                watched[at] = watched[--count];
                break;
            }
        }
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double processor(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

struct sample {
    uint32_t tag;
    int quality;
    int64_t nanoseconds;
    double value;
};

static int64_t wall(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int ask(int port, int width, double seconds, int store) {
    static struct sample samples[REGISTERS];
    modbus_t *bus = modbus_new_tcp("127.0.0.1", port);
    if (bus == NULL || modbus_connect(bus) < 0) return fail("connect");
    uint16_t registers[MODBUS_MAX_READ_REGISTERS];
    unsigned long long requests = 0, sum = 0;
    double start = now(), cpu = processor(), end = start + seconds;
    for (int from = 0; now() < end; from = from + 2 * width > REGISTERS ? 0 : from + width) {
        if (modbus_read_registers(bus, from, width, registers) != width) return fail("read");
        if (store) {
            int64_t time = wall();
            for (int at = 0; at < width; at++) {
                samples[from + at] = (struct sample){from + at, 192, time, registers[at]};
            }
        } else {
            for (int at = 0; at < width; at++) sum += registers[at];
        }
        requests++;
    }
    for (int at = 0; at < REGISTERS; at++) sum += (unsigned long long)samples[at].value;
    printf("{\"requests\":%llu,\"values\":%llu,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"sum\":%llu}\n",
           requests, requests * width, now() - start, processor() - cpu, sum);
    return 0;
}

int main(int count, char **words) {
    if (count == 2 && strcmp(words[1], "serve") == 0) return serve();
    if (count >= 5 && strcmp(words[1], "ask") == 0) {
        int store = count == 6 && strcmp(words[5], "store") == 0;
        return ask(atoi(words[2]), atoi(words[3]), atof(words[4]), store);
    }
    fprintf(stderr, "usage: libmodbus_bench serve | libmodbus_bench ask PORT WIDTH SECONDS [store]\n");
    return 2;
}
