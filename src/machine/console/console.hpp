#pragma once
#include "base/event_loop.hpp"
#include "machine/bytes.hpp"
#include <functional>
#include <string>

namespace abyme::machine {

// The host's end of a guest's serial line: what the guest writes goes out, what comes in waits until the guest's device
// takes it. It outlives the machine, so that a reset of the guest does not close it.
class Console {
public:
  using Receive = std::function<size_t(ByteView)>; // takes as much as it has room for, and says how much

  virtual ~Console() = default;
  Console(const Console &) = delete;
  Console &operator=(const Console &) = delete;

  // Once, before any output. Until then nothing outside has changed: a VM that cannot start leaves nothing behind.
  [[nodiscard]] virtual Result<void> open() = 0;
  // From the guest; any thread.
  virtual void write(ByteView bytes) = 0;
  // Whom input goes to; an empty function holds it back. While the loop is not running.
  void connect(Receive receive);
  // The device has room again. Any thread.
  void input_room();

protected:
  explicit Console(EventLoop &loop) : loop_(loop) {}
  // What came in; on the loop's thread.
  void input(ByteView bytes);
  // How much the device has not taken yet.
  [[nodiscard]] size_t waiting() const { return waiting_.size(); }
  // Whether to read on: not while input waits for the device. On the loop's thread.
  virtual void read_input(bool on) = 0;
  [[nodiscard]] EventLoop &loop() { return loop_; }

private:
  void deliver();
  EventLoop &loop_;
  Receive receive_;
  Bytes waiting_;
};

struct ConsoleSpec {
  enum class Kind { Stdio, Pty, Socket, File, None };
  Kind kind = Kind::Stdio;
  std::string path; // of Socket and File
};
// stdio, pty, socket:PATH, file:PATH or none.
[[nodiscard]] Result<ConsoleSpec> parse_console(std::string_view text);

// Where it is reached and left is said on standard error when it opens. `quit` is called, on the loop's thread, when
// the escape key ends the VM.
[[nodiscard]] std::unique_ptr<Console> make_console(const ConsoleSpec &spec, EventLoop &loop,
                                                    std::function<void()> quit);

} // namespace abyme::machine
