// Philox4x64-10, and the functions of its words from which all distributions are made.
//
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
//
// The CPU computes the same bits (tensorlite/backends/philox.py, where the series are explained): every operation is
// rounded once, in the order written. `times` and `plus` say so to a compiler that would fuse them.
#pragma once
#include "common.cuh"

// --- words -----------------------------------------------------------------------------------------------------------

struct Words {
  u64 at[4];
};

// Block number `block` of the stream of a seed.
FN Words philox(u64 seed, u64 block) {
  constexpr u64 factor0 = 0xd2e7470ee14c6c93ull, factor1 = 0xca5a826395121157ull;
  constexpr u64 golden_ratio = 0x9e3779b97f4a7c15ull, root_of_three = 0xbb67ae8584caa73bull;
  Words word = {{block, 0, 0, 0}};
  u64 key0 = seed, key1 = 0;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 low0 = factor0 * word.at[0], high0 = __umul64hi(factor0, word.at[0]);
    const u64 low1 = factor1 * word.at[2], high1 = __umul64hi(factor1, word.at[2]);
    word = {{high1 ^ word.at[1] ^ key0, low1, high0 ^ word.at[3] ^ key1, low0}};
    key0 += golden_ratio;
    key1 += root_of_three;
  }
  return word;
}

// --- arithmetic that is never fused ----------------------------------------------------------------------------------

FN float plus(float x, float y) { return __fadd_rn(x, y); }
FN double plus(double x, double y) { return __dadd_rn(x, y); }
FN float times(float x, float y) { return __fmul_rn(x, y); }
FN double times(double x, double y) { return __dmul_rn(x, y); }

// The polynomial in x with these coefficients, highest power first.
FN double horner(double x, double value, double last) { return plus(times(value, x), last); }
template <class... C>
FN double horner(double x, double value, double next, C... rest) {
  return horner(x, plus(times(value, x), next), rest...);
}

// --- functions of one word -------------------------------------------------------------------------------------------

// Uniform on [0, 1): the upper 24 or 53 bits.
template <class X>
FN X unit(u64 word) {
  if constexpr (is_same<X, float>) return times(float(u32(word >> 40)), 0x1p-24f);
  else return times(double(i64(word >> 11)), 0x1p-53);
}

// The natural logarithm of u = ((word >> 11) | 1) 2^-53: with u = 2^e m, sqrt(1/2) <= m < sqrt(2) and
// s = (m - 1) / (m + 1), it is e log 2 + 2 s (1 + s^2/3 + ...).
FN double logarithm(u64 word) {
  constexpr i64 sqrt_half = 0x3fe6a09e667f3bcdll;  // its bits
  constexpr double ln2 = 0.6931471805599453;
  const i64 bits = __double_as_longlong(times(double(i64(word >> 11) | 1), 0x1p-53));
  const i64 exponent = (bits - sqrt_half) >> 52;
  const double m = __longlong_as_double(i64(u64(bits) - (u64(exponent) << 52)));
  const double s = __ddiv_rn(plus(m, -1.0), plus(m, 1.0));
  const double series = horner(times(s, s), 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3,
                               1.0);
  return plus(times(series, plus(s, s)), times(double(exponent), ln2));
}

struct CosSin {
  double cos, sin;
};

// Cosine and sine of the angle 2 pi word 2^-64: q + f quarter turns with -1/2 <= f < 1/2.
FN CosSin cos_sin(u64 word) {
  const double f = times(double(i64(word << 2) >> 11), 0x1p-53);
  const double square = times(f, f);
  const double sine = times(
      horner(square, 5.692172921967927e-08, -3.598843235212085e-06, 0.00016044118478735983, -0.004681754135318688,
             0.07969262624616705, -0.6459640975062463, 1.5707963267948966),
      f);
  const double cosine =
      horner(square, -6.386603083791852e-09, 4.710874778818172e-07, -2.5202042373060607e-05, 0.0009192602748394266,
             -0.02086348076335296, 0.25366950790104803, -1.2337005501361697, 1.0);
  const u32 q = u32((word + (u64(1) << 61)) >> 62);
  const double cos = q & 1 ? sine : cosine, sin = q & 1 ? cosine : sine;
  return {(q + 1) & 2 ? -cos : cos, q & 2 ? -sin : sin};
}
