// softmax, log_softmax and their derivatives along one dimension of arrays with any strides.
#include "softmax.cuh"

// Packed by tensorlite/backends/kernels/softmax.py.
struct Softmax {
  void* out;
  const void* x;
  Rows<2> rows;  // of out and x
};

// out = F(x, normaliser of the row): a row in registers.
template <class F, class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held(const Softmax args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[2];
  args.rows.locate(Team::number(), offset);
  const i64 columns = args.rows.columns;

  C x[PACKS * V];
  load<Team, PACKS, V>(x, static_cast<const T*>(args.x) + offset[1], args.rows.step[1], 0, columns,
                       Limits<C>::lowest());
  const auto row = normaliser_of<Team>(x);
  store<Team, PACKS, V>(static_cast<T*>(args.out) + offset[0], args.rows.step[0], 0, columns,
                        [&](int i, i64) { return F{}(x[i], row); });
}

// The same, reading twice.
template <class F, class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows(const Softmax args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[2];
  args.rows.locate(Team::number(), offset);
  const T* from = static_cast<const T*>(args.x) + offset[1];
  T* to = static_cast<T*>(args.out) + offset[0];
  const i64 columns = args.rows.columns;

  const auto row = normaliser_of_long<Team, PACKS, V>(from, args.rows.step[1], columns);
  for (i64 first = 0; first < columns; first += stride_of_pieces<Team, PACKS, V>()) {
    C x[PACKS * V];
    load<Team, PACKS, V>(x, from, args.rows.step[1], first, columns, C(0));
    store<Team, PACKS, V>(to, args.rows.step[0], first, columns, [&](int i, i64) { return F{}(x[i], row); });
  }
}

// --- derivatives -----------------------------------------------------------------------------------------------------

struct SoftmaxGrad {
  void* out;
  const void* g;
  const void* y;
  Rows<3> rows;  // of out, g and y
};

// out = F(g, y, sum of F's terms over the row): a row in registers.
template <class F, class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held_grad(const SoftmaxGrad args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[3];
  args.rows.locate(Team::number(), offset);
  const i64 columns = args.rows.columns;

  C g[PACKS * V], y[PACKS * V];
  load<Team, PACKS, V>(g, static_cast<const T*>(args.g) + offset[1], args.rows.step[1], 0, columns, C(0));
  load<Team, PACKS, V>(y, static_cast<const T*>(args.y) + offset[2], args.rows.step[2], 0, columns, C(0));
  C sum = C(0);
#pragma unroll
  for (int i = 0; i < PACKS * V; ++i) sum += F{}.term(g[i], y[i]);
  sum = Team::template fold<formulas::add>(sum);
  store<Team, PACKS, V>(static_cast<T*>(args.out) + offset[0], args.rows.step[0], 0, columns,
                        [&](int i, i64) { return F{}(g[i], y[i], sum); });
}

// The same, reading twice.
template <class F, class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows_grad(const SoftmaxGrad args) {
  using C = Compute<T>;
  if (Team::number() >= args.rows.count) return;
  i64 offset[3];
  args.rows.locate(Team::number(), offset);
  const T* from_g = static_cast<const T*>(args.g) + offset[1];
  const T* from_y = static_cast<const T*>(args.y) + offset[2];
  T* to = static_cast<T*>(args.out) + offset[0];
  const i64 columns = args.rows.columns, stride = stride_of_pieces<Team, PACKS, V>();

  C g[PACKS * V], y[PACKS * V];
  C sum = C(0);
  for (i64 first = 0; first < columns; first += stride) {
    load<Team, PACKS, V>(g, from_g, args.rows.step[1], first, columns, C(0));
    load<Team, PACKS, V>(y, from_y, args.rows.step[2], first, columns, C(0));
#pragma unroll
    for (int i = 0; i < PACKS * V; ++i) sum += F{}.term(g[i], y[i]);
  }
  sum = Team::template fold<formulas::add>(sum);
  for (i64 first = 0; first < columns; first += stride) {
    load<Team, PACKS, V>(g, from_g, args.rows.step[1], first, columns, C(0));
    load<Team, PACKS, V>(y, from_y, args.rows.step[2], first, columns, C(0));
    store<Team, PACKS, V>(to, args.rows.step[0], first, columns, [&](int i, i64) { return F{}(g[i], y[i], sum); });
  }
}
