/* scan FILE: the least that reading a log takes: find each message, and look at each of its fields.
 *
 * Compiled with SIZE, DSIZE and FIELDS for records of IPFilter: the bytes of the fixed part, the
 * offset of ipl_dsize, and X(OFFSET, BYTES) for every field; without them for messages of NFLOG.
 * Both are in the byte order of this machine. Prints the number of records, and a sum of what it
 * has seen, so that the compiler leaves nothing out. */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static uint64_t load(const unsigned char *at, size_t size) {
    uint64_t value = 0;
    memcpy(&value, at, size < 8 ? size : 8);
    return value;
}

/* Protocol, addresses and ports of an IPv4 packet. */
static uint64_t packet(const unsigned char *at) {
    const unsigned char *ports = at + 4 * (at[0] & 15);
    return at[9] + load(at + 12, 4) + load(at + 16, 4) + load(ports, 2) + load(ports + 2, 2);
}

#ifdef FIELDS

static uint64_t scan(const unsigned char *at, const unsigned char *end, long *records) {
    uint64_t sum = 0;
    for (; at + SIZE <= end; at += load(at + DSIZE, 4), ++*records) {
#define X(offset, size) sum += load(at + offset, size);
        FIELDS
        sum += packet(at + SIZE);
    }
    return sum;
}

#else

enum { NFULNL_MSG_PACKET = 0x400, NFULA_PAYLOAD = 9, ATTRIBUTES = 32 };

static uint64_t scan(const unsigned char *at, const unsigned char *end, long *records) {
    uint64_t sum = 0;
    for (; at + 20 <= end; at += load(at, 4) + 3 & ~3) {
        const unsigned char *found[ATTRIBUTES] = {0}, *last = at + load(at, 4);
        if (load(at + 4, 2) != NFULNL_MSG_PACKET)
            continue;
        for (const unsigned char *a = at + 20; a + 4 <= last; a += load(a, 2) + 3 & ~3)
            found[load(a + 2, 2) % ATTRIBUTES] = a + 4;
        for (int i = 0; i < ATTRIBUTES; i++)
            if (found[i])
                sum += load(found[i], 4);
        sum += found[NFULA_PAYLOAD] ? packet(found[NFULA_PAYLOAD]) : 0;
        ++*records;
    }
    return sum;
}

#endif

int main(int argc, char **argv) {
    struct stat status;
    int file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    if (file < 0 || fstat(file, &status))
        return 2;
    unsigned char *data = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED)
        return 1;
    long records = 0;
    uint64_t sum = scan(data, data + status.st_size, &records);
    printf("%ld %llu\n", records, (unsigned long long)sum);
    return 0;
}
