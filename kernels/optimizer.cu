// The optimizers' updates: many parameters and their state, in place, by any rule of updates.cuh.
//
// `packed` takes the parameters whose arrays are all dense and of one layout, as many as a launch holds, and moves
// packs of up to 16 bytes where they are aligned; `strided` takes one parameter with any strides. A parameter has a
// limited number of blocks, each of which computes the rule's constants once and strides over elements.
//
// The learning rate and the 0-d states are read on the device. What all blocks of a parameter read must not change
// before the last one has read it: a parameter's only block writes the 0-d states of the next step itself, and where
// there are several, a launch of `advance` follows.
#include "segments.cuh"
#include "updates.cuh"

constexpr int THREADS = 256;  // of a block at most
template <class T>
constexpr int BLOCKS = sizeof(T) == 8 ? 2 : 3;  // that shall be at work on a multiprocessor: a limit to registers

template <class Rule>
constexpr int ARRAYS = 2 + Rule::states;  // param, grad and the states

// Packed by tensorlite/backends/kernels/optimizer.py.
template <class Rule, class Layout>
struct Update {
  const double* rate;
  const float* skip;  // null, or not 0 where nothing shall change
  void* data[ARRAYS<Rule> + Rule::counts][Layout::capacity];  // the arrays, null: done without; then the 0-d states
  Layout layout;
  Rule rule;
  static_assert(sizeof(layout) + sizeof(data) + sizeof(rule) + 16 <= ARGUMENT_BYTES, "too many segments");

  FN bool is_skipped() const { return skip != nullptr && *skip != 0.0f; }
};

// --- the 0-d states --------------------------------------------------------------------------------------------------

template <class Rule, class Layout>
FN float& count(const Update<Rule, Layout>& args, int k, int segment) {
  return *static_cast<float*>(args.data[ARRAYS<Rule> + k][segment]);
}

template <class Rule, class Layout>
FN void load_counts(const Update<Rule, Layout>& args, int segment, float (&counts)[updates::MAX_COUNTS]) {
#pragma unroll
  for (int k = 0; k < Rule::counts; ++k) counts[k] = count(args, k, segment);
}

template <class Rule, class Layout>
FN void store_next_counts(const Update<Rule, Layout>& args, int segment, float (&counts)[updates::MAX_COUNTS]) {
  args.rule.advance(*args.rate, counts);
#pragma unroll
  for (int k = 0; k < Rule::counts; ++k) count(args, k, segment) = counts[k];
}

// A thread for each parameter of several blocks, after the launch that updated it.
template <class Rule, class Layout>
__global__ void advance(const Update<Rule, Layout> args) {
  if (args.is_skipped()) return;
  for (int segment = int(threadIdx.x); segment < int(args.layout.segments); segment += int(blockDim.x)) {
    if (args.layout.blocks(segment) == 1) continue;
    float counts[updates::MAX_COUNTS] = {};
    load_counts(args, segment, counts);
    store_next_counts(args, segment, counts);
  }
}

// --- the elements ----------------------------------------------------------------------------------------------------

template <class Rule, class C>
using Constants = typename Rule::template Constants<C>;

// Computed by one thread for all of its block.
template <class C, class Rule, class Layout>
FN const Constants<Rule, C>& constants_of(const Update<Rule, Layout>& args, int segment) {
  __shared__ Constants<Rule, C> constants;
  if (threadIdx.x == 0) {
    float counts[updates::MAX_COUNTS] = {};
    load_counts(args, segment, counts);
    constants = args.rule.template constants<C>(*args.rate, counts);
    if (args.layout.blocks(segment) == 1) store_next_counts(args, segment, counts);
  }
  __syncthreads();
  return constants;
}

// V neighbouring elements of an array, in computing type.
template <class T, int V>
FN Pack<Compute<T>, V> load(const void* data, i64 offset) {
  const auto stored = *reinterpret_cast<const Pack<T, V>*>(static_cast<const T*>(data) + offset);
  Pack<Compute<T>, V> wide;
#pragma unroll
  for (int v = 0; v < V; ++v) wide.at[v] = widen(stored.at[v]);
  return wide;
}

template <class T, int V>
FN void store(void* data, i64 offset, const Pack<Compute<T>, V>& wide) {
  Pack<T, V> stored;
#pragma unroll
  for (int v = 0; v < V; ++v) stored.at[v] = narrow<T>(wide.at[v]);
  *reinterpret_cast<Pack<T, V>*>(static_cast<T*>(data) + offset) = stored;
}

// The arrays of one parameter: itself, its gradient and the states.
template <class Rule>
struct Arrays {
  void* at[ARRAYS<Rule>];

  template <class Layout>
  FN Arrays(const Update<Rule, Layout>& args, int segment) {
#pragma unroll
    for (int k = 0; k < ARRAYS<Rule>; ++k) at[k] = args.data[k][segment];
  }
  FN bool are_aligned() const {
    u64 together = 0;
#pragma unroll
    for (int k = 0; k < ARRAYS<Rule>; ++k) together |= reinterpret_cast<u64>(at[k]);
    return together % 16 == 0;
  }
};

// Update V elements, which lie at these offsets in parameter, gradient and states.
template <class T, int V, class Rule>
FN void update(const Rule& rule, const Constants<Rule, Compute<T>>& constants, const Arrays<Rule>& arrays,
               const i64 (&offset)[ARRAYS<Rule>]) {
  using C = Compute<T>;
  auto param = load<T, V>(arrays.at[0], offset[0]);
  const auto grad = load<T, V>(arrays.at[1], offset[1]);
  Pack<C, V> states[updates::MAX_STATES] = {};
#pragma unroll
  for (int k = 0; k < Rule::states; ++k) {
    if (arrays.at[2 + k] != nullptr) states[k] = load<C, V>(arrays.at[2 + k], offset[2 + k]);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    C state[updates::MAX_STATES];
#pragma unroll
    for (int k = 0; k < updates::MAX_STATES; ++k) state[k] = states[k].at[v];
    rule.update(constants, param.at[v], grad.at[v], state);
#pragma unroll
    for (int k = 0; k < updates::MAX_STATES; ++k) states[k].at[v] = state[k];
  }
  store<T, V>(arrays.at[0], offset[0], param);
#pragma unroll
  for (int k = 0; k < Rule::states; ++k) {
    if (arrays.at[2 + k] != nullptr) store<C, V>(arrays.at[2 + k], offset[2 + k], states[k]);
  }
}

// The same for V elements at one offset in all arrays.
template <class T, int V, class Rule>
FN void update(const Rule& rule, const Constants<Rule, Compute<T>>& constants, const Arrays<Rule>& arrays, i64 at) {
  i64 offset[ARRAYS<Rule>];
#pragma unroll
  for (int k = 0; k < ARRAYS<Rule>; ++k) offset[k] = at;
  update<T, V>(rule, constants, arrays, offset);
}

template <class Rule, class T, int N>
__global__ void __launch_bounds__(THREADS, BLOCKS<T>) packed(const Update<Rule, Flat<N>> args) {
  constexpr int V = 16 / sizeof(Compute<T>);
  if (args.is_skipped()) return;
  const Share share = args.layout.share();
  const auto& constants = constants_of<Compute<T>>(args, share.segment);
  const Arrays<Rule> arrays(args, share.segment);
  const i64 count = args.layout.count[share.segment], packs = arrays.are_aligned() ? count / V : 0;
#pragma unroll 1
  for (i64 pack = share.thread; pack < packs; pack += share.threads) {
    update<T, V>(args.rule, constants, arrays, pack * V);
  }
#pragma unroll 1
  for (i64 at = packs * V + share.thread; at < count; at += share.threads) {
    update<T, 1>(args.rule, constants, arrays, at);
  }
}

template <class Rule, class T>
__global__ void __launch_bounds__(THREADS, BLOCKS<T>) strided(const Update<Rule, Strided<ARRAYS<Rule>>> args) {
  if (args.is_skipped()) return;
  const Share share = args.layout.share();
  const auto& constants = constants_of<Compute<T>>(args, 0);
  const Arrays<Rule> arrays(args, 0);
  for (i64 element = share.thread; element < args.layout.count[0]; element += share.threads) {
    const Place<u64, ARRAYS<Rule>> place(args.layout.dims, u64(element));
    update<T, 1>(args.rule, constants, arrays, place.offset);
  }
}
