// Indexing by integer arrays: gather, scatter (of duplicates the last one wins) and scatter-add.
//
// The indexed dimensions of an array are its box, and one integer array per dimension chooses elements of the box: its
// targets. `resolve` makes one array of them, row-major numbers within the box, or -1 for what lies outside of it. The
// dimensions that are not indexed are the rest: a whole rest is moved for each target.
//
// Moves do not look at what they move: a Unit is as many neighbouring bytes of the rest as one access takes. Results
// are the same in every run: who writes, and in which order numbers are added, does not depend on the schedule.
#include "dims.cuh"

// Packed by tensorlite/backends/kernels/index.py.
template <int N, class Index>
struct Resolve {
  i64* target;
  Index* owner;  // null, or one per element of the box: 0 where a target points
  const i64* index[N];
  ErrorWord* error;
  u64 code[N];
  i64 lowest[N];  // the smallest index: 0, or -size where negative ones count from the end
  i64 size[N];
  i64 count;
  Dims<N> indices;
};

// The number within a dimension that an index means; -1, and a report, for one outside of it. Targets were checked when
// they were resolved: they have no code, and are not reported again.
FN i64 checked(i64 index, i64 lowest, i64 size, ErrorWord* error, u64 code, i64 position) {
  if (lowest <= index && index < size) return index < 0 ? index + size : index;
  if (code != 0) report(error, u32(code), index, position);
  return -1;
}

template <int N, class Index>
__global__ void resolve(const Resolve<N, Index> args) {
  const Index element = thread_number<Index>();
  if (i64(element) >= args.count) return;
  const Place<Index, N> place(args.indices, element);
  i64 target = 0;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const i64 position = place.offset[k];
    const i64 at = checked(args.index[k][position], args.lowest[k], args.size[k], args.error, args.code[k], position);
    target = target < 0 || at < 0 ? -1 : target * args.size[k] + at;
  }
  args.target[element] = target;
  if (args.owner != nullptr && target >= 0) atomicExch(&args.owner[target], Index(0));
}

// --- gather ----------------------------------------------------------------------------------------------------------

template <class Unit>
struct Gather {
  Unit* out;
  const Unit* x;
  const i64* index;  // or targets
  ErrorWord* error;
  u64 code;          // 0: they are targets
  i64 lowest, size;  // of the indexed dimension, or 0 and the size of the box
  i64 count;         // units of out
  Dims<3> all;       // out, x, index
  Dims<1> box;       // x
};

constexpr int LOADS = 2;  // units per thread, read before the first is written

template <class Unit, class Index>
__global__ void gather(const Gather<Unit> args) {
  const Index first = Index(blockIdx.x) * (LOADS * blockDim.x) + threadIdx.x;
  bool found[LOADS];
  i64 to[LOADS];
  Unit unit[LOADS];
#pragma unroll
  for (int load = 0; load < LOADS; ++load) {
    const Index number = first + Index(load) * blockDim.x;
    found[load] = i64(number) < args.count;
    if (!found[load]) continue;
    const Place<Index, 3> place(args.all, number);
    const i64 position = place.offset[2];
    const i64 target = checked(args.index[position], args.lowest, args.size, args.error, args.code, position);
    found[load] = target >= 0;
    if (!found[load]) continue;
    to[load] = place.offset[0];
    unit[load] = args.x[place.offset[1] + Place<Index, 1>(args.box, Index(target)).offset[0]];
  }
#pragma unroll
  for (int load = 0; load < LOADS; ++load) {
    if (found[load]) args.out[to[load]] = unit[load];
  }
}

// --- scatter: the last element that points to a target owns it, and only owners write -------------------------------

template <class Index>
struct Claim {
  const i64* target;
  Index* owner;
  i64 count;
};

template <class Index>
__global__ void claim(const Claim<Index> args) {
  const Index element = thread_number<Index>();
  if (i64(element) >= args.count) return;
  const i64 target = args.target[element];
  if (target >= 0) atomicMax(&args.owner[target], element);
}

template <class Unit, class Index>
struct Put {
  Unit* out;
  const Unit* value;
  const i64* target;
  const Index* owner;
  i64 count;    // units of value
  Dims<3> all;  // out, value, target
  Dims<1> box;  // out
};

template <class Unit, class Index>
__global__ void put(const Put<Unit, Index> args) {
  const Index number = thread_number<Index>();
  if (i64(number) >= args.count) return;
  const Place<Index, 3> place(args.all, number);
  const i64 element = place.offset[2], target = args.target[element];
  if (target < 0 || i64(args.owner[target]) != element) return;
  args.out[place.offset[0] + Place<Index, 1>(args.box, Index(target)).offset[0]] = args.value[place.offset[1]];
}

// --- scatter-add -----------------------------------------------------------------------------------------------------
// Values of one target are added in their order, by one thread per pack of the rest. Few values find each other by
// comparing all targets. Many are sorted by target first and cut into chunks; what a chunk shares with its neighbours
// waits in `partial` for a second kernel, so that a target to which all point is no chain of dependent additions.

struct Add {
  void* out;
  const void* value;
  const i64* target;
  const i64* order;  // the values sorted by target; null where there are few
  void* partial;     // (chunks, 2, rest) of computing type: sums of what a chunk has of the targets of its neighbours
  i64 count;         // values
  i64 chunk;         // values of a chunk
  i64 chunks;
  Divider packs;   // of a rest
  Dims<2> rest;    // out, value
  Dims<1> box;     // out
  Dims<1> values;  // value
};

// V neighbouring elements of the rest, in computing type.
template <class T, int V>
struct Sum {
  Compute<T> at[V] = {};

  FN void add(const Sum& other) {
#pragma unroll
    for (int v = 0; v < V; ++v) at[v] += other.at[v];
  }
  FN void add(const Pack<T, V>& stored) {
#pragma unroll
    for (int v = 0; v < V; ++v) at[v] += widen(stored.at[v]);
  }
  FN void add_to(T* destination) const {
    auto& stored = *reinterpret_cast<Pack<T, V>*>(destination);
    Pack<T, V> result = stored;
#pragma unroll
    for (int v = 0; v < V; ++v) result.at[v] = narrow<T>(Compute<T>(widen(result.at[v]) + at[v]));
    stored = result;
  }
};

// What one thread knows of the values: its pack of each, and the targets.
template <class T, int V, class Index>
struct Column {
  const Add& args;
  T* out;
  const T* value;

  FN Column(const Add& all, Index pack) : args(all) {
    const Place<Index, 2> place(args.rest, pack * V);
    out = static_cast<T*>(args.out) + place.offset[0];
    value = static_cast<const T*>(args.value) + place.offset[1];
  }
  FN i64 sorted_target(i64 position) const { return args.target[args.order[position]]; }
  FN const Pack<T, V>* of_value(i64 element) const {
    const i64 offset = Place<Index, 1>(args.values, Index(element)).offset[0];
    return reinterpret_cast<const Pack<T, V>*>(value + offset);
  }
  FN void finish(i64 target, const Sum<T, V>& sum) const {
    if (target >= 0) sum.add_to(out + Place<Index, 1>(args.box, Index(target)).offset[0]);
  }
};

template <class T, int V, class Index>
__global__ void add_few(const Add args) {
  const Index thread = thread_number<Index>();
  const Index element = quotient(thread, args.packs);
  if (i64(element) >= args.count) return;
  const i64 target = args.target[element];
  for (i64 before = 0; before < i64(element); ++before) {
    if (args.target[before] == target) return;  // the first of equal targets adds them all
  }
  const Column<T, V, Index> column(args, thread - element * Index(args.packs.divisor));
  Sum<T, V> sum;
  for (i64 other = element; other < args.count; ++other) {
    if (args.target[other] == target) sum.add(*column.of_value(other));
  }
  column.finish(target, sum);
}

// One thread per chunk and pack of the rest, and where it keeps its two partial sums.
template <class T, int V, class Index>
struct Chunk {
  Index number, pack;
  i64 begin, end;
  Sum<T, V>* head;  // of the target that the chunk before has, too
  Sum<T, V>* tail;  // of the target that the next chunk has, too

  FN Chunk(const Add& args, Index thread) {
    number = quotient(thread, args.packs);
    pack = thread - number * Index(args.packs.divisor);
    begin = i64(number) * args.chunk;
    end = begin + args.chunk < args.count ? begin + args.chunk : args.count;
    head = static_cast<Sum<T, V>*>(args.partial) + i64(number) * 2 * i64(args.packs.divisor) + pack;
    tail = head + args.packs.divisor;
  }
};

constexpr int BATCH = 4;  // values of a chunk that are read before the first is added

template <class T, int V, class Index>
__global__ void add_chunks(const Add args) {
  const Chunk<T, V, Index> chunk(args, thread_number<Index>());
  if (i64(chunk.number) >= args.chunks) return;
  const Column<T, V, Index> column(args, chunk.pack);
  // The targets of the neighbours; -1 is also that of refused values, whose sums go nowhere.
  const i64 before = chunk.begin > 0 ? column.sorted_target(chunk.begin - 1) : -1;
  const i64 after = chunk.end < args.count ? column.sorted_target(chunk.end) : -1;
  i64 current = column.sorted_target(chunk.begin);
  Sum<T, V> sum;
  for (i64 first = chunk.begin; first < chunk.end; first += BATCH) {
    i64 target[BATCH];
    Pack<T, V> value[BATCH];
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      if (first + k >= chunk.end) continue;
      const i64 element = args.order[first + k];
      target[k] = args.target[element];
      value[k] = *column.of_value(element);
    }
#pragma unroll
    for (int k = 0; k < BATCH; ++k) {
      if (first + k >= chunk.end) continue;
      if (target[k] != current) {
        if (current == before) *chunk.head = sum;
        else column.finish(current, sum);
        current = target[k];
        sum = Sum<T, V>();
      }
      sum.add(value[k]);
    }
  }
  if (current == before) *chunk.head = sum;
  else if (current == after) *chunk.tail = sum;
  else column.finish(current, sum);
}

// The chunk in which the values of a target begin adds up what it and the chunks behind it left.
template <class T, int V, class Index>
__global__ void add_partials(const Add args) {
  const Chunk<T, V, Index> chunk(args, thread_number<Index>());
  if (i64(chunk.number) >= args.chunks || chunk.end == args.count) return;
  const Column<T, V, Index> column(args, chunk.pack);
  const i64 target = column.sorted_target(chunk.end - 1);
  const bool goes_on = column.sorted_target(chunk.end) == target;
  const bool began_before = chunk.begin > 0 && column.sorted_target(chunk.begin - 1) == target;
  if (!goes_on || began_before) return;
  Sum<T, V> sum = *chunk.tail;
  const Sum<T, V>* head = chunk.head;
  for (i64 next = chunk.end; next < args.count && column.sorted_target(next) == target; next += args.chunk) {
    head += 2 * args.packs.divisor;
    sum.add(*head);
  }
  column.finish(target, sum);
}
