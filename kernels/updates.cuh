// The optimizers' update rules: one struct per rule, for one element at a time, and no indices.
//
// A rule holds its options, as tensorlite/backends/kernels/optimizer.py packs them, and computes what the function of
// its name in tensorlite/backends/cpu_optim.py does, in three parts:
//
//   constants(rate, counts)   what depends on the learning rate and the step, in double and then rounded to C. `counts`
//                             are the 0-d states, of which the first is the number of steps so far
//   update(k, p, g, state)    one element: parameter, gradient, and the states that have the parameter's shape
//   advance(rate, counts)     the 0-d states after this step
//
// C is the computing type: float, or double for float64. Sums and products are in the CPU's order.
#pragma once
#include "formulas.cuh"

namespace updates {

constexpr int MAX_COUNTS = 3;  // 0-d states of a rule
constexpr int MAX_STATES = 3;  // states with the parameter's shape

// --- parts that rules share ------------------------------------------------------------------------------------------

// The gradient that is followed: ±g + decay p.
template <class C>
FN C direction(C g, C p, C decay, bool maximize) {
  if (decay == C(0)) return maximize ? -g : g;
  return maximize ? p * decay - g : p * decay + g;
}

template <class C>
FN void lerp(C& average, C x, C keep, C take) {
  average = average * keep + x * take;
}

template <class C>
FN void lerp_square(C& average, C x, C keep, C take) {
  average = average * keep + x * x * take;
}

// A rule whose only 0-d state is the step number.
struct Counting {
  static constexpr int counts = 1;
  FN void advance(double, float (&counts)[MAX_COUNTS]) const { counts[0] += 1.0f; }
};

// A rule without 0-d state.
struct Timeless {
  static constexpr int counts = 0;
  FN void advance(double, float (&)[MAX_COUNTS]) const {}
};

// --- the rules -------------------------------------------------------------------------------------------------------

struct SGD : Timeless {  // state: momentum_buffer, if `averages`
  static constexpr int states = 1;
  double momentum, dampening, weight_decay;
  i64 nesterov, maximize, averages;

  template <class C>
  struct Constants {
    C rate, momentum, undamped, decay;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&)[MAX_COUNTS]) const {
    return {C(rate), C(momentum), C(1 - dampening), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C d = direction(g, p, k.decay, maximize);
    if (averages) {
      C& b = state[0];
      b = b * k.momentum + d * k.undamped;
      d = nesterov ? b * k.momentum + d : b;
    }
    p -= d * k.rate;
  }
};

struct Adam : Counting {  // state: exp_avg, exp_avg_sq, and max_exp_avg_sq if `amsgrad`
  static constexpr int states = 3;
  double beta1, beta2, eps, weight_decay;
  i64 decoupled, maximize, amsgrad;

  template <class C>
  struct Constants {
    C keep1, take1, keep2, take2, floor, size, decay, shrink;
  };
  // Numerator and denominator of the step are multiplied by sqrt(1 - beta2^t).
  template <class C>
  FN Constants<C> constants(double rate, const float (&counts)[MAX_COUNTS]) const {
    const double t = double(counts[0]) + 1, root = ::sqrt(1 - ::pow(beta2, t));
    return {C(beta1), C(1 - beta1), C(beta2), C(1 - beta2), C(eps * root), C(rate * root / (1 - ::pow(beta1, t))),
            C(decoupled ? 0.0 : weight_decay), C(decoupled ? 1 - rate * weight_decay : 1.0)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &m = state[0], &v = state[1], &largest = state[2];
    const C d = direction(g, p, k.decay, maximize);
    p *= k.shrink;
    lerp(m, d, k.keep1, k.take1);
    lerp_square(v, d, k.keep2, k.take2);
    if (amsgrad) largest = formulas::maximum{}(largest, v);
    p -= m / (::sqrt(amsgrad ? largest : v) + k.floor) * k.size;
  }
};

struct RMSprop : Counting {  // state: square_avg, momentum_buffer if `averages`, grad_avg if `centered`
  static constexpr int states = 3;
  double alpha, eps, weight_decay, momentum;
  i64 maximize, averages, centered;

  template <class C>
  struct Constants {
    C keep, take, floor, momentum, rate, decay;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&)[MAX_COUNTS]) const {
    return {C(alpha), C(1 - alpha), C(eps), C(momentum), C(rate), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &v = state[0], &b = state[1], &centre = state[2];
    const C d = direction(g, p, k.decay, maximize);
    lerp_square(v, d, k.keep, k.take);
    C variance = v;
    if (centered) {
      lerp(centre, d, k.keep, k.take);
      variance = v - centre * centre;
    }
    C move = d / (::sqrt(variance) + k.floor);
    if (averages) move = b = b * k.momentum + move;
    p -= move * k.rate;
  }
};

struct Adagrad : Counting {  // state: sum
  static constexpr int states = 1;
  double lr_decay, eps, weight_decay;
  i64 maximize;

  template <class C>
  struct Constants {
    C floor, rate, decay;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&counts)[MAX_COUNTS]) const {
    return {C(eps), C(rate / (1 + double(counts[0]) * lr_decay)), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    const C d = direction(g, p, k.decay, maximize);
    state[0] += d * d;
    p -= d / (::sqrt(state[0]) + k.floor) * k.rate;
  }
};

struct Adadelta : Counting {  // state: square_avg, acc_delta
  static constexpr int states = 2;
  double rho, eps, weight_decay;
  i64 maximize;

  template <class C>
  struct Constants {
    C keep, take, floor, rate, decay;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&)[MAX_COUNTS]) const {
    return {C(rho), C(1 - rho), C(eps), C(rate), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &v = state[0], &accumulated = state[1];
    const C d = direction(g, p, k.decay, maximize);
    lerp_square(v, d, k.keep, k.take);
    const C delta = ::sqrt(accumulated + k.floor) / ::sqrt(v + k.floor) * d;
    lerp_square(accumulated, delta, k.keep, k.take);
    p -= delta * k.rate;
  }
};

struct Adamax : Counting {  // state: exp_avg, exp_inf
  static constexpr int states = 2;
  double beta1, beta2, eps, weight_decay;
  i64 maximize;

  template <class C>
  struct Constants {
    C keep1, take1, keep2, floor, size, decay;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&counts)[MAX_COUNTS]) const {
    const double t = double(counts[0]) + 1;
    return {C(beta1), C(1 - beta1), C(beta2), C(eps), C(rate / (1 - ::pow(beta1, t))), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &m = state[0], &u = state[1];
    const C d = direction(g, p, k.decay, maximize);
    lerp(m, d, k.keep1, k.take1);
    u = formulas::maximum{}(u * k.keep2, ::fabs(d) + k.floor);
    p -= m / u * k.size;
  }
};

struct NAdam {  // counts: step, mu_product; state: exp_avg, exp_avg_sq
  static constexpr int counts = 2, states = 2;
  double beta1, beta2, eps, weight_decay, momentum_decay;
  i64 decoupled, maximize;

  template <class C>
  struct Constants {
    C keep1, take1, keep2, take2, unbias, floor, of_d, of_m, decay, shrink;
  };
  FN double momentum(double t) const { return beta1 * (1 - 0.5 * ::pow(0.96, t * momentum_decay)); }
  FN void advance(double, float (&counts)[MAX_COUNTS]) const {
    counts[0] += 1.0f;
    counts[1] *= float(momentum(double(counts[0])));
  }
  template <class C>
  FN Constants<C> constants(double rate, const float (&counts)[MAX_COUNTS]) const {
    const double t = double(counts[0]) + 1, mu = momentum(t), next_mu = momentum(t + 1);
    const double product = double(counts[1] * float(mu));
    return {C(beta1), C(1 - beta1), C(beta2), C(1 - beta2), C(1 / (1 - ::pow(beta2, t))), C(eps),
            C(rate * (1 - mu) / (1 - product)), C(rate * next_mu / (1 - product * next_mu)),
            C(decoupled ? 0.0 : weight_decay), C(decoupled ? 1 - rate * weight_decay : 1.0)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &m = state[0], &v = state[1];
    p *= k.shrink;
    const C d = direction(g, p, k.decay, maximize);
    lerp(m, d, k.keep1, k.take1);
    lerp_square(v, d, k.keep2, k.take2);
    p -= (d * k.of_d + m * k.of_m) / (::sqrt(v * k.unbias) + k.floor);
  }
};

struct RAdam : Counting {  // state: exp_avg, exp_avg_sq
  static constexpr int states = 2;
  double beta1, beta2, eps, weight_decay;
  i64 decoupled, maximize;

  template <class C>
  struct Constants {
    C keep1, take1, keep2, take2, floor, size, decay, shrink;
    bool rectified;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&counts)[MAX_COUNTS]) const {
    const double t = double(counts[0]) + 1, power = ::pow(beta2, t), longest = 2 / (1 - beta2) - 1;
    const double length = longest - 2 * t * power / (1 - power);
    double size = rate / (1 - ::pow(beta1, t));
    if (length > 5) {
      const double rectification = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length);
      size *= ::sqrt(rectification * (1 - power));
    }
    return {C(beta1), C(1 - beta1), C(beta2), C(1 - beta2), C(eps), C(size), C(decoupled ? 0.0 : weight_decay),
            C(decoupled ? 1 - rate * weight_decay : 1.0), length > 5};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &m = state[0], &v = state[1];
    p *= k.shrink;
    const C d = direction(g, p, k.decay, maximize);
    lerp(m, d, k.keep1, k.take1);
    lerp_square(v, d, k.keep2, k.take2);
    p -= k.rectified ? m * k.size / (::sqrt(v) + k.floor) : m * k.size;
  }
};

struct Rprop : Counting {  // state: prev, step_size
  static constexpr int states = 2;
  double eta_minus, eta_plus, step_min, step_max;
  i64 maximize;

  template <class C>
  struct Constants {
    C shorter, longer, least, most;
  };
  template <class C>
  FN Constants<C> constants(double, const float (&)[MAX_COUNTS]) const {
    return {C(eta_minus), C(eta_plus), C(step_min), C(step_max)};
  }
  // Where the sign turns, this step does not move and the next one takes the gradient as new.
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C &before = state[0], &size = state[1];
    const C d = maximize ? -g : g, agreement = d * before;
    if (agreement > C(0)) size *= k.longer;
    if (agreement < C(0)) size *= k.shorter;
    size = formulas::clamp{}(size, k.least, k.most);
    before = agreement < C(0) ? C(0) : d;
    p -= formulas::sign{}(before) * size;
  }
};

struct ASGD {  // counts: step, eta, mu; state: ax
  static constexpr int counts = 3, states = 1;
  double lambd, alpha, t0, weight_decay;
  i64 maximize;

  template <class C>
  struct Constants {
    C shrink, size, weight, decay;
  };
  FN void advance(double rate, float (&counts)[MAX_COUNTS]) const {
    counts[0] += 1.0f;
    const double t = double(counts[0]);
    counts[1] = float(rate / ::pow(1 + lambd * rate * t, alpha));
    counts[2] = float(1 / (t - t0 > 1 ? t - t0 : 1.0));
  }
  template <class C>
  FN Constants<C> constants(double, const float (&counts)[MAX_COUNTS]) const {
    const double eta = double(counts[1]), mu = double(counts[2]);
    return {C(1 - lambd * eta), C(eta), C(mu), C(weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    const C d = direction(g, p, k.decay, maximize);
    p = p * k.shrink - d * k.size;
    state[0] += (p - state[0]) * k.weight;
  }
};

struct Lion : Timeless {  // state: exp_avg
  static constexpr int states = 1;
  double beta1, beta2, weight_decay;

  template <class C>
  struct Constants {
    C keep1, take1, keep2, take2, size, shrink;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&)[MAX_COUNTS]) const {
    return {C(beta1), C(1 - beta1), C(beta2), C(1 - beta2), C(rate), C(1 - rate * weight_decay)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C& m = state[0];
    p = p * k.shrink - formulas::sign{}(m * k.keep1 + g * k.take1) * k.size;
    lerp(m, g, k.keep2, k.take2);
  }
};

// --- Muon: what comes before and after the orthogonalization ---------------------------------------------------------

// The "parameter" becomes the update that is to be orthogonalized.
struct MuonMomentum : Timeless {  // state: momentum_buffer
  static constexpr int states = 1;
  double momentum;
  i64 nesterov;

  template <class C>
  struct Constants {
    C momentum, take;
  };
  template <class C>
  FN Constants<C> constants(double, const float (&)[MAX_COUNTS]) const {
    return {C(momentum), C(1 - momentum)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C g, C (&state)[MAX_STATES]) const {
    C& b = state[0];
    b += (g - b) * k.take;
    p = nesterov ? g + (b - g) * k.momentum : b;
  }
};

// The gradient plays no part.
struct MuonApply : Timeless {  // state: the orthogonalized update
  static constexpr int states = 1;
  double weight_decay, ratio;

  template <class C>
  struct Constants {
    C shrink, size;
  };
  template <class C>
  FN Constants<C> constants(double rate, const float (&)[MAX_COUNTS]) const {
    return {C(1 - rate * weight_decay), C(rate * ratio)};
  }
  template <class C>
  FN void update(const Constants<C>& k, C& p, C, C (&state)[MAX_STATES]) const {
    p = p * k.shrink - state[0] * k.size;
  }
};

}  // namespace updates
