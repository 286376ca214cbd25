// The optimizers' updates on device "cpu": many parameters and their states in place, by any rule of updates.cuh.
//
// Parameters are updated one after the other, in the order of the call, since they may share memory; a long one is
// divided among threads. All arrays of a parameter have one dtype and one dense layout; others are NumPy's.
#pragma once
#include "cpu_elementwise.h"
#include "updates.cuh"

namespace cpu {

using updates::MAX_COUNTS;
using updates::MAX_STATES;

constexpr i64 UPDATES_PER_THREAD = 1 << 18;  // on loaded processors, two threads lose below that

// One parameter with what belongs to it; null: the options do without.
template <class C>
struct Segment {
  C* param;
  const C* grad;
  C* state[MAX_STATES];
  float* counts[MAX_COUNTS];
  i64 size;
};

// `present`: states 0 to present - 1 are there, except for those that are null.
template <class Rule, class C, int present>
struct Update : Task {
  using Constants = typename Rule::template Constants<C>;
  Rule rule;
  const double* rate;
  const float* skip;  // null, or a number that is 0 where the update is wanted
  i64 segments;

  bool operator()() {
    if (skip != nullptr && *skip != 0.0f) return true;
    Segment<C>* const segment = items_of<Segment<C>>(*this);
    float known[MAX_COUNTS] = {-1};
    Constants constants{};
    for (i64 k = 0; k < segments; ++k) {
      float counts[MAX_COUNTS] = {};
      load_counts(segment[k], counts);
      // Most often all parameters have made the same number of steps.
      if (k == 0 || memcmp(known, counts, sizeof(counts)) != 0) {
        constants = rule.template constants<C>(*rate, counts);
        memcpy(known, counts, sizeof(counts));
      }
      update(segment[k], constants);
      store_next_counts(segment[k], counts);
    }
    return true;
  }

 private:
  void load_counts(const Segment<C>& segment, float (&counts)[MAX_COUNTS]) const {
    for (int k = 0; k < Rule::counts; ++k) counts[k] = *segment.counts[k];
  }
  void store_next_counts(const Segment<C>& segment, float (&counts)[MAX_COUNTS]) const {
    rule.advance(*rate, counts);
    for (int k = 0; k < Rule::counts; ++k) *segment.counts[k] = counts[k];
  }

  void update(const Segment<C>& segment, const Constants& constants) const {
    parallel_for(segment.size, UPDATES_PER_THREAD, [&](i64 begin, i64 end) {
      const FlushDenormals flushing;
      C absent[BLOCK];
      for (i64 first = begin; first < end; first += BLOCK) {
        Segment<C> block = segment;
        block.size = end - first < BLOCK ? end - first : BLOCK;
        block.param += first;
        block.grad += first;
        for (C*& state : block.state) state = state == nullptr ? absent : state + first;
        update_block(block, constants);
      }
    });
  }

  // In a block, a state that is not there is scratch, which saves a variant of the loop. Rule and constants are copied,
  // for the compiler cannot know that the arrays do not hold them.
  static constexpr i64 BLOCK = 2048;
  void update_block(const Segment<C>& block, const Constants& constants) const {
    const Rule local = rule;
    const Constants k = constants;
    C* const param = block.param;
    const C* const grad = block.grad;
    C *const first = block.state[0], *const second = block.state[1], *const third = block.state[2];
#pragma GCC ivdep
    for (i64 i = 0; i < block.size; ++i) {
      C state[MAX_STATES] = {present > 0 ? first[i] : C(0), present > 1 ? second[i] : C(0),
                             present > 2 ? third[i] : C(0)};
      C p = param[i];
      local.update(k, p, grad[i], state);
      param[i] = p;
      if (present > 0) first[i] = state[0];
      if (present > 1) second[i] = state[1];
      if (present > 2) third[i] = state[2];
    }
  }
};

// --- the options of each rule ----------------------------------------------------------------------------------------

// `has(k)`: whether state k is given.
struct Given {
  bool given[MAX_STATES];
  bool has(int k) const { return given[k]; }
};

template <class Rule>
Rule read_rule(Arguments& options, const Given& states);

template <>
inline updates::SGD read_rule<updates::SGD>(Arguments& o, const Given& states) {
  return {{}, o.number("momentum"), o.number("dampening"), o.number("weight_decay"), o.integer("nesterov"),
          o.integer("maximize"), states.has(0)};
}
template <>
inline updates::Adam read_rule<updates::Adam>(Arguments& o, const Given& states) {
  return {{}, o.number("beta1"), o.number("beta2"), o.number("eps"), o.number("weight_decay"),
          o.integer("decoupled_weight_decay"), o.integer("maximize"), states.has(2)};
}
template <>
inline updates::RMSprop read_rule<updates::RMSprop>(Arguments& o, const Given& states) {
  return {{}, o.number("alpha"), o.number("eps"), o.number("weight_decay"), o.number("momentum"),
          o.integer("maximize"), states.has(1), states.has(2)};
}
template <>
inline updates::Adagrad read_rule<updates::Adagrad>(Arguments& o, const Given&) {
  return {{}, o.number("lr_decay"), o.number("eps"), o.number("weight_decay"), o.integer("maximize")};
}
template <>
inline updates::Adadelta read_rule<updates::Adadelta>(Arguments& o, const Given&) {
  return {{}, o.number("rho"), o.number("eps"), o.number("weight_decay"), o.integer("maximize")};
}
template <>
inline updates::Adamax read_rule<updates::Adamax>(Arguments& o, const Given&) {
  return {{}, o.number("beta1"), o.number("beta2"), o.number("eps"), o.number("weight_decay"), o.integer("maximize")};
}
template <>
inline updates::NAdam read_rule<updates::NAdam>(Arguments& o, const Given&) {
  return {o.number("beta1"), o.number("beta2"), o.number("eps"), o.number("weight_decay"), o.number("momentum_decay"),
          o.integer("decoupled_weight_decay"), o.integer("maximize")};
}
template <>
inline updates::RAdam read_rule<updates::RAdam>(Arguments& o, const Given&) {
  return {{}, o.number("beta1"), o.number("beta2"), o.number("eps"), o.number("weight_decay"),
          o.integer("decoupled_weight_decay"), o.integer("maximize")};
}
template <>
inline updates::Rprop read_rule<updates::Rprop>(Arguments& o, const Given&) {
  return {{}, o.number("eta_minus"), o.number("eta_plus"), o.number("step_min"), o.number("step_max"),
          o.integer("maximize")};
}
template <>
inline updates::ASGD read_rule<updates::ASGD>(Arguments& o, const Given&) {
  return {o.number("lambd"), o.number("alpha"), o.number("t0"), o.number("weight_decay"), o.integer("maximize")};
}
template <>
inline updates::Lion read_rule<updates::Lion>(Arguments& o, const Given&) {
  return {{}, o.number("beta1"), o.number("beta2"), o.number("weight_decay")};
}

// --- the arrays of a call: kernel(params, grads, lr, *states, skip=None, **options) ----------------------------------

// The tuples of a call: parameters, gradients, 0-d states and the others.
struct Tuples {
  PyObject *params, *grads, *counts[MAX_COUNTS], *states[MAX_STATES];
};

inline bool is_tuple_of(PyObject* value, i64 length) {
  return value->type == &PyTuple_Type && PyTuple_Size(value) == length;
}

template <class C>
bool read_operand(PyObject* tuple, i64 at, const Array& param, C*& data) {
  const Array* array = as_array(PyTuple_GetItem(tuple, at));
  if (array == nullptr || !fits<C>(array, param)) return false;
  data = reinterpret_cast<C*>(array->data);
  return true;
}

template <class Rule, class C>
bool read_segment(const Tuples& tuples, const Given& given, i64 at, Segment<C>& segment) {
  const Array* param = as_array(PyTuple_GetItem(tuples.params, at));
  C* grad;
  if (param == nullptr || !fits<C>(param, *param) || !read_operand(tuples.grads, at, *param, grad)) return false;
  segment = {reinterpret_cast<C*>(param->data), grad, {}, {}, param->size()};
  for (int k = 0; k < Rule::states; ++k) {
    if (given.has(k) && !read_operand(tuples.states[k], at, *param, segment.state[k])) return false;
  }
  for (int k = 0; k < Rule::counts; ++k) {
    const Array* count = as_array(PyTuple_GetItem(tuples.counts[k], at));
    if (!holds<float>(count) || count->size() != 1) return false;
    segment.counts[k] = reinterpret_cast<float*>(count->data);
  }
  return true;
}

template <class Rule>
bool read_tuples(Arguments& arguments, Tuples& tuples, Given& given) {
  tuples.params = arguments[0];
  tuples.grads = arguments[1];
  if (tuples.params->type != &PyTuple_Type || arguments.count() != 3 + Rule::counts + Rule::states) return false;
  const i64 length = PyTuple_Size(tuples.params);
  if (!is_tuple_of(tuples.grads, length)) return false;
  for (int k = 0; k < Rule::counts; ++k) {
    tuples.counts[k] = arguments[3 + k];
    if (!is_tuple_of(tuples.counts[k], length)) return false;
  }
  for (int k = 0; k < Rule::states; ++k) {
    tuples.states[k] = arguments[3 + Rule::counts + k];
    given.given[k] = !is_none(tuples.states[k]);
    if (given.has(k) && !is_tuple_of(tuples.states[k], length)) return false;
  }
  return true;
}

template <class Rule, class C, int present>
bool add_update(Arguments& arguments, Tape& tape, const Tuples& tuples, const Given& given) {
  const Rule rule = read_rule<Rule>(arguments, given);
  const Array* rate = arguments.array(2);
  PyObject* const skip = arguments.optional("skip");
  if (!arguments.readable() || !holds<double>(rate) || rate->size() != 1) return false;
  if (!is_none(skip) && !holds<float>(as_array(skip))) return false;
  const i64 length = PyTuple_Size(tuples.params), before = tape.size();
  i64 work = 0;
  auto& task = tape.add<Update<Rule, C, present>, Segment<C>>(0, length);
  Segment<C>* const segments = items_of<Segment<C>>(task);
  for (i64 k = 0; k < length; ++k) {
    if (!read_segment<Rule>(tuples, given, k, segments[k])) return tape.shorten(before), false;
    work += 4 * segments[k].size;
  }
  task.work = work;
  task.rule = rule;
  task.rate = reinterpret_cast<const double*>(rate->data);
  task.skip = is_none(skip) ? nullptr : reinterpret_cast<const float*>(as_array(skip)->data);
  task.segments = length;
  return true;
}

// One loop for the states up to the last one given, and no more.
template <class Rule, class C, int present>
bool prepare_update_of(Arguments& arguments, Tape& tape, const Tuples& tuples, const Given& given) {
  if constexpr (present > 0) {
    if (!given.has(present - 1)) return prepare_update_of<Rule, C, present - 1>(arguments, tape, tuples, given);
  }
  return add_update<Rule, C, present>(arguments, tape, tuples, given);
}

template <class Rule>
bool prepare_update(Arguments& arguments, Tape& tape) {
  Tuples tuples;
  Given given{};
  if (!read_tuples<Rule>(arguments, tuples, given) || PyTuple_Size(tuples.params) == 0) return false;
  const Array* first = as_array(PyTuple_GetItem(tuples.params, 0));
  if (holds<float>(first)) return prepare_update_of<Rule, float, Rule::states>(arguments, tape, tuples, given);
  if (holds<double>(first)) return prepare_update_of<Rule, double, Rule::states>(arguments, tape, tuples, given);
  return false;
}

}  // namespace cpu
