// The optimizers' updates: one parameter and its state, in place, by any rule of updates.cuh.
//
// `vectorised` moves packs of up to 16 bytes where all arrays are dense and of one layout, `strided` takes any strides.
// A grid has a limited number of blocks, each of which computes the rule's constants once and strides over elements.
//
// The learning rate and the 0-d states are read on the device. What is read by all blocks must not change before the
// last one has read it: a grid of one block writes the 0-d states of the next step itself, any other is followed by a
// launch of `advance`.
#include "dims.cuh"
#include "updates.cuh"

constexpr int THREADS = 256;
constexpr int OPERANDS = 2 + updates::MAX_STATES;

// Packed by tensorlite/backends/kernels/optimizer.py; null: the rule, or a choice of options, does without.
template <class Rule>
struct Update {
  void* param;
  const void* grad;
  void* state[updates::MAX_STATES];  // float where the parameter has 16 bits, else its type
  const double* rate;
  float* counts[updates::MAX_COUNTS];
  i64 count;
  Dims<OPERANDS> dims;  // of param, grad and the states
  Rule rule;
};

// --- the 0-d states --------------------------------------------------------------------------------------------------

template <class Rule>
FN void load_counts(const Update<Rule>& args, float (&counts)[updates::MAX_COUNTS]) {
#pragma unroll
  for (int k = 0; k < Rule::counts; ++k) counts[k] = *args.counts[k];
}

template <class Rule>
FN void store_next_counts(const Update<Rule>& args, float (&counts)[updates::MAX_COUNTS]) {
  args.rule.advance(*args.rate, counts);
#pragma unroll
  for (int k = 0; k < Rule::counts; ++k) *args.counts[k] = counts[k];
}

// One thread, after a grid of several blocks.
template <class Rule>
__global__ void advance(const Update<Rule> args) {
  float counts[updates::MAX_COUNTS] = {};
  load_counts(args, counts);
  store_next_counts(args, counts);
}

// --- the elements ----------------------------------------------------------------------------------------------------

template <class Rule, class C>
using Constants = typename Rule::template Constants<C>;

// Computed by one thread for all of its block.
template <class C, class Rule>
FN Constants<Rule, C> constants_of(const Update<Rule>& args) {
  __shared__ Constants<Rule, C> constants;
  if (threadIdx.x == 0) {
    float counts[updates::MAX_COUNTS] = {};
    load_counts(args, counts);
    constants = args.rule.template constants<C>(*args.rate, counts);
    if (gridDim.x == 1) store_next_counts(args, counts);
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

// Update V elements, which lie at these offsets in parameter, gradient and states.
template <class T, int V, class Rule>
FN void update(const Update<Rule>& args, const Constants<Rule, Compute<T>>& constants, const i64 (&offset)[OPERANDS]) {
  using C = Compute<T>;
  auto param = load<T, V>(args.param, offset[0]);
  const auto grad = load<T, V>(args.grad, offset[1]);
  Pack<C, V> states[updates::MAX_STATES] = {};
#pragma unroll
  for (int k = 0; k < Rule::states; ++k) {
    if (args.state[k] != nullptr) states[k] = load<C, V>(args.state[k], offset[2 + k]);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    C state[updates::MAX_STATES];
#pragma unroll
    for (int k = 0; k < updates::MAX_STATES; ++k) state[k] = states[k].at[v];
    args.rule.update(constants, param.at[v], grad.at[v], state);
#pragma unroll
    for (int k = 0; k < updates::MAX_STATES; ++k) states[k].at[v] = state[k];
  }
  store<T, V>(args.param, offset[0], param);
#pragma unroll
  for (int k = 0; k < Rule::states; ++k) {
    if (args.state[k] != nullptr) store<C, V>(args.state[k], offset[2 + k], states[k]);
  }
}

template <class Rule, class T>
__global__ void __launch_bounds__(THREADS, 1) vectorised(const Update<Rule> args) {
  constexpr int V = 16 / sizeof(Compute<T>);
  const auto constants = constants_of<Compute<T>>(args);
  const i64 packs = args.count / V, thread = thread_number<i64>(), threads = i64(gridDim.x) * blockDim.x;
  for (i64 pack = thread; pack < packs; pack += threads) {
    const i64 at = pack * V;
    update<T, V>(args, constants, {at, at, at, at, at});
  }
  const i64 rest = packs * V + thread;
  if (rest < args.count) update<T, 1>(args, constants, {rest, rest, rest, rest, rest});
}

template <class Rule, class T>
__global__ void __launch_bounds__(THREADS, 1) strided(const Update<Rule> args) {
  const auto constants = constants_of<Compute<T>>(args);
  const i64 threads = i64(gridDim.x) * blockDim.x;
  for (i64 element = thread_number<i64>(); element < args.count; element += threads) {
    update<T, 1>(args, constants, Place<u64, OPERANDS>(args.dims, u64(element)).offset);
  }
}
