// Reductions: every result folds `count` elements of x by a reducer R.
//
// `rows` lays the threads of a warp, or of a block, along the folded elements: for results whose elements lie side by
// side. `columns` lays them along the results: for folded elements that lie far apart. Where results are few, the
// elements of each are split over gridDim.y, the states go to scratch memory, and `finish` folds those.
#include "columns.cuh"

constexpr int MAX_STATE = 24;

// Packed by tensorlite/backends/kernels/reduce.py.
struct Reduction {
  const void* x;
  void* out;
  void* partial;  // states [splits][results]
  i64 splits;     // 1: nothing is split, and results go to out
  i64 share;      // elements of a split, but for the last
  i64 count;      // elements of a result
  i64 results;
  double divisor;
  Dims<1> folded;  // of x
  Dims<2> kept;    // of x and out
};

// --- folding in one thread -------------------------------------------------------------------------------------------

template <class R, class T, int V, class State = typename R::State>
FN State fold_pack(const Pack<T, V>& pack, i64 position) {
  State state[V];
#pragma unroll
  for (int v = 0; v < V; ++v) state[v] = R::of(widen(pack.at[v]), position + v);
  return fold_tree<R, V>(state);
}

// Elements before the next multiple of 16 bytes.
template <class T, int V>
FN int before_boundary(const T* x) {
  return int((V - reinterpret_cast<u64>(x) / sizeof(T) % V) % V);
}

// One result whose elements are dense: packs of 16 bytes between an unaligned head and tail. Thread `lane` of `lanes`.
template <class R, class Index, class T, int V, class State = typename R::State>
FN State fold_dense(const T* x, Index begin, Index end, Index lane, Index lanes) {
  State state = R::identity();
  const auto fold_single = [&](Index from, Index to) {
#pragma unroll 1
    for (Index at = from + lane; at < to; at += lanes) state = R::combine(state, R::of(widen(x[at]), i64(at)));
  };
  const Index first = min(end, begin + Index(before_boundary<T, V>(x + begin)));
  const Index packs = (end - first) / V;
  const auto position = [&](Index pack) { return first + pack * V; };
  const auto load = [&](Index pack) { return *reinterpret_cast<const Pack<T, V>*>(x + position(pack)); };

  fold_single(begin, first);
  Index pack = lane;
#pragma unroll 1
  for (; pack + (AHEAD - 1) * lanes < packs; pack += AHEAD * lanes) {
    Pack<T, V> loaded[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) loaded[k] = load(pack + k * lanes);
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) {
      state = R::combine(state, fold_pack<R>(loaded[k], i64(position(pack + k * lanes))));
    }
  }
#pragma unroll 1
  for (; pack < packs; pack += lanes) state = R::combine(state, fold_pack<R>(load(pack), i64(position(pack))));
  fold_single(position(packs), end);
  return state;
}

// --- folding between threads -----------------------------------------------------------------------------------------

// The state of `lanes` neighbouring threads, a power of two: part of a warp, or a whole block. Valid in the first.
template <class R, class State = typename R::State>
FN State fold_lanes(State state, u32 lanes) {
  for (u32 bits = min(lanes, 32u) / 2; bits > 0; bits /= 2) {
    state = R::combine(state, reducers::shuffled(state, int(bits)));
  }
  if (lanes <= 32) return state;

  __shared__ State of_warp[THREADS / 32];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = lanes / 32;
  if (lane == 0) of_warp[warp] = state;
  __syncthreads();
  if (warp > 0) return state;
  state = lane < warps ? of_warp[lane] : R::identity();
  for (u32 bits = warps / 2; bits > 0; bits /= 2) state = R::combine(state, reducers::shuffled(state, int(bits)));
  return state;
}

// --- kernels ---------------------------------------------------------------------------------------------------------

template <class R, class Out, class State = typename R::State>
FN void store(const Reduction& args, i64 result, i64 offset, const State& state) {
  static_assert(sizeof(State) <= MAX_STATE, "scratch memory holds states of so many bytes");
  if (args.splits > 1) reducers::put(static_cast<State*>(args.partial) + blockIdx.y * args.results + result, state);
  else static_cast<Out*>(args.out)[offset] = narrow<Out>(R::result(state, args.divisor));
}

// blockDim.x threads to a result, blockDim.y results to a block. V > 1: the folded elements are dense.
template <template <class> class Reducer, class Index, class Out, class T, int V>
__global__ void __launch_bounds__(THREADS, 2) rows(const Reduction args) {
  using R = Reducer<Compute<T>>;
  const Index result = Index(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool inside = result < Index(args.results);
  const Place<Index, 2> place(args.kept, inside ? result : Index(0));
  const T* x = static_cast<const T*>(args.x) + place.offset[0];
  const Index begin = Index(args.share) * blockIdx.y;
  const Index end = inside ? min(Index(args.count), begin + Index(args.share)) : begin;

  typename R::State state[1] = {R::identity()};
  if constexpr (V > 1) {
    state[0] = fold_dense<R, Index, T, V>(x, begin, end, threadIdx.x, blockDim.x);
  } else {
    fold_strided<R, Index, T, 1>(args.folded, x, begin + threadIdx.x, end, blockDim.x, state);
  }
  state[0] = fold_lanes<R>(state[0], blockDim.x);
  if (inside && threadIdx.x == 0) store<R, Out>(args, i64(result), place.offset[1], state[0]);
}

// V results to a thread, blockDim.y threads to these. V > 1: they are neighbours, and aligned for packs.
template <template <class> class Reducer, class Index, class Out, class T, int V>
__global__ void __launch_bounds__(THREADS, 2) columns(const Reduction args) {
  using R = Reducer<Compute<T>>;
  const Index result = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  const bool inside = result < Index(args.results);
  const Place<Index, 2> place(args.kept, inside ? result : Index(0));
  const T* x = static_cast<const T*>(args.x) + place.offset[0];
  const Index begin = Index(args.share) * blockIdx.y;
  const Index end = inside ? min(Index(args.count), begin + Index(args.share)) : begin;

  typename R::State state[V];
#pragma unroll
  for (int v = 0; v < V; ++v) state[v] = R::identity();
  fold_strided<R, Index, T, V>(args.folded, x, begin + threadIdx.y, end, blockDim.y, state);
  fold_block_columns<R>(state);
  if (!inside || threadIdx.y > 0) return;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    store<R, Out>(args, i64(result) + v, place.offset[1] + v * args.kept.stride[0][1], state[v]);
  }
}

// The results of the states that the splits left behind; threads as in `columns`.
template <template <class> class Reducer, class Index, class Out, class T>
__global__ void __launch_bounds__(THREADS, 2) finish(const Reduction args) {
  using R = Reducer<Compute<T>>;
  const Index result = Index(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool inside = result < Index(args.results);
  const auto* partial = static_cast<const typename R::State*>(args.partial) + result;

  typename R::State state[1] = {R::identity()};
  if (inside) {
#pragma unroll 4
    for (u32 split = threadIdx.y; split < u32(args.splits); split += blockDim.y) {
      state[0] = R::combine(state[0], partial[split * args.results]);
    }
  }
  fold_block_columns<R>(state);
  if (!inside || threadIdx.y > 0) return;
  const Place<Index, 2> place(args.kept, result);
  static_cast<Out*>(args.out)[place.offset[1]] = narrow<Out>(R::result(state[0], args.divisor));
}
