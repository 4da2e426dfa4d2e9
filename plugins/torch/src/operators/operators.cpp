// Operators of libtorch that tch has no binding for. Their dispatch is in libtorch_cpu, so that no header or library of
// CUDA is needed.

#include "guarded.h"

#include <ATen/Tensor.h>
#include <ATen/core/function_schema.h>
#include <ATen/ops/_flash_attention_forward_ops.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_ops.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_ops.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_ops.h>
#include <ATen/record_function.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

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

} // namespace

extern "C" {

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
