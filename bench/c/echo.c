/* libzmq's own echo, under CURVE or in the clear, and the same load that `load.rs` makes.

   echo serve null|curve: prints the port and serves until stdin ends.
   echo load null|curve ADDRESS --in-flight N --body-bytes N --connections N --warm-up-ms N --window-ms N: prints a sample as
   JSON.

   A message has three frames, as long as those of Callosum in dialect 1: a marker of 5 bytes, a header of 38, which says
   whose call it is, and the body. A ROUTER sends them back to a DEALER, of which there is one for each connection. Each side has
   its one thread, and libzmq another for its I/O. */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What is used of zmq.h (4.3), which the library of the Python package comes without. */
typedef struct {
    _Alignas(void *) unsigned char opaque[64];
} zmq_msg_t;
enum { ZMQ_DEALER = 5, ZMQ_ROUTER = 6, ZMQ_DONTWAIT = 1, ZMQ_SNDMORE = 2 };
enum { ZMQ_LINGER = 17, ZMQ_SNDHWM = 23, ZMQ_RCVHWM = 24, ZMQ_LAST_ENDPOINT = 32 };
enum { ZMQ_CURVE_SERVER = 47, ZMQ_CURVE_PUBLICKEY = 48, ZMQ_CURVE_SECRETKEY = 49, ZMQ_CURVE_SERVERKEY = 50 };
void *zmq_ctx_new(void);
void *zmq_socket(void *context, int type);
int zmq_setsockopt(void *socket, int option, const void *value, size_t len);
int zmq_getsockopt(void *socket, int option, void *value, size_t *len);
int zmq_bind(void *socket, const char *endpoint);
int zmq_connect(void *socket, const char *endpoint);
int zmq_send(void *socket, const void *bytes, size_t len, int flags);
int zmq_msg_init(zmq_msg_t *message);
int zmq_msg_recv(zmq_msg_t *message, void *socket, int flags);
int zmq_msg_send(zmq_msg_t *message, void *socket, int flags);
int zmq_msg_close(zmq_msg_t *message);
int zmq_msg_more(const zmq_msg_t *message);
void *zmq_msg_data(zmq_msg_t *message);
size_t zmq_msg_size(const zmq_msg_t *message);
typedef struct {
    void *socket;
    int fd;
    short events, revents;
} zmq_pollitem_t;
enum { ZMQ_POLLIN = 1 };
int zmq_poll(zmq_pollitem_t *items, int count, long timeout_ms);
int zmq_errno(void);
const char *zmq_strerror(int error);

/* zmq_curve(7), "Test key values". */
static const char SERVER_PUBLIC[] = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
static const char SERVER_SECRET[] = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6";
static const char CLIENT_PUBLIC[] = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
static const char CLIENT_SECRET[] = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

enum { MARKER = 5, HEADER = 38, FRAMES = 3 };

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
        exit(1);
    }
}

static void set(void *socket, int option, const void *value, size_t len) {
    check(zmq_setsockopt(socket, option, value, len), "zmq_setsockopt");
}

static void *open_socket(void *context, int type) {
    void *socket = zmq_socket(context, type);
    const int none = 0;
    if (!socket) fail("no socket");
    /* No limit to what waits: the load bounds it. */
    set(socket, ZMQ_SNDHWM, &none, sizeof none);
    set(socket, ZMQ_RCVHWM, &none, sizeof none);
    set(socket, ZMQ_LINGER, &none, sizeof none);
    return socket;
}

static void *end_with_stdin(void *unused) {
    char buffer[64];
    while (read(0, buffer, sizeof buffer) > 0) {
    }
    _exit(0);
    return unused;
}

static void serve(int curve) {
    void *socket = open_socket(zmq_ctx_new(), ZMQ_ROUTER);
    const int yes = 1;
    char endpoint[256];
    size_t len = sizeof endpoint;
    pthread_t watcher;
    if (curve) {
        set(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes);
        set(socket, ZMQ_CURVE_SECRETKEY, SERVER_SECRET, sizeof SERVER_SECRET);
    }
    check(zmq_bind(socket, "tcp://127.0.0.1:*"), "zmq_bind");
    check(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &len), "zmq_getsockopt");
    printf("%s\n", strrchr(endpoint, ':') + 1);
    fflush(stdout);
    if (pthread_create(&watcher, NULL, end_with_stdin, NULL)) fail("no thread");
    for (;;) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        check(zmq_msg_recv(&message, socket, 0), "zmq_msg_recv");
        const int more = zmq_msg_more(&message) ? ZMQ_SNDMORE : 0;
        check(zmq_msg_send(&message, socket, more), "zmq_msg_send");
    }
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* A call that follows another, as a task of `load.rs` makes them. */
struct caller {
    uint64_t begun;
    unsigned char *body;
};

struct load {
    /* One for each connection; caller n uses the one of number n modulo their number. */
    zmq_pollitem_t *sockets;
    uint32_t connections, in_flight;
    size_t body_bytes;
    uint64_t opens, closes;
    struct caller *callers;
    uint32_t ended;
    uint64_t *latencies;
    size_t calls, room;
};

static void fill(unsigned char *body, size_t len, uint64_t seed) {
    /* splitmix64 */
    for (size_t at = 0; at < len; at++) {
        uint64_t z = (seed += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        body[at] = (unsigned char)(z ^ (z >> 31));
    }
}

static void call(struct load *load, uint32_t which) {
    unsigned char header[HEADER] = {0};
    struct caller *caller = &load->callers[which];
    void *socket = load->sockets[which % load->connections].socket;
    memcpy(header, &which, sizeof which);
    caller->begun = now();
    check(zmq_send(socket, "UPPER", MARKER, ZMQ_SNDMORE), "zmq_send");
    check(zmq_send(socket, header, HEADER, ZMQ_SNDMORE), "zmq_send");
    check(zmq_send(socket, caller->body, load->body_bytes, 0), "zmq_send");
}

/* Lengths, and eight bytes at the start, in the middle and at the end. */
static int looks_like(const unsigned char *a, size_t a_len, const unsigned char *b, size_t b_len) {
    const size_t starts[] = {0, b_len / 2, b_len < 8 ? 0 : b_len - 8};
    if (a_len != b_len) return 0;
    for (int i = 0; i < 3; i++) {
        const size_t rest = b_len - starts[i];
        if (memcmp(a + starts[i], b + starts[i], rest < 8 ? rest : 8)) return 0;
    }
    return 1;
}

static void record(struct load *load, uint64_t nanos) {
    if (load->calls == load->room) {
        load->room = load->room ? load->room * 2 : 1 << 16;
        load->latencies = realloc(load->latencies, load->room * sizeof *load->latencies);
        if (!load->latencies) fail("no memory");
    }
    load->latencies[load->calls++] = nanos;
}

/* Takes one reply, if there is one, and makes the caller's next call, unless the window is over. Returns whether there was a
   reply. */
static int take(struct load *load, void *socket, int flags) {
    zmq_msg_t frames[FRAMES];
    uint32_t which;
    int intact, goes_on = 1;
    for (int i = 0; i < FRAMES; i++) {
        zmq_msg_init(&frames[i]);
        const int received = zmq_msg_recv(&frames[i], socket, i ? 0 : flags);
        if (received < 0 && zmq_errno() == EAGAIN) return 0;
        check(received, "zmq_msg_recv");
        if (!zmq_msg_more(&frames[i]) != (i == FRAMES - 1)) fail("not three frames");
    }
    const uint64_t ended = now();
    if (zmq_msg_size(&frames[1]) != HEADER) fail("a header came back changed");
    memcpy(&which, zmq_msg_data(&frames[1]), sizeof which);
    if (which >= load->in_flight) fail("a header came back changed");
    const struct caller *caller = &load->callers[which];
    const unsigned char *echoed = zmq_msg_data(&frames[2]);
    const size_t len = zmq_msg_size(&frames[2]);
    if (ended >= load->closes) {
        intact = 1;
        goes_on = 0;
    } else if (ended >= load->opens) {
        intact = looks_like(echoed, len, caller->body, load->body_bytes);
        record(load, ended - caller->begun);
    } else {
        intact = len == load->body_bytes && !memcmp(echoed, caller->body, len);
    }
    if (!intact) fail("a body came back changed");
    for (int i = 0; i < FRAMES; i++) zmq_msg_close(&frames[i]);
    if (goes_on) {
        call(load, which);
    } else {
        load->ended++;
    }
    return 1;
}

/* Takes the replies that there are, on every connection. With one, it waits in zmq_msg_recv, which costs less than zmq_poll. */
static void take_all(struct load *load) {
    if (load->connections == 1) {
        take(load, load->sockets[0].socket, 0);
        return;
    }
    check(zmq_poll(load->sockets, (int)load->connections, -1), "zmq_poll");
    for (uint32_t i = 0; i < load->connections; i++) {
        if (!(load->sockets[i].revents & ZMQ_POLLIN)) continue;
        while (take(load, load->sockets[i].socket, ZMQ_DONTWAIT)) {
        }
    }
}

static int ascending(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print(struct load *load, uint64_t window_ms) {
    qsort(load->latencies, load->calls, sizeof *load->latencies, ascending);
    printf("{\"seconds\": %f, \"latency_ns\": {", (double)window_ms / 1000);
    for (size_t at = 0, next; at < load->calls; at = next) {
        for (next = at; next < load->calls && load->latencies[next] == load->latencies[at];) next++;
        printf("%s\"%llu\": %zu", at ? ", " : "", (unsigned long long)load->latencies[at], next - at);
    }
    printf("}}\n");
}

static uint64_t argument(int count, char **arguments, const char *name) {
    for (int i = 0; i + 1 < count; i++) {
        if (!strcmp(arguments[i], name)) return strtoull(arguments[i + 1], NULL, 10);
    }
    fprintf(stderr, "%s is missing\n", name);
    exit(2);
}

static void *connect_to(void *context, const char *address, int curve) {
    void *socket = open_socket(context, ZMQ_DEALER);
    char endpoint[256];
    if (curve) {
        set(socket, ZMQ_CURVE_SERVERKEY, SERVER_PUBLIC, sizeof SERVER_PUBLIC);
        set(socket, ZMQ_CURVE_PUBLICKEY, CLIENT_PUBLIC, sizeof CLIENT_PUBLIC);
        set(socket, ZMQ_CURVE_SECRETKEY, CLIENT_SECRET, sizeof CLIENT_SECRET);
    }
    snprintf(endpoint, sizeof endpoint, "tcp://%s", address);
    check(zmq_connect(socket, endpoint), "zmq_connect");
    return socket;
}

static void run(int curve, int count, char **arguments) {
    const uint64_t warm_up_ms = argument(count, arguments, "--warm-up-ms");
    const uint64_t window_ms = argument(count, arguments, "--window-ms");
    struct load load = {0};
    void *context = zmq_ctx_new();
    load.in_flight = (uint32_t)argument(count, arguments, "--in-flight");
    load.body_bytes = argument(count, arguments, "--body-bytes");
    load.connections = (uint32_t)argument(count, arguments, "--connections");
    load.callers = calloc(load.in_flight, sizeof *load.callers);
    load.sockets = calloc(load.connections, sizeof *load.sockets);
    if (!load.callers || !load.sockets) fail("no memory");
    for (uint32_t i = 0; i < load.connections; i++) {
        load.sockets[i].socket = connect_to(context, arguments[0], curve);
        load.sockets[i].events = ZMQ_POLLIN;
    }
    /* A call that stays unanswered must not stop the whole run. */
    alarm((unsigned)((warm_up_ms + window_ms) / 1000 + 30));
    load.opens = now() + warm_up_ms * 1000000;
    load.closes = load.opens + window_ms * 1000000;
    for (uint32_t which = 0; which < load.in_flight; which++) {
        load.callers[which].body = malloc(load.body_bytes + 1);
        if (!load.callers[which].body) fail("no memory");
        fill(load.callers[which].body, load.body_bytes, which);
        call(&load, which);
    }
    while (load.ended < load.in_flight) take_all(&load);
    print(&load, window_ms);
}

int main(int count, char **arguments) {
    const int curve = count >= 3 && !strcmp(arguments[2], "curve");
    if (count < 3 || (!curve && strcmp(arguments[2], "null"))) {
        fail("usage: echo serve null|curve, echo load null|curve ADDRESS --in-flight N --body-bytes N --connections N "
             "--warm-up-ms N --window-ms N");
    } else if (!strcmp(arguments[1], "serve")) {
        serve(curve);
    } else if (count >= 4 && !strcmp(arguments[1], "load")) {
        run(curve, count - 3, arguments + 3);
    } else {
        fail("echo serve or echo load");
    }
    return 0;
}
