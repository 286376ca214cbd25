// A small pool of threads for long loops, and how denormal numbers are flushed in a loop.
//
// Contract. `parallel_for(count, grain, body)` calls body(begin, end) for stretches that together make up [0, count),
// some of them on threads that sleep between calls. Whoever comes while the pool is busy works alone. What the body
// computes for an index must not depend on the stretch, so that results do not depend on the number of threads. After a
// fork the child has a pool without threads and starts its own.
#pragma once
#include <pthread.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "common.cuh"

namespace cpu {

// --- denormal numbers ------------------------------------------------------------------------------------------------

// The processor's control word, in which two bits (on ARM: one) make it read and write denormal numbers as 0.
#if defined(__x86_64__)
constexpr bool CAN_FLUSH = true;
using ControlWord = unsigned;
constexpr ControlWord FLUSH_BITS = 0x8040;
inline ControlWord control_word() { return _mm_getcsr(); }
inline void set_control_word(ControlWord word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
constexpr bool CAN_FLUSH = true;
using ControlWord = unsigned long;
constexpr ControlWord FLUSH_BITS = 1ul << 24;
inline ControlWord control_word() {
  ControlWord word;
  asm volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
inline void set_control_word(ControlWord word) { asm volatile("msr fpcr, %0" ::"r"(word)); }
#else
constexpr bool CAN_FLUSH = false;
using ControlWord = unsigned;
constexpr ControlWord FLUSH_BITS = 0;
inline ControlWord control_word() { return 0; }
inline void set_control_word(ControlWord) {}
#endif

// While it lives, its thread flushes denormal numbers.
class FlushDenormals {
 public:
  FlushDenormals() : before_(control_word()) { set_control_word(before_ | FLUSH_BITS); }
  ~FlushDenormals() { set_control_word(before_); }

 private:
  ControlWord before_;
};

// --- the pool --------------------------------------------------------------------------------------------------------

class Pool {
 public:
  using Body = void (*)(void* context, i64 begin, i64 end);

  void set_threads(int threads) { threads_ = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads; }
  int threads() const { return threads_; }

  void run(i64 count, i64 grain, Body body, void* context) {
    const i64 shares = count / grain < threads_ ? count / grain : threads_;
    if (shares < 2 || pthread_mutex_trylock(&user_) != 0) return body(context, 0, count);
    start_workers(int(shares) - 1);
    const int others = workers_ < int(shares) - 1 ? workers_ : int(shares) - 1;
    pthread_mutex_lock(&mutex_);
    job_ = {body, context, count, others + 1, control_word()};
    unclaimed_ = unfinished_ = others;
    pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&mutex_);
    work_on(job_, 0);
    pthread_mutex_lock(&mutex_);
    while (unfinished_ > 0) pthread_cond_wait(&done_, &mutex_);
    pthread_mutex_unlock(&mutex_);
    pthread_mutex_unlock(&user_);
  }

  // In the child of a fork, where no worker lives on.
  void forget_workers() {
    user_ = mutex_ = PTHREAD_MUTEX_INITIALIZER;
    wake_ = done_ = PTHREAD_COND_INITIALIZER;
    workers_ = unclaimed_ = unfinished_ = 0;
  }

 private:
  static constexpr int MAX_THREADS = 64;

  struct Job {
    Body body;
    void* context;
    i64 count;
    int shares;
    ControlWord control;  // of the thread that asks, so that all compute alike
  };

  static void work_on(const Job& job, int share) {
    job.body(job.context, job.count * share / job.shares, job.count * (share + 1) / job.shares);
  }

  void start_workers(int wanted) {
    while (workers_ < wanted) {
      pthread_t thread;
      if (pthread_create(&thread, nullptr, [](void* pool) { return static_cast<Pool*>(pool)->serve(); }, this) != 0) {
        return;  // no more threads to be had: the others do the work
      }
      pthread_detach(thread);
      ++workers_;
    }
  }

  void* serve() {
    pthread_mutex_lock(&mutex_);
    for (;;) {
      while (unclaimed_ == 0) pthread_cond_wait(&wake_, &mutex_);
      const Job job = job_;
      const int share = unclaimed_--;
      pthread_mutex_unlock(&mutex_);
      set_control_word(job.control);
      work_on(job, share);
      pthread_mutex_lock(&mutex_);
      if (--unfinished_ == 0) pthread_cond_signal(&done_);
    }
  }

  pthread_mutex_t user_ = PTHREAD_MUTEX_INITIALIZER, mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER, done_ = PTHREAD_COND_INITIALIZER;
  Job job_{};
  int threads_ = 1, workers_ = 0, unclaimed_ = 0, unfinished_ = 0;
};

inline Pool pool;

template <class Loop>
void parallel_for(i64 count, i64 grain, const Loop& loop) {
  if (count < 2 * grain) return loop(i64(0), count);
  pool.run(count, grain, [](void* context, i64 begin, i64 end) { (*static_cast<const Loop*>(context))(begin, end); },
           const_cast<Loop*>(&loop));
}

}  // namespace cpu
