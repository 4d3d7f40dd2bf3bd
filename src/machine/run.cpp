#include "machine/run.hpp"
#include "machine/machine.hpp"
#include "machine/stats.hpp"
#include <csignal>
#include <sys/signalfd.h>

namespace abyme::machine {
namespace {

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  return set;
}

// A VM over its resets: what stays while machines come and go.
class Runner {
public:
  explicit Runner(const MachineConfig &config) : config_(config) {}

  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] Result<Ended> run();
  [[nodiscard]] const RunStats &stats() const { return stats_; }

private:
  [[nodiscard]] Result<void> watch_signals();
  [[nodiscard]] Result<void> announce();
  void end(unsigned signal);

  const MachineConfig &config_;
  HostClock clock_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<TimerService> timers_;
  Fd signals_;
  std::unique_ptr<EventLoop::Watch> signal_watch_;
  std::unique_ptr<Console> serial_, hypervisor_;
  EngineChoice choice_;
  std::unique_ptr<Machine> machine_;
  RunStats stats_;
};

// Before any thread exists, so that all of them inherit the mask: these signals reach the event loop and nobody else.
Result<void> Runner::watch_signals() {
  const sigset_t set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN); // a reader that leaves is an error of a write
  signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC));
  if (!signals_) return fail_errno("signalfd");
  auto watched = loop_->watch(signals_.get(), EPOLLIN, [this](u32) {
    signalfd_siginfo info;
    if (::read(signals_.get(), &info, sizeof info) == sizeof info) end(info.ssi_signo);
  });
  if (!watched) return std::unexpected(watched.error());
  signal_watch_ = std::move(*watched);
  return {};
}

void Runner::end(unsigned signal) {
  // The next one kills, should the way out take too long.
  const sigset_t set = ending_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  if (machine_) machine_->end({.why = Ended::Why::Signal, .value = signal});
}

Result<void> Runner::prepare() {
  auto loop = EventLoop::create();
  if (!loop) return std::unexpected(loop.error());
  loop_ = std::move(*loop);
  if (auto watched = watch_signals(); !watched) return watched;
  auto choice = choose_engine(config_);
  if (!choice) return std::unexpected(choice.error());
  choice_ = std::move(*choice);
  stats_.engine = name(choice_.engine);
  stats_.cpus = config_.cpus;
  timers_ = make_host_timers(clock_);
  const auto make = [this](const ConsoleSpec &spec) { return make_console(spec, *loop_, [this] { end(SIGINT); }); };
  serial_ = make(config_.serial);
  if (config_.hypervisor) hypervisor_ = make(*config_.hypervisor);
  return {};
}

// Once the machine stands: before that, bad input must leave no trace.
Result<void> Runner::announce() {
  fmt::print(stderr, "abyme: engine {}: {}\n", stats_.engine, choice_.reason);
  if (auto opened = serial_->open(); !opened) return opened;
  return hypervisor_ ? hypervisor_->open() : Result<void>();
}

Result<Ended> Runner::run() {
  const HostSide host{*loop_, *timers_, *serial_, hypervisor_.get()};
  const Nanoseconds start = clock_.now();
  for (;;) {
    auto machine = Machine::build(config_, choice_, host);
    if (!machine) return std::unexpected(machine.error());
    machine_ = std::move(*machine);
    if (stats_.resets == 0)
      if (auto announced = announce(); !announced) return std::unexpected(announced.error());
    const Ended ended = machine_->run();
    stats_.instructions += machine_->instructions();
    stats_.nanoseconds = clock_.now() - start;
    machine_.reset();
    if (ended.why != Ended::Why::Reset || config_.no_reboot) return ended;
    stats_.resets++;
  }
}

} // namespace

Result<int> run_vm(const MachineConfig &config, const std::string &stats) {
  Result<Ended> ended;
  RunStats figures;
  {
    Runner runner(config);
    if (auto prepared = runner.prepare(); !prepared) return std::unexpected(prepared.error());
    ended = runner.run();
    figures = runner.stats();
  } // the terminal is itself again
  if (!ended) return std::unexpected(ended.error());
  fmt::print(stderr, "abyme: {}\n", describe(*ended));
  figures.ended = *ended;
  if (!stats.empty())
    if (auto written = write_stats(figures, stats); !written) return std::unexpected(written.error());
  return exit_status(*ended);
}

} // namespace abyme::machine
