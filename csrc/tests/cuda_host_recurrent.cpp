// The kernels of cuda/recurrent_*.cu, run on the host (tests/cuda_host): a step of every cell with any set of its options,
// against the same step in float64, whose gradients are central differences.
#include <algorithm>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/device.cuh"
#include "cuda/recurrent_backward.cu"
#include "cuda/recurrent_forward.cu"
#include "recurrent_step.h"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;
using namespace seqkern::test;

// Makes the arrays, and none else, what a launch may access.
template <class... V>
void declare(const Step& of, std::vector<V>&... arrays) {
  host::forget_buffers();
  host::declare_buffer(of.of_length.data(), of.of_length.size() * sizeof(int64_t));
  host::declare_buffer(of.of_reset.data(), of.of_reset.size());
  (host::declare_buffer(arrays.data(), arrays.size() * sizeof(V)), ...);
}

// What forward leaves for backward.
template <class S>
struct Kept {
  std::vector<S> slots, hidden_slot, cell_h, normal_hh, scale_hh, normal_c, scale_c;
};

template <class Cell, class T>
Kept<Sum<T>> test_forward(int cell, const Step& of, double tolerance) {
  using S = Sum<T>;
  constexpr int G = Cell::kGates;
  constexpr bool gated = Cell::kCandidate == math::Candidate::gated;
  const auto units = static_cast<size_t>(of.N * of.K * of.H), rows = static_cast<size_t>(of.N * of.K);
  const double of_sums = sizeof(S) == 8 ? 1e-13 : 1e-5;
  auto b_ih = of_type<T>(of.b_ih), b_hh = of_type<T>(of.b_hh), weight_cell = of_type<T>(of.weight_cell),
       scale_hh = of_type<T>(of.scale_hh), scale_c = of_type<T>(of.scale_c), shift_c = of_type<T>(of.shift_c),
       h_0 = of_type<T>(of.h_0), c_0 = of_type<T>(of.c_0), h_prev = of_type<T>(of.h_prev), factor = of_type<T>(of.factor),
       zone_h = of_type<T>(of.zone_h), zone_c = of_type<T>(of.zone_c);
  auto gates_x = of_type<S>(of.gates_x), gates_h = of_type<S>(of.gates_h), candidate_h = of_type<S>(of.candidate_h),
       c = of_type<S>(of.c_prev);
  const auto nan = rounded<T>(kNaN);
  std::vector<T> h(units, nan), h_next(units, nan), product_input(units, nan);
  std::vector<S> cells(units, S(-7));
  const bool slots_needed = of.keep || of.norm_c;
  Kept<S> kept;
  if (slots_needed) kept.slots = gates_x;  // in place, as the op does it
  kept.hidden_slot.resize(of.keep && Cell::kSlots > G ? units : 0);
  kept.cell_h.resize(of.keep ? units : 0);
  kept.normal_hh.resize(of.keep && of.norm_hh ? units * G : 0);
  kept.scale_hh.resize(of.keep && of.norm_hh ? rows : 0);
  kept.normal_c.resize(of.norm_c ? units : 0);
  kept.scale_c.resize(of.keep && of.norm_c ? rows : 0);

  RecurrentStepForwardParams<T> p{};
  set_place(p, of);
  p.gates_x = slots_needed ? kept.slots.data() : gates_x.data();
  p.gates_h = pointer(gates_h);
  p.candidate_h = pointer(candidate_h);
  p.bias_ih = pointer(b_ih);
  p.bias_hh = pointer(b_hh);
  p.weight_cell = pointer(weight_cell);
  p.norm_hh = pointer(scale_hh);
  p.norm_c = pointer(scale_c);
  p.norm_c_bias = pointer(shift_c);
  p.h_0 = pointer(h_0);
  p.c_0 = pointer(c_0);
  p.h_prev = of.step > 0 ? h_prev.data() : nullptr;
  p.recurrent_mask = pointer(factor);
  p.zoneout_h = pointer(zone_h);
  p.zoneout_c = pointer(zone_c);
  p.c = pointer(c);
  p.cells = Cell::kHasCell && of.keep ? cells.data() : nullptr;
  p.h = h.data();
  p.h_next = of.keep ? h_next.data() : nullptr;
  p.gated = product_input.data();
  p.slots = pointer(kept.slots);
  p.hidden_slot = pointer(kept.hidden_slot);
  p.cell_h = pointer(kept.cell_h);
  p.hh = {pointer(kept.normal_hh), pointer(kept.scale_hh)};
  p.cc = {pointer(kept.normal_c), pointer(kept.scale_c)};
  declare(of, b_ih, b_hh, weight_cell, scale_hh, scale_c, shift_c, h_0, c_0, h_prev, factor, zone_h, zone_c, gates_x, gates_h,
          candidate_h, c, h, h_next, product_input, cells, kept.slots, kept.hidden_slot, kept.cell_h, kept.normal_hh,
          kept.scale_hh, kept.normal_c, kept.scale_c);
  CHECK(launch_recurrent_gate(cell, p, cudaStream_t()) == (gated ? cudaSuccess : cudaErrorInvalidValue));
  CHECK(launch_recurrent_forward(cell, p, cudaStream_t()) == cudaSuccess);

  const Results expected = evaluate<Cell>(of);
  CHECK(all_close(h, expected.h, tolerance));
  if (p.cells) CHECK(all_close(cells, expected.c, of_sums));
  if (gated) CHECK(all_close(product_input, expected.gated, tolerance));
  if (of.keep && of.norm_hh) CHECK(all_close(kept.normal_hh, expected.normals_hh, of_sums));
  if (of.keep && of.norm_c) CHECK(all_close(kept.normal_c, expected.normals_c, of_sums));
  for (size_t u = 0; u < units; ++u) {
    const auto n = static_cast<int64_t>(u) / (of.K * of.H);
    if (Cell::kHasCell) CHECK(close(c[u], of.takes(of.step, n) ? expected.c[u] : of.c_prev[u], of_sums));
    if (p.h_next && of.step + 1 < of.T) {
      const char from = of.enters(of.step + 1, n);
      const double entering = from == 'p' ? static_cast<double>(to_sum(h[u])) : from == 'i' ? at_or(of.h_0, u, 0) : 0;
      CHECK(close(h_next[u], entering * at_or(of.factor, u, 1), tolerance));
    }
  }
  return kept;
}

// The gradient of the state after the step, as the next step and the output give it.
struct Arrived {
  Values of_h, handed_on, of_h_0;
};

Arrived arrive(const Step& p) {
  const auto units = static_cast<size_t>(p.N * p.K * p.H);
  Arrived found{Values(units), Values(units), Values(units)};
  for (int64_t n = 0; n < p.N; ++n)
    for (int64_t k = 0; k < p.K; ++k)
      for (int64_t j = 0; j < p.H; ++j) {
        const size_t u = index({p.N, p.K, p.H}, {n, k, j});
        double d = p.d_direct[u];
        if (!p.d_product.empty()) {
          if (p.takes(p.step + 1, n)) d += at_or(p.factor, u, 1) * p.d_product[index({p.K, p.N, p.H}, {k, n, j})];
          const char from = p.enters(p.step + 1, n);
          if (from == 'i') found.of_h_0[u] = d;
          if (from != 'p') d = 0;
        }
        (p.takes(p.step, n) ? found.of_h : found.handed_on)[u] = d;
        if (p.takes(p.step, n)) found.of_h[u] += at_or(p.d_output, u, 0);
      }
  return found;
}

template <class Cell>
double loss(const Step& p, const Values& d_h) {
  const Results results = evaluate<Cell>(p);
  double sum = 0;
  for (size_t u = 0; u < d_h.size(); ++u) {
    sum += d_h[u] * results.h[u];
    if (Cell::kHasCell) sum += (p.d_c[u] + at_or(p.d_cells, u, 0)) * results.c[u];
  }
  for (int64_t n = 0; n < p.N && !p.d_gated.empty(); ++n)
    for (int64_t k = 0; k < p.K; ++k)
      for (int64_t j = 0; j < p.H; ++j)
        sum += p.d_gated[index({p.K, p.N, p.H}, {k, n, j})] * results.gated[index({p.N, p.K, p.H}, {n, k, j})];
  return sum;
}

// The gradient of the loss with respect to one of the step's arrays.
template <class Cell>
Values slopes(Step p, Values Step::* member, const Values& d_h) {
  Values found;
  for (double& x : p.*member) {
    const double before = x;
    x = before + 1e-5;
    const double above = loss<Cell>(p, d_h);
    x = before - 1e-5;
    found.push_back((above - loss<Cell>(p, d_h)) / 2e-5);
    x = before;
  }
  return found;
}

template <class S>
std::vector<S> sum_of_sequences(const std::vector<S>& values, int64_t N) {
  std::vector<S> sums(values.size() / static_cast<size_t>(std::max<int64_t>(N, 1)));
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
  return sums;
}

template <class Cell, class T>
void test_backward(int cell, const Step& of, Kept<Sum<T>>& kept, bool arrived, double tolerance) {
  using S = Sum<T>;
  constexpr int G = Cell::kGates, P = Cell::kParameters;
  constexpr bool gated = Cell::kCandidate == math::Candidate::gated;
  const int64_t N = of.N, K = of.K, H = of.H;
  const auto units = static_cast<size_t>(N * K * H);
  const double of_sums = sizeof(S) == 8 ? 1e-7 : 1e-4, of_type_t = std::max(tolerance, of_sums);
  auto weight_cell = of_type<T>(of.weight_cell), scale_hh = of_type<T>(of.scale_hh), scale_c = of_type<T>(of.scale_c),
       shift_c = of_type<T>(of.shift_c), h_0 = of_type<T>(of.h_0), c_0 = of_type<T>(of.c_0), h_prev = of_type<T>(of.h_prev),
       factor = of_type<T>(of.factor), zone_h = of_type<T>(of.zone_h), zone_c = of_type<T>(of.zone_c),
       d_output = of_type<T>(of.d_output);
  auto c_prev = of_type<S>(of.c_prev), d_product = of_type<S>(of.d_product), d_direct = of_type<S>(of.d_direct),
       d_c = of_type<S>(of.d_c), d_cells = of_type<S>(of.d_cells), d_gated = of_type<S>(of.d_gated);
  const Arrived arrival = arrive(of);
  auto d_cell_h = arrived ? of_type<S>(arrival.of_h) : std::vector<S>(units);
  // What is added to begins with something in it.
  std::vector<S> d_h_0(units, S(1)), d_c_0(units, S(1)), d_normed_h(units * G), d_weight_cell(units * P, S(1)),
      d_norm_hh(units * G, S(1)), d_bias_hh(units * G, S(1)), d_norm_c(units, S(1)), d_norm_c_bias(units, S(1));
  const auto nan = rounded<T>(kNaN);
  std::vector<T> d_gates_x(units * G, nan), d_gates_h(units * G, nan), product_input(units, nan);

  RecurrentStepBackwardParams<T> p{};
  set_place(p, of);
  p.state_size = H;
  p.d_output = pointer(d_output);
  p.d_product = pointer(d_product);
  p.recurrent_mask = pointer(factor);
  p.d_direct = pointer(d_direct);
  p.d_h_0 = of.initial ? d_h_0.data() : nullptr;
  p.slots = pointer(kept.slots);
  p.hidden_slot = pointer(kept.hidden_slot);
  p.weight_cell = pointer(weight_cell);
  p.norm_hh = pointer(scale_hh);
  p.norm_c = pointer(scale_c);
  p.norm_c_bias = pointer(shift_c);
  p.h_0 = pointer(h_0);
  p.c_0 = pointer(c_0);
  p.h_prev = of.step > 0 ? h_prev.data() : nullptr;
  p.c_prev = of.step > 0 ? pointer(c_prev) : nullptr;
  p.zoneout_h = pointer(zone_h);
  p.zoneout_c = pointer(zone_c);
  p.d_cells = pointer(d_cells);
  p.d_gated = pointer(d_gated);
  p.hh = {pointer(kept.normal_hh), pointer(kept.scale_hh)};
  p.cc = {pointer(kept.normal_c), pointer(kept.scale_c)};
  p.arrived = arrived;
  p.d_cell_h = d_cell_h.data();
  p.d_c = pointer(d_c);
  p.d_c_0 = Cell::kHasCell && of.initial ? d_c_0.data() : nullptr;
  p.d_gates_x = d_gates_x.data();
  p.d_gates_h = d_gates_h.data();
  p.d_normed_h = d_normed_h.data();
  p.gated = product_input.data();
  p.d_weight_cell = pointer(d_weight_cell);
  p.d_norm_hh = d_norm_hh.data();
  p.d_bias_hh = d_bias_hh.data();
  p.d_norm_c = d_norm_c.data();
  p.d_norm_c_bias = d_norm_c_bias.data();
  declare(of, weight_cell, scale_hh, scale_c, shift_c, h_0, c_0, h_prev, c_prev, factor, zone_h, zone_c, d_output, d_product,
          d_direct, d_c, d_cells, d_gated, d_cell_h, d_h_0, d_c_0, d_normed_h, d_weight_cell, d_norm_hh, d_bias_hh, d_norm_c,
          d_norm_c_bias, d_gates_x, d_gates_h, product_input, kept.slots, kept.hidden_slot, kept.cell_h, kept.normal_hh,
          kept.scale_hh, kept.normal_c, kept.scale_c);
  CHECK(launch_recurrent_candidate(cell, p, cudaStream_t()) == (gated ? cudaSuccess : cudaErrorInvalidValue));
  CHECK(launch_recurrent_backward(cell, p, cudaStream_t()) == cudaSuccess);

  // Derivatives by the entering state do not depend on where it came from.
  Step moved = of;
  moved.moved_h = Values(units);
  moved.moved_c = Values(units);
  const Values d_entering_h = slopes<Cell>(moved, &Step::moved_h, arrival.of_h),
               d_entering_c = slopes<Cell>(moved, &Step::moved_c, arrival.of_h);
  const Values d_x = slopes<Cell>(of, &Step::gates_x, arrival.of_h), d_h = slopes<Cell>(of, &Step::gates_h, arrival.of_h),
               d_candidate = slopes<Cell>(of, &Step::candidate_h, arrival.of_h);
  const Results results = evaluate<Cell>(of);
  if (gated) CHECK(all_close(product_input, results.gated, of_type_t));
  for (int64_t n = 0; n < N; ++n)
    for (int64_t k = 0; k < K; ++k)
      for (int64_t j = 0; j < H; ++j) {
        const size_t u = index({N, K, H}, {n, k, j});
        for (int g = 0; g < G; ++g) {
          const size_t at = index({N, K, G, H}, {n, k, g, j});
          const double of_hidden = !gated      ? d_h[index({K, N, G, H}, {k, n, g, j})]
                                   : g < G - 1 ? d_h[index({K, N, G - 1, H}, {k, n, g, j})]
                                               : d_candidate[index({K, N, H}, {k, n, j})];
          CHECK(close(d_gates_x[at], d_x[at], of_type_t));
          CHECK(close(d_gates_h[at], of_hidden, of_type_t));
        }
        const char from = of.enters(of.step, n);
        const bool taken = of.takes(of.step, n);
        if (Cell::kHasCell) {
          const double d = taken ? d_entering_c[u] : of.d_c[u];
          CHECK(close(d_c[u], from == 'p' ? d : 0, of_sums));
          CHECK(close(d_c_0[u], 1 + (from == 'i' && of.initial ? d : 0), of_sums));
        }
        // A gradient that arrived before was handed on before.
        if (taken || !arrived) CHECK(close(d_direct[u], taken ? d_entering_h[u] : arrival.handed_on[u], of_sums));
        CHECK(close(d_h_0[u], 1 + (of.initial && !arrived ? arrival.of_h_0[u] : 0), of_sums));
      }
  const auto added = [&](const std::vector<S>& sums, Values expected) {
    for (double& x : expected) x += static_cast<double>(N);
    return N == 0 || all_close(sum_of_sequences(sums, N), expected, of_sums);
  };
  CHECK(added(d_weight_cell, slopes<Cell>(of, &Step::weight_cell, arrival.of_h)));
  if (of.norm_hh) CHECK(added(d_norm_hh, slopes<Cell>(of, &Step::scale_hh, arrival.of_h)));
  if (of.norm_hh && of.bias_hh) CHECK(added(d_bias_hh, slopes<Cell>(of, &Step::b_hh, arrival.of_h)));
  if (of.norm_c) CHECK(added(d_norm_c, slopes<Cell>(of, &Step::scale_c, arrival.of_h)));
  if (of.norm_c && of.norm_c_bias) CHECK(added(d_norm_c_bias, slopes<Cell>(of, &Step::shift_c, arrival.of_h)));
}

// The gradient of the hidden state alone.
template <class T>
void test_arrive(const Step& of, double tolerance) {
  using S = Sum<T>;
  const auto units = static_cast<size_t>(of.N * of.K * of.H);
  auto factor = of_type<T>(of.factor), d_output = of_type<T>(of.d_output);
  auto d_product = of_type<S>(of.d_product), d_direct = of_type<S>(of.d_direct);
  std::vector<S> d_h_0(units, S(1));
  std::vector<T> d_h(units, rounded<T>(kNaN));
  RecurrentArriveParams<T> p{};
  set_place(p, of);
  p.state_size = of.H;
  p.d_output = pointer(d_output);
  p.d_product = pointer(d_product);
  p.recurrent_mask = pointer(factor);
  p.d_direct = pointer(d_direct);
  p.d_h_0 = d_h_0.data();
  p.d_h = d_h.data();
  declare(of, factor, d_output, d_product, d_direct, d_h_0, d_h);
  CHECK(launch_recurrent_arrive(p, cudaStream_t()) == cudaSuccess);
  const Arrived expected = arrive(of);
  CHECK(all_close(d_h, expected.of_h, tolerance));
  CHECK(all_close(d_direct, expected.handed_on, tolerance));
  for (S& x : d_h_0) x -= 1;
  CHECK(all_close(d_h_0, expected.of_h_0, tolerance));
}

// The product inputs of steps [first, first + count).
template <class T>
void test_enter(const Step& of, int64_t first, int64_t count, std::mt19937& random, double tolerance) {
  const int64_t N = of.N, features = of.K * of.H;
  const Values output = draw<T>(true, of.T * N * features, random);
  auto h_0 = of_type<T>(of.h_0), factor = of_type<T>(of.factor), all = of_type<T>(output);
  std::vector<T> h(static_cast<size_t>(count * N * features), rounded<T>(kNaN));
  RecurrentEnterParams<T> p{};
  set_place(p, of);
  p.step = first;
  p.count = count;
  p.state_size = p.row_size = of.H;
  p.h_0 = pointer(h_0);
  p.output = pointer(all);
  p.recurrent_mask = pointer(factor);
  p.h = h.data();
  declare(of, h_0, factor, all, h);
  CHECK(launch_recurrent_enter(p, cudaStream_t()) == cudaSuccess);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t n = 0; n < N; ++n)
      for (int64_t j = 0; j < features; ++j) {
        const int64_t step = of.reverse ? first + count - 1 - i : first + i, row_before = of.reverse ? of.T - step : step - 1;
        const size_t u = index({N, features}, {n, j});
        const char from = of.enters(step, n);
        const double entering = from == 'p'   ? output[index({of.T, N, features}, {row_before, n, j})]
                                : from == 'i' ? at_or(of.h_0, u, 0)
                                              : 0;
        CHECK(close(h[index({count, N, features}, {i, n, j})], entering * at_or(of.factor, u, 1), tolerance));
      }
}

template <class Cell, class T>
void test_step(int cell, const Options& options, std::mt19937& random, double tolerance) {
  Step step = random_step<Cell, T>(options, random);
  auto kept = test_forward<Cell, T>(cell, step, tolerance);
  step.keep = true;
  if (!options.keep) kept = test_forward<Cell, T>(cell, step, tolerance);
  test_backward<Cell, T>(cell, step, kept, false, tolerance);
  if (Cell::kHasCell && !step.zoneout_h) test_backward<Cell, T>(cell, step, kept, true, tolerance);
}

template <class T>
void test_type(double tolerance) {
  std::mt19937 random(7);
  const auto with = [&](const Options& options) {
#define SEQKERN_TEST(name, Cell) test_step<Cell, T>(math::find_cell(name), options, random, tolerance);
    SEQKERN_CELLS(SEQKERN_TEST)
#undef SEQKERN_TEST
    const Step step = random_step<math::RnnTanhCell, T>(options, random);
    test_arrive<T>(step, std::max(tolerance, 1e-6));
    test_enter<T>(step, 0, options.T, random, tolerance);
    test_enter<T>(step, options.step, 1, random, tolerance);
  };
  with({1, 2, 1, 3, 0});
  with({3, 1, 1, 130, 1});
  with({3, 0, 1, 4, 1});  // nothing to do is no error
  with({3, 2, 1, 0, 1});
  for (int i = 0; i < 60; ++i) {
    Options options{3, 3, 1 + i % 2, 4, i / 2 % 3};
    for (bool* option : {&options.bias_ih, &options.bias_hh, &options.initial, &options.keep, &options.norm_hh, &options.norm_c,
                         &options.norm_c_bias, &options.lengths, &options.resets, &options.reset_to_initial, &options.reverse,
                         &options.mask, &options.zoneout_h, &options.zoneout_c})
      *option = random() % 2 == 0;
    with(options);
  }
}

}  // namespace

int main() {
  test_type<double>(1e-9);
  test_type<float>(1e-5);
  test_type<math::BFloat16>(1.0 / 128);
  test_type<Float16>(1.0 / 1024);
  return test::failures();
}
