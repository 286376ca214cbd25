// Scaled dot-product attention of device "cpu" and its derivative: see tensorlite/ops/attention.py for the contract.
//
// Scores are computed for some queries and keys at a time and never leave the cache. The forward keeps for each query
// the largest score so far, and scales what it has summed up when a larger one comes (Milakov and Gimelshein 2018; Dao
// et al. 2022). The backward computes the weights again from the rows' lse. Keys that a causal block of queries may not
// look at are not visited.
#pragma once
#include "cpu_rows.h"
#include "cpu_tile.h"

namespace cpu {

constexpr i64 QUERIES = 32;   // of a block of scores
constexpr i64 KEYS = 128;     // of a block of scores
constexpr i64 STRIPE = 128;   // queries of the forward that use the keys' copies

// An array (batch, heads, length, width) of any strides, in elements.
template <class T>
struct Heads {
  T* data;
  i64 batch, heads, length, width;
  i64 steps[4];

  T* row(i64 n, i64 head, i64 r) const { return data + n * steps[0] + head * steps[1] + r * steps[2]; }
  Scalars<T> factor(i64 n, i64 head, i64 r) const { return {row(n, head, r), steps[2], steps[3]}; }
};

// What is done to scores before the softmax.
template <class T>
struct Mask {
  Heads<const bool> choice;  // data is null where there is none
  Heads<const T> terms;
};

// to[r * step + c] = from(r, c), zeros in columns beyond `columns`.
template <class T>
void copy_rows(T* to, i64 step, const Scalars<const T>& from, i64 rows, i64 columns) {
  for (i64 r = 0; r < rows; ++r) {
    const T* const row = from.data + r * from.row;
    if (from.inner == 1) memcpy(to + r * step, row, size_t(columns) * sizeof(T));
    else for (i64 c = 0; c < columns; ++c) to[r * step + c] = row[c * from.inner];
    for (i64 c = columns; c < step; ++c) to[r * step + c] = T(0);
  }
}

// to[c * step + r] = from(r, c), by blocks whose rows stay in the cache; zeros in rows beyond `rows`.
template <class T>
void copy_transposed(T* to, i64 step, const Scalars<const T>& from, i64 rows, i64 columns) {
  for (i64 first = 0; first < step; first += WIDTH<T>) {
    const i64 count = rows - first < WIDTH<T> ? rows - first : WIDTH<T>;
    for (i64 c = 0; c < columns; ++c) {
      const T* const column = from.data + first * from.row + c * from.inner;
      T* const line = to + c * step + first;
      for (i64 r = 0; r < count; ++r) line[r] = column[r * from.row];
      for (i64 r = count < 0 ? 0 : count; r < WIDTH<T>; ++r) line[r] = T(0);
    }
  }
}

template <class T>
struct AttentionTask : Task {
  Heads<const T> q, k, v;
  Mask<T> mask;
  T scale;
  bool causal;

 protected:
  i64 group() const { return k.heads == 0 ? 1 : q.heads / k.heads; }
  // How many of the keys from `first` on, KEYS at most, a block of queries that ends before `last` looks at.
  i64 keys_from(i64 first, i64 last) const {
    const i64 end = causal && last < k.length ? last : k.length;
    return end - first < KEYS ? end - first : KEYS;
  }
  // scores = q kᵀ scale with the mask, for `rows` queries from `r` and `keys` keys from `first`, which lie transposed.
  void score(T* scores, const T* transposed_keys, i64 n, i64 head, i64 r, i64 rows, i64 first, i64 keys) const {
    multiply<T>(scores, KEYS, Sum::begun, as_factor(q.factor(n, head, r)), transposed_keys, KEYS, rows, q.width,
                padded<T>(keys));
    for (i64 i = 0; i < rows; ++i) {
      T* const row = scores + i * KEYS;
      const T factor = scale;
#pragma GCC ivdep
      for (i64 c = 0; c < keys; ++c) row[c] *= factor;
      if (mask.choice.data != nullptr) choose(row, mask.choice.row(n, head, r + i), mask.choice.steps[3], first, keys);
      if (mask.terms.data != nullptr) add_terms(row, mask.terms.row(n, head, r + i), mask.terms.steps[3], first, keys);
      if (causal) {
        for (i64 c = r + i + 1 - first < 0 ? 0 : r + i + 1 - first; c < keys; ++c) row[c] = Limits<T>::lowest();
      }
    }
  }
  static Scalars<T> as_factor(const Scalars<const T>& x) { return {x.data, x.row, x.inner}; }

 private:
  static void choose(T* row, const bool* choice, i64 step, i64 first, i64 keys) {
    choice += first * step;
    for (i64 c = 0; c < keys; ++c) row[c] = choice[c * step] ? row[c] : Limits<T>::lowest();
  }
  static void add_terms(T* row, const T* terms, i64 step, i64 first, i64 keys) {
    terms += first * step;
    for (i64 c = 0; c < keys; ++c) row[c] += terms[c * step];
  }
};

template <class T>
struct Attention : AttentionTask<T> {
  Heads<T> values;
  T* lse;

  bool operator()() {
    const i64 stripes = (this->q.length + STRIPE - 1) / STRIPE, heads = this->q.heads;
    const i64 products = STRIPE * this->k.length * (this->q.width + this->v.width);
    parallel_for(this->q.batch * heads * stripes, units_per_thread(products), [=, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const Stripe stripe(*this);
      for (i64 unit = begin; unit < end; ++unit) {
        stripe.fill(unit / stripes / heads, unit / stripes % heads, unit % stripes * STRIPE);
      }
    });
    return true;
  }

 private:
  // The values of some queries of one head.
  struct Stripe {
    const Attention& task;
    i64 width;  // of a row of sums
    T *keys, *values, *scores, *sums, *tops, *totals;

    explicit Stripe(const Attention& of) : task(of), width(padded<T>(of.v.width)) {
      const i64 elements = KEYS * (of.q.width + width + QUERIES) + STRIPE * (width + 2) + 6 * WIDTH<T>;
      scratch.reserve(elements * i64(sizeof(T)));
      keys = scratch.take<T>(of.q.width * KEYS);
      values = scratch.take<T>(KEYS * width);
      scores = scratch.take<T>(QUERIES * KEYS);
      sums = scratch.take<T>(STRIPE * width);
      tops = scratch.take<T>(STRIPE);
      totals = scratch.take<T>(STRIPE);
    }

    void fill(i64 n, i64 head, i64 first) const {
      const i64 end = first + STRIPE < task.q.length ? first + STRIPE : task.q.length;
      for (i64 r = 0; r < end - first; ++r) tops[r] = Limits<T>::lowest(), totals[r] = T(0);
      memset(sums, 0, size_t(STRIPE * width) * sizeof(T));
      for (i64 key = 0; key < task.k.length && task.keys_from(key, end) > 0; key += KEYS) {
        const i64 shared = head / task.group(), count = task.keys_from(key, end);
        copy_transposed<T>(keys, KEYS, task.k.factor(n, shared, key), count, task.k.width);
        copy_rows<T>(values, width, task.v.factor(n, shared, key), count, task.v.width);
        for (i64 r = first; r < end; r += QUERIES) {
          const i64 rows = end - r < QUERIES ? end - r : QUERIES, seen = task.keys_from(key, r + rows);
          if (seen > 0) look(n, head, r, rows, r - first, key, seen);
        }
      }
      finish(n, head, first, end - first);
    }

    // Adds what some queries, `at` in the stripe, find in some keys.
    void look(i64 n, i64 head, i64 r, i64 rows, i64 at, i64 key, i64 seen) const {
      task.score(scores, keys, n, head, r, rows, key, seen);
      for (i64 i = 0; i < rows; ++i) {
        weigh(scores + i * KEYS, seen, tops[at + i], totals[at + i], sums + (at + i) * width);
      }
      multiply<T>(sums + at * width, width, Sum::continued, {scores, KEYS, 1}, values, width, rows, seen, width);
    }

    void weigh(T* row, i64 seen, T& top, T& total, T* sum) const {
      const T larger = formulas::maximum{}(top, largest_of_row(seen, row));
      const T shift = larger == Limits<T>::lowest() ? T(0) : larger;  // where nothing counts yet, all is exp(-inf)
#pragma GCC ivdep
      for (i64 c = 0; c < seen; ++c) row[c] = exp(row[c] - shift);
      const T factor = exp(top - shift);
      total = total * factor + sum_of_row<T>(seen, [row](i64 c) { return row[c]; });
      if (top != Limits<T>::lowest() && factor != T(1)) {
#pragma GCC ivdep
        for (i64 c = 0; c < width; ++c) sum[c] *= factor;
      }
      top = larger;
    }

    void finish(i64 n, i64 head, i64 first, i64 rows) const {
      for (i64 r = 0; r < rows; ++r) {
        const bool dead = totals[r] == T(0);
        const T total = dead ? T(1) : totals[r];
        const T* const sum = sums + r * width;
        T* const to = task.values.row(n, head, first + r);
#pragma GCC ivdep
        for (i64 c = 0; c < task.v.width; ++c) to[c] = sum[c] / total;
        task.lse[(n * task.q.heads + head) * task.q.length + first + r] =
            dead ? Limits<T>::highest() : tops[r] + log(total);
      }
    }
  };
};

template <class T>
struct AttentionGrad : AttentionTask<T> {
  Heads<const T> g, values;
  Heads<T> dq, dk, dv;
  const T* lse;

  bool operator()() {
    const i64 products = this->group() * this->q.length * this->k.length * (this->q.width + this->v.width) * 2;
    const i64 heads = this->k.heads;
    parallel_for(this->k.batch * heads, units_per_thread(products), [=, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const Head head(*this);
      for (i64 unit = begin; unit < end; ++unit) head.fill(unit / heads, unit % heads);
    });
    return true;
  }

 private:
  // The gradients of one head of k and v, and of the heads of q that look at it.
  struct Head {
    const AttentionGrad& task;
    i64 width, value_width;  // of rows, padded
    T *keys, *transposed_keys, *transposed_values, *queries, *slopes;  // copies
    T *weights, *bends, *for_keys, *for_values, *for_queries;

    explicit Head(const AttentionGrad& of)
        : task(of), width(padded<T>(of.q.width)), value_width(padded<T>(of.v.width)) {
      const i64 elements = (3 * KEYS + 2 * QUERIES) * (width + value_width) + 2 * QUERIES * KEYS;
      scratch.reserve((elements + 10 * WIDTH<T>) * i64(sizeof(T)));
      keys = scratch.take<T>(KEYS * width);
      transposed_keys = scratch.take<T>(width * KEYS);
      transposed_values = scratch.take<T>(value_width * KEYS);
      queries = scratch.take<T>(QUERIES * width);
      slopes = scratch.take<T>(QUERIES * value_width);
      weights = scratch.take<T>(QUERIES * KEYS);
      bends = scratch.take<T>(QUERIES * KEYS);
      for_keys = scratch.take<T>(KEYS * width);
      for_values = scratch.take<T>(KEYS * value_width);
      for_queries = scratch.take<T>(QUERIES * width);
    }

    void fill(i64 n, i64 shared) const {
      const i64 first_head = shared * task.group(), end_head = first_head + task.group(), length = task.q.length;
      for (i64 head = first_head; head < end_head; ++head) clear(n, head);
      for (i64 key = 0; key < task.k.length; key += KEYS) {
        const i64 count = task.k.length - key < KEYS ? task.k.length - key : KEYS;
        copy_rows<T>(keys, width, task.k.factor(n, shared, key), count, task.k.width);
        copy_transposed<T>(transposed_keys, KEYS, task.k.factor(n, shared, key), count, task.k.width);
        copy_transposed<T>(transposed_values, KEYS, task.v.factor(n, shared, key), count, task.v.width);
        memset(for_keys, 0, size_t(KEYS * width) * sizeof(T));
        memset(for_values, 0, size_t(KEYS * value_width) * sizeof(T));
        for (i64 head = first_head; head < end_head; ++head) {
          for (i64 r = 0; r < length; r += QUERIES) {
            const i64 rows = length - r < QUERIES ? length - r : QUERIES, seen = task.keys_from(key, r + rows);
            if (seen > 0) look(n, head, r, rows, key, seen);
          }
        }
        put(task.dk, for_keys, width, n, shared, key, count);
        put(task.dv, for_values, value_width, n, shared, key, count);
      }
    }

   private:
    void clear(i64 n, i64 head) const {
      for (i64 r = 0; r < task.q.length; ++r) {
        memset(task.dq.row(n, head, r), 0, size_t(task.q.width) * sizeof(T));
      }
    }

    // What flows through the scores of some queries and keys.
    void look(i64 n, i64 head, i64 r, i64 rows, i64 key, i64 seen) const {
      copy_rows<T>(queries, width, task.q.factor(n, head, r), rows, task.q.width);
      copy_rows<T>(slopes, value_width, task.g.factor(n, head, r), rows, task.g.width);
      task.score(weights, transposed_keys, n, head, r, rows, key, seen);
      multiply<T>(bends, KEYS, Sum::begun, {slopes, value_width, 1}, transposed_values, KEYS, rows, task.v.width,
                  padded<T>(seen));
      for (i64 i = 0; i < rows; ++i) {
        bend(n, head, r + i, weights + i * KEYS, bends + i * KEYS, slopes + i * value_width, seen);
      }
      multiply<T>(for_values, value_width, Sum::continued, {weights, 1, KEYS}, slopes, value_width, seen, rows,
                  value_width);
      multiply<T>(for_keys, width, Sum::continued, {bends, 1, KEYS}, queries, width, seen, rows, width);
      multiply<T>(for_queries, width, Sum::begun, {bends, KEYS, 1}, keys, width, rows, seen, width);
      for (i64 i = 0; i < rows; ++i) {
        T* const to = task.dq.row(n, head, r + i);
        const T* const from = for_queries + i * width;
#pragma GCC ivdep
        for (i64 c = 0; c < task.q.width; ++c) to[c] += from[c];
      }
    }

    // weights = exp(scores - lse), and bends = weights (bends - Σ g values) scale.
    void bend(i64 n, i64 head, i64 r, T* weight, T* slope, const T* g, i64 seen) const {
      const Scalars<const T> value = task.values.factor(n, head, r);
      const T along = sum_of_row<T>(task.v.width, [=](i64 c) { return g[c] * value.data[c * value.inner]; });
      const T log_sum = task.lse[(n * task.q.heads + head) * task.q.length + r], factor = task.scale;
#pragma GCC ivdep
      for (i64 c = 0; c < seen; ++c) weight[c] = exp(weight[c] - log_sum);
#pragma GCC ivdep
      for (i64 c = 0; c < seen; ++c) slope[c] = (slope[c] - along) * weight[c] * factor;
    }

    static void put(const Heads<T>& out, const T* sums, i64 step, i64 n, i64 head, i64 first, i64 rows) {
      for (i64 r = 0; r < rows; ++r) {
        memcpy(out.row(n, head, first + r), sums + r * step, size_t(out.width) * sizeof(T));
      }
    }
  };
};

// --- arguments -------------------------------------------------------------------------------------------------------

template <class T, class Element>
bool read_heads(const Array* array, Heads<Element>& heads) {
  if (!holds<T>(array) || array->ndim != 4) return false;
  heads = {reinterpret_cast<Element*>(array->data), array->shape[0], array->shape[1], array->shape[2],
           array->shape[3], {}};
  for (int k = 0; k < 4; ++k) {
    if (array->strides[k] % ptrdiff_t(sizeof(T)) != 0) return false;
    heads.steps[k] = array->strides[k] / ptrdiff_t(sizeof(T));
  }
  return true;
}

// A result is written row by row.
template <class T>
bool read_result(const Array* array, Heads<T>& heads) {
  return read_heads<T>(array, heads) && array->is_writable() && (heads.steps[3] == 1 || heads.width < 2);
}

template <class T>
bool read_attention(Arguments& arguments, i64 q, AttentionTask<T>& task) {
  if (!read_heads<T>(arguments.array(q), task.q) || !read_heads<T>(arguments.array(q + 1), task.k) ||
      !read_heads<T>(arguments.array(q + 2), task.v)) {
    return false;
  }
  if (!is_none(arguments[q + 3]) && !read_heads<bool>(arguments.array(q + 3), task.mask.choice) &&
      !read_heads<T>(arguments.array(q + 3), task.mask.terms)) {
    return false;
  }
  task.scale = T(arguments.number("scale"));
  task.causal = arguments.integer("causal") != 0;
  return arguments.readable();
}

inline i64 work_of_attention(const Array& q, const Array& k) {
  return q.size() + k.size() + q.size() * (k.ndim == 4 ? k.shape[2] : 1) / 32;
}

// attention((values, lse), q, k, v, mask, scale=, causal=).
template <class T>
bool prepare_attention_of(Arguments& arguments, Tape& tape) {
  const Array *q = arguments.array(1), *k = arguments.array(2), *lse = arguments.array_of(0, 1);
  if (q == nullptr || k == nullptr || !is_dense<T>(lse)) return false;
  const i64 size = tape.size();
  auto& task = tape.add<Attention<T>>(work_of_attention(*q, *k));
  task.lse = reinterpret_cast<T*>(lse->data);
  const bool taken = read_result<T>(arguments.array_of(0, 0), task.values) && read_attention<T>(arguments, 1, task);
  if (!taken) tape.shorten(size);
  return taken;
}

inline bool prepare_attention(Arguments& arguments, Tape& tape) {
  return prepare_attention_of<float>(arguments, tape) || prepare_attention_of<double>(arguments, tape);
}

// attention_grad((dq, dk, dv), g, q, k, v, mask, values, lse, scale=, causal=).
template <class T>
bool prepare_attention_grad_of(Arguments& arguments, Tape& tape) {
  const Array *q = arguments.array(2), *k = arguments.array(3), *lse = arguments.array(7);
  if (q == nullptr || k == nullptr || !is_dense<T>(lse)) return false;
  const i64 size = tape.size();
  auto& task = tape.add<AttentionGrad<T>>(4 * work_of_attention(*q, *k));
  task.lse = reinterpret_cast<const T*>(lse->data);
  const bool taken =
      read_heads<T>(arguments.array(1), task.g) && read_heads<T>(arguments.array(6), task.values) &&
      read_result<T>(arguments.array_of(0, 0), task.dq) && read_result<T>(arguments.array_of(0, 1), task.dk) &&
      read_result<T>(arguments.array_of(0, 2), task.dv) && read_attention<T>(arguments, 2, task);
  if (!taken) tape.shorten(size);
  return taken;
}

inline bool prepare_attention_grad(Arguments& arguments, Tape& tape) {
  return prepare_attention_grad_of<float>(arguments, tape) || prepare_attention_grad_of<double>(arguments, tape);
}

}  // namespace cpu
