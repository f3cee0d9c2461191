// One step of a recurrent layer in float64, with every option that the CUDA kernels of a step know: their oracle. The arithmetic
// of the cells is math/'s. And random steps, whose numbers the kernels' types hold exactly.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include "cuda/device.cuh"
#include "math/cells.h"
#include "params/recurrent_step.h"

namespace seqkern::test {

using Values = std::vector<double>;

struct Options {
  int64_t T, N, K, H, step;
  bool bias_ih = true, bias_hh = true, initial = true, keep = true, norm_hh = false, norm_c = false, norm_c_bias = false;
  bool lengths = false, resets = false, reset_to_initial = false, reverse = false, mask = false;
  bool zoneout_h = false, zoneout_c = false;
};

// Arguments of a step, of which absent ones are empty, and the gradients of its results.
struct Step : Options {
  std::vector<int64_t> of_length;
  std::vector<uint8_t> of_reset;
  Values gates_x, gates_h, candidate_h, b_ih, b_hh, weight_cell, scale_hh, scale_c, shift_c, h_0, c_0, h_prev, c_prev;
  Values factor, zone_h, zone_c;
  Values d_output, d_product, d_direct, d_c, d_cells, d_gated;
  Values moved_h, moved_c;  // added to the state that the step begins with

  explicit Step(const Options& options) : Options(options) {}

  bool takes(int64_t at, int64_t n) const { return !lengths || (reverse ? T - 1 - at : at) < of_length[static_cast<size_t>(n)]; }
  // 'p'revious, 'i'nitial or 'z'ero
  char enters(int64_t at, int64_t n) const {
    const int64_t row = reverse ? T - 1 - at : at, length = lengths ? of_length[static_cast<size_t>(n)] : T;
    if (row >= length) return at == 0 ? 'i' : 'p';
    if (resets && of_reset[static_cast<size_t>(row * N + n)]) return reset_to_initial ? 'i' : 'z';
    return row == (reverse ? length - 1 : 0) ? 'i' : 'p';
  }
};

inline size_t index(std::initializer_list<int64_t> sizes, std::initializer_list<int64_t> at) {
  int64_t found = 0;
  auto size = sizes.begin();
  for (const int64_t i : at) found = found * *size++ + i;
  return static_cast<size_t>(found);
}

inline double at_or(const Values& values, size_t i, double otherwise) { return values.empty() ? otherwise : values[i]; }

struct Results {
  Values h, c, normals_hh, normals_c, gated;
};

// x to (x - mean) / sqrt(variance + 1e-5)
inline void normalise(Values& x) {
  const auto size = static_cast<double>(x.size());
  double mean = 0, variance = 0;
  for (const double v : x) mean += v / size;
  for (const double v : x) variance += (v - mean) * (v - mean) / size;
  for (double& v : x) v = (v - mean) / std::sqrt(variance + 1e-5);
}

// The step's results where it is taken, else zeros.
template <class Cell>
Results evaluate(const Step& p) {
  constexpr int G = Cell::kGates, kSlots = Cell::kSlots, P = Cell::kParameters;
  constexpr bool gated = Cell::kCandidate == math::Candidate::gated;
  const int64_t N = p.N, K = p.K, H = p.H, hidden_gates = gated ? G - 1 : G;
  const auto units = static_cast<size_t>(N * K * H);
  Results results{Values(units), Values(units), Values(units * G), Values(units), Values(units)};
  for (int64_t n = 0; n < N; ++n)
    for (int64_t k = 0; k < K; ++k) {
      if (!p.takes(p.step, n)) continue;
      const char from = p.enters(p.step, n);
      const auto entering = [&](const Values& previous, const Values& initial, const Values& moved, size_t u) {
        return (from == 'p' ? previous[u] : from == 'i' ? at_or(initial, u, 0) : 0) + at_or(moved, u, 0);
      };
      const auto h_prev = [&](size_t u) { return entering(p.h_prev, p.h_0, p.moved_h, u); };
      const auto c_prev = [&](size_t u) { return entering(p.c_prev, p.c_0, p.moved_c, u); };
      Values hidden;
      for (int64_t i = 0; i < hidden_gates * H; ++i) hidden.push_back(p.gates_h[index({K, N, hidden_gates * H}, {k, n, i})]);
      if (p.norm_hh) normalise(hidden);
      std::vector<std::array<double, kSlots>> slots;
      Values of_c;
      for (int64_t j = 0; j < H; ++j) {
        const size_t u = index({N, K, H}, {n, k, j});
        double s[kSlots] = {}, w[P + 1] = {};
        for (int i = 0; i < P; ++i) w[i] = p.weight_cell[index({P, K, H}, {i, k, j})];
        for (int i = 0; i < kSlots; ++i) {
          const auto column = [&](int g) { return index({K, G, H}, {k, g, j}); };
          if (i < G) {
            const int g = math::gate_of_input_slot<Cell>(i);
            s[i] += p.gates_x[index({N, K, G, H}, {n, k, g, j})] + at_or(p.b_ih, column(g), 0);
          }
          const int g = math::gate_of_hidden_slot<Cell>(i);
          if (g >= 0) {
            const bool is_candidate = gated && g == G - 1;
            const double a = is_candidate ? p.candidate_h[index({K, N, H}, {k, n, j})] : hidden[static_cast<size_t>(g * H + j)];
            if (p.norm_hh) results.normals_hh[index({N, K, G, H}, {n, k, g, j})] = a;
            s[i] += a * at_or(p.scale_hh, column(g), 1) + at_or(p.b_hh, column(g), 0);
          }
        }
        if constexpr (gated) results.gated[u] = Cell::gate(s, w) * h_prev(u) * at_or(p.factor, u, 1);
        if constexpr (Cell::kHasCell) {
          results.c[u] = Cell::update(s, c_prev(u), w);
          of_c.push_back(results.c[u]);
        } else {
          results.h[u] = Cell::forward(s, h_prev(u), w);
        }
        slots.emplace_back();
        std::copy_n(s, kSlots, slots.back().begin());
      }
      if (p.norm_c) normalise(of_c);
      for (int64_t j = 0; j < H; ++j) {
        const size_t u = index({N, K, H}, {n, k, j}), column = index({K, H}, {k, j});
        if constexpr (Cell::kHasCell) {
          double s[kSlots], w[P + 1] = {};
          std::copy_n(slots[static_cast<size_t>(j)].begin(), kSlots, s);
          for (int i = 0; i < P; ++i) w[i] = p.weight_cell[index({P, K, H}, {i, k, j})];
          results.normals_c[u] = of_c[static_cast<size_t>(j)];
          const double shown = results.normals_c[u] * at_or(p.scale_c, column, 1) + at_or(p.shift_c, column, 0);
          results.h[u] = Cell::output(s, results.c[u], shown, w);
          results.c[u] += at_or(p.zone_c, u, 0) * (c_prev(u) - results.c[u]);
        }
        results.h[u] += at_or(p.zone_h, u, 0) * (h_prev(u) - results.h[u]);
      }
    }
  return results;
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// --- numbers of the kernels' types ---

template <class T>
T rounded(double x) {
  T y;
  cuda::from_sum(static_cast<math::Sum<T>>(x), y);
  return y;
}

template <class T>
std::vector<T> of_type(const Values& values) {
  std::vector<T> converted;
  for (const double x : values) converted.push_back(rounded<T>(x));
  return converted;
}

template <class V>
V* pointer(std::vector<V>& values) {
  return values.empty() ? nullptr : values.data();
}

template <class T>
bool close(T actual, double expected, double tolerance) {
  return std::fabs(static_cast<double>(cuda::to_sum(actual)) - expected) <= tolerance * (1 + std::fabs(expected));
}

template <class T>
bool all_close(const std::vector<T>& actual, const Values& expected, double tolerance) {
  return actual.size() == expected.size() &&
         std::equal(actual.begin(), actual.end(), expected.begin(), [&](T a, double e) { return close(a, e, tolerance); });
}

// Random values that T (or sums, or none) holds exactly.
template <class T>
Values draw(bool there, int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  Values values;
  for (int64_t i = 0; there && i < count; ++i) values.push_back(static_cast<double>(cuda::to_sum(rounded<T>(normal(random)))));
  return values;
}

template <class Cell, class T>
Step random_step(const Options& options, std::mt19937& random) {
  using S = math::Sum<T>;
  constexpr int G = Cell::kGates;
  constexpr bool gated = Cell::kCandidate == math::Candidate::gated, cell = Cell::kHasCell;
  Step p(options);
  p.norm_hh = p.norm_hh && !gated;
  p.norm_c = p.norm_c && cell;
  p.zoneout_c = p.zoneout_c && cell;
  const int64_t units = p.N * p.K * p.H, columns = p.K * p.H;
  const bool last = p.step + 1 == p.T;
  for (int64_t n = 0; n < p.N; ++n) p.of_length.push_back(std::uniform_int_distribution<int64_t>(0, p.T)(random));
  for (int64_t i = 0; i < p.T * p.N; ++i) p.of_reset.push_back(random() % 3 == 0);
  p.gates_x = draw<S>(true, units * G, random);
  p.gates_h = draw<S>(true, units * (gated ? G - 1 : G), random);
  p.candidate_h = draw<S>(gated, units, random);
  p.b_ih = draw<T>(p.bias_ih, columns * G, random);
  p.b_hh = draw<T>(p.bias_hh, columns * G, random);
  p.weight_cell = draw<T>(true, columns * Cell::kParameters, random);
  p.scale_hh = draw<T>(p.norm_hh, columns * G, random);
  p.scale_c = draw<T>(p.norm_c, columns, random);
  p.shift_c = draw<T>(p.norm_c && p.norm_c_bias, columns, random);
  p.h_0 = draw<T>(p.initial, units, random);
  p.c_0 = draw<T>(p.initial && cell, units, random);
  p.h_prev = draw<T>(true, units, random);
  p.c_prev = draw<S>(cell, units, random);
  p.factor = draw<T>(p.mask, units, random);
  p.zone_h = draw<T>(p.zoneout_h, units, random);
  p.zone_c = draw<T>(p.zoneout_c, units, random);
  p.d_output = draw<T>(p.bias_ih, units, random);
  p.d_product = draw<S>(!last, units, random);
  p.d_direct = draw<S>(true, units, random);
  p.d_c = draw<S>(cell, units, random);
  p.d_cells = draw<S>(cell && p.bias_hh, units, random);
  p.d_gated = draw<S>(gated, units, random);
  return p;
}

inline void set_place(RecurrentStepParams& to, const Step& p) {
  to.steps = p.T;
  to.step = p.step;
  to.batch = p.N;
  to.heads = p.K;
  to.hidden_size = p.H;
  to.reverse = p.reverse;
  to.reset_to_initial = p.reset_to_initial;
  to.lengths = p.lengths ? p.of_length.data() : nullptr;
  to.resets = p.resets ? reinterpret_cast<const bool*>(p.of_reset.data()) : nullptr;
}

}  // namespace seqkern::test
