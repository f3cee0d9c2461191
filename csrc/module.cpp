// The Python extension seqkern._C: facts about the build. Loading it registers the operators of csrc/ops.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "cpu/isa.h"

#ifdef SEQKERN_WITH_CUDA
#include <cuda_runtime_api.h>
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

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Native part of seqkern.";
  module.attr("torch_built_against") = SEQKERN_TORCH_VERSION;  // checked on import, where build_info() might throw
  module.def("build_info", &build_info, "Facts fixed when this extension was compiled, and the instruction set in use.");
}
