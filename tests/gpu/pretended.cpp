// CUDA devices for a torch without CUDA. Their memory is the host's and their kernels are the CPU's; everything above
// the kernels (dispatch, autograd and its threads, autocast, streams, pinned memory) is torch's own code for a GPU.
//
// Faults that a CPU hides show: fresh memory is NaN, tensors on different devices are an error, each device has its
// own random numbers, and an asynchronous copy to the host arrives when the host waits, not before. Launches of
// kernels and waits of the host are counted.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/TensorBody.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/distributed/c10d/reducer_timer.hpp>
#include <torch/library.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <set>

using namespace at;

namespace {

enum { LAUNCHES, READS, WRITES, KINDS };  // READS and WRITES: the host waits for the device
std::atomic<int64_t> counts[KINDS];
std::mutex mutex;                               // of all that follows
std::map<std::string, int64_t> kernels;         // how often each operation was launched
std::map<const char*, size_t> pinned;           // blocks of pinned memory
std::multimap<DeviceIndex, std::function<void()>> in_flight;  // copies that have not arrived on the host

constexpr size_t AGGREGATE = 0;
DeviceIndex devices() {
  static const char* const wanted = std::getenv("PRETENDED_DEVICES");
  static const int count = wanted == nullptr ? 1 : std::atoi(wanted);
  return static_cast<DeviceIndex>(count);
}
thread_local DeviceIndex current = 0;
thread_local std::map<DeviceIndex, StreamId> streams;
Device cuda(DeviceIndex index) { return {DeviceType::CUDA, index < 0 ? current : index}; }

void wait(DeviceIndex index) {
  std::multimap<DeviceIndex, std::function<void()>> arriving;
  {
    std::lock_guard lock(mutex);
    while (auto next = in_flight.extract(index)) arriving.insert(std::move(next));
  }
  for (const auto& [_, arrive] : arriving) arrive();
}

// -- devices, streams, events ------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  DeviceIndex deviceCount() const noexcept override { return devices(); }
  Device getDevice() const override { return cuda(current); }
  void uncheckedSetDevice(Device device) const noexcept override { current = device.index(); }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < devices(), "CUDA error: invalid device ordinal");
    current = device.index();
  }
  Device exchangeDevice(Device device) const override {
    Device before = getDevice();
    setDevice(device);
    return before;
  }
  Stream getStream(Device device) const override {
    device = cuda(device.index());
    return Stream(Stream::UNSAFE, device, streams[device.index()]);
  }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, cuda(device.index())); }
  Stream getNewStream(Device device, int) const override {
    static std::atomic<StreamId> last{0};
    return Stream(Stream::UNSAFE, cuda(device.index()), ++last);
  }
  Stream exchangeStream(Stream stream) const override {
    Stream before = getStream(stream.device());
    streams[stream.device_index()] = stream.id();
    return before;
  }
  bool queryStream(const Stream& stream) const override { return wait(stream.device_index()), true; }
  void synchronizeStream(const Stream& stream) const override { wait(stream.device_index()); }
  void synchronizeDevice(DeviceIndex index) const override { ++counts[READS], wait(index); }
  struct Event {
    DeviceIndex device;
    std::chrono::steady_clock::time_point time;
  };
  void record(void** event, const Stream& stream, DeviceIndex, EventFlag) const override {
    delete static_cast<Event*>(*event);
    *event = new Event{stream.device_index(), std::chrono::steady_clock::now()};
  }
  void block(void*, const Stream&) const override {}
  bool queryEvent(void* event) const override { return synchronizeEvent(event), true; }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) wait(static_cast<Event*>(event)->device);
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  double elapsedTime(void* from, void* to, DeviceIndex) const override {
    auto passed = static_cast<Event*>(to)->time - static_cast<Event*>(from)->time;
    return std::chrono::duration<double, std::milli>(passed).count();
  }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

// -- memory ------------------------------------------------------------------------------------------

using Stats = c10::CachingDeviceAllocator::DeviceStats;
std::map<DeviceIndex, Stats> stats;

struct Block {  // of memory on a device: its own, or that of a result of the CPU
  size_t bytes;
  DeviceIndex device;
  Tensor owner;
  void* memory;
};
void give_back(void* context) {
  auto* block = static_cast<Block*>(context);
  {
    std::lock_guard lock(mutex);
    stats[block->device].allocated_bytes[AGGREGATE].decrease(block->bytes);
  }
  std::free(block->memory);
  delete block;
}
DataPtr on_device(void* data, Block* block) {
  std::lock_guard lock(mutex);
  stats[block->device].allocated_bytes[AGGREGATE].increase(block->bytes);
  return {data, block, &give_back, cuda(block->device)};
}

struct Memory final : c10::DeviceAllocator {
  DataPtr allocate(size_t bytes) override {
    void* memory = bytes == 0 ? nullptr : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory != nullptr) std::memset(memory, 0xFF, bytes);  // NaN in each type of float
    return on_device(memory, new Block{bytes, current, Tensor(), memory});
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const DataPtr&, Stream) override {}
  Stats getDeviceStats(DeviceIndex device) override {
    std::lock_guard lock(mutex);
    return stats[device];
  }
  void resetAccumulatedStats(DeviceIndex) override {}
  void resetPeakStats(DeviceIndex device) override {
    std::lock_guard lock(mutex);
    stats[device].allocated_bytes[AGGREGATE].reset_peak();
  }
  std::pair<size_t, size_t> getMemoryInfo(DeviceIndex) override { return {size_t{80} << 30, size_t{80} << 30}; }
} memory;

struct PinnedMemory final : c10::Allocator {
  static void release(void* block) {
    std::lock_guard lock(mutex);
    pinned.erase(static_cast<const char*>(block));
    std::free(block);
  }
  DataPtr allocate(size_t bytes) override {
    auto* block = static_cast<char*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64));
    std::lock_guard lock(mutex);
    pinned[block] = bytes;
    return {block, block, &release, Device(kCPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
} pinned_memory;

bool is_pinned(const void* data) {
  std::lock_guard lock(mutex);
  auto after = pinned.upper_bound(static_cast<const char*>(data));
  return after != pinned.begin() && static_cast<const char*>(data) <= std::prev(after)->first + std::prev(after)->second;
}

// -- what torch asks of CUDA -------------------------------------------------------------------------

const Generator& generator(DeviceIndex index) {
  static std::map<DeviceIndex, Generator> all;
  std::lock_guard lock(mutex);
  auto [found, fresh] = all.try_emplace(index < 0 ? current : index);
  if (fresh) found->second = at::detail::createCPUGenerator();
  return found->second;
}

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool hasCUDA() const override { return true; }
  DeviceIndex deviceCount() const override { return devices(); }
  int getNumGPUs() const override { return devices(); }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex index) const override { Guard().setDevice(cuda(index)); }
  DeviceIndex exchangeDevice(DeviceIndex index) const override { return Guard().exchangeDevice(cuda(index)).index(); }
  DeviceIndex maybeExchangeDevice(DeviceIndex index) const override { return exchangeDevice(index); }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  Allocator* getPinnedMemoryAllocator() const override { return &pinned_memory; }
  Device getDeviceFromPtr(void*) const override { return cuda(current); }
  const Generator& getDefaultGenerator(DeviceIndex index) const override { return generator(index); }
  Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  void deviceSynchronize(DeviceIndex index) const override { wait(index); }
};

struct Registration {
  Registration() { c10::SetAllocator(DeviceType::CUDA, &memory, 255); }
} registration;

// -- tensors -----------------------------------------------------------------------------------------

Tensor alias(const Tensor& x) {  // the same memory as a tensor of the CPU
  return at::from_blob(x.data_ptr(), x.sizes(), x.strides(), TensorOptions().dtype(x.dtype()));
}
Tensor host(const Tensor& x) { return x.defined() && x.is_cuda() ? alias(x) : x; }

Tensor device(Tensor x, Device where) {  // a result of the CPU as a tensor of the device, in the same memory
  if (!x.defined()) return x;
  if (x.storage().data_ptr().get_context() == nullptr) x = x.clone();  // an argument's memory
  auto bytes = x.storage().nbytes();
  auto data = on_device(x.storage().mutable_data(), new Block{bytes, where.index(), x, nullptr});
  auto result = at::detail::make_tensor<TensorImpl>(
      Storage(Storage::use_byte_size_t(), bytes, std::move(data), &memory, true), DispatchKeySet(DispatchKey::CUDA), x.dtype());
  result.unsafeGetTensorImpl()->set_sizes_and_strides(x.sizes(), x.strides(), x.storage_offset());
  return result;
}

using Dtype = std::optional<ScalarType>;
Tensor empty_memory_format(IntArrayRef size, Dtype dtype, std::optional<Layout>, std::optional<Device> where,
                           std::optional<bool>, std::optional<MemoryFormat> format) {
  c10::OptionalDeviceGuard guard(where);
  return at::detail::empty_generic(size, &memory, DispatchKeySet(DispatchKey::CUDA), dtype_or_default(dtype), format);
}
Tensor empty_strided(IntArrayRef size, IntArrayRef stride, Dtype dtype, std::optional<Layout>,
                     std::optional<Device> where, std::optional<bool>) {
  c10::OptionalDeviceGuard guard(where);
  return at::detail::empty_strided_generic(size, stride, &memory, DispatchKeySet(DispatchKey::CUDA), dtype_or_default(dtype));
}

Tensor& copy_(Tensor& self, const Tensor& source, bool non_blocking) {
  if (self.is_cuda() && source.is_cuda()) {
    ++counts[LAUNCHES];
    host(self).copy_(host(source));
  } else if (source.is_cuda() && non_blocking && is_pinned(self.data_ptr())) {
    auto value = host(source).clone();
    std::memset(self.data_ptr(), 0xFF, self.is_contiguous() && self.dtype() != kBool ? self.nbytes() : 0);
    std::lock_guard lock(mutex);
    in_flight.emplace(source.device().index(), [self, value] { alias(self).copy_(value); });
  } else {
    if (!non_blocking || !is_pinned((self.is_cuda() ? source : self).data_ptr())) {
      ++counts[self.is_cuda() ? WRITES : READS];
      wait((self.is_cuda() ? self : source).device().index());
    }
    host(self).copy_(host(source));
  }
  return self;
}

const Tensor& resize_(const Tensor& self, SymIntArrayRef sizes, std::optional<MemoryFormat> format) {
  auto* impl = self.unsafeGetTensorImpl();
  auto shape = C10_AS_INTARRAYREF_SLOW(sizes);
  size_t bytes = c10::multiply_integers(shape) * self.itemsize();
  if (auto before = impl->storage().nbytes(); bytes > before) {
    c10::DeviceGuard guard(self.device());
    auto fresh = memory.allocate(bytes);
    if (before) std::memcpy(fresh.get(), impl->storage().data(), before);
    impl->storage().set_data_ptr(std::move(fresh));
    impl->storage().set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(shape);
  if (format && *format != MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  return self;
}

Tensor& set_storage(Tensor& self, Storage storage, SymInt offset, SymIntArrayRef size, SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), offset.guard_int(__FILE__, __LINE__));
  return self;
}

Scalar local_scalar_dense(const Tensor& self) {
  ++counts[READS];
  wait(self.device().index());
  return at::native::_local_scalar_dense_cpu(host(self));
}
Tensor as_strided(const Tensor& x, SymIntArrayRef size, SymIntArrayRef stride, std::optional<SymInt> offset) {
  std::optional<int64_t> start;
  if (offset) start = offset->guard_int(__FILE__, __LINE__);
  return at::native::as_strided_tensorimpl(x, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), start);
}
Tensor view(const Tensor& x, SymIntArrayRef size) { return at::native::view(x, C10_AS_INTARRAYREF_SLOW(size)); }
Tensor reshape_alias(const Tensor& x, SymIntArrayRef size, SymIntArrayRef stride) {
  return at::native::_reshape_alias(x, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

// -- every other operation: the CPU's kernel, on the same memory -------------------------------------

const std::set<std::string> READING = {  // the size or the type of the result depends on values
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
    "aten::equal", "aten::bincount", "aten::repeat_interleave"};

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const auto& name = schema.operator_name().name;
  TORCH_CHECK_NOT_IMPLEMENTED(name.rfind("aten::", 0) == 0 || name.rfind("torchvision::", 0) == 0,
                              "Could not run '", name, "' with arguments from the 'CUDA' backend.");
  std::optional<Device> where;
  bool reads = READING.count(name);
  auto check = [&](const Tensor& x, bool scalar_may_differ) {
    if (!x.defined() || (scalar_may_differ && x.is_cpu() && x.dim() == 0)) return;
    if (!where) where = x.device();
    TORCH_CHECK(*where == x.device(), "Expected all tensors to be on the same device, but found at least two devices, ",
                *where, " and ", x.device(), "! (when running ", name, ")");
  };
  auto begin = stack->size() - arguments.size();
  std::vector<IValue> given(stack->begin() + begin, stack->end());
  for (size_t i = 0; i < arguments.size(); ++i) {
    IValue& value = (*stack)[begin + i];
    if (value.isTensor()) {
      check(value.toTensor(), true);
      value = arguments[i].is_out() ? at::empty({0}, TensorOptions().dtype(value.toTensor().dtype())) : host(value.toTensor());
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      for (auto& x : list) check(x, false), x = host(x);
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {  // indices, which may be on the CPU
      c10::List<std::optional<Tensor>> list;
      for (const std::optional<Tensor>& x : value.toOptionalTensorVector()) {
        bool defined = x && x->defined();
        if (defined && x->is_cuda()) check(*x, false);
        if (defined && x->is_cpu()) ++counts[WRITES];
        reads |= defined && (x->dtype() == kBool || x->dtype() == kByte);
        list.push_back(defined ? std::optional<Tensor>(host(*x)) : x);
      }
      value = std::move(list);
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      where = cuda(value.toDevice().index());
      value = Device(kCPU);
    }
  }
  Device target = where && where->is_cuda() ? *where : cuda(current);
  ++counts[LAUNCHES];
  if (reads) ++counts[READS], wait(target.index());
  {
    std::lock_guard lock(mutex);
    ++kernels[name];
  }
  if (op.hasTag(at::Tag::nondeterministic_seeded)) {  // draws from the device's generator
    auto general = at::detail::getDefaultCPUGenerator(), own = generator(target.index());
    auto before = general.get_state();
    general.set_state(own.get_state());
    op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);
    own.set_state(general.get_state());
    general.set_state(before);
  } else {
    op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);
  }
  const auto& returns = schema.returns();
  for (size_t i = 0; i < returns.size(); ++i) {
    IValue& value = (*stack)[stack->size() - returns.size() + i];
    if (const auto* alias = returns[i].alias_info()) {
      TORCH_CHECK(alias->isWrite(), name, " returns a view, which the pretended device does not know");
      for (size_t j = 0; j < arguments.size(); ++j) {
        if (arguments[j].alias_info() == nullptr || *arguments[j].alias_info() != *alias) continue;
        auto self = given[j].toTensor();
        if (arguments[j].is_out()) {
          if (self.sizes() != value.toTensor().sizes()) self.resize_(value.toTensor().sizes());
          host(self).copy_(value.toTensor());
        }
        value = self;
      }
    } else if (value.isTensor()) {
      value = device(value.toTensor(), target);
    } else if (value.isTensorList()) {
      auto list = value.toTensorVector();
      for (auto& x : list) x = device(x, target);
      value = std::move(list);
    }
  }
}

struct Timer final : c10d::Timer {  // of DDP
  explicit Timer(Device) {}
  std::optional<int64_t> measureDifference(Event start, Event end) override {
    auto from = getTimestamp(start), to = getTimestamp(end);
    return from && to ? std::optional<int64_t>(*to - *from) : std::nullopt;
  }
};

}  // namespace

namespace c10d {
C10_REGISTER_TYPED_CLASS(TimerRegistry, c10::kCUDA, ::Timer)
}  // namespace c10d

namespace at {
using ::CUDAHooks;
REGISTER_CUDA_HOOKS(CUDAHooks)
}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty_memory_format);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("as_strided", &as_strided);
  m.impl("view", &view);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &at::native::unfold);
  // What would be several operations here and is one kernel of CUDA.
  std::vector<std::string> whole{"convolution", "convolution_backward"};
  for (const auto& [name, overload] : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.rfind("aten::_foreach_", 0) == 0) whole.push_back(name.substr(6) + (overload.empty() ? "" : "." + overload));
  }
  for (const auto& name : whole) m.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY(pretended, m) {
  m.def("counts", [] { return std::vector<int64_t>(counts, counts + KINDS); });
  m.def("set_launches", [](int64_t value) { counts[LAUNCHES] = value; });
  m.def("kernels", [] {
    c10::Dict<std::string, int64_t> found;
    std::lock_guard lock(mutex);
    for (const auto& [name, count] : kernels) found.insert(name, count);
    return found;
  });
  m.def("host", [](const Tensor& x) { return alias(x.detach()); });
  m.def("random_state", [](int64_t index) { return Tensor::wrap_tensor_impl(generator(index).get_state().getIntrusivePtr()); });
  m.def("set_random_state", [](int64_t index, const Tensor& state) { Generator(generator(index)).set_state(state); });
  m.def("seed", [](int64_t index, int64_t seed) { Generator(generator(index)).set_current_seed(seed); });
}
