// Running sums and products along one dimension.
//
// `rows` gives a block to a row, for rows that lie densely in memory; `columns` gives a thread to each, for rows that
// lie beside each other. A row in several shares takes three launches: one that only totals each share, a scan of the
// totals, and one in which each share starts from the total of all before it.
#include "dims.cuh"

constexpr int THREADS = 256;  // of a block
constexpr int ITEMS = 4;      // elements that a thread takes at a time
constexpr int WARPS = THREADS / 32;

namespace scans {

struct cumsum {
  template <class T>
  static FN T identity() { return T(0); }
  template <class T>
  static FN T combine(T a, T b) { return a + b; }
};
struct cumprod {
  template <class T>
  static FN T identity() { return T(1); }
  template <class T>
  static FN T combine(T a, T b) { return a * b; }
};

}  // namespace scans

// Packed by tensorlite/backends/kernels/scan.py. Totals are in computing type, dense: [row][share].
struct Scan {
  const void* x;
  void* out;           // null: only totals are wanted
  const void* before;  // null, or the running totals of the shares
  void* totals;        // null, or where each share's own total goes
  i64 rows;
  i64 length;    // of a row
  i64 share;     // elements of a share, gridDim.y of which make a row, but for the last
  i64 stride_x;  // between the elements of a row
  i64 stride_out;
  Dims<2> starts;  // of rows in x and out
};

// What comes before this share of a row.
template <class F, class C>
FN C start_of(const Scan& args, i64 row) {
  if (args.before == nullptr || blockIdx.y == 0) return F::template identity<C>();
  return static_cast<const C*>(args.before)[row * gridDim.y + blockIdx.y - 1];
}

template <class C>
FN void put_total(const Scan& args, i64 row, C total) {
  if (args.totals != nullptr) static_cast<C*>(args.totals)[row * gridDim.y + blockIdx.y] = total;
}

// What the threads of the block before this one combine to; `total` is that of all.
template <class F, class C>
FN C scan_block(C value, C& total) {
  __shared__ C of_warp[WARPS];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (u32 delta = 1; delta < 32; delta *= 2) {
    const C left = C(__shfl_up_sync(FULL_WARP, value, delta));
    if (lane >= delta) value = F::combine(left, value);
  }
  const C left = C(__shfl_up_sync(FULL_WARP, value, 1));
  if (lane == 31) of_warp[warp] = value;
  __syncthreads();
  C before = F::template identity<C>();
  total = before;
#pragma unroll
  for (u32 other = 0; other < WARPS; ++other) {
    if (other == warp) before = total;
    total = F::combine(total, of_warp[other]);
  }
  __syncthreads();  // of_warp may be written again
  return lane == 0 ? before : F::combine(before, left);
}

// --- kernels ---------------------------------------------------------------------------------------------------------

template <class T>
FN bool is_pack(const T* x, i64 stride) {
  return stride == 1 && reinterpret_cast<u64>(x) % sizeof(Pack<T, ITEMS>) == 0;
}

// The first `count` of ITEMS elements.
template <class T>
FN Pack<T, ITEMS> load(const T* x, i64 stride, i64 count) {
  if (count >= ITEMS && is_pack(x, stride)) return *reinterpret_cast<const Pack<T, ITEMS>*>(x);
  Pack<T, ITEMS> loaded;
#pragma unroll
  for (int k = 0; k < ITEMS; ++k) loaded.at[k] = k < count ? x[k * stride] : T();
  return loaded;
}

template <class T>
FN void store(T* out, i64 stride, i64 count, const Pack<T, ITEMS>& pack) {
  if (count >= ITEMS && is_pack(out, stride)) {
    *reinterpret_cast<Pack<T, ITEMS>*>(out) = pack;
    return;
  }
#pragma unroll
  for (int k = 0; k < ITEMS; ++k) {
    if (k < count) out[k * stride] = pack.at[k];
  }
}

// A block to each share of a row; each turn takes ITEMS neighbours per thread.
template <class F, class T>
__global__ void __launch_bounds__(THREADS) rows(const Scan args) {
  using C = Compute<T>;
  const i64 row = blockIdx.x;
  const Place<u64, 2> start(args.starts, u64(row));
  const T* x = static_cast<const T*>(args.x) + start.offset[0];
  T* out = args.out == nullptr ? nullptr : static_cast<T*>(args.out) + start.offset[1];
  const i64 begin = blockIdx.y * args.share, end = min(args.length, begin + args.share);

  C carry = start_of<F, C>(args, row);
  for (i64 turn = begin; turn < end; turn += THREADS * ITEMS) {
    const i64 first = turn + threadIdx.x * ITEMS;
    const auto loaded = load(x + first * args.stride_x, args.stride_x, end - first);
    C running[ITEMS];  // this thread's own running totals
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      const C value = first + k < end ? widen(loaded.at[k]) : F::template identity<C>();
      running[k] = k == 0 ? value : F::combine(running[k - 1], value);
    }
    C total;
    const C before = F::combine(carry, scan_block<F>(running[ITEMS - 1], total));
    carry = F::combine(carry, total);
    if (out == nullptr) continue;
    Pack<T, ITEMS> result;
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) result.at[k] = narrow<T>(F::combine(before, running[k]));
    store(out + first * args.stride_out, args.stride_out, end - first, result);
  }
  if (threadIdx.x == 0) put_total(args, row, carry);
}

// A thread to each share of a row.
template <class F, class T>
__global__ void __launch_bounds__(THREADS) columns(const Scan args) {
  using C = Compute<T>;
  const i64 row = thread_number<i64>();
  if (row >= args.rows) return;
  const Place<u64, 2> start(args.starts, u64(row));
  const T* x = static_cast<const T*>(args.x) + start.offset[0];
  T* out = args.out == nullptr ? nullptr : static_cast<T*>(args.out) + start.offset[1];
  const i64 begin = blockIdx.y * args.share, end = min(args.length, begin + args.share);

  C carry = start_of<F, C>(args, row);
  for (i64 first = begin; first < end; first += ITEMS) {
    T loaded[ITEMS];  // all on their way before the first is used
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) loaded[k] = first + k < end ? x[(first + k) * args.stride_x] : T();
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
      if (first + k >= end) break;
      carry = F::combine(carry, widen(loaded[k]));
      if (out != nullptr) out[(first + k) * args.stride_out] = narrow<T>(carry);
    }
  }
  put_total(args, row, carry);
}
