// The choice of a recurrent kernel (cuda/recurrent_plan.cu).
#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "check.h"
#include "cuda/recurrent_plan.cu"

namespace {

using namespace seqkern;
using namespace seqkern::cuda;

constexpr DeviceLimits kH100{90, 132, 232448}, kA100{80, 108, 166912}, kSmall{86, 20, 101376};

RecurrentRequest lstm(int64_t hidden_size, int64_t batch, bool backward = false) {
  return {4, false, 2, 256, batch, 1, hidden_size, backward, false, false};
}

bool any(const std::vector<RecurrentPlan>& plans, RecurrentKernel kernel) {
  return std::any_of(plans.begin(), plans.end(), [&](const RecurrentPlan& plan) { return plan.kernel == kernel; });
}

void test_every_size_has_a_plan() {
  for (const DeviceLimits& limits : {kH100, kA100, kSmall})
    for (const int64_t H : {1, 7, 128, 650, 1024, 2048, 5000, 100000})
      for (const int64_t N : {1, 8, 9, 64, 1000, 1000000})
        for (const bool backward : {false, true}) {
          const auto plans = recurrent_plans(lstm(H, N, backward), limits);
          CHECK(!plans.empty());
          CHECK(plans.back().kernel == RecurrentKernel::steps);
          for (const RecurrentPlan& plan : plans) {
            if (plan.kernel == RecurrentKernel::steps) continue;
            CHECK(blocks_of(plan, H) * plan.units >= H);
            CHECK(sequences_of_group(plan, N) * plan.groups >= N);
            CHECK(sequences_of_group(plan, N) % 8 == 0);
            CHECK(plan.chunk == 8 || plan.chunk == 16);
            CHECK(plan.units * plan.chunk <= 256);
            if (plan.kernel == RecurrentKernel::cluster)
              CHECK(blocks_of(plan, H) <= 16);
            else
              CHECK(blocks_of(plan, H) * plan.groups <= limits.multiprocessors);
          }
        }
}

void test_choice_follows_the_device() {
  CHECK(recurrent_plans(lstm(768, 16), kH100).front().kernel == RecurrentKernel::grid);
  CHECK(recurrent_plans(lstm(256, 16), kH100).front().kernel == RecurrentKernel::cluster);
  CHECK(!any(recurrent_plans(lstm(256, 16), kA100), RecurrentKernel::cluster));
  CHECK(any(recurrent_plans(lstm(256, 16), kA100), RecurrentKernel::grid));
  CHECK(recurrent_plans(lstm(768, 16), kSmall).front().kernel == RecurrentKernel::steps);  // 48 blocks, 20 multiprocessors
  CHECK(recurrent_plans(lstm(5000, 16), kH100).front().kernel == RecurrentKernel::steps);  // nothing holds the weights
  RecurrentRequest once = lstm(768, 16);
  once.steps = 1;
  CHECK(recurrent_plans(once, kH100).front().kernel == RecurrentKernel::steps);
  RecurrentRequest again = lstm(256, 16);
  again.complete = true;
  CHECK(!any(recurrent_plans(again, kH100), RecurrentKernel::cluster));
}

void test_environment_overrides() {
  const auto with = [](const char* text) {
    setenv("SEQKERN_RECURRENT_KERNEL", text, 1);
    const auto plans = chosen_recurrent_plans(lstm(256, 16), kH100);
    unsetenv("SEQKERN_RECURRENT_KERNEL");
    return plans;
  };
  CHECK(to_string(with("").front()) == to_string(recurrent_plans(lstm(256, 16), kH100).front()));
  CHECK(to_string(with("steps").front()) == "steps");
  CHECK(to_string(with("grid").front()) == "grid:8:1");
  CHECK(with("grid").size() == 2);
  CHECK(to_string(with("grid:16:4").front()) == "grid:16:4");
  CHECK(to_string(with("cluster::2").front()) == "cluster:16:2");
  CHECK(with("cluster:32:2").front().chunk == 8);
  for (const char* text : {"x", ":", "steps:", "grid:9", "cluster:8", "grid:8:1:1", "grid:-8", "grid:8:99999999"})
    CHECK_THROWS(with(text), std::invalid_argument);
}

}  // namespace

int main() {
  test_every_size_has_a_plan();
  test_choice_follows_the_device();
  test_environment_overrides();
  return test::failures();
}
