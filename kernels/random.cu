// Random numbers: element i of `out`, counted in row-major order, is made of word i of a Philox stream.
//
// A thread draws one block of four words. The state [seed, counter] stays as it is while threads read it; `advance`,
// launched next, counts the blocks that were drawn.
#include "dims.cuh"
#include "distributions.cuh"

// Packed by tensorlite/backends/kernels/random.py.
template <class Distribution>
struct Draw {
  void* out;
  const u64* state;
  const void* operand;  // a second array that the distribution reads, or null
  i64 count;
  Dims<2> dims;  // of out and of the operand
  Distribution distribution;
};

// The words of the four elements from `first` on.
template <class Distribution>
FN Words words_of(const Draw<Distribution>& args, i64 first) {
  return philox(args.state[0], args.state[1] + u64(first / 4));
}

// Dense, aligned `out`, stored in accesses of 16 bytes; no operand.
template <class Distribution, class T>
__global__ void dense(const Draw<Distribution> args) {
  constexpr int V = sizeof(T) > 4 ? 16 / sizeof(T) : 4;
  const i64 first = 4 * thread_number<i64>();
  if (first >= args.count) return;
  const auto drawn = args.distribution.template draw<T>(words_of(args, first), distributions::Operand{});
  T* out = static_cast<T*>(args.out) + first;
  if (args.count - first >= 4) {
#pragma unroll
    for (int v = 0; v < 4; v += V) {
      Pack<T, V> part;
#pragma unroll
      for (int k = 0; k < V; ++k) part.at[k] = drawn.at[v + k];
      *reinterpret_cast<Pack<T, V>*>(out + v) = part;
    }
  } else {
#pragma unroll
    for (int v = 0; v < 3; ++v) {
      if (first + v < args.count) out[v] = drawn.at[v];
    }
  }
}

// Any strides.
template <class Distribution, class T>
__global__ void strided(const Draw<Distribution> args) {
  const i64 first = 4 * thread_number<i64>();
  if (first >= args.count) return;
  i64 out_at[4];
  distributions::Operand operand{args.operand, {}};
#pragma unroll
  for (int v = 0; v < 4; ++v) {  // beyond the end, the last element is read again
    const Place<u64, 2> place(args.dims, u64(min(first + v, args.count - 1)));
    out_at[v] = place.offset[0];
    operand.at[v] = place.offset[1];
  }
  const auto drawn = args.distribution.template draw<T>(words_of(args, first), operand);
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    if (first + v < args.count) static_cast<T*>(args.out)[out_at[v]] = drawn.at[v];
  }
}

struct Advance {
  u64* state;
  u64 blocks;
};

// One thread: the next draw goes on after these blocks.
__global__ void advance(const Advance args) { args.state[1] += args.blocks; }
