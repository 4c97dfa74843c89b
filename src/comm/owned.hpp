// The owner of a C handle: moved by exchange, never copied, released once.
#pragma once

#include <type_traits>
#include <utility>

namespace vbon::comm {

template <class Handle, class Release>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  ~Owned() { reset(); }
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      handle_ = std::exchange(other.handle_, Handle{});
    }
    return *this;
  }
  Handle get() const { return handle_; }

 private:
  void reset() noexcept {
    if (handle_ != Handle{}) Release{}(std::exchange(handle_, Handle{}));
  }
  Handle handle_{};
};

}  // namespace vbon::comm
