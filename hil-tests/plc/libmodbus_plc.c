/* A libmodbus server over TCP or RTU, whose every register holds its own address.
 *
 *     libmodbus_plc tcp PORT          PORT 0: the system chooses
 *     libmodbus_plc rtu DEVICE UNIT
 *
 * A coil or discrete input holds (address ^ address >> 3) & 1. Everything may be written. Reading
 * 60000 + CODE gives that exception. One JSON line is printed once it serves: {"port": N} or
 * {"pty": DEVICE}; then one line for each request. Several TCP clients are served side by side.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

enum { CELLS = 65536, REFUSED = 60000, MOST_EXCEPTION = 11 };

static modbus_mapping_t *cells;

static void fill(void)
{
    cells = modbus_mapping_new(CELLS, CELLS, CELLS, CELLS);
    if (cells == NULL) {
        fprintf(stderr, "no memory for the cells\n");
        exit(1);
    }
    for (int address = 0; address < CELLS; address++) {
        cells->tab_bits[address] = (address ^ address >> 3) & 1;
        cells->tab_input_bits[address] = (address ^ address >> 3) & 1;
        cells->tab_registers[address] = (uint16_t)address;
        cells->tab_input_registers[address] = (uint16_t)address;
    }
}

/* Answers one request; whether the connection is still good. */
static int serve(modbus_t *bus)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int length = modbus_receive(bus, query);
    if (length == 0)
        return 1;
    if (length == -1)
        return errno == EMBBADCRC || errno == EMBBADDATA || errno == ETIMEDOUT;
    const uint8_t *pdu = query + modbus_get_header_length(bus);
    int start = pdu[1] << 8 | pdu[2], count = pdu[3] << 8 | pdu[4];
    printf("{\"event\": \"request\", \"unit\": %d, \"function\": %d, \"start\": %d, "
           "\"count\": %d}\n", pdu[-1], pdu[0], start, count);
    if (pdu[0] >= 1 && pdu[0] <= 4)
        for (int code = 1; code <= MOST_EXCEPTION; code++)
            if (start <= REFUSED + code && REFUSED + code < start + count)
                return modbus_reply_exception(bus, query, code) != -1;
    return modbus_reply(bus, query, length, cells) != -1;
}

static int over_tcp(int port)
{
    modbus_t *bus = modbus_new_tcp("127.0.0.1", port);
    int listener = bus == NULL ? -1 : modbus_tcp_listen(bus, 8);
    struct sockaddr_in bound;
    socklen_t size = sizeof bound;
    if (listener == -1 || getsockname(listener, (struct sockaddr *)&bound, &size) == -1) {
        fprintf(stderr, "port %d: %s\n", port, modbus_strerror(errno));
        return 1;
    }
    printf("{\"port\": %d}\n", ntohs(bound.sin_port));
    fd_set all;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (int top = listener;;) {
        fd_set ready = all;
        if (select(top + 1, &ready, NULL, NULL, NULL) == -1)
            return 1;
        for (int one = 0; one <= top; one++) {
            if (!FD_ISSET(one, &ready))
                continue;
            if (one == listener) {
                int client = accept(listener, NULL, NULL);
                if (client != -1)
                    FD_SET(client, &all);
                if (client > top)
                    top = client;
                continue;
            }
            modbus_set_socket(bus, one);
            if (!serve(bus)) {
                close(one);
                FD_CLR(one, &all);
            }
        }
    }
}

static int over_rtu(const char *device, int unit)
{
    modbus_t *bus = modbus_new_rtu(device, 19200, 'N', 8, 1);
    if (bus == NULL || modbus_set_slave(bus, unit) == -1 || modbus_connect(bus) == -1) {
        fprintf(stderr, "%s: %s\n", device, modbus_strerror(errno));
        return 1;
    }
    printf("{\"pty\": \"%s\"}\n", device);
    while (serve(bus))
        ;
    fprintf(stderr, "%s: %s\n", device, modbus_strerror(errno));
    return 1;
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    fill();
    if (count == 3 && strcmp(arguments[1], "tcp") == 0)
        return over_tcp(atoi(arguments[2]));
    if (count == 4 && strcmp(arguments[1], "rtu") == 0)
        return over_rtu(arguments[2], atoi(arguments[3]));
    fprintf(stderr, "usage: %s tcp PORT | rtu DEVICE UNIT\n", arguments[0]);
    return 2;
}
