// Rows: how threads share the lines of an array along one dimension, load them, fold them and store them.
//
// A row belongs to a team: one thread, a warp, or a block. A thread of a team takes a piece at a time, PACKS packs of V
// neighbouring elements, and the packs of neighbouring threads are neighbours. A row of which each thread has one piece
// is `held`: it is read once, into registers. A `long` one is read piece by piece, once for each thing to be known.
//
// Blocks are one-dimensional, of whole warps. Kernels ask for one block per multiprocessor, `__launch_bounds__(.., 1)`:
// left to itself, ptxas spills a register here and there to fit more blocks.
#pragma once
#include "dims.cuh"
#include "formulas.cuh"

constexpr int WARP = 32;

// Where the rows of N arrays lie. Packed by `rows.Layout`.
template <int N>
struct Rows {
  i64 count;
  i64 columns;  // elements of a row
  i64 step[N];  // in elements, from one to the next in a row
  Dims<N> dims;

  // The offsets of a row's first element.
  FN void locate(i64 row, i64 (&offset)[N]) const {
    if (count < i64(1) << 31) copy(Place<u32, N>(dims, u32(row)).offset, offset);
    else copy(Place<u64, N>(dims, u64(row)).offset, offset);
  }

 private:
  static FN void copy(const i64 (&from)[N], i64 (&to)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = from[k];
  }
};

// --- teams -----------------------------------------------------------------------------------------------------------

// F over the values of a warp's lanes, in every lane: by a tree, and the same bits in all of them.
template <class F, class T>
FN T fold_warp(T value) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    value = F{}(value, __shfl_xor_sync(FULL_WARP, value, distance));
  }
  return value;
}

// F over the values of a block's threads, in every thread.
template <class F, class T>
FN T fold_block(T value) {
  __shared__ T of_warp[WARP];
  value = fold_warp<F>(value);
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = value;
  __syncthreads();
  T total = of_warp[0];
  for (u32 warp = 1; warp < blockDim.x / WARP; ++warp) total = F{}(total, of_warp[warp]);
  __syncthreads();  // the next fold writes of_warp
  return total;
}

// A team has a number among `count` teams; its threads have ranks below `size`. `fold` combines what they have.
struct Thread {
  static constexpr int BLOCK = 256;  // threads of a block at most
  static FN i64 number() { return thread_number<i64>(); }
  static FN i64 count() { return i64(gridDim.x) * blockDim.x; }
  static FN int size() { return 1; }
  static FN int rank() { return 0; }
  template <class F, class T>
  static FN T fold(T value) { return value; }
};
struct Warp {
  static constexpr int BLOCK = 256;
  static FN i64 number() { return thread_number<i64>() / WARP; }
  static FN i64 count() { return i64(gridDim.x) * blockDim.x / WARP; }
  static FN int size() { return WARP; }
  static FN int rank() { return threadIdx.x % WARP; }
  template <class F, class T>
  static FN T fold(T value) { return fold_warp<F>(value); }
};
struct Block {
  static constexpr int BLOCK = 512;
  static FN i64 number() { return blockIdx.x; }
  static FN i64 count() { return gridDim.x; }
  static FN int size() { return blockDim.x; }
  static FN int rank() { return threadIdx.x; }
  template <class F, class T>
  static FN T fold(T value) { return fold_block<F>(value); }
};

// --- pieces of rows --------------------------------------------------------------------------------------------------

// The columns between the starts of two pieces of a thread.
template <class Team, int PACKS, int V>
FN i64 stride_of_pieces() {
  return i64(Team::size()) * (PACKS * V);
}

// The column of pack p in the piece that starts at `first`.
template <class Team, int V>
FN i64 column_of(i64 first, int p) {
  return first + (i64(p) * Team::size() + Team::rank()) * V;
}

// Call visit(i, column) for every element i of a piece that lies within the row.
template <class Team, int PACKS, int V, class Visit>
FN void each(i64 first, i64 columns, Visit visit) {
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const i64 column = column_of<Team, V>(first, p);
    if (column >= columns) continue;
#pragma unroll
    for (int v = 0; v < V; ++v) visit(p * V + v, column + v);
  }
}

// A piece in computing type, with `fill` for what lies beyond the row. Packs (V > 1) need a step of 1.
template <class Team, int PACKS, int V, class T>
FN void load(Compute<T> (&x)[PACKS * V], const T* row, i64 step, i64 first, i64 columns, Compute<T> fill) {
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const i64 column = column_of<Team, V>(first, p);
    if (column >= columns) {
#pragma unroll
      for (int v = 0; v < V; ++v) x[p * V + v] = fill;
    } else if constexpr (V == 1) {
      x[p] = widen(row[column * step]);
    } else {
      const auto pack = *reinterpret_cast<const Pack<T, V>*>(row + column);
#pragma unroll
      for (int v = 0; v < V; ++v) x[p * V + v] = widen(pack.at[v]);
    }
  }
}

// Write result(i, column) for each element i of a piece.
template <class Team, int PACKS, int V, class T, class Result>
FN void store(T* row, i64 step, i64 first, i64 columns, Result result) {
#pragma unroll
  for (int p = 0; p < PACKS; ++p) {
    const i64 column = column_of<Team, V>(first, p);
    if (column >= columns) continue;
    if constexpr (V == 1) {
      row[column * step] = narrow<T>(result(p, column));
    } else {
      Pack<T, V> pack;
#pragma unroll
      for (int v = 0; v < V; ++v) pack.at[v] = narrow<T>(result(p * V + v, column + v));
      *reinterpret_cast<Pack<T, V>*>(row + column) = pack;
    }
  }
}

// F over all elements of a piece.
template <class F, int N, class C>
FN C fold_piece(const C (&x)[N]) {
  C total = x[0];
#pragma unroll
  for (int i = 1; i < N; ++i) total = F{}(total, x[i]);
  return total;
}
