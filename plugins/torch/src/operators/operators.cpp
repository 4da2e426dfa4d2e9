// Operators of libtorch that tch has no binding for. Their dispatch is in libtorch_cpu, so that no header or library of
// CUDA is needed.

#include "guarded.h"

#include <ATen/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/ops/_flash_attention_forward_ops.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_ops.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_ops.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_ops.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Optional = std::optional<at::Tensor>;

Optional optional(const at::Tensor* tensor) {
  return tensor ? Optional(*tensor) : std::nullopt;
}

// Operations of this thread while they are counted.
thread_local std::vector<std::string> counted;
// For each operation under way: whether one below it did work.
thread_local std::vector<bool> worked;
thread_local at::CallbackHandle counter = at::INVALID_CALLBACK_HANDLE;

// An operation that computes nothing by itself: a view, or memory without values.
bool is_free(const at::RecordFunction& function) {
  const std::string name = function.name();
  if (name.rfind("aten::empty", 0) == 0 || name.rfind("aten::new_empty", 0) == 0) {
    return true;
  }
  const auto schema = function.operator_schema();
  if (!schema) {
    return true;
  }
  for (const auto& result : schema->returns()) {
    if (result.alias_info() && !result.alias_info()->isWrite()) {
      return true;
    }
  }
  return false;
}

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction&) {
  worked.push_back(false);
  return nullptr;
}

void leave(const at::RecordFunction& function, at::ObserverContext*) {
  if (worked.empty()) {
    return;
  }
  // What returns a view or a copy, as `reshape`, is free by itself: the copy below it is not.
  const bool works = worked.back() || !is_free(function);
  worked.pop_back();
  if (!works) {
    return;
  }
  if (worked.empty()) {
    counted.emplace_back(function.name());
  } else {
    worked.back() = true;
  }
}

// Elements of an NF4 block, and the most that are decoded at a time.
constexpr int64_t nf4_block = 64;
constexpr int64_t nf4_piece = int64_t(1) << 24;

// Decodes an NF4 weight to [rows, columns]: float32 products of code values and magnitudes, rounded to `type`.
at::Tensor decode_nf4(
    const at::Tensor& codes,
    const at::Tensor& magnitudes,
    const at::Tensor& pairs,
    int64_t rows,
    int64_t columns,
    at::ScalarType type) {
  const at::NoGradGuard without_graph;
  const int64_t count = rows * columns;
  auto out = at::empty({count}, codes.options().dtype(type));
  for (int64_t start = 0; start < count; start += nf4_piece) {
    const int64_t length = std::min(nf4_piece, count - start);
    const auto bytes = codes.narrow(0, start / 2, (length + 1) / 2).to(at::kInt);
    const auto values = pairs.index_select(0, bytes).view(at::kFloat).narrow(0, 0, length);
    const int64_t whole = length / nf4_block;
    const auto scales = magnitudes.narrow(0, start / nf4_block, (length + nf4_block - 1) / nf4_block);
    auto blocks = values.narrow(0, 0, whole * nf4_block).view({whole, nf4_block});
    blocks.mul_(scales.narrow(0, 0, whole).unsqueeze(1));
    if (whole * nf4_block < length) {
      values.narrow(0, whole * nf4_block, length - whole * nf4_block).mul_(scales[whole]);
    }
    out.narrow(0, start, length).copy_(values);
  }
  return out.view({rows, columns});
}

// Product with an NF4 weight whose value is known. The graph keeps codes and magnitudes; the backward pass decodes them anew.
struct Nf4Linear : torch::autograd::Function<Nf4Linear> {
  static at::Tensor forward(
      torch::autograd::AutogradContext* context,
      const at::Tensor& x,
      const at::Tensor& value,
      const at::Tensor& codes,
      const at::Tensor& magnitudes,
      const at::Tensor& pairs,
      int64_t rows,
      int64_t columns,
      int64_t type,
      bool wide) {
    context->save_for_backward({codes, magnitudes, pairs});
    context->saved_data["rows"] = rows;
    context->saved_data["columns"] = columns;
    context->saved_data["type"] = type;
    context->saved_data["wide"] = wide;
    return value.detach();
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context,
      torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    auto weight = decode_nf4(
        saved[0], saved[1], saved[2], context->saved_data["rows"].toInt(), context->saved_data["columns"].toInt(), type);
    auto gradient = gradients[0];
    const auto narrow = gradient.scalar_type();
    if (context->saved_data["wide"].toBool()) {
      weight = weight.to(at::kFloat);
      gradient = gradient.to(at::kFloat);
    }
    const at::Tensor none;
    return {at::matmul(gradient, weight).to(narrow), none, none, none, none, none, none, none, none};
  }
};

} // namespace

extern "C" {

// Weight [rows, columns] of NF4 codes, with magnitudes in float32; a new tensor to `out`.
char* isr_decode_nf4(
    const at::Tensor* codes,
    const at::Tensor* magnitudes,
    const at::Tensor* pairs,
    int64_t rows,
    int64_t columns,
    int type,
    at::Tensor** out) {
  return guarded([&] {
    const auto kind = static_cast<at::ScalarType>(type);
    *out = new at::Tensor(decode_nf4(*codes, *magnitudes, *pairs, rows, columns, kind));
  });
}

// `value` with the graph of a product of `x` [.., columns] with an NF4 weight; a new tensor to `out`.
char* isr_nf4_linear(
    const at::Tensor* x,
    const at::Tensor* value,
    const at::Tensor* codes,
    const at::Tensor* magnitudes,
    const at::Tensor* pairs,
    int64_t rows,
    int64_t columns,
    int type,
    bool wide,
    at::Tensor** out) {
  return guarded([&] {
    *out = new at::Tensor(Nf4Linear::apply(
        *x, *value, *codes, *magnitudes, *pairs, rows, columns, static_cast<int64_t>(type), wide));
  });
}

void isr_free(char* text) {
  free(text);
}

// Attention of queries [batch, heads, queries, dim] over keys and values [batch, heads, keys, dim] with an additive mask
// or none, by one of libtorch's kernels: 0 cuDNN, 1 memory-efficient, 2 flash attention for CPUs. Writes two new tensors
// to `out`: attention, and log-sum-exp of the scores.
char* isr_attention(
    int kernel,
    const at::Tensor* query,
    const at::Tensor* key,
    const at::Tensor* value,
    const at::Tensor* mask,
    double scale,
    at::Tensor** out) {
  return guarded([&] {
    const auto put = [&](const at::Tensor& attended, const at::Tensor& sums) {
      out[0] = new at::Tensor(attended);
      out[1] = new at::Tensor(sums);
    };
    switch (kernel) {
      case 0: {
        const auto result = at::_ops::_scaled_dot_product_cudnn_attention::call(
            *query, *key, *value, optional(mask), true, 0.0, false, false, scale);
        return put(std::get<0>(result), std::get<1>(result));
      }
      case 1: {
        const auto result = at::_ops::_scaled_dot_product_efficient_attention::call(
            *query, *key, *value, optional(mask), true, 0.0, false, scale);
        return put(std::get<0>(result), std::get<1>(result));
      }
      case 2: {
        const auto result = at::_ops::_scaled_dot_product_flash_attention_for_cpu::call(
            *query, *key, *value, 0.0, false, optional(mask), scale);
        return put(std::get<0>(result), std::get<1>(result));
      }
      default:
        TORCH_CHECK(false, "there is no attention kernel ", kernel);
    }
  });
}

// Flash attention of one query [sequences, heads, dim] a sequence over keys and values [tokens, kv_heads, dim], of which
// sequence i has `used[i]` from `begin[i]` on; all int32. Writes two new tensors to `out`, as `isr_attention`.
char* isr_ragged_attention(
    const at::Tensor* query,
    const at::Tensor* key,
    const at::Tensor* value,
    const at::Tensor* query_begin,
    const at::Tensor* begin,
    const at::Tensor* used,
    int64_t longest,
    double scale,
    at::Tensor** out) {
  return guarded([&] {
    const auto result = at::_ops::_flash_attention_forward::call(
        *query, *key, *value, *query_begin, *begin, 1, longest, 0.0, false, false, scale, std::nullopt, std::nullopt,
        *used, std::nullopt);
    out[0] = new at::Tensor(std::get<0>(result));
    out[1] = new at::Tensor(std::get<1>(result));
  });
}

// Free bytes of a CUDA device.
char* isr_free_memory(int device, uint64_t* free) {
  return guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    *free = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getMemoryInfo(index).first;
  });
}

// Bytes of the memory that a tensor is in, a view's whole memory.
char* isr_storage_bytes(const at::Tensor* tensor, uint64_t* bytes) {
  return guarded([&] { *bytes = tensor->storage().nbytes(); });
}

// Gives a tensor's memory back (0 bytes) or allocates it anew, for the tensor and all views of the same memory.
char* isr_resize_storage(const at::Tensor* tensor, uint64_t bytes) {
  return guarded([&] {
    auto* storage = tensor->storage().unsafeGetStorageImpl();
    TORCH_CHECK(storage->resizable() && storage->allocator(), "memory that libtorch has not allocated cannot be freed");
    const c10::DeviceGuard guard(tensor->device());
    storage->set_data_ptr_noswap(storage->allocator()->allocate(bytes));
    storage->set_nbytes(static_cast<size_t>(bytes));
  });
}

// Begins to count the operations that this thread dispatches.
char* isr_count_begin() {
  return guarded([&] {
    counted.clear();
    worked.clear();
    counter = at::addThreadLocalCallback(
        at::RecordFunctionCallback(enter, leave).scopes({at::RecordScope::FUNCTION}));
  });
}

// Ends counting. Writes the names of the outermost operations that computed something, a line each; `isr_free` frees
// them.
char* isr_count_end(char** names) {
  return guarded([&] {
    at::removeCallback(counter);
    std::string all;
    for (const auto& name : counted) {
      all += name;
      all += '\n';
    }
    *names = strdup(all.c_str());
  });
}

} // extern "C"
