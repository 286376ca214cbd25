// The formulas: one functor per elementwise operation or derivative, and no indices.
//
// A functor takes and returns computing types: float for the 16-bit floats, else the element type itself. What it
// returns is rounded once to the type of `out`. NaN spreads as in NumPy. A derivative `name_grad(g, ...)` takes the
// incoming gradient g, and then y where the output suffices, else x. Functors with `checks` get a last argument to
// call with a value that they refuse.
#pragma once
#include "common.cuh"

namespace formulas {

template <class T>
FN bool is_negative(T x) {
  if constexpr (T(-1) < T(0)) return x < T(0);
  else return false;
}

// --- copying and choosing -----------------------------------------------------------------------------------------------

struct copy {
  template <class T>
  FN T operator()(T x) const { return x; }
};
struct where {
  template <class T>
  FN T operator()(bool condition, T x, T y) const { return condition ? x : y; }
};
struct maximum {  // NaN wins
  template <class T>
  FN T operator()(T x, T y) const { return x >= y || x != x ? x : y; }
};
struct minimum {
  template <class T>
  FN T operator()(T x, T y) const { return x <= y || x != x ? x : y; }
};
struct clamp {
  template <class T>
  FN T operator()(T x, T low, T high) const { return minimum{}(maximum{}(x, low), high); }
};

// --- arithmetic: integers wrap around --------------------------------------------------------------------------------------

struct add {
  template <class T>
  FN T operator()(T x, T y) const { return x + y; }
};
struct sub {
  template <class T>
  FN T operator()(T x, T y) const { return x - y; }
};
struct mul {
  template <class T>
  FN T operator()(T x, T y) const { return x * y; }
};
struct div {
  template <class T>
  FN T operator()(T x, T y) const { return x / y; }
};
struct neg {
  template <class T>
  FN T operator()(T x) const { return -x; }
};
struct abs {
  template <class T>
  FN T operator()(T x) const {
    if constexpr (is_float<T>) return ::fabs(x);
    else return is_negative(x) ? T(-x) : x;
  }
};
struct sign {
  template <class T>
  FN T operator()(T x) const { return x != x ? x : T(T(0) < x) - T(is_negative(x)); }
};
struct square {
  template <class T>
  FN T operator()(T x) const { return x * x; }
};
struct cube {
  template <class T>
  FN T operator()(T x) const { return x * x * x; }
};
struct reciprocal {
  template <class T>
  FN T operator()(T x) const { return T(1) / x; }
};

// Python's division: the quotient is rounded down, and the remainder has the sign of the divisor.
struct floor_divide {
  static constexpr bool checks = true;
  template <class T, class Refuse>
  FN T operator()(T x, T y, Refuse refuse) const {
    if constexpr (is_float<T>) {
      if (y == T(0)) return x / y;
      const T exact = ::fmod(x, y);
      const T quotient = (x - exact) / y - T(exact != T(0) && (y < T(0)) != (exact < T(0)));
      if (quotient == T(0)) return ::copysign(T(0), x / y);
      const T lower = ::floor(quotient);
      return lower + T(quotient - lower > T(0.5));
    } else {
      if (y == T(0)) return refuse(y), T(0);
      if (is_negative(y) && y == T(-1)) return T(0) - x;  // the smallest number wraps around
      const T toward_zero = x / y;
      return toward_zero - T(x % y != T(0) && is_negative(x) != is_negative(y));
    }
  }
};
struct remainder {
  static constexpr bool checks = true;
  template <class T, class Refuse>
  FN T operator()(T x, T y, Refuse refuse) const {
    if constexpr (is_float<T>) {
      const T exact = ::fmod(x, y);
      if (exact == T(0)) return ::copysign(T(0), y);
      return (y < T(0)) != (exact < T(0)) ? exact + y : exact;
    } else {
      if (y == T(0)) return refuse(y), T(0);
      if (is_negative(y) && y == T(-1)) return T(0);
      const T exact = x % y;
      return exact != T(0) && is_negative(exact) != is_negative(y) ? exact + y : exact;
    }
  }
};
struct fmod {  // C's: the remainder has the sign of x
  static constexpr bool checks = true;
  template <class T, class Refuse>
  FN T operator()(T x, T y, Refuse refuse) const {
    if constexpr (is_float<T>) {
      return ::fmod(x, y);
    } else {
      if (y == T(0)) return refuse(y), T(0);
      return is_negative(y) && y == T(-1) ? T(0) : T(x % y);
    }
  }
};
struct pow {  // integers: by squaring; a negative exponent is refused
  static constexpr bool checks = true;
  template <class T, class Refuse>
  FN T operator()(T x, T y, Refuse refuse) const {
    if constexpr (is_float<T>) {
      return ::pow(x, y);
    } else {
      if (is_negative(y)) return refuse(y), T(0);
      u64 power = 1, base = u64(x);
      for (u64 left = u64(y); left != 0; left >>= 1) {
        if (left & 1) power *= base;
        base *= base;
      }
      return T(power);
    }
  }
};

// --- comparing and logic: the result is a bool -----------------------------------------------------------------------------

struct eq {
  template <class T>
  FN bool operator()(T x, T y) const { return x == y; }
};
struct ne {
  template <class T>
  FN bool operator()(T x, T y) const { return x != y; }
};
struct lt {
  template <class T>
  FN bool operator()(T x, T y) const { return x < y; }
};
struct le {
  template <class T>
  FN bool operator()(T x, T y) const { return x <= y; }
};
struct gt {
  template <class T>
  FN bool operator()(T x, T y) const { return x > y; }
};
struct ge {
  template <class T>
  FN bool operator()(T x, T y) const { return x >= y; }
};
struct logical_and {
  template <class T>
  FN bool operator()(T x, T y) const { return x != T(0) && y != T(0); }
};
struct logical_or {
  template <class T>
  FN bool operator()(T x, T y) const { return x != T(0) || y != T(0); }
};
struct logical_xor {
  template <class T>
  FN bool operator()(T x, T y) const { return (x != T(0)) != (y != T(0)); }
};
struct logical_not {
  template <class T>
  FN bool operator()(T x) const { return x == T(0); }
};
struct isnan {
  template <class T>
  FN bool operator()(T x) const { return x != x; }
};
struct isinf {
  template <class T>
  FN bool operator()(T x) const { return ::fabs(x) == Limits<T>::highest(); }
};
struct isfinite {
  template <class T>
  FN bool operator()(T x) const { return ::fabs(x) < Limits<T>::highest(); }
};
struct signbit {
  template <class T>
  FN bool operator()(T x) const { return ::copysign(T(1), x) < T(0); }
};

// --- bits -------------------------------------------------------------------------------------------------------------------

struct bitwise_and {
  template <class T>
  FN T operator()(T x, T y) const { return x & y; }
};
struct bitwise_or {
  template <class T>
  FN T operator()(T x, T y) const { return x | y; }
};
struct bitwise_xor {
  template <class T>
  FN T operator()(T x, T y) const { return x ^ y; }
};
struct bitwise_not {
  template <class T>
  FN T operator()(T x) const {
    if constexpr (is_same<T, bool>) return !x;
    else return ~x;
  }
};
struct bitwise_left_shift {  // by the width or more: all bits are shifted out
  template <class T>
  FN T operator()(T x, T y) const { return u64(i64(y)) < 8 * sizeof(T) ? T(u64(x) << y) : T(0); }
};
struct bitwise_right_shift {
  template <class T>
  FN T operator()(T x, T y) const { return u64(i64(y)) < 8 * sizeof(T) ? T(x >> y) : is_negative(x) ? T(-1) : T(0); }
};

// --- functions of analysis ----------------------------------------------------------------------------------------------------

struct exp {
  template <class T>
  FN T operator()(T x) const { return ::exp(x); }
};
struct exp2 {
  template <class T>
  FN T operator()(T x) const { return ::exp2(x); }
};
struct expm1 {
  template <class T>
  FN T operator()(T x) const { return ::expm1(x); }
};
struct log {
  template <class T>
  FN T operator()(T x) const { return ::log(x); }
};
struct log2 {
  template <class T>
  FN T operator()(T x) const { return ::log2(x); }
};
struct log10 {
  template <class T>
  FN T operator()(T x) const { return ::log10(x); }
};
struct log1p {
  template <class T>
  FN T operator()(T x) const { return ::log1p(x); }
};
struct sqrt {
  template <class T>
  FN T operator()(T x) const { return ::sqrt(x); }
};
struct rsqrt {
  template <class T>
  FN T operator()(T x) const { return T(1) / ::sqrt(x); }
};
struct sin {
  template <class T>
  FN T operator()(T x) const { return ::sin(x); }
};
struct cos {
  template <class T>
  FN T operator()(T x) const { return ::cos(x); }
};
struct tan {
  template <class T>
  FN T operator()(T x) const { return ::tan(x); }
};
struct asin {
  template <class T>
  FN T operator()(T x) const { return ::asin(x); }
};
struct acos {
  template <class T>
  FN T operator()(T x) const { return ::acos(x); }
};
struct atan {
  template <class T>
  FN T operator()(T x) const { return ::atan(x); }
};
struct atan2 {
  template <class T>
  FN T operator()(T y, T x) const { return ::atan2(y, x); }
};
struct sinh {
  template <class T>
  FN T operator()(T x) const { return ::sinh(x); }
};
struct cosh {
  template <class T>
  FN T operator()(T x) const { return ::cosh(x); }
};
struct tanh {
  template <class T>
  FN T operator()(T x) const { return ::tanh(x); }
};
struct asinh {
  template <class T>
  FN T operator()(T x) const { return ::asinh(x); }
};
struct acosh {
  template <class T>
  FN T operator()(T x) const { return ::acosh(x); }
};
struct atanh {
  template <class T>
  FN T operator()(T x) const { return ::atanh(x); }
};
struct erf {
  template <class T>
  FN T operator()(T x) const { return ::erf(x); }
};
struct copysign {
  template <class T>
  FN T operator()(T x, T y) const { return ::copysign(x, y); }
};
struct logaddexp {
  template <class T>
  FN T operator()(T x, T y) const {
    if (x == y) return x + T(0.693147180559945309);  // infinities too
    const T difference = x - y;
    return difference > T(0) ? x + ::log1p(::exp(-difference)) : y + ::log1p(::exp(difference));
  }
};
struct floor {
  template <class T>
  FN T operator()(T x) const { return ::floor(x); }
};
struct ceil {
  template <class T>
  FN T operator()(T x) const { return ::ceil(x); }
};
struct trunc {
  template <class T>
  FN T operator()(T x) const { return ::trunc(x); }
};
struct round {  // half to even
  template <class T>
  FN T operator()(T x) const { return ::rint(x); }
};

// --- activations and their derivatives -------------------------------------------------------------------------------------------

struct relu {
  template <class T>
  FN T operator()(T x) const { return maximum{}(x, T(0)); }
};
struct bias_relu {
  template <class T>
  FN T operator()(T x, T bias) const { return relu{}(x + bias); }
};
struct relu_grad {
  template <class T>
  FN T operator()(T g, T y) const { return y <= T(0) ? T(0) : g; }
};
struct sigmoid {  // from exp(-|x|), which cannot overflow
  template <class T>
  FN T operator()(T x) const {
    const T small = ::exp(-::fabs(x));
    return (x >= T(0) ? T(1) : small) / (T(1) + small);
  }
};
struct sigmoid_grad {
  template <class T>
  FN T operator()(T g, T y) const { return (T(1) - y) * y * g; }
};
struct tanh_grad {
  template <class T>
  FN T operator()(T g, T y) const { return (T(1) - y * y) * g; }
};
struct leaky_relu {
  template <class T>
  FN T operator()(T x, T slope) const { return x > T(0) ? x : x * slope; }
};
struct leaky_relu_grad {
  template <class T>
  FN T operator()(T g, T x, T slope) const { return x > T(0) ? g : g * slope; }
};
struct elu {
  template <class T>
  FN T operator()(T x, T alpha) const { return x > T(0) ? x : ::expm1(x) * alpha; }
};
struct elu_grad {
  template <class T>
  FN T operator()(T g, T x, T alpha) const { return x > T(0) ? g : ::exp(x) * alpha * g; }
};
struct silu {
  template <class T>
  FN T operator()(T x) const { return x * sigmoid{}(x); }
};
struct silu_grad {
  template <class T>
  FN T operator()(T g, T x) const {
    const T s = sigmoid{}(x);
    return ((T(1) - s) * x + T(1)) * s * g;
  }
};
struct normal_cdf {  // of the standard normal distribution
  template <class T>
  FN T operator()(T x) const { return (::erf(x * T(0.707106781186547524)) + T(1)) * T(0.5); }
};
struct gelu {
  template <class T>
  FN T operator()(T x) const { return x * normal_cdf{}(x); }
};
struct gelu_grad {
  template <class T>
  FN T operator()(T g, T x) const {
    const T density = ::exp(x * x * T(-0.5)) * T(0.398942280401432678);  // 1 / sqrt(2 pi)
    return (density * x + normal_cdf{}(x)) * g;
  }
};
// x (1 + tanh u) / 2 = x sigmoid(2 u), with 2 u = sqrt(8 / pi) (x + 0.044715 x^3).
struct gelu_tanh {
  template <class T>
  FN T operator()(T x) const {
    return x * sigmoid{}(x * (T(1.59576912160573071) + x * x * T(0.0713548162726002527)));
  }
};
struct gelu_tanh_grad {
  template <class T>
  FN T operator()(T g, T x) const {
    const T square = x * x, u = x * (T(1.59576912160573071) + square * T(0.0713548162726002527));
    const T small = ::exp(-::fabs(u)), level = T(1) / (T(1) + small);
    const T slope = small * level * level;  // of the sigmoid; 0 far out, where what it multiplies may be infinite
    const T bend = slope == T(0) ? T(0) : x * (T(1.59576912160573071) + square * T(0.214064448817800758)) * slope;
    return ((u >= T(0) ? level : small * level) + bend) * g;
  }
};
struct softplus {
  template <class T>
  FN T operator()(T x, T beta, T threshold) const {
    const T scaled = x * beta;
    return scaled > threshold ? x : (maximum{}(scaled, T(0)) + ::log1p(::exp(-::fabs(scaled)))) / beta;
  }
};
struct softplus_grad {
  template <class T>
  FN T operator()(T g, T x, T beta, T threshold) const {
    const T scaled = x * beta;
    return scaled > threshold ? g : g * sigmoid{}(scaled);
  }
};
struct softsign {
  template <class T>
  FN T operator()(T x) const { return x / (::fabs(x) + T(1)); }
};

}  // namespace formulas
