// The ops themselves have no autograd formula: those are in seqkern/functional, which calls them with gradients off. A direct
// call (by hand, or from an exported program) that would need one is refused, since its outputs would silently lack gradients.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

namespace {

void refuse_autograd(const c10::OperatorHandle& op, c10::DispatchKeySet keys, torch::jit::Stack* stack) {
  if (at::GradMode::is_enabled()) {
    for (const c10::IValue& argument : torch::jit::last(*stack, op.schema().arguments().size()))
      TORCH_CHECK_NOT_IMPLEMENTED(!argument.isTensor() || !argument.toTensor().requires_grad(), op.schema().name(),
                                  " has no autograd formula of its own, and an argument requires a gradient; expected a call of ",
                                  "seqkern.functional, or one under torch.no_grad()");
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(seqkern, Autograd, m) {
  for (const char* name :
       {"recurrent_forward", "recurrent_backward", "gather_columns", "scatter_columns", "scale_", "softmax_loss",
        "softmax_loss_backward", "linear_softmax_loss", "linear_softmax_loss_backward", "embedding_dot", "embedding_dot_backward",
        "negative_sampling_loss", "negative_sampling_loss_backward", "train_word_vectors_"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_autograd>());
}
