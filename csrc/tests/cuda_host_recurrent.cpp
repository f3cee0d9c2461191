// The kernels of cuda/recurrent.cu, run on the host (tests/cuda_host) against the LSTM's equations in float64.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "cuda/device.cuh"
#include "cuda/recurrent.cu"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

constexpr int G = 4;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class T>
T rounded(double x) {
  T y;
  from_sum(static_cast<Sum<T>>(x), y);
  return y;
}

template <class T>
std::vector<T> random_values(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<T> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(rounded<T>(normal(random)));
  return values;
}

template <class T>
bool close(T actual, double expected, double tolerance) {
  return std::fabs(static_cast<double>(to_sum(actual)) - expected) <= tolerance * (1 + std::fabs(expected));
}

// The cell in float64: h and c, by pre-activations in torch's order i, f, g, o.
struct Step {
  double i, f, g, o, c, h;

  Step(const double (&a)[G], double c_prev)
      : i(1 / (1 + std::exp(-a[0]))),
        f(1 / (1 + std::exp(-a[1]))),
        g(std::tanh(a[2])),
        o(1 / (1 + std::exp(-a[3]))),
        c(f * c_prev + i * g),
        h(o * std::tanh(c)) {}
};

template <class T>
void test_forward(int64_t N, int64_t H, bool bias_ih, bool bias_hh, bool keep, double tolerance) {
  using S = Sum<T>;
  std::mt19937 random(7);
  auto gates = random_values<S>(N * G * H, random);
  const auto gates_x = gates, gates_h = random_values<S>(N * G * H, random);
  const auto b_ih = random_values<T>(G * H, random), b_hh = random_values<T>(G * H, random);
  auto c = random_values<S>(N * H, random);
  const auto c_prev = c;
  std::vector<T> h(static_cast<size_t>(N * H), rounded<T>(kNaN));

  // In place, as the op does it: activations over pre-activations, c over c_prev.
  RecurrentStepForwardParams<T, S> p{};
  p.batch = N;
  p.hidden_size = H;
  p.gates_x = gates.data();
  p.gates_h = gates_h.data();
  p.bias_ih = bias_ih ? b_ih.data() : nullptr;
  p.bias_hh = bias_hh ? b_hh.data() : nullptr;
  p.c_prev = c.data();
  p.c = c.data();
  p.h = h.data();
  p.gates = keep ? gates.data() : nullptr;
  CHECK(launch_lstm_step_forward(p, cudaStream_t()) == cudaSuccess);

  for (int64_t n = 0; n < N; ++n)
    for (int64_t j = 0; j < H; ++j) {
      double a[G];
      for (int g = 0; g < G; ++g) {
        const auto at = static_cast<size_t>((n * G + g) * H + j), column = static_cast<size_t>(g * H + j);
        a[g] = static_cast<double>(gates_x[at]) + static_cast<double>(gates_h[at]);
        if (bias_ih) a[g] += static_cast<double>(to_sum(b_ih[column]));
        if (bias_hh) a[g] += static_cast<double>(to_sum(b_hh[column]));
      }
      const auto unit = static_cast<size_t>(n * H + j);
      const Step step(a, static_cast<double>(c_prev[unit]));
      const double expected[G] = {step.i, step.f, step.g, step.o};
      const double of_sums = sizeof(S) == 8 ? 1e-14 : 2e-6;
      CHECK(close(c[unit], step.c, of_sums));
      CHECK(close(h[unit], step.h, tolerance));
      for (int g = 0; g < G; ++g) {
        const auto at = static_cast<size_t>((n * G + g) * H + j);
        if (keep)
          CHECK(close(gates[at], expected[g], of_sums));
        else
          CHECK(gates[at] == gates_x[at]);
      }
    }
}

// Gradients of sum(d_h h + d_c c) by central differences of the float64 cell.
template <class T>
void test_backward(int64_t N, int64_t H, bool with_output, double tolerance) {
  using S = Sum<T>;
  std::mt19937 random(8);
  const auto a = random_values<S>(N * G * H, random), c_prev = random_values<S>(N * H, random);
  const auto d_h = random_values<S>(N * H, random), d_c_next = random_values<S>(N * H, random);
  const auto d_output = random_values<T>(N * H, random);
  std::vector<S> gates, c, d_c = d_c_next;
  std::vector<T> d_gates(a.size(), rounded<T>(kNaN));
  gates.resize(a.size());
  c.resize(c_prev.size());
  const auto pre_activations = [&](int64_t n, int64_t j, double (&values)[G]) {
    for (int g = 0; g < G; ++g) values[g] = static_cast<double>(a[static_cast<size_t>((n * G + g) * H + j)]);
  };
  for (int64_t n = 0; n < N; ++n)
    for (int64_t j = 0; j < H; ++j) {
      double values[G];
      pre_activations(n, j, values);
      const auto unit = static_cast<size_t>(n * H + j);
      const Step step(values, static_cast<double>(c_prev[unit]));
      const double activations[G] = {step.i, step.f, step.g, step.o};
      for (int g = 0; g < G; ++g) gates[static_cast<size_t>((n * G + g) * H + j)] = static_cast<S>(activations[g]);
      c[unit] = static_cast<S>(step.c);
    }

  RecurrentStepBackwardParams<T, S> p{};
  p.batch = N;
  p.hidden_size = H;
  p.gates = gates.data();
  p.c_prev = c_prev.data();
  p.c = c.data();
  p.d_output = with_output ? d_output.data() : nullptr;
  p.d_h = d_h.data();
  p.d_c = d_c.data();
  p.d_gates = d_gates.data();
  CHECK(launch_lstm_step_backward(p, cudaStream_t()) == cudaSuccess);

  for (int64_t n = 0; n < N; ++n)
    for (int64_t j = 0; j < H; ++j) {
      const auto unit = static_cast<size_t>(n * H + j);
      const double dh = static_cast<double>(d_h[unit]) + (with_output ? static_cast<double>(to_sum(d_output[unit])) : 0);
      const auto loss = [&](int moved, double by) {
        double values[G];
        pre_activations(n, j, values);
        if (moved < G) values[moved] += by;
        const Step step(values, static_cast<double>(c_prev[unit]) + (moved == G ? by : 0));
        return dh * step.h + static_cast<double>(d_c_next[unit]) * step.c;
      };
      const auto slope = [&](int moved) { return (loss(moved, 1e-5) - loss(moved, -1e-5)) / 2e-5; };
      for (int g = 0; g < G; ++g) CHECK(close(d_gates[static_cast<size_t>((n * G + g) * H + j)], slope(g), tolerance));
      CHECK(close(d_c[unit], slope(G), sizeof(S) == 8 ? 1e-9 : 1e-5));
    }
}

template <class T>
void test_type(double tolerance) {
  for (const bool first : {false, true})
    for (const bool second : {false, true}) test_forward<T>(3, 5, first, second, first == second, tolerance);
  test_forward<T>(1, 130, true, true, true, tolerance);
  test_backward<T>(3, 5, true, tolerance);
  test_backward<T>(1, 130, false, tolerance);
  // Nothing to do is no error.
  test_forward<T>(0, 5, true, true, true, tolerance);
  test_backward<T>(0, 5, true, tolerance);
}

}  // namespace

int main() {
  test_type<double>(1e-9);
  test_type<float>(1e-5);
  test_type<math::BFloat16>(1.0 / 256);
  test_type<Float16>(1.0 / 2048);
  return test::failures();
}
