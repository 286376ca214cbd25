// Loss scaling: gradients divided by the scale, many tensors in one launch, and the scale of the next step.
//
// What is found on the way stays on the device: `found_inf` becomes 1, the optimizer's kernels then change nothing, and
// `update` makes the scale smaller. Nothing waits for it on the host.
#include "segments.cuh"

constexpr int THREADS = 256;  // of a block

// Packed by tensorlite/backends/kernels/amp.py.
template <int N>
struct Unscale {
  const float* scale;
  float* found_inf;
  void* data[N];
  Flat<N> layout;
};

// V neighbouring elements times `factor`; whether all of them were finite. inf - inf and NaN - NaN are NaN.
template <class T, int V>
FN bool multiply(T* data, float factor) {
  auto& pack = *reinterpret_cast<Pack<T, V>*>(data);
  Pack<T, V> changed = pack;
  bool finite = true;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const Compute<T> x = widen(changed.at[v]);
    finite &= x - x == Compute<T>(0);
    changed.at[v] = narrow<T>(x * Compute<T>(factor));
  }
  pack = changed;
  return finite;
}

template <class T, int N>
__global__ void __launch_bounds__(THREADS) unscale(const Unscale<N> args) {
  constexpr int V = 16 / sizeof(T);
  const Share share = args.layout.share();
  T* data = static_cast<T*>(args.data[share.segment]);
  const float inverse = float(1.0 / double(*args.scale));

  const i64 count = args.layout.count[share.segment];
  const i64 packs = reinterpret_cast<u64>(data) % 16 == 0 ? count / V : 0;
  bool finite = true;
#pragma unroll 1
  for (i64 pack = share.thread; pack < packs; pack += share.threads) finite &= multiply<T, V>(data + pack * V, inverse);
#pragma unroll 1
  for (i64 at = packs * V + share.thread; at < count; at += share.threads) finite &= multiply<T, 1>(data + at, inverse);
  if (!finite) atomicMax(reinterpret_cast<u32*>(args.found_inf), bits_of(1.0f));
}

struct Update {
  float* scale;
  i32* tracker;
  const float* found_inf;
  double growth, backoff;
  i64 interval;
};

// One thread.
__global__ void update(const Update args) {
  const double scale = *args.scale;
  if (*args.found_inf != 0.0f) {
    *args.scale = float(scale * args.backoff);
    *args.tracker = 0;
    return;
  }
  const i32 good = *args.tracker + 1;
  if (good != args.interval) {
    *args.tracker = good;
    return;
  }
  const float grown = float(scale * args.growth);
  if (grown - grown == 0.0f) *args.scale = grown;
  *args.tracker = 0;
}
