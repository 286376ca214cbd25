// Fibers: stacks of their own between which one OS thread moves, at the cost of a function call.
//
// On x86-64 a switch is 14 instructions; elsewhere, or with TL_SIMULATOR_UCONTEXT defined, it is POSIX's swapcontext.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#if !defined(__x86_64__) && !defined(TL_SIMULATOR_UCONTEXT)
#define TL_SIMULATOR_UCONTEXT
#endif

#ifdef TL_SIMULATOR_UCONTEXT
#include <ucontext.h>
#endif

namespace simulator {

constexpr size_t STACK_BYTES = 256 * 1024;

#ifdef TL_SIMULATOR_UCONTEXT

// Where a fiber stands.
struct Fiber {
  char* stack;
  ucontext_t context;
};

inline void prepare(Fiber& fiber, size_t size, void (*body)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, body, 0);
}

inline void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#else

struct Fiber {
  char* stack;
  void* stack_pointer;  // below it lie the registers that a function must preserve
};

// Save the registers on this stack and its pointer in *from, and take over the stack at `to`.
extern "C" void simulator_switch(void** from, void* to);
asm(R"(
.text
.globl simulator_switch
.hidden simulator_switch
.type simulator_switch, @function
simulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simulator_switch, .-simulator_switch
.section .note.GNU-stack, "", @progbits
.text
)");

inline void prepare(Fiber& fiber, size_t size, void (*body)()) {
  constexpr int REGISTERS = 6;
  void** top = reinterpret_cast<void**>(fiber.stack + size);
  *--top = nullptr;  // `body` finds the stack as after a call: 8 bytes off a multiple of 16
  *--top = reinterpret_cast<void*>(body);
  for (int i = 0; i < REGISTERS; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
}

inline void switch_fiber(Fiber& from, Fiber& to) { simulator_switch(&from.stack_pointer, to.stack_pointer); }

#endif

// Fibers that wait for work. Memory is only taken for those that have run: untouched pages of a mapping cost nothing.
template <unsigned capacity>
class FiberPool {
 public:
  explicit FiberPool(void (*body)()) : body_(body) {}

  Fiber* take() {
    if (free_count_ == 0) grow();
    return free_[--free_count_];
  }

  void give_back(Fiber* fiber) { free_[free_count_++] = fiber; }

  // After an error: whatever fibers were in the midst of is forgotten.
  void reset() {
    free_count_ = 0;
    for (unsigned i = count_; i-- > 0;) {
      prepare_one(i);
      give_back(&fibers_[i]);
    }
  }

 private:
  void grow() {
    if (stacks_ == nullptr) {
      void* mapped = mmap(nullptr, capacity * STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped == MAP_FAILED) __builtin_trap();
      stacks_ = static_cast<char*>(mapped);
    }
    prepare_one(count_);
    give_back(&fibers_[count_++]);
  }

  // Stacks start at different offsets: with equal ones a variable of all threads would fall into one set of the cache.
  void prepare_one(unsigned i) {
    constexpr unsigned COLOURS = 59, COLOUR_BYTES = 320;
    fibers_[i].stack = stacks_ + i * STACK_BYTES;
    prepare(fibers_[i], STACK_BYTES - i % COLOURS * COLOUR_BYTES, body_);
  }

  void (*body_)();
  char* stacks_ = nullptr;
  unsigned count_ = 0, free_count_ = 0;
  Fiber fibers_[capacity];
  Fiber* free_[capacity];
};

}  // namespace simulator
