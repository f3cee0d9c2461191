// The recurrent ops: schemas, and the CPU implementation. The autograd formula is in seqkern/functional.
#include "ops/recurrent.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/kernels.h"
#include "ops/cpu_tensor.h"

namespace seqkern::ops {

namespace {

// The types that the kernels compute in. bfloat16 tensors are taken as float32 where the CPU has no products of them.
template <class T>
constexpr at::ScalarType kType = at::kFloat;
template <>
constexpr at::ScalarType kType<double> = at::kDouble;
template <>
constexpr at::ScalarType kType<math::BFloat16> = at::kBFloat16;

// Calls body(T()) with the type for tensors of `type`.
template <class Body>
void for_dtype(at::ScalarType type, const Body& body) {
  if (type == at::kDouble)
    body(double());
  else if (type == at::kBFloat16 && cpu::kernels<math::BFloat16>().recurrent[0].forward)
    body(math::BFloat16());
  else
    body(float());
}

// The elements of a tensor; not null, which stands for an absent tensor, if there are none.
template <class T>
T* elements(const Tensor& tensor) {
  static T none{};
  return tensor.numel() ? static_cast<T*>(const_cast<void*>(tensor.const_data_ptr())) : &none;
}

template <class T>
T* result_pointer(const Tensor& tensor) {
  return tensor.defined() ? elements<T>(tensor) : nullptr;
}

// Pointers into tensors as the kernels take them, contiguous and of their type; keeps the tensors alive as long.
class Pointers {
 public:
  template <class T>
  const T* get(const MaybeTensor& tensor) {
    if (!tensor) return nullptr;
    if (tensor->scalar_type() == kType<T> && tensor->is_contiguous()) return elements<T>(*tensor);  // without a call of torch's
    return elements<T>(hold(tensor->to(kType<T>).contiguous()));
  }
  template <class T>
  const T* as_is(const MaybeTensor& tensor) {
    if (!tensor) return nullptr;
    return elements<T>(tensor->is_contiguous() ? *tensor : hold(tensor->contiguous()));
  }

 private:
  const Tensor& hold(Tensor tensor) {
    held_[count_] = std::move(tensor);
    return held_[count_++];
  }
  Tensor held_[32];
  int count_ = 0;
};

// As many threads as torch uses, but one for so little work that waking another takes longer.
int threads_for(const RecurrentShape& s) {
  constexpr int64_t kWorkOfThread = 1 << 17;  // products: some microseconds
  const int64_t work = s.steps * s.batch * s.heads * s.gate_size * (s.input_size + s.state_size) / kWorkOfThread;
  const int64_t most = at::in_parallel_region() ? 1 : at::get_num_threads();
  return static_cast<int>(std::clamp<int64_t>(work, 1, most));
}

template <class T>
void set_params(RecurrentParams<T>& p, const RecurrentShape& s, const RecurrentArguments& a, Pointers& pointers) {
  p.steps = s.steps;
  p.batch = s.batch;
  p.input_size = s.input_size;
  p.hidden_size = s.hidden_size;
  p.state_size = s.state_size;
  p.heads = s.heads;
  p.reverse = a.reverse;
  p.reset_to_initial = a.reset_to_initial;
  p.threads = threads_for(s);
  p.input = pointers.get<T>(a.input);
  p.h_0 = pointers.get<T>(a.h_0);
  p.c_0 = pointers.get<T>(a.c_0);
  p.weight_ih = pointers.get<T>(a.weight_ih);
  p.weight_hh = pointers.get<T>(a.weight_hh);
  p.bias_ih = pointers.get<T>(a.bias_ih);
  p.bias_hh = pointers.get<T>(a.bias_hh);
  p.weight_cell = pointers.get<T>(a.weight_cell);
  p.weight_hr = pointers.get<T>(a.weight_hr);
  p.norm_hh = pointers.get<T>(a.norm_hh);
  p.norm_c = pointers.get<T>(a.norm_c);
  p.norm_c_bias = pointers.get<T>(a.norm_c_bias);
  p.lengths = pointers.as_is<int64_t>(a.lengths);
  p.resets = pointers.as_is<bool>(a.resets);
  p.recurrent_mask = pointers.get<T>(a.recurrent_mask);
  p.zoneout_h = pointers.get<T>(a.zoneout_h);
  p.zoneout_c = pointers.get<T>(a.zoneout_c);
}

// What only the values can tell, on the CPU.
void check_values(const RecurrentShape& s, const RecurrentArguments& a) {
  const auto type = a.input.scalar_type();
  TORCH_CHECK_TYPE(type == at::kFloat || type == at::kDouble || type == at::kBFloat16, "input has dtype ", type,
                   ", expected float32, float64 or bfloat16 on the CPU");
  if (!a.lengths) return;
  const Tensor lengths = a.lengths->contiguous();
  const int64_t* length = lengths.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < s.batch; ++n)
    TORCH_CHECK_VALUE(length[n] >= 0 && length[n] <= s.steps, "lengths[", n, "] is ", length[n], ", expected 0 to T = ", s.steps);
}

ForwardResult forward_cpu(const RecurrentShape& s, const RecurrentArguments& a, bool keep_cells, bool keep) {
  check_values(s, a);
  const auto type = a.input.scalar_type();
  const auto sums = a.input.options().dtype(accumulate_type(type));
  const int64_t T = s.steps, N = s.batch, KH = s.heads * s.hidden_size, KR = s.heads * s.state_size;
  // Outputs of an op must not be the same tensor, not even an empty one.
  const auto none = [&] { return new_tensor({0}, sums); };
  Tensor output, h_n;
  const Tensor c_n = s.info.has_cell ? new_tensor({N, KH}, sums) : none();
  const Tensor cells = keep_cells ? new_tensor({T, N, KH}, sums) : none();
  const Tensor kept = keep ? new_tensor({T, N, s.kept_size}, sums) : none();
  for_dtype(type, [&](auto tag) {
    using V = decltype(tag);
    using S = math::Sum<V>;
    output = new_tensor({T, N, KR}, sums.dtype(kType<V>));
    h_n = new_tensor({N, KR}, sums.dtype(kType<V>));
    Pointers pointers;
    RecurrentForwardParams<V> p{};
    set_params(p, s, a, pointers);
    p.output = elements<V>(output);
    p.h_n = elements<V>(h_n);
    p.c_n = s.info.has_cell ? elements<S>(c_n) : nullptr;
    p.cells = keep_cells ? elements<S>(cells) : nullptr;
    p.kept = keep ? elements<S>(kept) : nullptr;
    cpu::kernels<V>().recurrent[s.cell].forward(p);
  });
  const auto back = [type](const Tensor& tensor) { return tensor.scalar_type() == type ? tensor : tensor.to(type); };
  return {back(output), back(h_n), back(c_n), cells, kept};
}

BackwardResult backward_cpu(const RecurrentShape& s, const RecurrentArguments& a, const RecurrentOutputs& outputs,
                            const RecurrentOutputGradients& gradients, const RecurrentWanted& wanted) {
  check_values(s, a);
  const auto type = a.input.scalar_type();
  const auto sums = a.input.options().dtype(accumulate_type(type));
  const auto like = [&](const MaybeTensor& tensor) { return tensor ? new_tensor(tensor->sizes(), sums) : Tensor(); };
  const auto weight_like = [&](const MaybeTensor& tensor) { return wanted.weight_gradients ? like(tensor) : Tensor(); };
  Tensor d_input, d_h_0 = like(a.h_0), d_c_0 = like(a.c_0), d_weight_ih = weight_like(a.weight_ih),
                  d_weight_hh = weight_like(a.weight_hh), d_bias_ih = weight_like(a.bias_ih), d_bias_hh = weight_like(a.bias_hh),
                  d_weight_cell = weight_like(a.weight_cell), d_weight_hr = weight_like(a.weight_hr),
                  d_norm_hh = weight_like(a.norm_hh), d_norm_c = weight_like(a.norm_c),
                  d_norm_c_bias = weight_like(a.norm_c_bias);
  for_dtype(type, [&](auto tag) {
    using V = decltype(tag);
    using S = math::Sum<V>;
    if (wanted.input_gradient) d_input = new_tensor(a.input.sizes(), sums.dtype(kType<V>));
    Pointers pointers;
    RecurrentBackwardParams<V> p{};
    set_params(p, s, a, pointers);
    p.output = pointers.get<V>(outputs.output);
    p.cells = s.info.has_cell ? pointers.get<S>(outputs.cells) : nullptr;
    p.kept = wanted.recompute == 0 ? pointers.get<S>(outputs.kept) : nullptr;
    p.recompute = wanted.recompute;
    p.d_output = pointers.get<V>(gradients.output);
    p.d_h_n = pointers.get<V>(gradients.h_n);
    p.d_c_n = pointers.get<V>(gradients.c_n);
    p.d_cells = pointers.get<S>(gradients.cells);
    p.d_input = result_pointer<V>(d_input);
    p.d_h_0 = result_pointer<S>(d_h_0);
    p.d_c_0 = result_pointer<S>(d_c_0);
    p.d_weight_ih = result_pointer<S>(d_weight_ih);
    p.d_weight_hh = result_pointer<S>(d_weight_hh);
    p.d_bias_ih = result_pointer<S>(d_bias_ih);
    p.d_bias_hh = result_pointer<S>(d_bias_hh);
    p.d_weight_cell = result_pointer<S>(d_weight_cell);
    p.d_weight_hr = result_pointer<S>(d_weight_hr);
    p.d_norm_hh = result_pointer<S>(d_norm_hh);
    p.d_norm_c = result_pointer<S>(d_norm_c);
    p.d_norm_c_bias = result_pointer<S>(d_norm_c_bias);
    cpu::kernels<V>().recurrent[s.cell].backward(p);
  });
  const auto back = [type](const Tensor& tensor) {
    return !tensor.defined() || tensor.scalar_type() == type ? tensor : tensor.to(type);
  };
  return {back(d_input),   back(d_h_0),         back(d_c_0),       back(d_weight_ih), back(d_weight_hh), back(d_bias_ih),
          back(d_bias_hh), back(d_weight_cell), back(d_weight_hr), back(d_norm_hh),   back(d_norm_c),    back(d_norm_c_bias)};
}

#define SEQKERN_RECURRENT_SCHEMA                                                                                    \
  "Tensor input, Tensor? h_0, Tensor? c_0, Tensor? weight_ih, Tensor weight_hh, Tensor? bias_ih, "                  \
  "Tensor? bias_hh, Tensor? weight_cell, Tensor? weight_hr, Tensor? norm_hh, Tensor? norm_c, Tensor? norm_c_bias, " \
  "Tensor? lengths, Tensor? resets, Tensor? recurrent_mask, Tensor? zoneout_h, Tensor? zoneout_c, "

}  // namespace

TORCH_LIBRARY_FRAGMENT(seqkern, m) {
  m.def("recurrent_forward(str cell, " SEQKERN_RECURRENT_SCHEMA
        "bool reset_to_initial, bool reverse, bool keep_cells, bool keep) "
        "-> (Tensor output, Tensor h_n, Tensor c_n, Tensor cells, Tensor kept)",
        {at::Tag::pt2_compliant_tag});
  m.def("recurrent_backward(str cell, Tensor? d_output, Tensor? d_h_n, Tensor? d_c_n, Tensor? d_cells, " SEQKERN_RECURRENT_SCHEMA
        "Tensor output, Tensor cells, Tensor kept, bool reset_to_initial, bool reverse, int recompute, bool input_gradient, "
        "bool weight_gradients) "
        "-> (Tensor d_input, Tensor d_h_0, Tensor d_c_0, Tensor d_weight_ih, Tensor d_weight_hh, Tensor d_bias_ih, "
        "Tensor d_bias_hh, Tensor d_weight_cell, Tensor d_weight_hr, Tensor d_norm_hh, Tensor d_norm_c, Tensor d_norm_c_bias)",
        {at::Tag::pt2_compliant_tag});
}

TORCH_LIBRARY_IMPL(seqkern, CPU, m) {
  m.impl("recurrent_forward", recurrent_forward_op<forward_cpu>);
  m.impl("recurrent_backward", recurrent_backward_op<backward_cpu>);
}

}  // namespace seqkern::ops
