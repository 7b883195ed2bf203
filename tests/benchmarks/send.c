/* send DEVICE FRAMES COUNT RATE: send Ethernet frames at a steady rate, over and over.
 *
 * FRAMES is a file of frames, each after its length in 2 bytes, most significant first. COUNT
 * frames are sent in all, RATE in a second, SOME at a time. Prints the seconds that it took. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

enum { SOME = 32, MOST = 1 << 20 };

static struct iovec frames[MOST];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static unsigned load(const char *path) {
    static unsigned char octets[MOST * 128];
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    size_t size = fread(octets, 1, sizeof octets, file), pos = 0;
    unsigned count = 0;
    while (pos + 2 < size && count < MOST) {
        frames[count].iov_len = octets[pos] << 8 | octets[pos + 1];
        frames[count++].iov_base = octets + pos + 2;
        pos += 2 + frames[count - 1].iov_len;
    }
    return count;
}

static double seconds(struct timespec t) { return t.tv_sec + t.tv_nsec / 1e9; }

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    unsigned known = load(argv[2]), next = 0;
    long count = atol(argv[3]), rate = atol(argv[4]), sent = 0;
    int on = 1, packets = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll device = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
    if (packets < 0 || !known || bind(packets, (struct sockaddr *)&device, sizeof device))
        fail(argv[1]);
    setsockopt(packets, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on);
    struct mmsghdr some[SOME] = {0};
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    while (sent < count) {
        int wanted = count - sent < SOME ? count - sent : SOME;
        for (int i = 0; i < wanted; i++) {
            some[i].msg_hdr.msg_iov = &frames[(next + i) % known];
            some[i].msg_hdr.msg_iovlen = 1;
        }
        long long due = begun.tv_nsec + (long long)(sent * 1e9 / rate);
        struct timespec then = {begun.tv_sec + due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
        int done = sendmmsg(packets, some, wanted, 0);
        if (done < 0 && errno != ENOBUFS && errno != EAGAIN)
            fail("sendmmsg");
        if (done > 0)
            sent += done, next = (next + done) % known;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("%f\n", seconds(now) - seconds(begun));
    return 0;
}
