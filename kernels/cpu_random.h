// Dropout on device "cpu": the mask from the words of Philox, and its product. The bits are those of
// tensorlite/backends/philox.py; what else is drawn from a generator is drawn there.
#pragma once
#include "cpu_elementwise.h"
#include "philox.cuh"

namespace cpu {

// Element i is true where word i, as a number u of 53 bits in [0, 1), lies below the chance.
struct DropoutNoise : Task {
  bool* out;
  u64* state;  // seed and counter, which is advanced by a block of four words for four elements
  u64 limit;  // an integer is below a number where it is below the number rounded up
  i64 count;

  bool operator()() {
    const i64 blocks = (count + 3) / 4;
    const u64 seed = state[0], first = state[1];
    parallel_for(blocks, ELEMENTS_PER_THREAD / 128, [=, this](i64 begin, i64 end) {
      for (i64 block = begin; block < end; ++block) {
        const Words words = philox(seed, first + u64(block));
        bool mask[4];
        for (i64 k = 0; k < 4; ++k) mask[k] = words.at[k] >> 11 < limit;
        const i64 rest = count - 4 * block;
        memcpy(out + 4 * block, mask, rest < 4 ? size_t(rest) : 4);
      }
    });
    state[1] = first + u64(blocks);
    return true;
  }
};

// dropout_noise(out, state, count=, chance=), with `count` elements in `out`.
inline bool prepare_dropout_noise(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *state = arguments.array(1);
  if (!is_dense<bool>(out) || !is_dense<u64>(state) || state->size() != 2) return false;
  const double chance = arguments.number("chance");
  if (!arguments.readable()) return false;
  auto& task = tape.add<DropoutNoise>(8 * out->size());
  task.out = reinterpret_cast<bool*>(out->data);
  task.state = reinterpret_cast<u64*>(state->data);
  task.limit = u64(__builtin_ceil(chance * 0x1p53));
  task.count = out->size();
  return true;
}

template <class T>
struct Dropout : Task {
  T* out;
  const T* x;
  const u8* noise;  // 0 or 1
  T scale;
  i64 count;

  bool operator()() {
    parallel_for(count, ELEMENTS_PER_THREAD, [this](i64 begin, i64 end) {
      T* const to = out;
      const T* const from = x;
      const u8* const kept = noise;
      const T factor = scale;
#pragma GCC ivdep
      for (i64 i = begin; i < end; ++i) to[i] = T(kept[i]) * factor * from[i];
    });
    return true;
  }
};

// dropout(out, x, noise, chance=, scale=)
template <class T>
bool prepare_dropout_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *noise = arguments.array(2);
  if (!is_dense<T>(out) || !is_dense<T>(x) || !is_dense<bool>(noise)) return false;
  if (!x->has_shape_of(*out) || !noise->has_shape_of(*out)) return false;
  const double scale = arguments.number("scale");
  if (!arguments.readable()) return false;
  auto& task = tape.add<Dropout<T>>(out->size());
  task.out = reinterpret_cast<T*>(out->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.noise = reinterpret_cast<const u8*>(noise->data);
  task.scale = T(scale);
  task.count = out->size();
  return true;
}

inline bool prepare_dropout(Arguments& arguments, Tape& tape) {
  return prepare_dropout_of<float>(arguments, tape) || prepare_dropout_of<double>(arguments, tape);
}

}  // namespace cpu
