#include "machine/console/console.hpp"
#include "machine/console/escape_filter.hpp"
#include "machine/console/raw_terminal.hpp"
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

namespace abyme::machine {
namespace {

Bytes bytes(std::string_view text) { return {text.begin(), text.end()}; }
std::string text(ByteView view) { return {view.begin(), view.end()}; }

// ---- the escape key

TEST(EscapeFilter, PassesEverythingElseOn) {
  EscapeFilter filter;
  const auto typed = filter.filter(bytes("ls\r\x03\x04\x1b[A"));
  EXPECT_EQ(text(typed.input), "ls\r\x03\x04\x1b[A");
  EXPECT_FALSE(typed.quit);
}

TEST(EscapeFilter, QuitsOnItsSequenceEvenInTwoReads) {
  EscapeFilter filter;
  EXPECT_FALSE(filter.filter(bytes("a\x1d")).quit);
  const auto typed = filter.filter(bytes("q"));
  EXPECT_TRUE(typed.quit);
  EXPECT_TRUE(typed.input.empty());
}

TEST(EscapeFilter, DoubledItIsForTheLevelBelow) {
  EscapeFilter filter;
  EXPECT_EQ(text(filter.filter(bytes("\x1d\x1dq")).input), "\x1dq");
  EXPECT_EQ(text(filter.filter(bytes("\x1dx")).input), "\x1dx");
}

// ---- sockets and files

class Consoles : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/abyme-console-XXXXXX";
    directory = mkdtemp(name);
    loop = EventLoop::create().value();
  }
  void TearDown() override {
    console.reset();
    std::filesystem::remove_all(directory);
  }
  Result<void> open(ConsoleSpec::Kind kind) {
    console = make_console({kind, path()}, *loop, [] {});
    return console->open();
  }
  [[nodiscard]] std::string path() const { return directory / "c"; }
  [[nodiscard]] Fd connect_client() const {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
    const timeval limit{.tv_sec = 5, .tv_usec = 0}; // so that a failure does not hang
    setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return client;
  }
  [[nodiscard]] static std::string read_exactly(const Fd &from, size_t count) {
    std::string got(count, '\0');
    for (size_t done = 0; done < count;) {
      const ssize_t n = ::read(from.get(), got.data() + done, count - done);
      if (n <= 0) return got.substr(0, done);
      done += static_cast<size_t>(n);
    }
    return got;
  }
  std::filesystem::path directory;
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<Console> console;
};

TEST_F(Consoles, NothingHappensBeforeOpen) {
  console = make_console({ConsoleSpec::Kind::File, path()}, *loop, [] {});
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(Consoles, AFileGetsTheOutput) {
  ASSERT_TRUE(open(ConsoleSpec::Kind::File));
  console->write(bytes("hello"));
  std::ifstream file(path());
  EXPECT_EQ((std::string{std::istreambuf_iterator<char>(file), {}}), "hello");
}

TEST_F(Consoles, AFileThatCannotBeIsAnError) {
  console = make_console({ConsoleSpec::Kind::File, directory / "no" / "file"}, *loop, [] {});
  EXPECT_FALSE(console->open());
}

TEST_F(Consoles, ASocketKeepsOutputForItsClientAndGoesWithItsConsole) {
  ASSERT_TRUE(open(ConsoleSpec::Kind::Socket));
  console->write(bytes("early "));
  std::jthread thread([&] { loop->run(); });
  {
    const Fd client = connect_client();
    EXPECT_EQ(read_exactly(client, 6), "early ");
    console->write(bytes("late"));
    EXPECT_EQ(read_exactly(client, 4), "late");
  }
  const Fd second = connect_client();
  console->write(bytes("again"));
  EXPECT_EQ(read_exactly(second, 5), "again");
  loop->stop();
  thread.join();
  console.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(Consoles, OutputThatNobodyReadsIsBounded) {
  ASSERT_TRUE(open(ConsoleSpec::Kind::Socket));
  for (int i = 0; i < 1000; i++) console->write(Bytes(1024, i == 999 ? 'z' : 'a'));
  std::jthread thread([&] { loop->run(); });
  const Fd client = connect_client();
  const auto got = read_exactly(client, 64 << 10);
  EXPECT_EQ(got.size(), 64u << 10);
  EXPECT_EQ(got.back(), 'z');
  loop->stop();
}

TEST_F(Consoles, InputWaitsUntilTheDeviceHasRoom) {
  ASSERT_TRUE(open(ConsoleSpec::Kind::Socket));
  std::string received;
  size_t room = 3;
  console->connect([&](ByteView input) {
    const size_t taken = std::min(room, input.size());
    received += text(input.first(taken));
    room -= taken;
    if (room == 0 || received.size() == 6) loop->stop();
    return taken;
  });
  const Fd client = connect_client();
  ASSERT_EQ(::write(client.get(), "abcdef", 6), 6);
  loop->run();
  EXPECT_EQ(received, "abc");
  room = 100;
  console->input_room();
  loop->run();
  EXPECT_EQ(received, "abcdef");
}

TEST_F(Consoles, AStaleSocketIsReplacedALivingOneIsNot) {
  ASSERT_TRUE(open(ConsoleSpec::Kind::Socket));
  auto other = make_console({ConsoleSpec::Kind::Socket, path()}, *loop, [] {});
  EXPECT_FALSE(other->open());
  other.reset();
  EXPECT_TRUE(std::filesystem::exists(path())); // it was not its own to remove
  console.reset();
  {
    const Fd stale(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(bind(stale.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
  }
  EXPECT_TRUE(open(ConsoleSpec::Kind::Socket));
  std::ofstream(directory / "file") << "mine";
  other = make_console({ConsoleSpec::Kind::Socket, directory / "file"}, *loop, [] {});
  EXPECT_FALSE(other->open());
  EXPECT_TRUE(std::filesystem::exists(directory / "file"));
}

// ---- the terminal

class RawTerminals : public testing::Test {
protected:
  void SetUp() override {
    host = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_EQ(grantpt(host.get()), 0);
    ASSERT_EQ(unlockpt(host.get()), 0);
    terminal = Fd(::open(ptsname(host.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(terminal);
  }
  [[nodiscard]] bool is_raw() const {
    termios settings{};
    EXPECT_EQ(tcgetattr(terminal.get(), &settings), 0);
    return !(settings.c_lflag & (ICANON | ECHO | ISIG));
  }
  // Runs `end` in a process that has the terminal raw; how that process ended.
  template <class End> int in_child(End end) const {
    const pid_t child = fork();
    if (child == 0) {
      const auto raw = RawTerminal::enter(terminal.get());
      if (!raw || !is_raw()) _exit(99);
      end();
      _exit(98);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  Fd host, terminal;
};

TEST_F(RawTerminals, IsRestoredByItsDestructor) {
  ASSERT_FALSE(is_raw());
  {
    const auto raw = RawTerminal::enter(terminal.get());
    ASSERT_TRUE(raw);
    EXPECT_TRUE(is_raw());
  }
  EXPECT_FALSE(is_raw());
}

TEST_F(RawTerminals, IsRestoredWhenTheProcessDies) {
  for (const int signal : {SIGABRT, SIGTERM, SIGHUP, SIGQUIT}) {
    const int status = in_child([signal] { raise(signal); });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << signal << " " << status;
    EXPECT_FALSE(is_raw()) << signal;
  }
  EXPECT_EQ(WEXITSTATUS(in_child([] { std::exit(7); })), 7);
  EXPECT_FALSE(is_raw());
}

TEST_F(RawTerminals, RefusesWhatIsNoTerminal) {
  const Fd null(::open("/dev/null", O_RDWR));
  EXPECT_FALSE(RawTerminal::enter(null.get()));
}

} // namespace
} // namespace abyme::machine
