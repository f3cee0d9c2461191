// Included before all else where the CUDA ops are compiled for the host: what they implement for CUDA tensors, they implement for
// those on the CPU, in place of seqkern's CPU kernels.
#pragma once

#include <c10/util/Exception.h>
#include <torch/library.h>

namespace seqkern::host {

// Keeps back torch's warning of ops that are implemented a second time.
class Silence final : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

using Registration = void (*)(torch::Library&);
template <Registration implement>
void implement_silently(torch::Library& library) {
  Silence silence;
  const c10::WarningUtils::WarningHandlerGuard guard(&silence);
  implement(library);
}

}  // namespace seqkern::host

// Once a file.
#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(name, key, m)                                                                                     \
  static void implement(torch::Library&);                                                                                    \
  static const torch::detail::TorchLibraryInit implementation(                                                               \
      torch::Library::IMPL, seqkern::host::implement_silently<implement>, #name, c10::DispatchKey::CPU, __FILE__, __LINE__); \
  static void implement(torch::Library& m)
