// The choice of a recurrent kernel. Rates are those published for the H100 (SXM, 1.7 GHz), scaled by the number of
// multiprocessors; latencies are estimates (docs/results/cuda-step-budget.md), to be replaced by measurements.
#include "cuda/recurrent_plan.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace seqkern::cuda {
namespace {

// Microseconds, and bytes a microsecond.
constexpr double kLaunch = 2.0;                      // of a kernel, in a stream that is kept full
constexpr double kThroughMemory = 0.45;              // a store to global memory, until another block's load sees it
constexpr double kClusterBarrier = 0.25;             // and the stores before it
constexpr double kBarrier = 0.02, kPointwise = 0.1;  // of a block; the cell's arithmetic and memory
constexpr double kGlobalOfBlock = 64 * 1.7e3, kSharedOfBlock = 128 * 1.7e3, kRemoteOfBlock = 3.3e6 / 132;
constexpr double kGlobalOfMultiprocessor = 5.5e6 / 132;
constexpr double kTensorOfMultiprocessor = 600e6 / 132;  // 16-bit multiply-adds, counted as 2, with mma.sync

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sizes of a block's work.
struct Block {
  double rows;          // of weights
  double depth_bytes;   // of a product's rows
  double weight_bytes;  // of all its products
  double fixed_bytes;   // of those, in registers
  double sequences;
};

Block block_of(const RecurrentPlan& plan, const RecurrentRequest& r) {
  Block block{};
  const double products = r.gates * static_cast<double>(plan.units), depth = static_cast<double>(r.hidden_size) * r.element_bytes;
  block.rows = r.backward ? plan.units : products;
  block.depth_bytes = r.backward ? r.gates * depth : depth;
  block.weight_bytes = std::max(16.0, block.rows) * block.depth_bytes;
  block.fixed_bytes = (r.element_bytes == 4 ? 16.0 : 64.0) / (r.gated ? 2 : 1) * 4 * 256;
  block.sequences = static_cast<double>(sequences_of_group(plan, r.batch));
  return block;
}

int64_t chunk_of(const RecurrentPlan& plan, const RecurrentRequest& r) {
  return plan.units > 16 || sequences_of_group(plan, r.batch) <= 8 ? 8 : 16;
}

RecurrentStepTime predict_steps(const RecurrentRequest& r, const DeviceLimits& limits) {
  RecurrentStepTime time{};
  const double elements = static_cast<double>(r.gates) * static_cast<double>(r.hidden_size * r.hidden_size * r.heads);
  const double rate = kTensorOfMultiprocessor * limits.multiprocessors / (r.element_bytes == 2 ? 1 : r.exact ? 12 : 2);
  time.exchange = (r.gated ? 4 : 2) * kLaunch;
  time.weights = elements * r.element_bytes / (kGlobalOfMultiprocessor * limits.multiprocessors);
  time.matrix = 2 * elements * static_cast<double>(std::max<int64_t>(r.batch, 64)) / rate;
  time.cell = kPointwise * (r.gated ? 2 : 1);
  return time;
}

}  // namespace

int64_t blocks_of(const RecurrentPlan& plan, int64_t hidden_size) { return divide_up(hidden_size, plan.units); }

int64_t sequences_of_group(const RecurrentPlan& plan, int64_t batch) { return divide_up(divide_up(batch, plan.groups), 8) * 8; }

double shared_bytes(const RecurrentPlan& plan, const RecurrentRequest& r) {
  if (plan.kernel == RecurrentKernel::steps) return 0;
  const Block block = block_of(plan, r);
  const double warps = plan.units > 16 ? 4 : 8;
  double bytes = std::max(0.0, block.weight_bytes - block.fixed_bytes);
  bytes += warps * std::max(16.0, block.rows) * 1.5 * static_cast<double>(plan.chunk) * 4;
  if (plan.kernel == RecurrentKernel::cluster) bytes += 2 * block.sequences * (block.depth_bytes + 64);
  return bytes;
}

RecurrentStepTime predict(const RecurrentPlan& plan, const RecurrentRequest& r, const DeviceLimits& limits) {
  if (plan.kernel == RecurrentKernel::steps) return predict_steps(r, limits);
  const bool of_cluster = plan.kernel == RecurrentKernel::cluster;
  const Block block = block_of(plan, r);
  const double blocks = static_cast<double>(blocks_of(plan, r.hidden_size) * r.heads * plan.groups);
  const double sequences = std::min(block.sequences, static_cast<double>(divide_up(r.batch, 8) * 8));
  const double chunks = sequences / static_cast<double>(plan.chunk), phases = r.gated ? 2 : 1;
  const double gathered = sequences * block.depth_bytes;
  RecurrentStepTime time{};
  time.exchange = phases * (of_cluster ? kClusterBarrier : r.complete ? 0 : kThroughMemory);
  if (of_cluster) {
    const double own = gathered * plan.units / static_cast<double>(r.hidden_size);
    const double others = static_cast<double>(blocks_of(plan, r.hidden_size)) - 1;
    time.gather = gathered / kSharedOfBlock + own * others / kRemoteOfBlock;
  } else {
    time.gather = std::max(gathered / kGlobalOfBlock, gathered * blocks / (kGlobalOfMultiprocessor * limits.multiprocessors));
  }
  time.weights = chunks * std::max(0.0, block.weight_bytes - block.fixed_bytes) / kSharedOfBlock;
  const double slowdown = r.element_bytes == 2 ? 1 : r.exact ? 6 : 2;
  time.matrix = slowdown * 2 * block.weight_bytes / r.element_bytes * sequences / kTensorOfMultiprocessor;
  time.cell = chunks * phases * (2 * kBarrier + kPointwise);
  // Clusters that do not run at once.
  const double waves = of_cluster ? std::max(1.0, blocks / (0.9 * limits.multiprocessors)) : 1;
  time.exchange *= waves, time.gather *= waves, time.weights *= waves, time.matrix *= waves, time.cell *= waves;
  return time;
}

std::vector<RecurrentPlan> recurrent_plans(const RecurrentRequest& r, const DeviceLimits& limits) {
  constexpr int kMaxCluster = 16;
  std::vector<RecurrentPlan> plans;
  const auto add = [&](RecurrentKernel kernel, int units) {
    for (int64_t groups = 1; groups <= std::max<int64_t>(1, divide_up(r.batch, 8)); groups *= 2) {
      RecurrentPlan plan{kernel, units, groups, 0};
      plan.chunk = chunk_of(plan, r);
      const int64_t blocks = blocks_of(plan, r.hidden_size);
      if (kernel == RecurrentKernel::grid && blocks * r.heads * groups > limits.multiprocessors) continue;
      if (kernel == RecurrentKernel::cluster && (limits.capability < 90 || blocks > kMaxCluster || r.complete)) continue;
      if (shared_bytes(plan, r) <= limits.shared_bytes) plans.push_back(plan);
    }
  };
  for (const int units : {8, 16}) add(RecurrentKernel::grid, units);
  for (const int units : {16, 32}) add(RecurrentKernel::cluster, units);
  plans.push_back({RecurrentKernel::steps, 0, 1, 0});
  // Of a whole layer: a persistent launch begins by reading its weights and making the exchange ready.
  const auto total = [&](const RecurrentPlan& plan) {
    const double begin = plan.kernel == RecurrentKernel::steps ? 0 : 5 * kLaunch;
    return begin + static_cast<double>(r.steps) * predict(plan, r, limits).total();
  };
  std::stable_sort(plans.begin(), plans.end(),
                   [&](const RecurrentPlan& a, const RecurrentPlan& b) { return total(a) < total(b); });
  const auto steps =
      std::find_if(plans.begin(), plans.end(), [](const RecurrentPlan& plan) { return plan.kernel == RecurrentKernel::steps; });
  plans.erase(steps + 1, plans.end());  // steps always fit
  return plans;
}

std::string to_string(const RecurrentPlan& plan) {
  if (plan.kernel == RecurrentKernel::steps) return "steps";
  const std::string name = plan.kernel == RecurrentKernel::grid ? "grid:" : "cluster:";
  return name + std::to_string(plan.units) + ":" + std::to_string(plan.groups);
}

std::vector<RecurrentPlan> chosen_recurrent_plans(const RecurrentRequest& r, const DeviceLimits& limits) {
  const char* const variable = std::getenv("SEQKERN_RECURRENT_KERNEL");
  const std::string text = variable ? variable : "";
  if (text.empty()) return recurrent_plans(r, limits);

  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ':')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  const auto refuse = [&] {
    throw std::invalid_argument("SEQKERN_RECURRENT_KERNEL is '" + text +
                                "', expected steps, grid or cluster, the latter with units (8 or 16; 16 or 32) and groups "
                                "after colons");
  };
  const auto number = [&](size_t i) {
    if (i >= parts.size() || parts[i].empty()) return 0;
    if (parts[i].size() > 6 || parts[i].find_first_not_of("0123456789") != std::string::npos) refuse();
    return std::stoi(parts[i]);
  };
  const bool grid = parts[0] == "grid", cluster = parts[0] == "cluster";
  const int units = number(1), groups = number(2);
  if (parts[0] == "steps" && parts.size() == 1) return {{RecurrentKernel::steps, 0, 1, 0}};
  if ((!grid && !cluster) || parts.size() > 3) refuse();
  std::vector<RecurrentPlan> plans;
  for (const int own : grid ? std::vector{8, 16} : std::vector{16, 32}) {
    if (units != 0 && units != own) continue;
    // Where nothing is handed on, there is nothing for a cluster to do.
    RecurrentPlan plan{cluster && !r.complete ? RecurrentKernel::cluster : RecurrentKernel::grid, own, groups ? groups : 1, 0};
    if (plan.kernel == RecurrentKernel::grid) plan.units = std::min(own, 16);
    plan.chunk = chunk_of(plan, r);
    plans.push_back(plan);
  }
  if (plans.empty()) refuse();
  return plans;
}

}  // namespace seqkern::cuda
