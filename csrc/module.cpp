// The Python extension seqkern._C: facts about the build, and the text reader. Loading it registers the operators of csrc/ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/isa.h"
#include "ops/negative_sampling_node.h"
#include "text/bindings.h"

#ifdef SEQKERN_WITH_CUDA
#include <cuda_runtime_api.h>

#include "cuda/recurrent_plan.h"
#include "math/cells.h"
#endif

namespace py = pybind11;

namespace {

py::dict build_info() {
  std::vector<std::string> isas;
  for (const auto isa : seqkern::cpu::compiled_isas()) isas.emplace_back(seqkern::cpu::name(isa));

  py::dict info;
  info["torch_built_against"] = SEQKERN_TORCH_VERSION;
#if defined(__clang__)
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "GCC " __VERSION__;
#endif
  info["openmp"] = _OPENMP;
  info["isas_compiled"] = isas;
  info["isa"] = seqkern::cpu::name(seqkern::cpu::current_isa());
#ifdef SEQKERN_WITH_CUDA
  info["cuda"] = true;
  info["cuda_version"] = std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  info["cuda_architectures"] = SEQKERN_CUDA_ARCHS;
  info["cuda_note"] = py::none();
#else
  info["cuda"] = false;
  info["cuda_version"] = py::none();
  info["cuda_architectures"] = py::none();
  info["cuda_note"] = SEQKERN_NO_CUDA_REASON;
#endif
  return info;
}

#ifdef SEQKERN_WITH_CUDA
// The plans that may fit a device, the fastest first, with the microseconds of a step that they are predicted to take.
py::list recurrent_plans(const std::string& cell, int element_bytes, int64_t steps, int64_t batch, int64_t heads,
                         int64_t hidden_size, bool backward, bool exact, int capability, int multiprocessors, int shared_bytes) {
  using namespace seqkern;
  const int place = math::find_cell(cell);
  if (place < 0) throw py::value_error("cell is '" + cell + "', which there is not");
  const math::CellInfo& info = math::kCells[place];
  const bool gated = info.candidate == math::Candidate::gated;
  const cuda::RecurrentRequest request{info.gates, gated,       element_bytes, steps, batch,
                                       heads,      hidden_size, backward,      false, exact};
  const cuda::DeviceLimits limits{capability, multiprocessors, shared_bytes};
  py::list found;
  for (const cuda::RecurrentPlan& plan : cuda::recurrent_plans(request, limits)) {
    const cuda::RecurrentStepTime time = cuda::predict(plan, request, limits);
    py::dict of_plan;
    of_plan["kernel"] = cuda::to_string(plan);
    of_plan["shared_bytes"] = static_cast<int64_t>(cuda::shared_bytes(plan, request));
    of_plan["exchange"] = time.exchange;
    of_plan["gather"] = time.gather;
    of_plan["weights"] = time.weights;
    of_plan["matrix"] = time.matrix;
    of_plan["cell"] = time.cell;
    found.append(of_plan);
  }
  return found;
}
#endif

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Native part of seqkern.";
  module.attr("torch_built_against") = SEQKERN_TORCH_VERSION;  // checked on import, where build_info() might throw
  module.def("build_info", &build_info, "Facts fixed when this extension was compiled, and the instruction set in use.");
  seqkern::text::bind(module);
  seqkern::ops::bind_negative_sampling(module);
#ifdef SEQKERN_WITH_CUDA
  module.def("recurrent_plans", &recurrent_plans, "As seqkern.cuda.recurrent_plans has it.");
#endif
}
