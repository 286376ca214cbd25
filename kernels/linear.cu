// In backward of a linear layer with a ReLU, before the products of matrices: the derivative of the ReLU and the gradient
// of the bias, in one pass. (Bias and ReLU behind the product in forward are an elementwise kernel.)
#include "columns.cuh"

// Packed by tensorlite/backends/kernels/linear.py.
struct ReluBiasGrad {
  void* slope;  // of what the ReLU was applied to
  void* total;  // of its columns
  const void* g;
  const void* y;  // the result of the ReLU
  void* partial;  // sums [splits][columns]
  i64 splits;     // 1: nothing is split, and sums go to total
  i64 share;      // rows of a split, but for the last
  i64 rows;
  i64 columns;
};

template <class T, int V>
struct GradAndResult {
  Pack<T, V> g, y;
};

// V columns to a thread, blockDim.y threads to these: sums in the tree of `columns` in reduce.cu.
template <class Index, class T, int V>
__global__ void __launch_bounds__(THREADS, 2) relu_bias_grad(const ReluBiasGrad args) {
  using R = reducers::sum<Compute<T>>;
  using P = Pack<T, V>;
  const Index column = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  const bool inside = column < Index(args.columns);
  const Index begin = Index(args.share) * blockIdx.y;
  const Index end = inside ? min(Index(args.rows), begin + Index(args.share)) : begin;
  const auto place = [&](Index row) { return i64(row) * args.columns + i64(column); };
  const auto load = [&](Index row) {
    return GradAndResult<T, V>{*reinterpret_cast<const P*>(static_cast<const T*>(args.g) + place(row)),
                               *reinterpret_cast<const P*>(static_cast<const T*>(args.y) + place(row))};
  };
  const auto make = [&](const GradAndResult<T, V>& loaded, Index row) {
    P slope;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      slope.at[v] = narrow<T>(formulas::relu_grad{}(widen(loaded.g.at[v]), widen(loaded.y.at[v])));
    }
    *reinterpret_cast<P*>(static_cast<T*>(args.slope) + place(row)) = slope;
    return slope;
  };

  Compute<T> sum[V] = {};
  fold_strided<R, Index, V>(load, make, begin + threadIdx.y, end, Index(blockDim.y), sum);
  fold_block_columns<R>(sum);
  if (!inside || threadIdx.y > 0) return;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (args.splits > 1) static_cast<Compute<T>*>(args.partial)[blockIdx.y * args.columns + column + v] = sum[v];
    else static_cast<T*>(args.total)[column + v] = narrow<T>(sum[v]);
  }
}
