// Folding columns: many results side by side, each of elements that lie far apart.
//
// The threads of a block lie along the results, and blockDim.y of them share each result's elements, which they fold in
// a fixed tree. What is folded is loaded, and perhaps made of what is loaded, by functors: a kernel that computes
// elements on the way gets the very sums that a reduction of the finished elements gives.
#pragma once
#include "dims.cuh"
#include "reducers.cuh"

constexpr int THREADS = 256;  // of a block at most
constexpr int AHEAD = 4;      // accesses that a thread has in flight

// N states by a tree: what is constant in it (the counts of a variance) is folded away.
template <class R, int N, class State>
FN State fold_tree(const State* state) {
  if constexpr (N == 1) return state[0];
  else return R::combine(fold_tree<R, N / 2>(state), fold_tree<R, N / 2>(state + N / 2));
}

// V results beside each other: folds their elements begin, begin + step, ... before end into their states.
// load(at) reads, and make(what was loaded, at) gives a Pack of V elements: reading is well ahead of the rest.
template <class R, class Index, int V, class Load, class Make, class State = typename R::State>
FN void fold_strided(const Load& load, const Make& make, Index begin, Index end, Index step, State (&state)[V]) {
  Index at = begin;
#pragma unroll 1
  for (; at + (AHEAD - 1) * step < end; at += AHEAD * step) {
    decltype(load(at)) loaded[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) loaded[k] = load(at + k * step);
    decltype(make(loaded[0], at)) made[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) made[k] = make(loaded[k], at + k * step);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      State part[AHEAD];
#pragma unroll
      for (int k = 0; k < AHEAD; ++k) part[k] = R::of(widen(made[k].at[v]), i64(at + k * step));
      state[v] = R::combine(state[v], fold_tree<R, AHEAD>(part));
    }
  }
#pragma unroll 1
  for (; at < end; at += step) {
    const auto made = make(load(at), at);
#pragma unroll
    for (int v = 0; v < V; ++v) state[v] = R::combine(state[v], R::of(widen(made.at[v]), i64(at)));
  }
}

// V results beside each other in x.
template <class R, class Index, class T, int V, class State = typename R::State>
FN void fold_strided(const Dims<1>& folded, const T* x, Index begin, Index end, Index step, State (&state)[V]) {
  const auto load = [&](Index at) {
    return *reinterpret_cast<const Pack<T, V>*>(x + Place<Index, 1>(folded, at).offset[0]);
  };
  fold_strided<R, Index, V>(load, [](const Pack<T, V>& pack, Index) { return pack; }, begin, end, step, state);
}

// The states of threads with the same threadIdx.x. Valid where threadIdx.y is 0; blockDim.y is a power of two.
template <class R, int V, class State = typename R::State>
FN void fold_block_columns(State (&state)[V]) {
  __shared__ State shared[V][THREADS];
  const u32 me = threadIdx.y * blockDim.x + threadIdx.x;
  for (u32 half = blockDim.y / 2; half > 0; half /= 2) {
    if (threadIdx.y >= half && threadIdx.y < 2 * half) {
      for (int v = 0; v < V; ++v) shared[v][me] = state[v];
    }
    __syncthreads();
    if (threadIdx.y < half) {
      for (int v = 0; v < V; ++v) state[v] = R::combine(state[v], shared[v][me + half * blockDim.x]);
    }
  }
}
