// The state of a launch, and how one is stopped: what the scheduler (simulator.cpp) and the calls of instrumented
// kernels (simulator_hooks.cpp) share.
#pragma once

#include <stdarg.h>

#include "simulator.h"
#include "simulator_checks.h"
#include "simulator_fiber.h"

namespace simulator {

constexpr unsigned MAX_SHARED = 227 * 1024;
constexpr unsigned MAX_WARPS = MAX_THREADS / WARP;

struct Thread {
  uint3 index;
  Fiber* fiber;          // the one on which it waits; null for a thread that has not begun
  const char* waits_in;  // the name of what it waits in, and where that is called
  Place place;
  unsigned mask;  // of the lanes that it waits for
  // What it hands over to these lanes, whose value it wants, and what it gets when all are there.
  unsigned long long given, received;
  unsigned source, ballot;
};

struct Warp {
  unsigned ready, alive, at_block, at_warp;  // bit i: thread i of the warp
};

// All of a launch. Its memory serves one launch after another.
struct Launch {
  const Kernel* kernel;
  const char* arguments;
  unsigned threads, warps;
  unsigned current;             // the number of the thread that runs
  unsigned alive, at_block;     // how many threads
  Place barrier;                // at which they wait
  unsigned long long schedule;  // 0: in order, else the state of a generator of random numbers
  unsigned shared_bytes;
  bool failed;
  Fiber host;      // who called
  Fiber* running;  // the fiber that runs
  char message[2000];
  Thread thread[MAX_THREADS];
  Warp warp[MAX_WARPS];
  alignas(256) char shared[MAX_SHARED];
};

inline Launch launch;
inline Checks checks;

// --- errors ----------------------------------------------------------------------------------------------------------

inline void set_message(const char* format, va_list values) {
  launch.failed = true;
  vsnprintf(launch.message, sizeof launch.message, format, values);
}

// Refuse a launch before it begins.
inline bool refuse(const char* format, ...) {
  va_list values;
  va_start(values, format);
  set_message(format, values);
  va_end(values);
  return false;
}

// Stop the launch from within a thread. Nothing on the fibers' stacks needs to be cleaned up.
[[noreturn]] inline void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  set_message(format, values);
  va_end(values);
  switch_fiber(*launch.running, launch.host);
  __builtin_unreachable();
}

inline Text name_of(const Thread& thread) {
  Text result;
  snprintf(result.text, sizeof result.text, "thread (%u, %u, %u)", thread.index.x, thread.index.y, thread.index.z);
  return result;
}

inline Text name_of_block() {
  Text result;
  snprintf(result.text, sizeof result.text, "block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
  return result;
}

inline Text wait_of(const Thread& thread) {
  Text result;
  snprintf(result.text, sizeof result.text, "%s waits in %s at %s:%d", name_of(thread).text, thread.waits_in,
           thread.place.file, thread.place.line);
  return result;
}

inline bool same_place(const Thread& a, const Thread& b) {
  return a.place.line == b.place.line && a.waits_in == b.waits_in && strcmp(a.place.file, b.place.file) == 0;
}

inline bool waits_at_block(const Thread& thread) {
  const unsigned number = unsigned(&thread - launch.thread);
  return launch.warp[number / WARP].at_block >> number % WARP & 1;
}

inline bool waits(unsigned number) {
  const Warp& warp = launch.warp[number / WARP];
  return (warp.at_block | warp.at_warp) >> number % WARP & 1;
}

// All threads wait or have ended, and none can go on: name one, and one that waits elsewhere.
[[noreturn]] inline void fail_stuck() {
  const Thread *first = nullptr, *other = nullptr;
  for (unsigned number = 0; number < launch.threads; ++number) {
    const Thread& thread = launch.thread[number];
    if (!waits(number)) continue;
    if (first == nullptr) first = &thread;
    else if (other == nullptr && !same_place(*first, thread)) other = &thread;
  }
  const char* missing = waits_at_block(*first) ? "other threads have ended" : "lanes that its mask names do not come";
  fail("divergent barrier in %s: %s, and %s", name_of_block().text, wait_of(*first).text,
       other != nullptr ? wait_of(*other).text : missing);
}

// Stop the launch for what the running thread does.
[[noreturn]] inline void fail_thread(const char* what) {
  fail("%s, %s: %s", name_of_block().text, name_of(launch.thread[launch.current]).text, what);
}

// Stop it if that thread may not make an access.
void check(const void* address, size_t size, Access kind, Location where);

}  // namespace simulator
