// The order that sorts each row, stably: NaN is the largest value, and -0 equals 0.
//
// An element becomes an unsigned key whose order is that of the values, and travels with its index. `tiles` sorts runs
// of a row by a bitonic network in shared memory; each launch of `merge` makes one sorted run of two.
#include "dims.cuh"

constexpr int TILE = 1024;          // elements of a block of `tiles` at most, two per thread
constexpr int MERGE_THREADS = 256;  // of a block of `merge`

// Packed by tensorlite/backends/kernels/sort.py. Scratch memory holds dense rows: [row][element].
struct Sort {
  const void* x;        // tiles: what is sorted
  const void* keys;     // merge: the runs, and the indices of their elements
  const void* indices;
  void* merged_keys;    // where sorted runs go; null in the last launch,
  void* merged_indices;
  void* out;            // which writes the order: i64
  i64 rows;
  i64 length;  // of a row
  i64 run;     // tiles: elements of a run, a power of two up to the block's; merge: of a run that is merged
  i64 descending;
  i64 stride_x;  // between the elements of a row
  i64 stride_out;
  Dims<2> starts;  // of rows in x and out
};

// --- keys ------------------------------------------------------------------------------------------------------------

template <int bytes>
struct Unsigned;
template <>
struct Unsigned<1> {
  using type = u8;
};
template <>
struct Unsigned<2> {
  using type = u16;
};
template <>
struct Unsigned<4> {
  using type = u32;
};
template <>
struct Unsigned<8> {
  using type = u64;
};
template <class T>
using Key = typename Unsigned<sizeof(T)>::type;

template <class K>
constexpr K SIGN = K(K(1) << (8 * sizeof(K) - 1));

FN u16 raw_bits(f16 x) { return x.bits; }
FN u16 raw_bits(bf16 x) { return x.bits; }
FN u32 raw_bits(float x) { return bits_of(x); }
FN u64 raw_bits(double x) { return u64(__double_as_longlong(x)); }

// Unsigned integers in the order of the values.
template <class T>
FN Key<T> key_of(T x) {
  using K = Key<T>;
  if constexpr (is_float<Compute<T>>) {
    if (widen(x) != widen(x)) return K(~K(0));
    const K bits = raw_bits(x);
    if ((bits & K(~SIGN<K>)) == 0) return SIGN<K>;
    return bits & SIGN<K> ? K(~bits) : K(bits | SIGN<K>);
  } else {
    return Limits<T>::is_signed ? K(K(x) ^ SIGN<K>) : K(x);
  }
}
template <>
FN u8 key_of(bool x) {
  return x;
}

// --- kernels ---------------------------------------------------------------------------------------------------------

template <class K, class Index>
FN void put(const Sort& args, i64 row, i64 at, K key, Index index) {
  if (args.merged_keys != nullptr) {
    static_cast<K*>(args.merged_keys)[row * args.length + at] = key;
    static_cast<Index*>(args.merged_indices)[row * args.length + at] = index;
  } else {
    const Place<u64, 2> start(args.starts, u64(row));
    static_cast<i64*>(args.out)[start.offset[1] + at * args.stride_out] = i64(index);
  }
}

// Sorts runs. A block holds 2 * blockDim.x elements: a run of a longer row, or several rows no longer than a run.
// Elements beyond the end of a row come last, for equal keys are ordered by their places.
template <class T, class Index>
__global__ void __launch_bounds__(TILE / 2, 2) tiles(const Sort args) {
  using K = Key<T>;
  __shared__ K key[TILE];
  __shared__ u16 place[TILE];  // within the run

  const u32 run = u32(args.run), block = 2 * blockDim.x;
  const u32 runs_of_row = u32((args.length + run - 1) / run);
  const i64 first_row = i64(blockIdx.x / runs_of_row) * (block / run);
  const i64 run_start = i64(blockIdx.x % runs_of_row) * run;
  for (u32 at = threadIdx.x; at < block; at += blockDim.x) {
    const i64 row = first_row + at / run, element = run_start + i64(at & (run - 1));
    K loaded = K(~K(0));
    if (row < args.rows && element < args.length) {
      const Place<u64, 2> start(args.starts, u64(row));
      loaded = key_of(static_cast<const T*>(args.x)[start.offset[0] + element * args.stride_x]);
      if (args.descending) loaded = K(~loaded);
    }
    key[at] = loaded;
    place[at] = u16(at & (run - 1));
  }

  const auto follows = [&](u32 a, u32 b) { return key[a] > key[b] || (key[a] == key[b] && place[a] > place[b]); };
  for (u32 size = 2; size <= run; size *= 2) {  // of stretches that are sorted, up and down in turn
    for (u32 half = size / 2; half > 0; half /= 2) {
      __syncthreads();
      const u32 low = 2 * threadIdx.x - (threadIdx.x & (half - 1)), high = low + half;
      const bool upwards = (low & (run - 1) & size) == 0;
      if (follows(low, high) == upwards) {
        const K lower = key[low];
        const u16 lower_place = place[low];
        key[low] = key[high];
        place[low] = place[high];
        key[high] = lower;
        place[high] = lower_place;
      }
    }
  }
  __syncthreads();

  for (u32 at = threadIdx.x; at < block; at += blockDim.x) {
    const i64 row = first_row + at / run, element = run_start + i64(at & (run - 1));
    if (row < args.rows && element < args.length) {
      put(args, row, element, key[at], Index(run_start + place[at]));
    }
  }
}

// How many of `count` sorted keys come before `key`: those below it, and equal ones if they are `earlier`.
template <class K>
FN i64 rank(const K* keys, i64 count, K key, bool earlier) {
  i64 low = 0, high = count;
  while (low < high) {
    const i64 middle = (low + high) / 2;
    if (keys[middle] < key || (earlier && keys[middle] == key)) low = middle + 1;
    else high = middle;
  }
  return low;
}

// A thread per element, which finds its place among those of the run that its own is merged with. gridDim.y is rows.
template <class K, class Index>
__global__ void __launch_bounds__(MERGE_THREADS, 2) merge(const Sort args) {
  const i64 at = thread_number<i64>();
  if (at >= args.length) return;
  for (i64 row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const K* keys = static_cast<const K*>(args.keys) + row * args.length;
    const Index index = static_cast<const Index*>(args.indices)[row * args.length + at];
    const i64 pair = at & ~(2 * args.run - 1), second = min(pair + args.run, args.length);
    const i64 end = min(pair + 2 * args.run, args.length);
    const K key = keys[at];
    const i64 to = at < second ? at + rank(keys + second, end - second, key, false)
                               : at - args.run + rank(keys + pair, args.run, key, true);
    put(args, row, to, key, index);
  }
}
