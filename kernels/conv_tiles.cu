// Convolutions as products of matrices that never exist ("implicit GEMM"), on tensor cores or in float32.
//
// A block computes one tile of the result: ROWS rows by COLUMNS columns, these being pixels in a gather and taps in the
// sum over pixels (conv.cuh). It walks along what is summed over, the taps or the pixels, in packs of 16 bytes: V
// channels of one tap, or V neighbouring pixels of one line. A step brings PACKS packs of each row and column into
// shared memory, while the threads compute with those of the step before. No stride is negative, and all offsets are
// below 2^32 bytes.
#include "conv.cuh"
#include "mma.cuh"

constexpr int WARP = 32;
constexpr int COLUMNS = 128;           // of a tile, and WARP of them to a warp
constexpr int PACKS = 4;               // of a row or column in a step
constexpr int STEP_WORDS = PACKS * 4;  // words of 32 bits
constexpr int PITCH = STEP_WORDS + 4;  // 8 rows lie apart by 20 words, so that they meet in no bank

using Strip = u32[PITCH];

// --- from strips in shared memory to sums in registers ---------------------------------------------------------------
//
// A warp has WARP columns and ROWS rows of the tile, a lane the columns `column(c)` and the rows `row(r)` of these.

template <class T>
struct TensorCores {
  using Element = T;

  static FN u32 word(T low, T high) { return low.bits | u32(high.bits) << 16; }

  template <int ROWS>
  struct Sums {
    static constexpr int columns = 4, rows = ROWS / 4;
    float sum[2][ROWS / 8][4] = {};

    static FN int lane() { return int(threadIdx.x) % WARP; }
    static FN int column(int c) { return 8 * c + lane() / 4; }
    static FN int row(int r) { return 8 * (r / 2) + 2 * (lane() % 4) + r % 2; }
    FN float at(int c, int r) const { return sum[c / 2][r / 2][2 * (c % 2) + r % 2]; }

    FN void add(const Strip* of_columns, const Strip* of_rows) {
      const int i = lane() / 4, j = lane() % 4;
#pragma unroll
      for (int word = 0; word < STEP_WORDS; word += MMA_WORDS) {
        u32 b[ROWS / 8][2];
#pragma unroll
        for (int r = 0; r < ROWS / 8; ++r) {
          b[r][0] = of_rows[8 * r + i][word + j];
          b[r][1] = of_rows[8 * r + i][word + j + 4];
        }
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const Strip *upper = of_columns + 16 * c + i, *lower = upper + 8;
          const u32 a[4] = {(*upper)[word + j], (*lower)[word + j], (*upper)[word + j + 4], (*lower)[word + j + 4]};
#pragma unroll
          for (int r = 0; r < ROWS / 8; ++r) mma<T>(sum[c][r], a, b[r]);
        }
      }
    }
  };
};

// Float32 in float32.
struct Fma {
  using Element = float;

  template <int ROWS>
  struct Sums {
    static constexpr int columns = 4, rows = ROWS / 4;
    float sum[columns][rows] = {};

    static FN int lane() { return int(threadIdx.x) % WARP; }
    static FN int column(int c) { return 8 * c + lane() % 8; }
    static FN int row(int r) { return 4 * r + lane() / 8; }
    FN float at(int c, int r) const { return sum[c][r]; }

    FN void add(const Strip* of_columns, const Strip* of_rows) {
#pragma unroll 1  // more would be ahead than registers hold
      for (int word = 0; word < STEP_WORDS; word += 4) {
        Pack<float, 4> a[columns];
#pragma unroll
        for (int c = 0; c < columns; ++c) a[c] = four(of_columns[column(c)] + word);
#pragma unroll
        for (int r = 0; r < rows; ++r) {
          const Pack<float, 4> b = four(of_rows[row(r)] + word);
#pragma unroll
          for (int c = 0; c < columns; ++c) {
#pragma unroll
            for (int k = 0; k < 4; ++k) sum[c][r] += a[c].at[k] * b.at[k];
          }
        }
      }
    }

    static FN Pack<float, 4> four(const u32* words) {
      const Pack<u32, 4> pack = *reinterpret_cast<const Pack<u32, 4>*>(words);
      return {float_of(pack.at[0]), float_of(pack.at[1]), float_of(pack.at[2]), float_of(pack.at[3])};
    }
  };
};

// V elements as the words that a strip holds of them.
template <class Math, class T, int V>
FN Pack<u32, 4> words_of(const T (&elements)[V]) {
  Pack<u32, 4> words;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if constexpr (sizeof(T) == 2) words.at[k] = Math::word(elements[2 * k], elements[2 * k + 1]);
    else if constexpr (is_same<Math, Fma>) words.at[k] = bits_of(elements[k]);
    else words.at[k] = tf32(elements[k]);
  }
  return words;
}

// --- which packs and columns there are -------------------------------------------------------------------------------

// The first element of a pack; `left` of them, up to V, are there. The others lie in the steps of a Walk.
struct alignas(16) PackSpot {
  Spot<i32> spot;
  i32 left;
};

// A gather sums over taps. A pack is V channels of one, and the taps of a channel come before its next ones, so that
// they find in the cache what they share.
template <int V>
struct Gather {
  static constexpr bool of_weight = false;
  const Conv& args;
  const Window window;

  FN Gather(const Conv& args) : args(args), window(args, blockIdx.z) {}
  FN i32 columns() const { return i32(args.images * window.pixels()); }
  FN i32 first_pack() const { return 0; }
  FN i32 last_pack() const { return i32((args.channels + V - 1) / V * window.taps()); }
  FN i32 source_step() const { return i32(args.source_channel); }
  FN i32 own_step() const { return i32(args.weight_channel); }
  FN i32 x_step() const { return 0; }
  FN i64 row_stride() const { return args.weight_row; }

  FN Spot<i32> column(i32 number) const {
    const auto [n, i, j] = digits(number, i32(window.down.pixels), i32(window.across.pixels));
    return pixel_at(args, window, n, i, j);
  }
  FN PackSpot pack(i32 number) const {
    const auto [outer, r, s] = digits(number, i32(window.down.taps), i32(window.across.taps));
    return {tap_at(args, window, outer * V, r, s), i32(args.channels) - outer * V};
  }
};

// The weight's derivative sums over pixels. A pack is V neighbours of one line.
template <int V>
struct Weight {
  static constexpr bool of_weight = true;
  const Conv& args;
  const Window window;

  FN Weight(const Conv& args) : args(args), window(args, 0) {}
  FN i32 columns() const { return i32(args.channels * window.taps()); }
  FN i32 per_line() const { return i32((window.across.pixels + V - 1) / V); }
  FN i32 first_pack() const { return i32(args.share * blockIdx.z); }
  FN i32 last_pack() const { return i32(min(lines() * per_line(), first_pack() + args.share)); }
  FN i64 lines() const { return args.images * window.down.pixels; }
  FN i32 source_step() const { return i32(window.across.pixel_step * window.across.stride); }
  FN i32 own_step() const { return i32(window.across.map_stride); }
  FN i32 x_step() const { return i32(window.across.pixel_step); }
  FN i64 row_stride() const { return args.map_row; }

  FN Spot<i32> column(i32 number) const {
    const auto [c, r, s] = digits(number, i32(window.down.taps), i32(window.across.taps));
    return tap_at(args, window, c, r, s);
  }
  FN PackSpot pack(i32 number) const {
    const auto [n, i, outer] = digits(number, i32(window.down.pixels), per_line());
    return {pixel_at(args, window, n, i, outer * V), i32(window.across.pixels) - outer * V};
  }
};

// --- the kernel ------------------------------------------------------------------------------------------------------

template <int ROWS>
constexpr int warp_rows = ROWS < 32 ? ROWS : 32;
template <int ROWS>
constexpr int threads_of = COLUMNS * (ROWS / warp_rows<ROWS>);

template <class Math, template <int> class Sum, int ROWS>
__global__ void __launch_bounds__(threads_of<ROWS>, 512 / threads_of<ROWS>) conv_tiles(const Conv args) {
  using T = typename Math::Element;
  constexpr int V = 16 / sizeof(T), THREADS = threads_of<ROWS>;
  constexpr int COLUMN_LOADS = COLUMNS * PACKS / THREADS;  // and one of the rows
  static_assert(ROWS * PACKS <= THREADS, "a thread has a pack of rows at most");
  __shared__ Strip of_columns[2][COLUMNS], of_rows[2][ROWS];
  __shared__ PackSpot packs[2][PACKS];

  const Sum<V> sum(args);
  const int thread = int(threadIdx.x);
  const i32 row_tiles = i32((args.rows + ROWS - 1) / ROWS), group = i32(blockIdx.y) / row_tiles;
  const i32 first_row = (i32(blockIdx.y) - group * row_tiles) * ROWS, first_column = i32(blockIdx.x) * COLUMNS;
  const i32 rows = i32(args.rows), columns = sum.columns(), last_pack = sum.last_pack();
  const i32 height = i32(sum.window.down.size), width = i32(sum.window.across.size);
  const T* source = source_of<T>(args, group);
  const T* own = Sum<V>::of_weight ? map_of<T>(args, group) : weight_of<T>(args, group);

  // What this thread loads in each step: packs of one column, a warp the same ones, and packs of rows, side by side. In
  // place of columns and rows that there are not it takes others, and nobody looks at the sums.
  const i32 my_column = first_column + thread % COLUMNS, my_row = first_row + thread / PACKS;
  const Spot<i32> column = my_column < columns ? sum.column(my_column) : Spot<i32>{};
  const i64 source_step = sum.source_step() * int(sizeof(T)), own_step = sum.own_step() * int(sizeof(T));
  const char* in_source = reinterpret_cast<const char*>(source + column.source);
  const char* in_row = reinterpret_cast<const char*>(own + (my_row < rows ? my_row : 0) * sum.row_stride());
  T of_my_column[COLUMN_LOADS][V], of_my_row[V];

  // The first PACKS threads find the places of a step's packs.
  const auto find = [&](i32 first_pack, PackSpot* found) {
    if (thread < PACKS) found[thread] = first_pack + thread < last_pack ? sum.pack(first_pack + thread) : PackSpot{};
  };
  const auto load = [&](const PackSpot* found) {
#pragma unroll
    for (int load = 0; load < COLUMN_LOADS; ++load) {
      const PackSpot pack = found[thread / COLUMNS + load * (THREADS / COLUMNS)];
      const i32 left = u32(column.y + pack.spot.y) < u32(height) ? pack.left : 0;
      const char* place = in_source + i64(pack.spot.source) * int(sizeof(T));
      i32 x = column.x + pack.spot.x;
#pragma unroll
      for (int k = 0; k < V; ++k, place += source_step, x += sum.x_step()) {
        of_my_column[load][k] = k < left && u32(x) < u32(width) ? *reinterpret_cast<const T*>(place) : T{};
      }
    }
    const PackSpot pack = found[thread % PACKS];
    const char* place = in_row + i64(pack.spot.own) * int(sizeof(T));
#pragma unroll
    for (int k = 0; k < V; ++k, place += own_step) {
      of_my_row[k] = k < pack.left ? *reinterpret_cast<const T*>(place) : T{};
    }
  };
  const auto store = [&](Strip* columns_to, Strip* rows_to) {
#pragma unroll
    for (int load = 0; load < COLUMN_LOADS; ++load) {
      const int pack = thread / COLUMNS + load * (THREADS / COLUMNS);
      *reinterpret_cast<Pack<u32, 4>*>(columns_to[thread % COLUMNS] + 4 * pack) = words_of<Math>(of_my_column[load]);
    }
    if (thread / PACKS < ROWS) {
      *reinterpret_cast<Pack<u32, 4>*>(rows_to[thread / PACKS] + 4 * (thread % PACKS)) = words_of<Math>(of_my_row);
    }
  };

  const int warp = thread / WARP, warp_column = warp % (COLUMNS / WARP) * WARP;
  const int warp_row = warp / (COLUMNS / WARP) * warp_rows<ROWS>;
  typename Math::template Sums<warp_rows<ROWS>> sums;
  const i32 first_pack = sum.first_pack();
  find(first_pack, packs[0]);
  __syncthreads();
  load(packs[0]);
  find(first_pack + PACKS, packs[1]);
  store(of_columns[0], of_rows[0]);
  __syncthreads();
  int now = 0;
  for (i32 pack = first_pack; pack < last_pack; pack += PACKS, now = 1 - now) {
    const bool is_last = pack + PACKS >= last_pack;
    if (!is_last) load(packs[1 - now]);  // on their way during what follows
    sums.add(of_columns[now] + warp_column, of_rows[now] + warp_row);
    find(pack + 2 * PACKS, packs[now]);
    if (!is_last) store(of_columns[1 - now], of_rows[1 - now]);
    __syncthreads();
  }

#pragma unroll
  for (int c = 0; c < sums.columns; ++c) {
    const i32 number = first_column + warp_column + sums.column(c);
    if (number >= columns) continue;
    const i64 place = sum.column(number).own;
#pragma unroll
    for (int r = 0; r < sums.rows; ++r) {
      const i64 row = first_row + warp_row + sums.row(r), row_of_all = i64(group) * rows + row;
      if (row >= rows) continue;
      if constexpr (Sum<V>::of_weight) {
        T* weight = weight_of<T>(args, group) + row * args.weight_row + place;
        store_weight(args, row_of_all, number, columns, weight, blockIdx.z, sums.at(c, r));
      } else {
        map_of<T>(args, group)[row * args.map_row + place] = narrow<T>(sums.at(c, r) + bias_of<T>(args, row_of_all));
      }
    }
  }
}
