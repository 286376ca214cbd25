// LayerNorm and RMSNorm over rows, and their derivatives in x and in the weight.
//
// RMSNorm is LayerNorm with a mean of 0, by a number in the arguments: one set of instances serves both.
//
// Statistics are those of the two-pass formula, in computing type. Sums over rows, for the weight, are kept for each
// column by as many teams as keep the GPU busy; a second kernel adds those up, in a fixed order.
#include "rows.cuh"

template <class C>
struct Moments {
  C mean, scale;  // scale: 1 / standard deviation
};

namespace formulas {

struct standard_scale {
  template <class C>
  FN C operator()(C variance, C eps) const { return C(1) / ::sqrt(variance + eps); }
};
struct normalised {
  template <class C>
  FN C operator()(C x, const Moments<C>& row) const { return (x - row.mean) * row.scale; }
};
struct layer_norm {
  template <class C>
  FN C operator()(C x, const Moments<C>& row, C weight, C bias) const {
    return normalised{}(x, row) * weight + bias;
  }
};
struct layer_norm_grad {  // a: g * weight; means over the row, of a and of a * normalised x
  template <class C>
  FN C operator()(C a, C x, const Moments<C>& row, C mean, C mean_along) const {
    return row.scale * (a - mean - normalised{}(x, row) * mean_along);
  }
};
struct layer_norm_weight_grad {
  template <class C>
  FN C operator()(C g, C x, const Moments<C>& row) const { return g * normalised{}(x, row); }
};

}  // namespace formulas

template <class Team, class C>
FN C sum_over_team(C value) {
  return Team::template fold<formulas::add>(value);
}

// What a row is brought to.
struct Norm {
  double eps;
  i64 centered;  // 0: its mean stays, and is not looked at

  // The mean of the values that a team has sums of; 0 where nothing is centered.
  template <class Team, class C>
  FN C mean(C sum, i64 columns) const {
    return centered ? sum_over_team<Team>(sum) / C(columns) : C(0);
  }
};

// The moments of a row in registers.
template <class Team, int PACKS, int V, class C>
FN Moments<C> moments_of(const C (&x)[PACKS * V], i64 columns, const Norm& norm) {
  C sum = C(0), squares = C(0);
  each<Team, PACKS, V>(0, columns, [&](int i, i64) { sum += x[i]; });
  const C mean = norm.mean<Team>(sum, columns);
  each<Team, PACKS, V>(0, columns, [&](int i, i64) { squares += (x[i] - mean) * (x[i] - mean); });
  return {mean, formulas::standard_scale{}(sum_over_team<Team>(squares) / C(columns), C(norm.eps))};
}

// The moments of a long row, read twice.
template <class Team, int PACKS, int V, class T, class C = Compute<T>>
FN Moments<C> moments_of_long(const T* row, i64 step, i64 columns, const Norm& norm) {
  C x[PACKS * V];
  C sum = C(0), squares = C(0);
  const i64 stride = stride_of_pieces<Team, PACKS, V>();
  for (i64 first = 0; norm.centered && first < columns; first += stride) {
    load<Team, PACKS, V>(x, row, step, first, columns, C(0));
    sum += fold_piece<formulas::add>(x);
  }
  const C mean = norm.mean<Team>(sum, columns);
  for (i64 first = 0; first < columns; first += stride) {
    load<Team, PACKS, V>(x, row, step, first, columns, mean);
#pragma unroll
    for (int i = 0; i < PACKS * V; ++i) squares += (x[i] - mean) * (x[i] - mean);
  }
  return {mean, formulas::standard_scale{}(sum_over_team<Team>(squares) / C(columns), C(norm.eps))};
}

// A piece of the weight or the bias, which lie densely; `absent` everywhere where there is none.
template <class Team, int PACKS, int V, class T>
FN void load_parameter(Compute<T> (&parameter)[PACKS * V], const void* data, i64 first, i64 columns,
                       Compute<T> absent) {
  const i64 present = data != nullptr ? columns : 0;
  load<Team, PACKS, V>(parameter, static_cast<const T*>(data), 1, first, present, absent);
}

// --- forward ---------------------------------------------------------------------------------------------------------

// Packed by tensorlite/backends/kernels/layer_norm.py.
struct LayerNorm {
  void* out;
  const void* x;
  const void* weight;  // null: 1
  const void* bias;    // null: 0
  Norm norm;
  Rows<2> rows;  // of out and x
};

// One piece of the result.
template <class Team, int PACKS, int V, class T, class C>
FN void store_normalised(const LayerNorm& args, T* to, i64 first, const C (&x)[PACKS * V], const Moments<C>& moments) {
  const i64 columns = args.rows.columns;
  C weight[PACKS * V], bias[PACKS * V];
  load_parameter<Team, PACKS, V, T>(weight, args.weight, first, columns, C(1));
  load_parameter<Team, PACKS, V, T>(bias, args.bias, first, columns, C(0));
  store<Team, PACKS, V>(to, args.rows.step[0], first, columns, [&](int i, i64) {
    return formulas::layer_norm{}(x[i], moments, weight[i], bias[i]);
  });
}

// A row in registers.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held(const LayerNorm args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[2];
  args.rows.locate(Team::number(), offset);
  C x[PACKS * V];
  load<Team, PACKS, V>(x, static_cast<const T*>(args.x) + offset[1], args.rows.step[1], 0, args.rows.columns, C(0));
  const auto moments = moments_of<Team, PACKS, V>(x, args.rows.columns, args.norm);
  store_normalised<Team, PACKS, V>(args, static_cast<T*>(args.out) + offset[0], 0, x, moments);
}

// The same, reading three times.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows(const LayerNorm args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[2];
  args.rows.locate(Team::number(), offset);
  const T* from = static_cast<const T*>(args.x) + offset[1];
  const i64 columns = args.rows.columns, step = args.rows.step[1];
  const auto moments = moments_of_long<Team, PACKS, V>(from, step, columns, args.norm);
  for (i64 first = 0; first < columns; first += stride_of_pieces<Team, PACKS, V>()) {
    C x[PACKS * V];
    load<Team, PACKS, V>(x, from, step, first, columns, C(0));
    store_normalised<Team, PACKS, V>(args, static_cast<T*>(args.out) + offset[0], first, x, moments);
  }
}

// --- the derivative in x ---------------------------------------------------------------------------------------------

struct LayerNormGrad {
  void* out;
  const void* g;
  const void* x;
  const void* weight;  // null: 1
  Norm norm;
  Rows<3> rows;  // of out, g and x
};

// A piece of g * weight; 0 beyond the row.
template <class Team, int PACKS, int V, class T, class C>
FN void load_weighted(const LayerNormGrad& args, C (&a)[PACKS * V], const T* g, i64 first) {
  C weight[PACKS * V];
  load<Team, PACKS, V>(a, g, args.rows.step[1], first, args.rows.columns, C(0));
  load_parameter<Team, PACKS, V, T>(weight, args.weight, first, args.rows.columns, C(1));
#pragma unroll
  for (int i = 0; i < PACKS * V; ++i) a[i] *= weight[i];
}

// A row in registers.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held_grad(const LayerNormGrad args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[3];
  args.rows.locate(Team::number(), offset);
  const i64 columns = args.rows.columns;

  C a[PACKS * V], x[PACKS * V];
  load<Team, PACKS, V>(x, static_cast<const T*>(args.x) + offset[2], args.rows.step[2], 0, columns, C(0));
  load_weighted<Team, PACKS, V>(args, a, static_cast<const T*>(args.g) + offset[1], 0);
  const auto moments = moments_of<Team, PACKS, V>(x, columns, args.norm);
  C sum = C(0), along = C(0);
  each<Team, PACKS, V>(0, columns, [&](int i, i64) {
    sum += a[i];
    along += a[i] * formulas::normalised{}(x[i], moments);
  });
  const C mean = args.norm.mean<Team>(sum, columns);
  const C mean_along = sum_over_team<Team>(along) / C(columns);
  store<Team, PACKS, V>(static_cast<T*>(args.out) + offset[0], args.rows.step[0], 0, columns, [&](int i, i64) {
    return formulas::layer_norm_grad{}(a[i], x[i], moments, mean, mean_along);
  });
}

// The same, reading x four times.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows_grad(const LayerNormGrad args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[3];
  args.rows.locate(Team::number(), offset);
  const T* from_g = static_cast<const T*>(args.g) + offset[1];
  const T* from_x = static_cast<const T*>(args.x) + offset[2];
  T* to = static_cast<T*>(args.out) + offset[0];
  const i64 columns = args.rows.columns, stride = stride_of_pieces<Team, PACKS, V>();

  const auto moments = moments_of_long<Team, PACKS, V>(from_x, args.rows.step[2], columns, args.norm);
  C a[PACKS * V], x[PACKS * V];
  C sum = C(0), along = C(0);
  for (i64 first = 0; first < columns; first += stride) {
    load<Team, PACKS, V>(x, from_x, args.rows.step[2], first, columns, moments.mean);
    load_weighted<Team, PACKS, V>(args, a, from_g, first);
#pragma unroll
    for (int i = 0; i < PACKS * V; ++i) {
      sum += a[i];
      along += a[i] * formulas::normalised{}(x[i], moments);
    }
  }
  const C mean = args.norm.mean<Team>(sum, columns);
  const C mean_along = sum_over_team<Team>(along) / C(columns);
  for (i64 first = 0; first < columns; first += stride) {
    load<Team, PACKS, V>(x, from_x, args.rows.step[2], first, columns, C(0));
    load_weighted<Team, PACKS, V>(args, a, from_g, first);
    store<Team, PACKS, V>(to, args.rows.step[0], first, columns, [&](int i, i64) {
      return formulas::layer_norm_grad{}(a[i], x[i], moments, mean, mean_along);
    });
  }
}

// --- the derivative in the weight ------------------------------------------------------------------------------------

struct LayerNormWeightGrad {
  void* partials;  // in computing type, [teams][columns]
  const void* g;
  const void* x;
  Norm norm;
  Rows<2> rows;  // of g and x
};

// Each team adds up, in registers, g * (normalised x) over its rows.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held_weight_grad(const LayerNormWeightGrad args) {
  using C = Compute<T>;
  const i64 columns = args.rows.columns;
  C total[PACKS * V] = {};
  for (i64 row = Team::number(); row < args.rows.count; row += Team::count()) {
    i64 offset[2];
    args.rows.locate(row, offset);
    C g[PACKS * V], x[PACKS * V];
    load<Team, PACKS, V>(x, static_cast<const T*>(args.x) + offset[1], args.rows.step[1], 0, columns, C(0));
    load<Team, PACKS, V>(g, static_cast<const T*>(args.g) + offset[0], args.rows.step[0], 0, columns, C(0));
    const auto moments = moments_of<Team, PACKS, V>(x, columns, args.norm);
#pragma unroll
    for (int i = 0; i < PACKS * V; ++i) total[i] += formulas::layer_norm_weight_grad{}(g[i], x[i], moments);
  }
  C* to = static_cast<C*>(args.partials) + Team::number() * columns;
  each<Team, PACKS, V>(0, columns, [&](int i, i64 column) { to[column] = total[i]; });
}

// The same for long rows: the sums lie in memory, where each is read and written by one thread.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows_weight_grad(const LayerNormWeightGrad args) {
  using C = Compute<T>;
  const i64 columns = args.rows.columns, stride = stride_of_pieces<Team, PACKS, V>();
  C* to = static_cast<C*>(args.partials) + Team::number() * columns;
  for (i64 first = 0; first < columns; first += stride) {
    each<Team, PACKS, V>(first, columns, [&](int, i64 column) { to[column] = C(0); });
  }
  for (i64 row = Team::number(); row < args.rows.count; row += Team::count()) {
    i64 offset[2];
    args.rows.locate(row, offset);
    const T* from_g = static_cast<const T*>(args.g) + offset[0];
    const T* from_x = static_cast<const T*>(args.x) + offset[1];
    const auto moments = moments_of_long<Team, PACKS, V>(from_x, args.rows.step[1], columns, args.norm);
    for (i64 first = 0; first < columns; first += stride) {
      C g[PACKS * V], x[PACKS * V];
      load<Team, PACKS, V>(x, from_x, args.rows.step[1], first, columns, C(0));
      load<Team, PACKS, V>(g, from_g, args.rows.step[0], first, columns, C(0));
      each<Team, PACKS, V>(first, columns, [&](int i, i64 column) {
        to[column] += formulas::layer_norm_weight_grad{}(g[i], x[i], moments);
      });
    }
  }
}

struct ColumnSums {
  void* out;
  const void* partials;  // in computing type, [count][columns]
  i64 count, columns;
};

// Sums of 32 columns by a block: 32 threads side by side for each of its warps' rows.
template <class T>
__global__ void __launch_bounds__(WARP * WARP) column_sums(const ColumnSums args) {
  using C = Compute<T>;
  __shared__ C sums[WARP][WARP + 1];
  const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const i64 column = i64(blockIdx.x) * WARP + lane;
  C sum = C(0);
  if (column < args.columns) {
    const C* from = static_cast<const C*>(args.partials) + column;
#pragma unroll 4
    for (i64 row = warp; row < args.count; row += WARP) sum += from[row * args.columns];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  sum = fold_warp<formulas::add>(sums[lane][warp]);  // of column `warp`
  const i64 mine = i64(blockIdx.x) * WARP + warp;
  if (lane == 0 && mine < args.columns) static_cast<T*>(args.out)[mine] = narrow<T>(sum);
}
