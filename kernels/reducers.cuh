// The reducers: one per reduction of an array to fewer elements, and no indices.
//
// A reducer of elements in computing type T has a State, of at most 24 bytes, and
//   identity()              the state of no elements,
//   of(x, position)         the state of one element, the `position`-th of those that are folded,
//   combine(a, b)           the state of both together; the order matters for rounding only,
//   result(state, divisor)  what is stored; the divisor is a mean's or a variance's.
// Kernels fold in any order they like, in a fixed tree, so results are the same from run to run.
#pragma once
#include "formulas.cuh"

namespace reducers {

template <class T>
struct sum {
  using State = T;
  static FN State identity() { return T(0); }
  static FN State of(T x, i64) { return x; }
  static FN State combine(State a, State b) { return a + b; }
  static FN T result(State total, double) { return total; }
};

template <class T>
struct mean : sum<T> {
  static FN T result(T total, double count) { return total / T(count); }
};

template <class T>
struct prod {
  using State = T;
  static FN State identity() { return T(1); }
  static FN State of(T x, i64) { return x; }
  static FN State combine(State a, State b) { return a * b; }
  static FN T result(State product, double) { return product; }
};

template <class T>
struct amax {  // NaN wins
  using State = T;
  static FN State identity() { return Limits<T>::lowest(); }
  static FN State of(T x, i64) { return x; }
  static FN State combine(State a, State b) { return formulas::maximum{}(a, b); }
  static FN T result(State top, double) { return top; }
};

template <class T>
struct amin {
  using State = T;
  static FN State identity() { return Limits<T>::highest(); }
  static FN State of(T x, i64) { return x; }
  static FN State combine(State a, State b) { return formulas::minimum{}(a, b); }
  static FN T result(State bottom, double) { return bottom; }
};

template <class T>
struct any {
  using State = bool;
  static FN State identity() { return false; }
  static FN State of(T x, i64) { return x != T(0); }
  static FN State combine(State a, State b) { return a || b; }
  static FN bool result(State found, double) { return found; }
};

template <class T>
struct all {
  using State = bool;
  static FN State identity() { return true; }
  static FN State of(T x, i64) { return x != T(0); }
  static FN State combine(State a, State b) { return a && b; }
  static FN bool result(State holds, double) { return holds; }
};

// --- states of several numbers ---------------------------------------------------------------------------------------

// An element and where it stands.
template <class T>
struct Found {
  T value;
  i64 position;
};

// The first of the elements that come first by `Order`; NaN comes before all others.
template <class T, class Order>
struct first_by {
  using State = Found<T>;
  static FN State of(T x, i64 position) { return {x, position}; }
  static FN State combine(State a, State b) {
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool level = a.value == b.value || (a_is_nan && b_is_nan);
    const bool a_leads = level ? a.position < b.position : a_is_nan || (!b_is_nan && Order{}(a.value, b.value));
    return a_leads ? a : b;
  }
  static FN i64 result(State found, double) { return found.position; }
};

template <class T>
struct argmax : first_by<T, formulas::gt> {
  static FN Found<T> identity() { return {Limits<T>::lowest(), Limits<i64>::highest()}; }
};

template <class T>
struct argmin : first_by<T, formulas::lt> {
  static FN Found<T> identity() { return {Limits<T>::highest(), Limits<i64>::highest()}; }
};

// The count of elements, their mean, and the sum of squared distances from it.
template <class T>
struct Moments {
  T count, mean, squares;
};

// Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
template <class T>
struct var {
  using State = Moments<T>;
  static FN State identity() { return {T(0), T(0), T(0)}; }
  static FN State of(T x, i64) { return {T(1), x, T(0)}; }
  static FN State combine(State a, State b) {
    const T count = a.count + b.count;
    const T share = count > T(0) ? b.count / count : T(0);
    const T distance = b.mean - a.mean;
    return {count, a.mean + distance * share, a.squares + b.squares + distance * (a.count * share) * distance};
  }
  static FN T result(State moments, double freedom) { return moments.squares / T(freedom); }
};

// The largest element, and the sum of exp(x - top) over all elements x.
template <class T>
struct Exponentials {
  T top, total;
};

template <class T>
struct logsumexp {
  using State = Exponentials<T>;
  static FN State identity() { return {Limits<T>::lowest(), T(0)}; }
  static FN State of(T x, i64) { return {x, T(1)}; }
  static FN State combine(State a, State b) {
    const bool a_leads = a.top >= b.top || a.top != a.top;
    const State high = a_leads ? a : b, low = a_leads ? b : a;
    const T scale = low.top == high.top ? T(1) : ::exp(low.top - high.top);  // equal infinities have no difference
    return {high.top, high.total + low.total * scale};
  }
  static FN T result(State sums, double) { return sums.top + ::log(sums.total); }
};

// --- states in memory ------------------------------------------------------------------------------------------------

template <class State>
FN void put(State* at, const State& state) {
  *at = state;
}
template <class T>
FN void put(Found<T>* at, const Found<T>& state) {  // by members: between them there may be bytes left to chance
  at->value = state.value;
  at->position = state.position;
}

// --- states between the lanes of a warp ------------------------------------------------------------------------------

// The state of the lane whose number differs in `bits`.
template <class T>
FN T shuffled(T state, int bits) {
  return T(__shfl_xor_sync(FULL_WARP, state, bits));
}
template <class T>
FN Found<T> shuffled(Found<T> state, int bits) {
  return {shuffled(state.value, bits), shuffled(state.position, bits)};
}
template <class T>
FN Moments<T> shuffled(Moments<T> state, int bits) {
  return {shuffled(state.count, bits), shuffled(state.mean, bits), shuffled(state.squares, bits)};
}
template <class T>
FN Exponentials<T> shuffled(Exponentials<T> state, int bits) {
  return {shuffled(state.top, bits), shuffled(state.total, bits)};
}

}  // namespace reducers
