// What a launch under `tl.simulator.check` watches: every access to memory, for bounds and for data races.
//
// The compiler instruments such kernels (-fsanitize=thread) with a call before each load and store. A launch may touch
// the extents that Python lists, dynamic shared memory, constants, and the stack of the thread that runs.
//
// Two accesses to one place by two threads race if one of them writes, not both are atomic, and nothing orders them: a
// barrier, or in a warp a chain of __syncwarp, shuffles and votes. Threads of different blocks are ordered by a
// barrier, __threadfence and an atomic in the one block, and then an atomic in the other; at which address the atomics
// meet is not looked into.
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "simulator.h"

namespace simulator {

constexpr unsigned MAX_THREADS = 1024;  // of a block
constexpr unsigned WARP = 32;

// A stretch of memory that a launch may touch. Python lists them sorted and disjoint.
struct Extent {
  const char* begin;
  size_t size;
  const char* name;
  unsigned granule;  // bytes of an element, by which accesses are told apart; 0: races are not looked for
  bool is_shared;    // among the threads of a block, and forgotten between blocks
};

// What Python gives a launch that is to be checked, and gets back.
struct Watch {
  const Extent* extents;
  unsigned count;
  bool used_float_atomics;  // then results may differ between schedules, by rounding
};

// Where an access is made: an offset in the library that holds the kernel, or with the upper bit a known line.
using Location = unsigned;

struct Event {
  unsigned interval;  // between two barriers of a block; each has a number of its own, from 1
  unsigned block;
  unsigned clock;  // of the thread: how many times it has met others of its warp
  Location where;
  unsigned short thread;
  bool atomic;
};

// The last accesses to one element.
struct Cell {
  Event write;
  Event read[2];  // by different threads, of different warps where there were such
};

struct Text {
  char text[300];
};

class Checks {
 public:
  bool active = false;
  char message[1200];

  void begin_launch(Watch* watch, const Kernel& kernel, const char* shared, unsigned shared_bytes, unsigned blocks);
  void end_launch();
  void begin_block(unsigned number);
  void pass_barrier() { ++interval_; }
  void meet(unsigned warp, unsigned lanes);
  void fence() { fenced_ = true; }

  // Whether the access is allowed; if not, `message` says why. `stack` is that of the running thread.
  bool access(const char* address, unsigned size, Access kind, Location where, unsigned thread, const char* stack,
              const char* stack_end);

  Location locate(const void* return_address) const {
    return unsigned(static_cast<const char*>(return_address) - image_.begin - 1);  // within the call itself
  }
  Location locate(Place place);
  Text name_of(Location where) const;

 private:
  struct Image {  // a library in memory
    const char *begin, *end;
    bool contains(const char* address) const { return address >= begin && address < end; }
  };
  struct Area : Extent {
    Cell* cells;  // by element; made when the first one is touched
    bool contains(const char* address) const { return address >= begin && address < begin + size; }
  };
  struct Release {  // an atomic after a fence publishes what the thread did, and all threads before the last barrier
    unsigned interval, thread;
  };
  static constexpr unsigned MAX_PLACES = 1000;
  static constexpr Location KNOWN_PLACE = 1u << 31;

  static Image image_of(const void* address);
  Area* area_of(const char* address) const;
  bool is_known(const char* address) const;
  bool refuse_bounds(const char* address, unsigned size, Access kind, Location where);
  bool refuse_unwritten(const Area& area, const char* address, unsigned size, Location where);
  bool refuse_race(const Area& area, const Cell& cell, const Event& earlier, Access earlier_kind, const Event& now,
                   Access kind);
  bool visit(const Area& area, Cell& cell, const Event& now, Access kind);
  bool conflict(const Area& area, const Event& earlier, const Event& now) const;
  bool is_ordered(const Event& earlier, const Event& now) const;
  void note_atomic(Access kind, unsigned thread);
  static bool are_apart(const Event& earlier, const Event& now);
  static void remember_read(Cell& cell, const Event& now);

  Watch* watch_;
  Image image_;
  const char *static_begin_, *static_end_;  // of all __shared__ arrays of the library
  Area* areas_ = nullptr;                   // the extents, and last the dynamic shared memory
  unsigned area_count_ = 0;
  Place places_[MAX_PLACES];
  unsigned place_count_ = 0;
  unsigned interval_, first_interval_, block_;
  bool fenced_, acquired_;
  Release* released_ = nullptr;        // by block: the last one
  unsigned clock_[MAX_THREADS][WARP];  // a vector clock per thread: what it knows of the lanes of its warp
};

}  // namespace simulator
