#include "support/world.hpp"

namespace vbon::test {

comm::Communicator& world() {
  static comm::Communicator local = comm::Communicator::local();
  return local;
}

}  // namespace vbon::test
