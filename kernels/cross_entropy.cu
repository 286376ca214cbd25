// The mean over rows of -log softmax(logits)[target], and its derivative in the logits.
//
// Rows whose target is `ignore_index` count neither in the sum nor in the mean. A target that is no class is reported,
// and its row adds nothing. Sums are trees of a fixed shape, so results are the same from run to run.
#include "softmax.cuh"

// Packed by tensorlite/backends/kernels/cross_entropy.py.
struct Batch {
  i64 rows, classes;
  i64 row_step, class_step;  // of the logits, in elements
  i64 target_step;
  i64 target_bytes;  // of one target; 1 for signed, -1 for unsigned bytes
  i64 ignore_index;
  ErrorWord* error;
  u64 code;

  FN i64 target(const void* targets, i64 row) const {
    const i64 at = row * target_step;
    switch (target_bytes) {
      case -1: return static_cast<const u8*>(targets)[at];
      case 1: return static_cast<const i8*>(targets)[at];
      case 2: return static_cast<const i16*>(targets)[at];
      case 4: return static_cast<const i32*>(targets)[at];
      default: return static_cast<const i64*>(targets)[at];
    }
  }
  FN bool is_class(i64 target) const { return u64(target) < u64(classes); }
};

// What some of the rows add to the mean.
struct Partial {
  double sum;
  i64 kept;
};

// --- the loss --------------------------------------------------------------------------------------------------------

struct CrossEntropy {
  void* out;
  const void* logits;
  const void* targets;
  Partial* partials;  // one for each block
  Batch batch;
};

template <class T>
FN void store_mean(void* out, double sum, i64 kept) {
  *static_cast<T*>(out) = narrow<T>(Compute<T>(sum / double(kept)));  // NaN of no rows
}

// Each block sums its rows; a block that is alone stores their mean.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) cross_entropy(const CrossEntropy args) {
  using C = Compute<T>;
  const Batch& batch = args.batch;
  C sum = C(0);
  i64 kept = 0;
  for (i64 row = Team::number(); row < batch.rows; row += Team::count()) {
    const i64 target = batch.target(args.targets, row);
    if (target == batch.ignore_index) continue;
    if (!batch.is_class(target)) {
      if (Team::rank() == 0) report(batch.error, u32(batch.code), target, row);
      continue;
    }
    const T* logits = static_cast<const T*>(args.logits) + row * batch.row_step;
    const auto normaliser = normaliser_of_long<Team, PACKS, V>(logits, batch.class_step, batch.classes);
    if (Team::rank() != 0) continue;
    sum += formulas::cross_entropy{}(widen(logits[target * batch.class_step]), normaliser);
    ++kept;
  }
  sum = fold_block<formulas::add>(sum);
  kept = fold_block<formulas::add>(kept);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) store_mean<T>(args.out, double(sum), kept);
  else args.partials[blockIdx.x] = {double(sum), kept};
}

struct Mean {
  void* out;
  const Partial* partials;
  i64 count;
};

// One block: the mean from the partial sums of all.
template <class T>
__global__ void cross_entropy_mean(const Mean args) {
  double sum = 0;
  i64 kept = 0;
  for (i64 i = threadIdx.x; i < args.count; i += blockDim.x) {
    sum += args.partials[i].sum;
    kept += args.partials[i].kept;
  }
  sum = fold_block<formulas::add>(sum);
  kept = fold_block<formulas::add>(kept);
  if (threadIdx.x == 0) store_mean<T>(args.out, sum, kept);
}

// --- its derivative --------------------------------------------------------------------------------------------------

struct CrossEntropyGrad {
  void* out;
  const void* g;
  const void* logits;
  const void* targets;
  i64* counts;  // how many rows are kept, by parts; null: each block counts for itself
  i64 count_of_counts;
  i64 out_row_step, out_class_step;
  Batch batch;
};

// Rows from `begin` on, `step` apart, that are not ignored.
FN i64 count_kept(const Batch& batch, const void* targets, i64 begin, i64 step) {
  i64 kept = 0;
  for (i64 row = begin; row < batch.rows; row += step) kept += batch.target(targets, row) != batch.ignore_index;
  return kept;
}

// The counts of many rows, a part for each block.
template <class = void>
__global__ void count_rows(const CrossEntropyGrad args) {
  i64 kept = count_kept(args.batch, args.targets, thread_number<i64>(), i64(gridDim.x) * blockDim.x);
  kept = fold_block<formulas::add>(kept);
  if (threadIdx.x == 0) args.counts[blockIdx.x] = kept;
}

// What the derivative of a row's loss is multiplied with: g / (rows kept).
template <class T>
FN Compute<T> scale_of_rows(const CrossEntropyGrad& args) {
  i64 kept = 0;
  if (args.counts == nullptr) {
    kept = count_kept(args.batch, args.targets, threadIdx.x, blockDim.x);
  } else {
    for (i64 i = threadIdx.x; i < args.count_of_counts; i += blockDim.x) kept += args.counts[i];
  }
  kept = fold_block<formulas::add>(kept);
  return widen(*static_cast<const T*>(args.g)) / Compute<T>(kept);
}

// The class of a row, or -1 where the row adds nothing to the loss.
template <class Team>
FN i64 class_of_row(const CrossEntropyGrad& args, i64 row) {
  const i64 target = args.batch.target(args.targets, row);
  if (target == args.batch.ignore_index) return -1;
  if (args.batch.is_class(target)) return target;
  if (Team::rank() == 0) report(args.batch.error, u32(args.batch.code), target, row);
  return -1;
}

// One element of the derivative.
template <class C>
FN C slope(C x, const Normaliser<C>& normaliser, i64 column, i64 target, C scale) {
  return target < 0 ? C(0) : formulas::cross_entropy_grad{}(x, normaliser, column == target, scale);
}

// A row in registers.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) held_grad(const CrossEntropyGrad args) {
  using C = Compute<T>;
  const C scale = scale_of_rows<T>(args);
  const Batch& batch = args.batch;
  for (i64 row = Team::number(); row < batch.rows; row += Team::count()) {
    const i64 target = class_of_row<Team>(args, row);
    C x[PACKS * V];
    load<Team, PACKS, V>(x, static_cast<const T*>(args.logits) + row * batch.row_step, batch.class_step, 0,
                         batch.classes, Limits<C>::lowest());
    const auto normaliser = normaliser_of<Team>(x);
    store<Team, PACKS, V>(static_cast<T*>(args.out) + row * args.out_row_step, args.out_class_step, 0, batch.classes,
                          [&](int i, i64 column) { return slope(x[i], normaliser, column, target, scale); });
  }
}

// The same, reading twice.
template <class Team, int PACKS, int V, class T>
__global__ void __launch_bounds__(Team::BLOCK, 1) long_rows_grad(const CrossEntropyGrad args) {
  using C = Compute<T>;
  const C scale = scale_of_rows<T>(args);
  const Batch& batch = args.batch;
  for (i64 row = Team::number(); row < batch.rows; row += Team::count()) {
    const i64 target = class_of_row<Team>(args, row);
    const T* from = static_cast<const T*>(args.logits) + row * batch.row_step;
    T* to = static_cast<T*>(args.out) + row * args.out_row_step;
    const auto normaliser = normaliser_of_long<Team, PACKS, V>(from, batch.class_step, batch.classes);
    for (i64 first = 0; first < batch.classes; first += stride_of_pieces<Team, PACKS, V>()) {
      C x[PACKS * V];
      load<Team, PACKS, V>(x, from, batch.class_step, first, batch.classes, C(0));
      store<Team, PACKS, V>(to, args.out_class_step, first, batch.classes,
                            [&](int i, i64 column) { return slope(x[i], normaliser, column, target, scale); });
    }
  }
}
