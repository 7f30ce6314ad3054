// Mapped memory and work on other threads, as JavaScript sees them.
#include <exception>

#include "addon/kms_classes.h"

namespace scanout::addon {

Napi::Value MappedBytes::bytes(Napi::Env env) {
  if (!array_.IsEmpty()) return {env, array_.Value()};
  // The finalizer holds the mapping: an array that is still around after the buffer's end must not point at
  // memory that somebody else has by then.
  auto* held = new std::shared_ptr<kms::Mapping>(mapping_);
  const auto buffer = Napi::ArrayBuffer::New(
      env, mapping_->data(), mapping_->size(),
      [](Napi::Env, void*, std::shared_ptr<kms::Mapping>* mapping) { delete mapping; }, held);
  const auto array = Napi::Uint8Array::New(env, mapping_->size(), buffer, 0);
  array_ = Napi::Persistent(array);
  return {env, array};
}

void MappedBytes::detach() noexcept {
  mapping_.reset();
  if (array_.IsEmpty()) return;
  try {
    const Napi::HandleScope handles(array_.Env());
    array_.Value().ArrayBuffer().Detach();
    array_.Reset();
  } catch (const Napi::Error&) { // NOLINT(bugprone-empty-catch): the environment ends, and the array with it
  }
}

namespace {

class PoolWork final : public Napi::AsyncWorker {
public:
  PoolWork(Napi::Env env, std::function<void()> work, std::function<Napi::Value(Napi::Env)> result)
      : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)),
        result_(std::move(result)) {}
  [[nodiscard]] Napi::Value promise() const { return deferred_.Promise(); }

  void Execute() override {
    try {
      work_();
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  void OnOK() override {
    const Napi::Env env = Env();
    work_ = nullptr; // what it holds is free before anybody hears of the end
    try {
      if (error_) std::rethrow_exception(error_);
      deferred_.Resolve(result_(env));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const std::exception& error) {
      deferred_.Reject(to_js(env, error).Value());
    }
  }

private:
  Napi::Promise::Deferred deferred_;
  std::function<void()> work_;
  std::function<Napi::Value(Napi::Env)> result_;
  std::exception_ptr error_;
};

} // namespace

Napi::Value run_async(Napi::Env env, std::function<void()> work,
                      std::function<Napi::Value(Napi::Env)> result) {
  auto* pool_work = new PoolWork(env, std::move(work), std::move(result)); // deletes itself
  const Napi::Value promise = pool_work->promise();
  pool_work->Queue();
  return promise;
}

} // namespace scanout::addon
