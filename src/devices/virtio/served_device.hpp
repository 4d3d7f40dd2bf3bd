#pragma once
#include "base/event_loop.hpp"
#include "devices/virtio/device.hpp"
#include <mutex>
#include <thread>

namespace abyme::virtio {

// A device whose queues this process serves, one request at a time, on a thread of the device's own.
class ServedDevice : public Device {
public:
  ~ServedDevice() override;
  [[nodiscard]] bool served_outside() const final { return false; }
  [[nodiscard]] Result<void> attach(Transport &transport) final;
  void start(u64 features, std::span<const StartedQueue> queues, u64 epoch) final;
  void stop() final;
  void pause(std::span<QueuePosition> positions) final;
  void resume() final;

protected:
  // What became of one call of serve().
  enum class Served {
    Request, // one request is done and pushed
    Nothing, // the queue is empty
    Waiting, // it is not, but what it holds must wait for serve_later()
  };
  // Serves the next request of a queue. On the device's thread, with lock_ held (so no calls to the transport).
  [[nodiscard]] virtual std::expected<Served, QueueFault> serve(u16 index, Queue &queue) = 0;
  // After each call of serve(), on the device's thread and without lock_: for what may take long, or call back.
  virtual void after_serve() = 0;
  // After a reset, with lock_ held: forget what belonged to the driver.
  virtual void stopped() = 0;
  // Has the device's thread look at a queue again, as if it was kicked. From any thread, whatever it holds.
  void serve_later(u16 index);
  [[nodiscard]] Transport &transport() { return *transport_; }
  // Ends the device's thread; a class that overrides serve() calls it in its destructor, before its members go.
  void end_thread();
  [[nodiscard]] u64 negotiated() const { return features_; }      // with lock_ held
  [[nodiscard]] bool started() const { return !queues_.empty(); } // with lock_ held

  std::mutex lock_; // below the device lock; guards the queues, and what a derived class says

private:
  // One step of the thread, and what it leads to once lock_ is free.
  struct Outcome {
    bool more = false;
    bool notify = false;
    std::optional<QueueFault> fault = {};
    u64 epoch = 0;
  };
  [[nodiscard]] Outcome step(u16 index);
  void drain(u16 index);

  Transport *transport_ = nullptr;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::unique_ptr<EventLoop::Watch>> watches_;
  std::jthread thread_;
  std::vector<std::optional<Queue>> queues_; // under lock_, as all below; empty unless started
  u64 features_ = 0;
  u64 epoch_ = 0;
  bool paused_ = false;
};

} // namespace abyme::virtio
