// What is made of random words: one functor per distribution, four words at a time, and no indices.
//
// A functor holds the distribution's parameters, as tensorlite/backends/kernels/random.py packs them, and computes what
// the function of its name in tensorlite/backends/philox.py does, to the same bits.
#pragma once
#include "philox.cuh"

namespace distributions {

// A second array that a distribution reads: where it lies for each of the four elements. Null where there is none.
struct Operand {
  const void* data;
  i64 at[4];

  template <class T>
  FN const T* of(int v) const {
    return static_cast<const T*>(data) + at[v];
  }
};

// One value per word, value(word, place among the four).
template <class T, class F>
FN Pack<T, 4> each(const Words& words, F value) {
  Pack<T, 4> result;
#pragma unroll
  for (int v = 0; v < 4; ++v) result.at[v] = value(words.at[v], v);
  return result;
}

// A float64 on its way to T: one of 16 bits is reached by way of float.
template <class T>
FN T by_float(double x) {
  if constexpr (sizeof(T) == 2) return narrow<T>(static_cast<float>(x));
  else return narrow<T>(x);
}

// low + scale u, but not above `top`: what rounds up to the excluded end becomes the largest number below it.
struct Uniform {
  double scale, low, top;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand&) const {
    using X = Compute<T>;
    return each<T>(words, [&](u64 word, int) {
      const X rounded = widen(narrow<T>(plus(times(unit<X>(word), X(scale)), X(low))));
      return narrow<T>(rounded < X(top) ? rounded : X(top));
    });
  }
};

// mean + std z, by Box and Muller: two words give two numbers.
struct Normal {
  double mean, std;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand&) const {
    Pack<T, 4> result;
#pragma unroll
    for (int v = 0; v < 4; v += 2) {
      const double radius = __dsqrt_rn(times(logarithm(words.at[v]), -2.0));
      const CosSin turn = cos_sin(words.at[v + 1]);
      result.at[v] = by_float<T>(plus(times(times(radius, turn.cos), std), mean));
      result.at[v + 1] = by_float<T>(plus(times(times(radius, turn.sin), std), mean));
    }
    return result;
  }
};

struct Exponential {
  double rate;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand&) const {
    return each<T>(words, [&](u64 word, int) { return by_float<T>(__ddiv_rn(logarithm(word), -rate)); });
  }
};

// low + word mod span; a span of 0 stands for 2^64.
struct Integers {
  u64 low, span;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand&) const {
    return each<T>(words, [&](u64 word, int) { return narrow<T>(i64(low + (span == 0 ? word : word % span))); });
  }
};

// 1 with the probability `chance`, or that of the operand's element (float64) if there is one, else 0.
struct Bernoulli {
  double chance;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand& chances) const {
    return each<T>(words, [&](u64 word, int v) {
      const double p = chances.data != nullptr ? *chances.of<double>(v) : chance;
      return narrow<T>(double(i64(word >> 11)) < times(p, 0x1p53));
    });
  }
};

// The first category whose cumulative count is above u times the sum; the operand is the row of cumulative counts.
struct Choice {
  i64 categories, step;

  template <class T>
  FN Pack<T, 4> draw(const Words& words, const Operand& rows) const {
    return each<T>(words, [&](u64 word, int v) {
      const i64* counts = rows.of<i64>(v);
      const i64 wanted = i64(times(unit<double>(word), double(counts[(categories - 1) * step])));
      i64 first = 0, end = categories;
      while (first < end) {
        const i64 middle = (first + end) / 2;
        if (counts[middle * step] > wanted) end = middle;
        else first = middle + 1;
      }
      return narrow<T>(first);
    });
  }
};

}  // namespace distributions
