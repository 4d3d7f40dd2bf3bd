#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

// Runs a fuzz target without a fuzzer: on the files that are named, or on a fixed number of inputs made from a fixed
// seed, so that a failure comes back. FUZZ_RUNS and FUZZ_SEED choose others.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

std::uint64_t from_environment(const char *name, std::uint64_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

// Bytes are drawn mostly from those that mean something: small numbers and extremes.
std::uint8_t byte(std::mt19937_64 &random) {
  switch (random() % 4) {
  case 0: return static_cast<std::uint8_t>(random());
  case 1: return random() % 2 ? 0xff : 0;
  default: return static_cast<std::uint8_t>(random() % 17);
  }
}

Input make(std::mt19937_64 &random) {
  Input input(random() % 400);
  for (auto &b : input) b = byte(random);
  return input;
}

Input change(Input input, std::mt19937_64 &random) {
  for (std::uint64_t n = random() % 8; n != 0 && !input.empty(); --n) input[random() % input.size()] = byte(random);
  return input;
}

int run_files(int count, char **paths) {
  for (int i = 0; i < count; ++i) {
    std::ifstream file(paths[i], std::ios::binary);
    if (!file) return std::fprintf(stderr, "%s: cannot be read\n", paths[i]), 2;
    const Input input(std::istreambuf_iterator<char>(file), {});
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc > 1) return run_files(argc - 1, argv + 1);
  std::mt19937_64 random(from_environment("FUZZ_SEED", 1));
  Input last;
  for (std::uint64_t runs = from_environment("FUZZ_RUNS", 200'000); runs != 0; --runs) {
    last = last.empty() || random() % 4 == 0 ? make(random) : change(std::move(last), random);
    LLVMFuzzerTestOneInput(last.data(), last.size());
  }
  return 0;
}
