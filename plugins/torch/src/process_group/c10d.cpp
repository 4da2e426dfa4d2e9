// PyTorch's distributed store and process groups (c10d), as far as `c10d.rs` binds them. Objects are handed out as
// pointers that own them, which the `_release` functions take back.

#include "../operators/guarded.h"

#include <ATen/core/ivalue.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

namespace {

using Milliseconds = std::chrono::milliseconds;

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  // Whether operations are queued on the device's stream rather than done on return.
  bool queued;
};

// Opens when an operation has ended, well or not.
struct Latch {
  std::mutex mutex;
  std::condition_variable ended;
  bool open = false;
};

struct Work {
  c10::intrusive_ptr<c10d::Work> work;
  // None where the device's stream waits.
  std::shared_ptr<Latch> latch;
};

std::vector<std::string> strings(const char* const* texts, size_t count) {
  return std::vector<std::string>(texts, texts + count);
}

// libtorch reads its level of logging for Python only. Its warnings about connections repeat, with stacks, the errors that
// are returned: they are left out unless the user asks for a level.
void set_log_level() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::getenv("TORCH_CPP_LOG_LEVEL")) {
      c10::initLogging();
    } else {
      FLAGS_caffe2_log_level = c10::GLOG_ERROR;
    }
  });
}

// `ProcessGroupNCCL` is in libtorch_cuda, which is loaded at run time where it is installed, and its header needs those of
// CUDA. So its constructors are looked up by their names of the Itanium C++ ABI, and what follows is called through the
// base classes. A class pointer of non-trivial type is passed by reference to the caller's object: declaring the same
// types here gives the same calls.
using ConstructOptions = void (*)(void*, bool);
using ConstructNccl =
    void (*)(void*, c10::intrusive_ptr<c10d::Store>, int, int, c10::intrusive_ptr<c10d::Backend::Options>);

ConstructOptions construct_options() {
  return reinterpret_cast<ConstructOptions>(dlsym(RTLD_DEFAULT, "_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb"));
}

ConstructNccl construct_nccl() {
  return reinterpret_cast<ConstructNccl>(dlsym(
      RTLD_DEFAULT,
      "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_EEEEii"
      "NS2_INS0_7OptionsENS5_IS8_EEEE"));
}

// Bytes for an object of NCCL's classes: in 2.11.0 for CUDA 13.0 a group has 1112, its options 248, as libtorch_python
// allocates them. Builds for other versions of NCCL differ by a few members.
constexpr size_t ROOM = 16384;

} // namespace

extern "C" {

// Connects to the store at `host`:`port`, or serves it there.
char* isr_store_open(const char* host, uint16_t port, bool serve, int64_t timeout, Store** out) {
  return guarded([&] {
    set_log_level();
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = serve;
    options.waitWorkers = false;
    options.timeout = Milliseconds(timeout);
    *out = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

// The same store, with `prefix` before each key.
char* isr_store_within(const Store* store, const char* prefix, Store** out) {
  return guarded([&] { *out = new Store{c10::make_intrusive<c10d::PrefixStore>(prefix, store->store)}; });
}

void isr_store_release(Store* store) {
  delete store;
}

char* isr_store_set(const Store* store, const char* key, const char* value) {
  return guarded([&] { store->store->set(key, std::string(value)); });
}

char* isr_store_add(const Store* store, const char* key, int64_t amount, int64_t* sum) {
  return guarded([&] { *sum = store->store->add(key, amount); });
}

// Sets a key that has no value.
char* isr_store_set_first(const Store* store, const char* key, const char* value) {
  return guarded([&] { store->store->compareSet(key, std::string(), std::string(value)); });
}

// Whether all keys have values.
char* isr_store_has(const Store* store, const char* const* keys, size_t count, bool* all) {
  return guarded([&] { *all = store->store->check(strings(keys, count)); });
}

// Calls `take` with each key's value, which must be there.
char* isr_store_get(
    const Store* store,
    const char* const* keys,
    size_t count,
    void* context,
    void (*take)(void*, const uint8_t*, size_t)) {
  return guarded([&] {
    for (const auto& value : store->store->multiGet(strings(keys, count))) {
      take(context, value.data(), value.size());
    }
  });
}

// Connects the processes of a group for CPU tensors, through the interface named, or else that with this address.
char* isr_gloo(
    const Store* store,
    int rank,
    int size,
    const char* interface,
    const char* address,
    int64_t connect_timeout,
    int64_t timeout,
    Group** out) {
  return guarded([&] {
    using Gloo = c10d::ProcessGroupGloo;
    auto options = Gloo::Options::create(Milliseconds(connect_timeout));
    options->devices.push_back(
        interface ? Gloo::createDeviceForInterface(interface) : Gloo::createDeviceForHostname(address));
    auto group = c10::make_intrusive<Gloo>(store->store, rank, size, options);
    group->setTimeout(Milliseconds(timeout));
    *out = new Group{std::move(group), false};
  });
}

// Whether libtorch's NCCL group has been loaded.
bool isr_nccl_loaded() {
  return construct_options() && construct_nccl();
}

// A group for CUDA tensors. It connects in its first operation. Never freed: its class ends by the process or by
// `isr_group_shutdown`.
char* isr_nccl(const Store* store, int rank, int size, int64_t timeout, Group** out) {
  return guarded([&] {
    TORCH_CHECK(isr_nccl_loaded(), "libtorch_cuda with NCCL is not loaded");
    using Options = c10d::Backend::Options;
    auto* options = static_cast<Options*>(::operator new(ROOM));
    construct_options()(options, false);
    const auto owned = c10::intrusive_ptr<Options>::unsafe_steal_from_new(options);
    owned->timeout = Milliseconds(timeout);
    auto* group = static_cast<c10d::Backend*>(::operator new(ROOM));
    construct_nccl()(group, store->store, rank, size, owned);
    auto backend = c10::intrusive_ptr<c10d::Backend>::unsafe_steal_from_new(group);
    // One reference for ever.
    new c10::intrusive_ptr<c10d::Backend>(backend);
    *out = new Group{std::move(backend), true};
  });
}

// Ends a group's connections without waiting for the other processes.
char* isr_group_shutdown(Group* group) {
  return guarded([&] { group->backend->shutdown(); });
}

void isr_group_release(Group* group) {
  delete group;
}

// Starts an operation: 0 sum of `out`, 1 `out` of process `root`, 2 all `in` into `out`, 3 share of the sum of `in` into
// `out`, 4 exchange of shares of `in` into `out`, 5 barrier.
char* isr_group_start(Group* group, int operation, const at::Tensor* out, const at::Tensor* in, int root, Work** work) {
  return guarded([&] {
    auto& backend = *group->backend;
    std::vector<at::Tensor> outs;
    if (out) {
      outs.push_back(*out);
    }
    at::Tensor result = out ? *out : at::Tensor();
    at::Tensor input = in ? *in : at::Tensor();
    std::vector<int64_t> equal;
    c10d::BroadcastOptions broadcast;
    broadcast.rootRank = root;
    c10::intrusive_ptr<c10d::Work> started;
    switch (operation) {
      case 0:
        started = backend.allreduce(outs);
        break;
      case 1:
        started = backend.broadcast(outs, broadcast);
        break;
      case 2:
        started = backend._allgather_base(result, input);
        break;
      case 3:
        started = backend._reduce_scatter_base(result, input);
        break;
      case 4:
        started = backend.alltoall_base(result, input, equal, equal);
        break;
      case 5:
        started = backend.barrier();
        break;
      default:
        TORCH_CHECK(false, "there is no operation ", operation);
    }
    auto held = std::make_unique<Work>(Work{std::move(started), nullptr});
    if (!group->queued) {
      held->latch = std::make_shared<Latch>();
      held->work->getFuture()->addCallback([latch = held->latch](c10::ivalue::Future&) {
        const std::lock_guard<std::mutex> lock(latch->mutex);
        latch->open = true;
        latch->ended.notify_all();
      });
    }
    *work = held.release();
  });
}

// Waits for an operation at most `timeout` milliseconds, and says whether it has ended; the error is the operation's. For
// operations on a device's stream the stream waits, and this returns at once.
char* isr_work_wait(Work* work, int64_t timeout, bool* ended) {
  return guarded([&] {
    *ended = true;
    if (work->latch) {
      std::unique_lock<std::mutex> lock(work->latch->mutex);
      *ended = work->latch->ended.wait_for(lock, Milliseconds(timeout), [&] { return work->latch->open; });
    }
    if (*ended) {
      work->work->wait();
    }
  });
}

void isr_work_release(Work* work) {
  delete work;
}

} // extern "C"
