// BatchNorm and its kin over x (N, C, ...): moments, the normalised x, its derivatives, and running statistics.
//
// A plane is what one sample holds of one channel: neighbouring elements. A statistic belongs to a channel, or to
// `together` neighbouring channels of one sample. What is known per statistic or per channel lies in computing type.
// `fold_stretches` sums up what belongs together, in a fixed tree; where statistics are few, their elements are split over
// gridDim.y and `finish` folds what the splits leave. `normalise` and `slope` take a pack of a plane at a time.
#include "columns.cuh"

// --- sums ------------------------------------------------------------------------------------------------------------

// Packed by tensorlite/backends/kernels/batch_norm.py. Folded are `count` things, each of `outer` stretches of `inner`
// neighbours: the element `at` of thing s is number (at / inner * count + s) * inner + at % inner of x.
struct Fold {
  void* first;  // results
  void* second;
  const void* g;
  const void* x;
  const void* mean;
  const void* var;
  const void* weight;
  void* partial;  // states [splits][count]
  i64 splits;     // 1: nothing is split, and results are stored
  i64 share;      // packs of a split, but for the last
  i64 outer;
  i64 count;
  i64 inner;
  i64 together;  // things to a statistic of samples; 0: each has its own
  i64 channels;
  double eps;
};

template <class C>
FN C scale_of(C var, double eps) {
  return C(1) / ::sqrt(var + C(eps));
}

template <class T>
struct Pair {
  T level, along;
};

template <class T>
struct sum_of_pairs {
  using State = Pair<T>;
  static FN State identity() { return {T(0), T(0)}; }
  static FN State combine(State a, State b) { return {a.level + b.level, a.along + b.along}; }
};

// What is folded. `load` reads V elements, `state` makes the state of one, `store` writes the result of a thing.

// Mean and biased variance of x. Distances from a thing's first element are folded: where they are small beside the
// mean, rounding is too.
template <class T, int V>
struct Moments {
  using C = Compute<T>;
  using R = reducers::var<C>;
  using Loaded = Pack<T, V>;
  const T* x;
  C origin;

  FN Moments(const Fold& args, i64 s) : x(static_cast<const T*>(args.x)), origin(origin_of(args, s)) {}
  FN Loaded load(i64 offset) const { return *reinterpret_cast<const Loaded*>(x + offset); }
  FN typename R::State state(const Loaded& loaded, int v) const { return R::of(widen(loaded.at[v]) - origin, 0); }
  static FN C origin_of(const Fold& args, i64 s) {
    const bool empty = args.outer == 0 || args.inner == 0;
    return empty ? C(0) : widen(static_cast<const T*>(args.x)[s * args.inner]);
  }
  static FN void store(const Fold& args, i64 s, const typename R::State& state) {
    const C count = C(args.outer) * C(args.inner);
    static_cast<C*>(args.first)[s] = state.mean + origin_of(args, s);
    static_cast<C*>(args.second)[s] = count > C(0) ? state.squares / count : C(0);
  }
};

// Sums of g * normalised x, and of g.
template <class T, int V>
struct Grads {
  using C = Compute<T>;
  using R = sum_of_pairs<C>;
  struct Loaded {
    Pack<T, V> g, x;
  };
  const T *g, *x;
  C mean;

  FN Grads(const Fold& args, i64 s)
      : g(static_cast<const T*>(args.g)), x(static_cast<const T*>(args.x)),
        mean(static_cast<const C*>(args.mean)[statistic_of(args, s)]) {}
  FN Loaded load(i64 offset) const {
    return {*reinterpret_cast<const Pack<T, V>*>(g + offset), *reinterpret_cast<const Pack<T, V>*>(x + offset)};
  }
  FN Pair<C> state(const Loaded& loaded, int v) const {
    const C slope = widen(loaded.g.at[v]);
    return {slope, slope * (widen(loaded.x.at[v]) - mean)};
  }
  static FN i64 statistic_of(const Fold& args, i64 s) { return args.together == 0 ? s : s / args.together; }
  static FN void store(const Fold& args, i64 s, const Pair<C>& sums) {
    const C scale = scale_of(static_cast<const C*>(args.var)[statistic_of(args, s)], args.eps);
    static_cast<C*>(args.first)[s] = sums.along * scale;
    static_cast<C*>(args.second)[s] = sums.level;
  }
};

// Such sums of planes (x: g * normalised x, g: g), times their channels' weights, for all planes of a statistic.
template <class T, int V>
struct Groups {
  using R = sum_of_pairs<T>;
  struct Loaded {
    T level, along;
  };
  const T *g, *x, *weight;
  i64 channels;

  FN Groups(const Fold& args, i64)
      : g(static_cast<const T*>(args.g)), x(static_cast<const T*>(args.x)),
        weight(static_cast<const T*>(args.weight)), channels(args.channels) {}
  FN Loaded load(i64 plane) const {
    const T factor = weight == nullptr ? T(1) : weight[plane % channels];
    return {g[plane] * factor, x[plane] * factor};
  }
  FN Pair<T> state(const Loaded& loaded, int) const { return {loaded.level, loaded.along}; }
  static FN void store(const Fold& args, i64 s, const Pair<T>& sums) {
    static_cast<T*>(args.first)[s] = sums.along;
    static_cast<T*>(args.second)[s] = sums.level;
  }
};

// Where the packs begin, begin + step, ... of a thing lie, without dividing at each step.
class Walk {
 public:
  FN Walk(i64 begin, i64 step, i64 packs, i64 between)
      : packs_(packs), between_(between), outer_(begin / packs), inner_(begin % packs), outer_step_(step / packs),
        inner_step_(step % packs) {}

  // The offset of the pack in packs, and on to the next.
  FN i64 next() {
    const i64 offset = outer_ * between_ + inner_;
    outer_ += outer_step_;
    inner_ += inner_step_;
    if (inner_ >= packs_) {
      inner_ -= packs_;
      ++outer_;
    }
    return offset;
  }

 private:
  i64 packs_, between_, outer_, inner_, outer_step_, inner_step_;
};

template <class Of, int V, class State = typename Of::R::State>
FN State state_of(const Of& of, const typename Of::Loaded& loaded) {
  State states[V];
#pragma unroll
  for (int v = 0; v < V; ++v) states[v] = of.state(loaded, v);
  return fold_tree<typename Of::R, V>(states);
}

// blockDim.y threads to a thing, blockDim.x things to a block. V > 1: stretches are whole packs, and aligned.
template <template <class, int> class What, class T, int V>
__global__ void __launch_bounds__(THREADS, 2) fold_stretches(const Fold args) {
  using Of = What<T, V>;
  using R = typename Of::R;
  const i64 thing = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool inside = thing < args.count;
  const i64 s = inside ? thing : 0;
  const Of of(args, s);

  const i64 packs = args.inner / V, begin = args.share * blockIdx.y;
  const i64 end = inside ? min(args.outer * packs, begin + args.share) : begin;
  i64 at = begin + threadIdx.y;
  const i64 step = blockDim.y;
  Walk walk(at, step, packs, args.count * packs);
  const auto load = [&] { return of.load((walk.next() + s * packs) * V); };

  typename R::State state[1] = {R::identity()};
#pragma unroll 1
  for (; at + (AHEAD - 1) * step < end; at += AHEAD * step) {
    typename Of::Loaded loaded[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) loaded[k] = load();
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) state[0] = R::combine(state[0], state_of<Of, V>(of, loaded[k]));
  }
#pragma unroll 1
  for (; at < end; at += step) state[0] = R::combine(state[0], state_of<Of, V>(of, load()));
  fold_block_columns<R>(state);
  if (!inside || threadIdx.y > 0) return;
  if (args.splits > 1) static_cast<typename R::State*>(args.partial)[blockIdx.y * args.count + thing] = state[0];
  else Of::store(args, thing, state[0]);
}

// The results of the states that the splits left behind; threads as in `fold_stretches`.
template <template <class, int> class What, class T>
__global__ void __launch_bounds__(THREADS, 2) finish(const Fold args) {
  using Of = What<T, 1>;
  using R = typename Of::R;
  const i64 thing = i64(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool inside = thing < args.count;
  typename R::State state[1] = {R::identity()};
  if (inside) {
    const auto* partial = static_cast<const typename R::State*>(args.partial) + thing;
    for (i64 split = threadIdx.y; split < args.splits; split += blockDim.y) {
      state[0] = R::combine(state[0], partial[split * args.count]);
    }
  }
  fold_block_columns<R>(state);
  if (inside && threadIdx.y == 0) Of::store(args, thing, state[0]);
}

// --- planes ----------------------------------------------------------------------------------------------------------

// Which channel and which statistic an element belongs to.
struct Planes {
  i64 elements;
  i64 by_channel;  // 1: statistics are of channels, and not of samples
  Divider plane, channels, together;

  struct Owner {
    i64 channel, statistic;
  };
  FN Owner owner(i64 element) const {
    if (elements < i64(1) << 31) return owner_as(u32(element));
    return owner_as(u64(element));
  }

 private:
  template <class Index>
  FN Owner owner_as(Index element) const {
    const Index p = quotient(element, plane);
    const Index channel = p - quotient(p, channels) * Index(channels.divisor);
    return {i64(channel), by_channel ? i64(channel) : i64(quotient(p, together))};
  }
};

struct BatchNorm {
  void* out;
  const void* x;
  const void* weight;  // null: 1
  const void* bias;    // null: 0
  const void* mean;
  const void* var;
  double eps;
  Planes planes;
};

// V elements of a plane to a thread.
template <class T, int V>
__global__ void __launch_bounds__(THREADS, 2) normalise(const BatchNorm args) {
  using C = Compute<T>;
  const i64 first = thread_number<i64>() * V;
  if (first >= args.planes.elements) return;
  const auto owner = args.planes.owner(first);
  const C mean = static_cast<const C*>(args.mean)[owner.statistic];
  C scale = scale_of(static_cast<const C*>(args.var)[owner.statistic], args.eps);
  if (args.weight != nullptr) scale *= static_cast<const C*>(args.weight)[owner.channel];
  const C bias = args.bias == nullptr ? C(0) : static_cast<const C*>(args.bias)[owner.channel];

  Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(static_cast<const T*>(args.x) + first);
#pragma unroll
  for (int v = 0; v < V; ++v) pack.at[v] = narrow<T>((widen(pack.at[v]) - mean) * scale + bias);
  *reinterpret_cast<Pack<T, V>*>(static_cast<T*>(args.out) + first) = pack;
}

struct BatchNormGrad {
  void* out;
  const void* g;
  const void* x;
  const void* weight;  // null: 1
  const void* mean;
  const void* var;
  const void* along;  // sums over a statistic's elements, of g * normalised x and of g; null: both 0. Those of channels
  const void* level;  // are still to be multiplied by the weight.
  double eps;
  double count;  // elements of a statistic
  Planes planes;
};

// The derivative in x: scale * (g * weight - mean of that - normalised x * mean of that times normalised x).
template <class T, int V>
__global__ void __launch_bounds__(THREADS, 2) slope(const BatchNormGrad args) {
  using C = Compute<T>;
  const i64 first = thread_number<i64>() * V;
  if (first >= args.planes.elements) return;
  const auto owner = args.planes.owner(first);
  const C mean = static_cast<const C*>(args.mean)[owner.statistic];
  const C scale = scale_of(static_cast<const C*>(args.var)[owner.statistic], args.eps);
  const C weight = args.weight == nullptr ? C(1) : static_cast<const C*>(args.weight)[owner.channel];
  C level = C(0), along = C(0);
  if (args.level != nullptr) {
    const C share = (args.planes.by_channel ? weight : C(1)) / C(args.count);
    level = static_cast<const C*>(args.level)[owner.statistic] * share;
    along = static_cast<const C*>(args.along)[owner.statistic] * share * scale;
  }

  Pack<T, V> g = *reinterpret_cast<const Pack<T, V>*>(static_cast<const T*>(args.g) + first);
  const Pack<T, V> x = *reinterpret_cast<const Pack<T, V>*>(static_cast<const T*>(args.x) + first);
#pragma unroll
  for (int v = 0; v < V; ++v) {
    g.at[v] = narrow<T>(scale * (widen(g.at[v]) * weight - level - (widen(x.at[v]) - mean) * along));
  }
  *reinterpret_cast<Pack<T, V>*>(static_cast<T*>(args.out) + first) = g;
}

// --- running statistics ----------------------------------------------------------------------------------------------

struct Tracking {
  void* running_mean;
  void* running_var;
  const void* mean;  // in computing type, [rows][channels]
  const void* var;
  const double* changing;  // the momentum, if it is not null
  double momentum;
  double correction;  // of a biased variance
  i64 rows;           // of samples, whose mean counts
  i64 channels;
};

// running = (1 - momentum) running + momentum * mean over rows, a channel to a thread. S: the type of the statistics.
template <class T, class S>
__global__ void __launch_bounds__(THREADS, 2) track(const Tracking args) {
  const i64 channel = thread_number<i64>();
  if (channel >= args.channels) return;
  const double momentum = args.changing == nullptr ? args.momentum : *args.changing;
  S mean = S(0), var = S(0);
  for (i64 row = 0; row < args.rows; ++row) {
    mean += static_cast<const S*>(args.mean)[row * args.channels + channel];
    var += static_cast<const S*>(args.var)[row * args.channels + channel];
  }
  const S share = S(momentum / double(args.rows)), rest = S(1.0 - momentum);
  T& running_mean = static_cast<T*>(args.running_mean)[channel];
  T& running_var = static_cast<T*>(args.running_var)[channel];
  running_mean = narrow<T>(S(widen(running_mean)) * rest + mean * share);
  running_var = narrow<T>(S(widen(running_var)) * rest + var * (share * S(args.correction)));
}
