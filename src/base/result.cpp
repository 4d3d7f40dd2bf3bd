#include "base/result.hpp"
#include <cerrno>
#include <cstring>

namespace abyme {

std::unexpected<Error> fail_errno(std::string what) {
  return std::unexpected(Error{what + ": " + std::strerror(errno)});
}

} // namespace abyme
