#include "machine/console/console.hpp"
#include "machine/console/file_console.hpp"
#include "machine/console/stdio_console.hpp"
#include "machine/console/stream_console.hpp"

namespace abyme::machine {

void Console::connect(Receive receive) {
  receive_ = std::move(receive);
  deliver();
}

void Console::input_room() {
  loop_.post([this] { deliver(); });
}

void Console::input(ByteView bytes) {
  append(waiting_, bytes);
  deliver();
}

void Console::deliver() {
  if (receive_ && !waiting_.empty()) {
    const size_t taken = receive_(waiting_);
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(taken));
  }
  read_input(waiting_.empty());
}

Result<ConsoleSpec> parse_console(std::string_view text) {
  using Kind = ConsoleSpec::Kind;
  if (text == "stdio") return ConsoleSpec{Kind::Stdio, {}};
  if (text == "pty") return ConsoleSpec{Kind::Pty, {}};
  if (text == "none") return ConsoleSpec{Kind::None, {}};
  for (const auto &[prefix, kind] : {std::pair<std::string_view, Kind>{"socket:", Kind::Socket}, {"file:", Kind::File}})
    if (text.starts_with(prefix) && text.size() > prefix.size())
      return ConsoleSpec{kind, std::string(text.substr(prefix.size()))};
  return fail("--console {}: stdio, pty, socket:PATH, file:PATH or none is right", text);
}

std::unique_ptr<Console> make_console(const ConsoleSpec &spec, EventLoop &loop, std::function<void()> quit) {
  switch (spec.kind) {
  case ConsoleSpec::Kind::Stdio: return make_stdio_console(loop, std::move(quit));
  case ConsoleSpec::Kind::Pty: return make_pty_console(loop);
  case ConsoleSpec::Kind::Socket: return make_socket_console(loop, spec.path);
  case ConsoleSpec::Kind::File: return make_file_console(loop, spec.path);
  case ConsoleSpec::Kind::None: break;
  }
  return make_null_console(loop);
}

} // namespace abyme::machine
