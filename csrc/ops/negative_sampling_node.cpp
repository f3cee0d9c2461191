// The loss of negative sampling as a node of autograd's graph in C++, for small problems, of which calls from and to Python would
// be half the time. What it does is what _NegativeSamplingLoss of seqkern/functional/negative_sampling.py does, which stays for
// torch.compile, and for all that computes gradients anew.
#include "ops/negative_sampling_node.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/utils/pybind.h>

#include "ops/negative_sampling.h"

namespace seqkern::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

template <class Signature>
c10::TypedOperatorHandle<Signature> find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// Whether a scalar is 1, where one may look at it without waiting for a device.
bool is_one(const Tensor& by) {
  const bool plain = !by.key_set().has(c10::DispatchKey::Python) && !c10::impl::dispatch_mode_enabled();
  return plain && by.is_cpu() && by.item<double>() == 1;
}

class NegativeSamplingNode : public torch::autograd::Function<NegativeSamplingNode> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& source, const Tensor& weight, const MaybeTensor& contexts,
                        int64_t padding_idx, const Tensor& target, const Tensor& negatives, int64_t reduction, bool sparse) {
    using Loss = SamplingLossResult(const Tensor&, const Tensor&, const MaybeTensor&, int64_t, const Tensor&, const Tensor&,
                                    int64_t, WantedGradients, bool);
    static const auto op = find_op<Loss>("seqkern::negative_sampling_loss");
    const at::AutoDispatchBelowADInplaceOrView below;
    const WantedGradients wanted{source.requires_grad(), weight.requires_grad()};
    auto [loss, d_source, source_rows, d_weight, weight_rows] =
        op.call(source, weight, contexts, padding_idx, target, negatives, reduction, wanted, sparse);
    context->save_for_backward({source, weight, contexts ? *contexts : Tensor(), target, negatives});
    auto& saved = context->saved_data;
    saved["gradients"] = std::vector<Tensor>{d_source, source_rows, d_weight, weight_rows};
    saved["options"] = std::vector<int64_t>{padding_idx, reduction, sparse, contexts.has_value()};
    saved["sizes"] = std::vector<int64_t>{source.size(0), weight.size(0), weight.size(1)};
    return loss;
  }

  static variable_list backward(AutogradContext* context, variable_list d_losses) {
    auto& saved = context->saved_data;
    const auto options = saved["options"].toIntVector();
    const auto kept = saved.find("gradients");
    const bool again = at::GradMode::is_enabled();
    if (again || kept == saved.end()) return anew(context, d_losses[0], options, again);
    auto gradients = kept->second.toTensorVector();
    saved.erase(kept);
    if (!is_one(d_losses[0])) {
      static const auto scale = find_op<void(const Tensor&, const Tensor&)>("seqkern::scale_");
      for (const int i : {0, 2}) scale.call(gradients[i], d_losses[0]);
    }
    const auto sizes = saved["sizes"].toIntVector();
    const auto gradient = [&](int matrix, bool sparse) {
      const size_t at = 2 * static_cast<size_t>(matrix);
      Tensor values = std::move(gradients[at]);
      if (!context->needs_input_grad(static_cast<size_t>(matrix))) return Tensor();
      if (!sparse) return values;
      return at::_sparse_coo_tensor_unsafe(gradients[at + 1], values, {sizes[static_cast<size_t>(matrix)], sizes[2]},
                                           values.options().layout(at::kSparse));
    };
    const bool sparse = options[2];
    return {gradient(0, sparse && options[3]), gradient(1, sparse), {}, {}, {}, {}, {}, {}};
  }

 private:
  // Once more, or with a graph of its own: in Python, which has the operations for both.
  static variable_list anew(AutogradContext* context, const Tensor& d_loss, const std::vector<int64_t>& options, bool again) {
    const variable_list saved = context->get_saved_variables();
    const pybind11::gil_scoped_acquire gil;
    const auto optional = [](const Tensor& tensor) { return tensor.defined() ? pybind11::cast(tensor) : pybind11::none(); };
    const auto module = pybind11::module_::import("seqkern.functional.negative_sampling");
    const pybind11::tuple found = module.attr("gradients_anew")(saved[0], saved[1], optional(saved[2]), options[0], saved[3],
                                                                saved[4], options[1], options[2] != 0, d_loss, again);
    variable_list gradients(8);
    for (const size_t i : {0, 1})
      if (!found[i].is_none() && context->needs_input_grad(i)) gradients[i] = found[i].cast<Tensor>();
    return gradients;
  }
};

}  // namespace

void bind_negative_sampling(pybind11::module_& module) {
  const auto loss = [](const Tensor& source, const Tensor& weight, const MaybeTensor& contexts, int64_t padding_idx,
                       const Tensor& target, const Tensor& negatives, int64_t reduction, bool sparse) {
    return NegativeSamplingNode::apply(source, weight, contexts, padding_idx, target, negatives, reduction, sparse);
  };
  // Errors become the exceptions that torch's own functions raise.
  module.def("negative_sampling_loss", torch::wrap_pybind_function_no_gil(loss),
             "The loss, differentiable, of arguments as the op seqkern::negative_sampling_loss takes them.");
}

}  // namespace seqkern::ops
