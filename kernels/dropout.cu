// Dropout: out = x · mask, with a mask that lies nowhere. Element i, counted in row-major order, is kept if word i of a
// Philox stream says so, and the derivative reads the stream again, from the same state on.
//
// A thread draws one block of four words. `fork` takes the state for that from a generator's, and moves the generator
// on behind the words of this mask.
#include "dims.cuh"
#include "philox.cuh"

// Packed by tensorlite/backends/kernels/dropout.py.
struct Dropout {
  void* out;
  const void* x;
  const u64* state;
  i64 count;
  double chance;  // of an element to be kept
  double scale;   // what it is multiplied by then
  Dims<2> dims;   // of out and x
};

constexpr int BLOCK = 4;  // words of a block

// The factors of the elements from `first` on: the scale with probability `chance`, else 0.
template <class X>
FN Pack<X, BLOCK> factors(const Dropout& args, i64 first) {
  const Words words = philox(args.state[0], args.state[1] + u64(first / BLOCK));
  const double limit = times(args.chance, 0x1p53);
  Pack<X, BLOCK> factor;
#pragma unroll
  for (int v = 0; v < BLOCK; ++v) factor.at[v] = double(i64(words.at[v] >> 11)) < limit ? X(args.scale) : X(0);
  return factor;
}

// Dense, aligned `out` and x, in accesses of up to 16 bytes.
template <class T>
__global__ void dense(const Dropout args) {
  constexpr int V = sizeof(T) > 4 ? 16 / sizeof(T) : BLOCK;
  const i64 first = BLOCK * thread_number<i64>();
  if (first >= args.count) return;
  const auto factor = factors<Compute<T>>(args, first);
  const T* x = static_cast<const T*>(args.x) + first;
  T* out = static_cast<T*>(args.out) + first;
  if (args.count - first >= BLOCK) {
#pragma unroll
    for (int v = 0; v < BLOCK; v += V) {
      auto part = *reinterpret_cast<const Pack<T, V>*>(x + v);
#pragma unroll
      for (int k = 0; k < V; ++k) part.at[k] = narrow<T>(widen(part.at[k]) * factor.at[v + k]);
      *reinterpret_cast<Pack<T, V>*>(out + v) = part;
    }
  } else {
#pragma unroll
    for (int v = 0; v < BLOCK - 1; ++v) {
      if (first + v < args.count) out[v] = narrow<T>(widen(x[v]) * factor.at[v]);
    }
  }
}

// Any strides.
template <class T>
__global__ void strided(const Dropout args) {
  const i64 first = BLOCK * thread_number<i64>();
  if (first >= args.count) return;
  const auto factor = factors<Compute<T>>(args, first);
#pragma unroll
  for (int v = 0; v < BLOCK; ++v) {
    if (first + v >= args.count) return;
    const Place<u64, 2> place(args.dims, u64(first + v));
    const Compute<T> x = widen(static_cast<const T*>(args.x)[place.offset[1]]);
    static_cast<T*>(args.out)[place.offset[0]] = narrow<T>(x * factor.at[v]);
  }
}

struct Fork {
  u64* before;
  u64* state;
  u64 blocks;
};

// One thread: `before` becomes the state, which then goes on behind so many blocks.
__global__ void fork(const Fork args) {
  args.before[0] = args.state[0];
  args.before[1] = args.state[1];
  args.state[1] += args.blocks;
}
