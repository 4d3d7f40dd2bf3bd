#include "net/ports/pcap/pcap.hpp"
#include "net/capture/pcapng.hpp"
#include "net/ports/finish.hpp"
#include "net/ports/options.hpp"
#include <ctime>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <unistd.h>

namespace abyme::net {
namespace {

struct PcapCloser {
  void operator()(pcap_t *p) const { pcap_close(p); }
};
using Reader = std::unique_ptr<pcap_t, PcapCloser>;

Result<Reader> open_reader(const std::string &path) {
  char why[PCAP_ERRBUF_SIZE] = {};
  Reader r(pcap_open_offline_with_tstamp_precision(path.c_str(), PCAP_TSTAMP_PRECISION_NANO, why));
  if (!r) return fail("cannot read '{}': {}", path, why);
  if (pcap_datalink(r.get()) != DLT_EN10MB) return fail("'{}' has no Ethernet frames", path);
  return r;
}

// The wall clock, in nanoseconds since 1970.
u64 wall() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

class PcapPort final : public PortDevice {
public:
  PcapPort(const PortContext &context, std::string in, Reader reader, Fd out, bool fast, bool again)
      : context_(context), in_(std::move(in)), reader_(std::move(reader)), out_(std::move(out)), fast_(fast),
        again_(again) {
    if (out_) {
      pcapng::section(pending_, "abyme switch");
      pcapng::interface(pending_, "out", "frames out of the switch");
    }
    context_.host.connected(true);
    if (reader_) schedule(context_.loop.clock().now());
  }
  ~PcapPort() override {
    if (timer_) context_.loop.cancel(timer_);
    flush();
  }

  void transmit(std::span<Egress> frames) override {
    if (!out_) return; // a source only: what it is sent, it swallows
    for (Egress &e : frames)
      send_finished(e, {}, scratch_, [&](const Frame &f, TagEdit edit) { return keep(f, edit); });
    flush();
  }
  nlohmann::json describe() const override {
    return {{"in", in_}, {"sent", sent_}, {"kept", kept_}, {"done", !reader_}};
  }

private:
  DropReason keep(const Frame &f, TagEdit edit) {
    bytes_.resize(wire_length(f, edit));
    copy_wire(f, edit, bytes_.data());
    pcapng::packet(pending_, {.interface = 0,
                              .nanoseconds = wall(),
                              .bytes = bytes_,
                              .original_length = static_cast<u32>(bytes_.size()),
                              .inbound = false,
                              .comment = {}});
    kept_++;
    return DropReason::None;
  }
  void flush() {
    if (out_ && !pending_.empty() &&
        write(out_.get(), pending_.data(), pending_.size()) != static_cast<ssize_t>(pending_.size()) && !failed_) {
      failed_ = true;
      context_.host.misbehaved("the capture file cannot be written; is the disk full?");
    }
    pending_.clear();
  }

  void schedule(Nanoseconds when) {
    timer_ = context_.loop.at(when, [this] {
      timer_ = 0;
      play();
    });
  }
  // Reads one frame ahead, so that it knows when the next is due.
  bool read_next() {
    pcap_pkthdr *header = nullptr;
    const u8 *data = nullptr;
    const int got = pcap_next_ex(reader_.get(), &header, &data);
    if (got != 1 && again_ && sent_ > at_start_) {
      at_start_ = sent_;
      auto reopened = open_reader(in_);
      if (!reopened) return false;
      reader_ = std::move(*reopened);
      first_stamp_.reset();
      return read_next();
    }
    if (got != 1) return false;
    next_.assign(data, data + std::min<u32>(header->caplen, kMaxFrame));
    const u64 stamp = static_cast<u64>(header->ts.tv_sec) * 1'000'000'000 + static_cast<u64>(header->ts.tv_usec);
    if (!first_stamp_) {
      first_stamp_ = stamp;
      started_ = context_.loop.clock().now();
    }
    due_ = fast_ || stamp < *first_stamp_ ? 0 : started_ + (stamp - *first_stamp_);
    return true;
  }
  void play() {
    const Nanoseconds now = context_.loop.clock().now();
    batch_.clear();
    while (!batch_.full()) {
      if (next_.empty() && !read_next()) {
        reader_.reset();
        break;
      }
      if (due_ > now || !batch_.add(next_)) break;
      next_.clear();
      sent_++;
    }
    if (!batch_.empty()) context_.host.received(batch_.frames());
    if (reader_) schedule(next_.empty() ? now : std::max(due_, now));
  }

  PortContext context_;
  std::string in_;
  Reader reader_;
  Fd out_;
  bool fast_, again_, failed_ = false;
  std::vector<u8> next_, bytes_;
  pcapng::Bytes pending_;
  Nanoseconds due_ = 0, started_ = 0;
  std::optional<u64> first_stamp_;
  u64 sent_ = 0, kept_ = 0, at_start_ = 0;
  Loop::TimerId timer_ = 0;
  FrameBatch batch_, scratch_;
};

Result<std::unique_ptr<PortDevice>> open_port(const PortContext &context, const PortOptions &o) {
  const auto in = text_option(o, "in", "-"), out = text_option(o, "out", "-"),
             speed = text_option(o, "speed", "recorded");
  const auto again = flag_option(o, "loop", false);
  for (const auto *t : {&in, &out, &speed})
    if (!*t) return std::unexpected(t->error());
  if (!again) return std::unexpected(again.error());
  if (*in == "-" && *out == "-") return fail("in or out is missing; a capture file port has at least one of them");
  if (*speed != "recorded" && *speed != "fast") return fail("speed is '{}'; expected recorded or fast", *speed);
  Reader reader;
  if (*in != "-") {
    auto opened = open_reader(*in);
    if (!opened) return std::unexpected(opened.error());
    reader = std::move(*opened);
  }
  Fd file;
  if (*out != "-") {
    file = Fd(open(out->c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return fail_errno(fmt::format("cannot write '{}'", *out));
  }
  return std::make_unique<PcapPort>(context, *in, std::move(reader), std::move(file), *speed == "fast", *again);
}

} // namespace

const PortKind kPcapPort{"pcap", "in, out, speed, loop", false, open_port};

} // namespace abyme::net
