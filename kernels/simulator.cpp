// The scheduler behind simulator.h: runs the threads of a grid on the host, blocks one after another.
//
// A thread runs until it waits (at a barrier, a shuffle) or ends; then the next ready one goes on, in order, or at
// random where a seed is given. Only a thread that waits keeps a fiber, a stack of its own: the threads of kernels that
// never wait follow each other on one stack at the cost of a function call.
//
// An error stops the launch, not the process: `simulator_launch` returns what went wrong in words. There is one launch
// at a time: Python calls with the interpreter's lock held.
#include "simulator_launch.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simulator {

constexpr unsigned MAX_GRID_X = 0x7fffffff, MAX_GRID_YZ = 65535, MAX_BLOCK_Z = 64;
constexpr int POISON = 0xff;  // NaN as float or double, -1 as an integer
constexpr unsigned long long NOTHING = ~0ull;  // what a lane that does not take part hands over: NaN

static void run_threads();

static FiberPool<MAX_THREADS> fibers(run_threads);

// --- the order of threads --------------------------------------------------------------------------------------------

static unsigned long long random_number() {  // xorshift64
  unsigned long long& x = launch.schedule;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
}

// Where the search for the next thread begins: after the current one, or at random.
static unsigned search_start() {
  if (launch.schedule != 0) return unsigned(random_number() >> 32) % launch.threads;
  return launch.current + 1 < launch.threads ? launch.current + 1 : 0;
}

// Take the first ready thread from there on, in a circle; null if there is none.
static Thread* take_ready() {
  const unsigned start = search_start();
  unsigned number = start / WARP, eligible = ~0u << start % WARP;
  for (unsigned step = 0; step <= launch.warps; ++step) {  // the first warp twice: its upper lanes, at last its lower
    Warp& warp = launch.warp[number];
    if (const unsigned candidates = warp.ready & eligible; candidates != 0) {
      const unsigned lane_number = unsigned(__builtin_ctz(candidates));
      warp.ready &= ~(1u << lane_number);
      return &launch.thread[number * WARP + lane_number];
    }
    eligible = ~0u;
    number = number + 1 < launch.warps ? number + 1 : 0;
  }
  return nullptr;
}

static void make_current(const Thread& thread, Fiber* fiber) {
  launch.current = unsigned(&thread - launch.thread);
  launch.running = fiber;
  threadIdx = thread.index;
}

// Let others run until this thread is ready again.
static void give_way(Thread& thread) {
  Thread* next = take_ready();
  if (next == nullptr) fail_stuck();
  if (next == &thread) return;
  Fiber* mine = thread.fiber = launch.running;
  Fiber* theirs = next->fiber != nullptr ? next->fiber : fibers.take();
  make_current(*next, theirs);
  switch_fiber(*mine, *theirs);
}

static void release_block() {
  for (unsigned number = 0; number < launch.warps; ++number) {
    Warp& warp = launch.warp[number];
    warp.ready |= warp.at_block;
    warp.at_block = 0;
  }
  launch.at_block = 0;
  if (checks.active) checks.pass_barrier();
}

// Everyone who is left waits at the barrier. Those who ended before it never came: CUDA leaves open what happens.
static void complete_block() {
  if (launch.alive == launch.threads) release_block();
  else fail_stuck();
}

// All of `lanes` have come: check that they came to the same place, hand over the values, and let them go on.
static void complete_warp(unsigned number, unsigned lanes) {
  Thread* thread = &launch.thread[number * WARP];
  const Thread& first = thread[__builtin_ctz(lanes)];
  unsigned ballot = 0;
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned i = unsigned(__builtin_ctz(rest));
    if (thread[i].mask != first.mask || !same_place(thread[i], first))
      fail("divergent warp in %s: %s with mask 0x%08x, and %s with mask 0x%08x", name_of_block().text,
           wait_of(first).text, first.mask, wait_of(thread[i]).text, thread[i].mask);
    ballot |= unsigned(thread[i].given & 1) << i;
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    Thread& receiver = thread[__builtin_ctz(rest)];
    receiver.received = lanes >> receiver.source & 1 ? thread[receiver.source].given : NOTHING;
    receiver.ballot = ballot;
  }
  launch.warp[number].ready |= lanes;
  launch.warp[number].at_warp &= ~lanes;
  if (checks.active) checks.meet(number, lanes);
}

// What the end of a thread changes for those who wait.
static void end_current() {
  const unsigned number = launch.current / WARP;
  Warp& warp = launch.warp[number];
  warp.alive &= ~(1u << launch.current % WARP);
  --launch.alive;
  if (launch.at_block != 0 && launch.at_block == launch.alive) complete_block();
  for (unsigned rest = warp.at_warp; rest != 0; rest &= rest - 1) {
    const unsigned lanes = launch.thread[number * WARP + unsigned(__builtin_ctz(rest))].mask & warp.alive;
    if (lanes != 0 && (warp.at_warp & lanes) == lanes) complete_warp(number, lanes);
  }
}

// What every fiber does: run new threads one after another, as long as no other one is to go on.
static void run_threads() {
  for (;;) {
    launch.kernel->run(launch.arguments);
    end_current();
    Thread* next = take_ready();
    if (next == nullptr && launch.alive != 0) fail_stuck();
    if (next != nullptr && next->fiber == nullptr) {
      make_current(*next, launch.running);
      continue;
    }
    Fiber* mine = launch.running;
    fibers.give_back(mine);
    if (next == nullptr) {
      switch_fiber(*mine, launch.host);
    } else {
      make_current(*next, next->fiber);
      switch_fiber(*mine, *next->fiber);
    }
  }
}

// --- what kernels call -----------------------------------------------------------------------------------------------

static Thread& begin_wait(const char* name, Place place) {
  Thread& thread = launch.thread[launch.current];
  thread.waits_in = name;
  thread.place = place;
  return thread;
}

void wait_for_block(Place place) {
  Thread& thread = begin_wait("__syncthreads", place);
  Warp& warp = launch.warp[launch.current / WARP];
  warp.at_block |= 1u << launch.current % WARP;
  if (launch.at_block == 0) launch.barrier = place;
  else if (place.line != launch.barrier.line || strcmp(place.file, launch.barrier.file) != 0) fail_stuck();
  if (++launch.at_block == launch.alive) complete_block();
  give_way(thread);
}

// Lanes that name each other in their masks go on together.
static const Thread& wait_for_lanes(const char* name, unsigned mask, unsigned long long given, unsigned source,
                                    Place place) {
  Thread& thread = begin_wait(name, place);
  const unsigned number = launch.current / WARP, me = launch.current % WARP;
  Warp& warp = launch.warp[number];
  if ((mask >> me & 1) == 0)
    fail("%s, %s: %s at %s:%d with mask 0x%08x, which does not name its own lane %u", name_of_block().text,
         name_of(thread).text, name, place.file, place.line, mask, me);
  thread.mask = mask;
  thread.given = given;
  thread.source = source;
  warp.at_warp |= 1u << me;
  const unsigned lanes = mask & warp.alive;
  if ((warp.at_warp & lanes) == lanes) complete_warp(number, lanes);
  give_way(thread);
  return thread;
}

void wait_for_warp(unsigned mask, Place place) { wait_for_lanes("__syncwarp", mask, 0, 0, place); }

unsigned long long shuffle_bits(unsigned mask, unsigned long long bits, unsigned source, Place place) {
  return wait_for_lanes("a shuffle", mask, bits, source % WARP, place).received;
}

unsigned ballot(unsigned mask, bool says, Place place) { return wait_for_lanes("a vote", mask, says, 0, place).ballot; }

unsigned lane() { return launch.current % WARP; }

const void* published[MAX_THREADS];

void* dynamic_shared_memory() { return launch.shared; }

void note_fence() {
  if (checks.active) checks.fence();
}

void note_atomic(const volatile void* address, unsigned size, Access kind, Place place) {
  if (checks.active) check(const_cast<const void*>(address), size, kind, checks.locate(place));
}

// --- launching -------------------------------------------------------------------------------------------------------

static void begin_block() {
  launch.alive = launch.threads;
  launch.at_block = 0;
  launch.current = launch.threads - 1;  // so that thread 0 is next
  for (unsigned number = 0; number < launch.threads; ++number) launch.thread[number].fiber = nullptr;
  for (unsigned number = 0; number < launch.warps; ++number) {
    Warp& warp = launch.warp[number];
    const unsigned lanes = launch.threads - number * WARP;
    warp.ready = warp.alive = lanes >= WARP ? ~0u : (1u << lanes) - 1;
    warp.at_block = warp.at_warp = 0;
  }
  memset(launch.shared, POISON, launch.shared_bytes);
  memset(launch.kernel->static_shared, POISON, size_t(launch.kernel->static_shared_end - launch.kernel->static_shared));
}

static void run_block() {
  begin_block();
  Fiber* fiber = fibers.take();
  make_current(*take_ready(), fiber);
  switch_fiber(launch.host, *fiber);
}

static bool check_geometry(const Geometry& geometry) {
  const dim3 &grid = geometry.grid, &block = geometry.block;
  const unsigned long long threads = (unsigned long long)block.x * block.y * block.z;
  if (threads == 0 || grid.x == 0 || grid.y == 0 || grid.z == 0) return refuse("the grid or the block is empty");
  if (threads > MAX_THREADS || block.z > MAX_BLOCK_Z)
    return refuse("a block of %llu threads, of them %u in z; CUDA allows %u and %u", threads, block.z, MAX_THREADS,
                  MAX_BLOCK_Z);
  if (grid.x > MAX_GRID_X || grid.y > MAX_GRID_YZ || grid.z > MAX_GRID_YZ)
    return refuse("a grid of (%u, %u, %u) blocks; CUDA allows (%u, %u, %u)", grid.x, grid.y, grid.z, MAX_GRID_X,
                  MAX_GRID_YZ, MAX_GRID_YZ);
  if (geometry.shared_bytes > MAX_SHARED)
    return refuse("%u bytes of dynamic shared memory; no GPU gives a block more than %u", geometry.shared_bytes,
                  MAX_SHARED);
  return true;
}

static void begin_launch(const Kernel& kernel, const Geometry& geometry, const char* arguments) {
  blockDim = geometry.block;
  gridDim = geometry.grid;
  launch.kernel = &kernel;
  launch.arguments = arguments;
  launch.threads = blockDim.x * blockDim.y * blockDim.z;
  launch.warps = (launch.threads + WARP - 1) / WARP;
  launch.schedule = geometry.seed;
  launch.shared_bytes = geometry.shared_bytes;
  unsigned number = 0;
  for (unsigned z = 0; z < blockDim.z; ++z)
    for (unsigned y = 0; y < blockDim.y; ++y)
      for (unsigned x = 0; x < blockDim.x; ++x) launch.thread[number++].index = {x, y, z};
}

static unsigned long long greatest_common_divisor(unsigned long long a, unsigned long long b) {
  while (b != 0) {
    const unsigned long long rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static unsigned long long number_of_blocks() { return (unsigned long long)gridDim.x * gridDim.y * gridDim.z; }

// Blocks in order, or with a seed in steps of a random size that reaches each once.
static void run_blocks() {
  const unsigned long long count = number_of_blocks();
  unsigned long long step = 1, at = 0;
  if (launch.schedule != 0) {
    at = random_number() % count;
    do step = random_number() % count + 1;
    while (greatest_common_divisor(step, count) != 1);
  }
  for (unsigned long long done = 0; done < count && !launch.failed; ++done, at = (at + step) % count) {
    blockIdx = {unsigned(at % gridDim.x), unsigned(at / gridDim.x % gridDim.y),
                unsigned(at / gridDim.x / gridDim.y)};
    if (checks.active) checks.begin_block(unsigned(at));
    run_block();
  }
}

// Run a grid, checked if there is a watch. Null, or what went wrong, in words that stay until the next launch.
extern "C" __attribute__((visibility("default"))) const char* simulator_launch(const Kernel* kernel,
                                                                               const Geometry* geometry,
                                                                               const char* arguments, Watch* watch) {
  launch.failed = false;
  if (!check_geometry(*geometry)) return launch.message;
  begin_launch(*kernel, *geometry, arguments);
  if (watch != nullptr) checks.begin_launch(watch, *kernel, launch.shared, launch.shared_bytes, number_of_blocks());
  run_blocks();
  if (watch != nullptr) checks.end_launch();
  if (!launch.failed) return nullptr;
  fibers.reset();
  return launch.message;
}

// --- half precision --------------------------------------------------------------------------------------------------

float half_to_float(unsigned short bits) {
  constexpr unsigned HIDDEN = 1u << 10;
  const unsigned exponent = bits >> 10 & 31, mantissa = bits & (HIDDEN - 1), sign = unsigned(bits >> 15) << 31;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);  // infinity or NaN
  const float size = exponent == 0 ? ldexpf(float(mantissa), -24)
                                   : ldexpf(float(mantissa | HIDDEN), int(exponent) - 25);
  return sign != 0 ? -size : size;
}

unsigned short half_of(double x) {
  const unsigned short sign = signbit(x) ? 0x8000 : 0;
  const double size = fabs(x);
  if (size != size) return sign | 0x7e00;
  if (size >= 65520.0) return sign | 0x7c00;  // half way from the largest number to the next: infinity
  const int exponent = size < 0x1p-14 ? -14 : ilogb(size);
  const int steps = int(nearbyint(ldexp(size, 10 - exponent)));  // of the last bit; 1024 and more if normal
  return static_cast<unsigned short>(sign | ((exponent + 14) * 1024 + steps));
}

unsigned short half_of(float x) { return half_of(double(x)); }

}  // namespace simulator
