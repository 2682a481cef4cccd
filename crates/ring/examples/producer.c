/* A producer of frame handles in C, after docs/ref/frame-handles.md: cc -std=c11 -O2 -o producer producer.c
 *
 *     producer FOLDER NAME BYTES COUNT
 *
 * writes COUNT grey pictures of 64x48 into the ring FOLDER/omma-NAME, says each one's handle ("GENERATION LENGTH" in a
 * line of its own), and removes the ring when its standard input ends. Little-endian machines with 64 bits. Unlike the
 * producers in Rust and Python it takes over no dead producer's name: it says so and ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { DATA_AT = 4096, RESERVED_AT = 64, WRITTEN_AT = 128, WRITTEN_TIME_AT = 136, GRAY = 5, WIDTH = 64, HEIGHT = 48 };

struct file_header { char magic[8]; uint32_t version, data_at; uint64_t capacity, created_at; uint32_t pid; };
struct slot_header {
    uint64_t generation, sequence, captured_at, byte_len;
    uint32_t format, width, height;
    uint8_t zero[20];
};
_Static_assert(sizeof(struct slot_header) == 64, "a slot's header");

/* A position counts blocks of 64 bytes. */
struct ring { uint8_t *memory; uint64_t blocks, position; };

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what) { perror(what); exit(1); }

static _Atomic uint64_t *counter(struct ring *ring, size_t at) { return (_Atomic uint64_t *)(ring->memory + at); }

/* The file has no name until it is whole and locked; the lock is held as long as the process lives. */
static struct ring create(const char *folder, const char *path, uint64_t bytes) {
    uint64_t capacity = (bytes + 4095) / 4096 * 4096;
    struct ring ring = { .blocks = capacity / 64 };
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0) fail(folder);
    if (posix_fallocate(file, 0, (off_t)(DATA_AT + capacity)) != 0) fail("no room");
    if (flock(file, LOCK_EX | LOCK_NB) != 0) fail("flock");
    ring.memory = mmap(NULL, DATA_AT + capacity, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (ring.memory == MAP_FAILED) fail("mmap");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    ring.position = ((uint64_t)t.tv_sec << 31) + ((uint64_t)t.tv_nsec << 1);
    struct file_header header = { "OMMARING", 1, DATA_AT, capacity, now(), (uint32_t)getpid() };
    memcpy(ring.memory, &header, sizeof header);
    atomic_store(counter(&ring, RESERVED_AT), ring.position);
    atomic_store(counter(&ring, WRITTEN_AT), ring.position);
    char nameless[64];
    snprintf(nameless, sizeof nameless, "/proc/self/fd/%d", file);
    if (linkat(AT_FDCWD, nameless, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0) fail(path);
    return ring;
}

/* The steps and their order are the contract with the readers. */
static uint64_t write_picture(struct ring *ring, uint64_t sequence, const uint8_t *pixels, uint64_t len) {
    uint64_t blocks = (64 + len + 63) / 64;
    if (blocks > ring->blocks) { fputs("the picture is larger than the ring\n", stderr); exit(1); }
    uint64_t generation = ring->position, offset = generation % ring->blocks;
    if (blocks > ring->blocks - offset) {
        generation += ring->blocks - offset;
        offset = 0;
    }
    ring->position = generation + blocks;
    atomic_store_explicit(counter(ring, RESERVED_AT), ring->position, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    uint8_t *slot = ring->memory + DATA_AT + offset * 64;
    memcpy(slot + 64, pixels, len);
    struct slot_header header = { generation, sequence, now(), len, GRAY, WIDTH, HEIGHT, { 0 } };
    memcpy(slot, &header, sizeof header);
    atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(counter(ring, WRITTEN_TIME_AT), now(), memory_order_relaxed);
    atomic_store_explicit(counter(ring, WRITTEN_AT), ring->position, memory_order_release);
    return generation;
}

int main(int count, char **arguments) {
    if (count != 5) { fputs("expected: producer FOLDER NAME BYTES COUNT\n", stderr); return 2; }
    char path[4096];
    snprintf(path, sizeof path, "%s/omma-%s", arguments[1], arguments[2]);
    struct ring ring = create(arguments[1], path, strtoull(arguments[3], NULL, 10));
    uint64_t pictures = strtoull(arguments[4], NULL, 10);
    static uint8_t pixels[WIDTH * HEIGHT];
    for (uint64_t sequence = 0; sequence < pictures; sequence++) {
        for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(sequence * 31 + i * 7);
        uint64_t generation = write_picture(&ring, sequence, pixels, sizeof pixels);
        printf("%llu %zu\n", (unsigned long long)generation, sizeof pixels);
    }
    fflush(stdout);
    while (getchar() != EOF) {}
    unlink(path);
    return 0;
}
