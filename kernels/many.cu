// Many tensors changed in place by one launch, and the norm of all of them as one vector: what is done to the gradients
// of a model between backward and the optimizer's step.
//
// The norm takes two launches: each block of `fold` leaves a partial result, and the one block of `finish` folds these,
// always in the same order. It also computes the factor by which clipping scales.
#include "formulas.cuh"
#include "segments.cuh"

constexpr int THREADS = 256;  // of a block

// --- changes ---------------------------------------------------------------------------------------------------------

namespace changes {

struct Fill {
  template <class C>
  FN C operator()(C, C value, C) const { return value; }
};

struct Scale {
  template <class C>
  FN C operator()(C x, C factor, C) const { return x * factor; }
};

struct Clamp {
  template <class C>
  FN C operator()(C x, C low, C high) const { return formulas::clamp{}(x, low, high); }
};

}  // namespace changes

// Packed by tensorlite/backends/kernels/many.py.
template <int N>
struct Change {
  const void* factor;  // null, or what takes the place of the first number: 0-d, in computing type
  void* data[N];
  Flat<N> layout;
  double numbers[2];
};

template <class F, class T, int V>
FN void change_pack(T* data, Compute<T> first, Compute<T> second) {
  auto& pack = *reinterpret_cast<Pack<T, V>*>(data);
  Pack<T, V> changed = pack;
#pragma unroll
  for (int v = 0; v < V; ++v) changed.at[v] = narrow<T>(F{}(widen(changed.at[v]), first, second));
  pack = changed;
}

template <class F, class T, int N>
__global__ void __launch_bounds__(THREADS) change(const Change<N> args) {
  using C = Compute<T>;
  constexpr int V = 16 / sizeof(T);
  const Share share = args.layout.share();
  T* data = static_cast<T*>(args.data[share.segment]);
  C first = C(args.numbers[0]);
  if (args.factor != nullptr) first = widen(narrow<T>(*static_cast<const C*>(args.factor)));
  const C second = C(args.numbers[1]);

  const i64 count = args.layout.count[share.segment];
  const i64 packs = reinterpret_cast<u64>(data) % 16 == 0 ? count / V : 0;
#pragma unroll 1
  for (i64 pack = share.thread; pack < packs; pack += share.threads) {
    change_pack<F, T, V>(data + pack * V, first, second);
  }
#pragma unroll 1
  for (i64 at = packs * V + share.thread; at < count; at += share.threads) {
    change_pack<F, T, 1>(data + at, first, second);
  }
}

// --- norms -----------------------------------------------------------------------------------------------------------

namespace norms {

struct Euclidean {
  template <class C>
  static FN C of(C x) { return x * x; }
  template <class C>
  static FN C combine(C a, C b) { return a + b; }
  template <class C>
  static FN C end(C total) { return ::sqrt(total); }
};

struct Largest {  // absolute value; NaN wins
  template <class C>
  static FN C of(C x) { return ::fabs(x); }
  template <class C>
  static FN C combine(C a, C b) { return formulas::maximum{}(a, b); }
  template <class C>
  static FN C end(C total) { return total; }
};

}  // namespace norms

template <int N>
struct Fold {
  void* partial;  // of this launch's blocks
  const void* data[N];
  Flat<N> layout;
};

struct Finish {
  const void* partial;
  void* total;
  void* factor;
  i64 count;  // of partial results
  double max_norm;
};

// The values of all threads of a block; valid in the first thread.
template <class Norm, class C>
FN C fold_block(C value) {
  __shared__ C shared[THREADS];
  shared[threadIdx.x] = value;
  for (u32 half = THREADS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = Norm::combine(shared[threadIdx.x], shared[threadIdx.x + half]);
  }
  return shared[threadIdx.x];
}

template <class Norm, class T, int N>
__global__ void __launch_bounds__(THREADS) fold(const Fold<N> args) {
  using C = Compute<T>;
  constexpr int V = 16 / sizeof(T);
  const Share share = args.layout.share();
  const T* data = static_cast<const T*>(args.data[share.segment]);
  const i64 count = args.layout.count[share.segment];
  const i64 packs = reinterpret_cast<u64>(data) % 16 == 0 ? count / V : 0;
  C value = C(0);
#pragma unroll 4
  for (i64 pack = share.thread; pack < packs; pack += share.threads) {
    const auto loaded = *reinterpret_cast<const Pack<T, V>*>(data + pack * V);
#pragma unroll
    for (int v = 0; v < V; ++v) value = Norm::combine(value, Norm::of(widen(loaded.at[v])));
  }
  for (i64 at = packs * V + share.thread; at < count; at += share.threads) {
    value = Norm::combine(value, Norm::of(widen(data[at])));
  }
  value = fold_block<Norm>(value);
  if (threadIdx.x == 0) static_cast<C*>(args.partial)[blockIdx.x] = value;
}

// One block. The factor is min(1, max_norm / (total + 1e-6)), NaN where the total is.
template <class Norm, class C>
__global__ void __launch_bounds__(THREADS) finish(const Finish args) {
  C value = C(0);
#pragma unroll 4
  for (i64 at = threadIdx.x; at < args.count; at += THREADS) {
    value = Norm::combine(value, static_cast<const C*>(args.partial)[at]);
  }
  value = fold_block<Norm>(value);
  if (threadIdx.x > 0) return;
  const C total = Norm::end(value);
  *static_cast<C*>(args.total) = total;
  *static_cast<C*>(args.factor) = formulas::minimum{}(C(1), C(args.max_norm) / (total + C(1e-6)));
}
