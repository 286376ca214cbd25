// Tasks: kernel calls whose arguments have been read, checked and laid out, so that they can run any number of times.
//
// Contract. A kernel is a function `prepare(arguments, tape)`: it reads a call and appends a task to the tape, or
// returns false and leaves the call to NumPy. That depends on dtypes, shapes, strides and alignment only, so that a
// repeated call runs the same code and gives the same bits, at once or in a recorded program. A task lies in the tape
// as plain bytes without pointers into the tape, so a tape can be copied, and several can be joined.
#pragma once
#include <stdlib.h>

#include "cpu_python.h"

namespace cpu {

// The head of each task. `run` returns false for data that the kernel refuses (a label out of range): out may then be
// half written, and NumPy's kernel, called in its place, raises the error.
struct Task {
  bool (*run)(Task& task);
  i64 bytes;  // to the next task
  i64 work;   // about how many elements it touches
};

class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  ~Tape() { free(memory_); }

  char* begin() { return memory_; }
  i64 size() const { return size_; }
  void shorten(i64 size) { size_ = size; }

  // Append a task of a type that derives from Task, followed by `items` of what it has several of.
  template <class T, class Item = char>
  T& add(i64 work, i64 items = 0) {
    const i64 bytes = (i64(sizeof(T)) + items * i64(sizeof(Item)) + 7) / 8 * 8;
    reserve(size_ + bytes);
    T& task = *new_task<T>(memory_ + size_);
    task.run = [](Task& base) { return static_cast<T&>(base)(); };
    task.bytes = bytes;
    task.work = work;
    size_ += bytes;
    return task;
  }

 private:
  template <class T>
  static T* new_task(char* memory) {
    memset(memory, 0, sizeof(T));
    return reinterpret_cast<T*>(memory);
  }
  void reserve(i64 bytes) {
    if (bytes <= capacity_) return;
    capacity_ = bytes * 2;
    memory_ = static_cast<char*>(realloc(memory_, size_t(capacity_)));
  }

  char* memory_ = nullptr;
  i64 size_ = 0, capacity_ = 0;
};

// What follows a task in the tape.
template <class Item, class T>
Item* items_of(T& task) {
  return reinterpret_cast<Item*>(&task + 1);
}

// Run the tasks from `at` to `end`; returns where a task refused its data, or `end`.
inline char* run_tasks(char* at, char* end) {
  while (at < end) {
    Task& task = *reinterpret_cast<Task*>(at);
    if (!task.run(task)) break;
    at += task.bytes;
  }
  return at;
}

// Below this much work, handing over the interpreter costs more than others could gain.
constexpr i64 WORK_WITHOUT_INTERPRETER = 1 << 16;

inline i64 work_of(char* at, char* end) {
  i64 work = 0;
  for (; at < end; at += reinterpret_cast<Task*>(at)->bytes) work += reinterpret_cast<Task*>(at)->work;
  return work;
}

}  // namespace cpu
