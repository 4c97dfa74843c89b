#include "vbon/comm/mpi.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <thread>
#include <utility>

#include "comm/mpi_api.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/host.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/stop.hpp"

namespace vbon::comm {
namespace {

class AwaitedRequest : public Awaited {
 public:
  AwaitedRequest(MPI_Request& request, std::string description)
      : request_(request), description_(std::move(description)) {}
  bool done() override {
    int flag = 0;
    VBON_MPI(MPI_Test, &request_, &flag, MPI_STATUS_IGNORE);
    return flag != 0;
  }
  std::string description() const override { return description_; }

 private:
  MPI_Request& request_;
  std::string description_;
};

void sleeping_barrier(MPI_Comm comm, Waiter& waiter, const std::string& what) {
  MPI_Request request = MPI_REQUEST_NULL;
  VBON_MPI(MPI_Ibarrier, comm, &request);
  wait_for_request(request, waiter, what);
}

// World rank of the first rank that shares this rank's memory.
int find_node_leader(MPI_Comm world, int world_rank) {
  MPI_Comm node = MPI_COMM_NULL;
  VBON_MPI(MPI_Comm_split_type, world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int leader = world_rank;
  VBON_MPI(MPI_Bcast, &leader, 1, MPI_INT, 0, node);
  VBON_MPI(MPI_Comm_free, &node);
  return leader;
}

std::vector<int> number_nodes(const std::vector<int>& leaders) {
  std::vector<int> seen;
  std::vector<int> nodes;
  for (int leader : leaders) {
    const auto found = std::find(seen.begin(), seen.end(), leader);
    nodes.push_back(static_cast<int>(found - seen.begin()));
    if (found == seen.end()) seen.push_back(leader);
  }
  return nodes;
}

std::unique_ptr<Communicator::State> describe(MPI_Comm comm, bool owned, std::string name, Waiter& waiter, Peer me) {
  auto state = std::make_unique<Communicator::State>();
  state->comm = comm;
  state->owned = owned;
  state->name = std::move(name);
  state->waiter = &waiter;
  VBON_MPI(MPI_Comm_rank, comm, &state->rank);
  VBON_MPI(MPI_Comm_size, comm, &state->size);
  std::vector<Peer> peers(static_cast<std::size_t>(state->size));
  MPI_Request request = MPI_REQUEST_NULL;
  constexpr int bytes = static_cast<int>(sizeof(Peer));
  VBON_MPI(MPI_Iallgather, &me, bytes, MPI_BYTE, peers.data(), bytes, MPI_BYTE, comm, &request);
  wait_for_request(request, waiter, "the making of group '" + state->name + "'");
  for (const Peer& peer : peers) {
    state->hosts.emplace_back(peer.host);
    state->world_ranks.push_back(peer.world_rank);
    state->node_leaders.push_back(peer.node_leader);
  }
  state->nodes = number_nodes(state->node_leaders);
  return state;
}

Peer myself(const Communicator::State& state) {
  const auto rank = static_cast<std::size_t>(state.rank);
  Peer me;
  state.hosts[rank].copy(me.host, sizeof(me.host) - 1);
  me.world_rank = state.world_ranks[rank];
  me.node_leader = state.node_leaders[rank];
  return me;
}

}  // namespace

void throw_mpi_error(const char* function, int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  int error_class = code;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) length = 0;
  MPI_Error_class(code, &error_class);
  const std::string message(text.data(), static_cast<std::size_t>(length));
  if (error_class == MPI_ERR_TRUNCATE)
    throw InternalError(fmt::format("{}: ranks disagree about the size of a message ({})", function, message));
  throw EnvironmentError("{} failed: {}", function, message.empty() ? fmt::format("code {}", code) : message);
}

void wait_for_request(MPI_Request& request, Waiter& waiter, const std::string& description) {
  AwaitedRequest awaited(request, description);
  waiter.wait(awaited);
}

Communicator::State::~State() {
  if (!owned || comm == MPI_COMM_NULL || std::uncaught_exceptions() > 0) return;
  int finalised = 0;
  MPI_Finalized(&finalised);
  if (finalised == 0) MPI_Comm_free(&comm);
}

Communicator Communicator::local() {
  auto state = std::make_unique<State>();
  state->name = "local";
  state->hosts = {host_name()};
  state->world_ranks = state->node_leaders = state->nodes = {0};
  state->own_waiter = std::make_unique<Waiter>("rank 0 on " + state->hosts[0]);
  state->waiter = state->own_waiter.get();
  return Communicator(std::move(state));
}

Communicator::Communicator(std::unique_ptr<State> state) : state_(std::move(state)) {}
Communicator::~Communicator() = default;
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;

int Communicator::rank() const { return state_->rank; }
int Communicator::size() const { return state_->size; }
bool Communicator::is_local() const { return state_->own_waiter != nullptr; }
const std::string& Communicator::name() const { return state_->name; }
int Communicator::node() const { return node_of(rank()); }
int Communicator::node_of(int rank) const { return state_->nodes.at(static_cast<std::size_t>(rank)); }
int Communicator::num_nodes() const { return *std::max_element(state_->nodes.begin(), state_->nodes.end()) + 1; }
int Communicator::node_rank() const {
  return static_cast<int>(std::count(state_->nodes.begin(), state_->nodes.begin() + rank(), node()));
}
int Communicator::node_size() const {
  return static_cast<int>(std::count(state_->nodes.begin(), state_->nodes.end(), node()));
}
const std::string& Communicator::host() const { return host_of(rank()); }
const std::string& Communicator::host_of(int rank) const { return state_->hosts.at(static_cast<std::size_t>(rank)); }
int Communicator::world_rank_of(int rank) const { return state_->world_ranks.at(static_cast<std::size_t>(rank)); }
std::string Communicator::place_of(int rank) const {
  return fmt::format("rank {} on {}", world_rank_of(rank), host_of(rank));
}
Waiter& Communicator::waiter() const { return *state_->waiter; }

Communicator Communicator::dup(const std::string& name) const {
  if (is_local()) return local();
  MPI_Comm copy = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  VBON_MPI(MPI_Comm_idup, state_->comm, &copy, &request);
  wait_for_request(request, waiter(), "the making of group '" + name + "'");
  return Communicator(describe(copy, /*owned=*/true, name, waiter(), myself(*state_)));
}

std::optional<Communicator> Communicator::split(std::optional<int> colour, const std::string& name) const {
  check(!colour || *colour >= 0, "a colour is not negative");
  if (is_local()) return colour ? std::optional(local()) : std::nullopt;
  // MPI has no nonblocking split: the sleeping barrier before it makes sure that nobody spins in it for long.
  sleeping_barrier(state_->comm, waiter(), "the making of group '" + name + "'");
  MPI_Comm group = MPI_COMM_NULL;
  VBON_MPI(MPI_Comm_split, state_->comm, colour.value_or(MPI_UNDEFINED), rank(), &group);
  if (group == MPI_COMM_NULL) return std::nullopt;
  return Communicator(describe(group, /*owned=*/true, name, waiter(), myself(*state_)));
}

// Open MPI gives all lone processes on a host the same folder below /tmp, and the first to end removes it under the
// others: one that starts at that moment fails. So each gets its own.
MpiRuntime::SessionFolder::SessionFolder() {
  constexpr const char* kSetting = "OMPI_MCA_orte_tmpdir_base";
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", kSetting})
    if (std::getenv(name) != nullptr) return;
  const char* const base = std::getenv("TMPDIR");
  std::string made = fmt::format("{}/vbon-mpi-XXXXXX", base != nullptr && *base != 0 ? base : "/tmp");
  if (::mkdtemp(made.data()) == nullptr) return;  // then as MPI does it
  path = made;
  ::setenv(kSetting, path.c_str(), /*overwrite=*/1);
}

void MpiRuntime::SessionFolder::remove() const {
  std::error_code ignored;
  if (!path.empty()) std::filesystem::remove_all(path, ignored);
}

MpiRuntime::MpiRuntime(int& argc, char**& argv, WaitOptions options)
    : exceptions_at_start_(std::uncaught_exceptions()) {
  int initialised = 0;
  VBON_MPI(MPI_Initialized, &initialised);
  check(initialised == 0, "one MpiRuntime a process");
  // Started without a launcher, Open MPI would start a daemon of its own, for spawning processes, which nobody does
  // here.
  ::setenv("OMPI_MCA_ess_singleton_isolated", "1", /*overwrite=*/0);
  int provided = MPI_THREAD_SINGLE;
  VBON_MPI(MPI_Init_thread, &argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  if (provided < MPI_THREAD_SERIALIZED) throw EnvironmentError("this MPI library was built without thread support");
  VBON_MPI(MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  ::prctl(PR_SET_TIMERSLACK, 1000UL);  // ns: short pauses last what they say, not 50 us longer
  Peer me;
  VBON_MPI(MPI_Comm_rank, MPI_COMM_WORLD, &me.world_rank);
  host_name().copy(me.host, sizeof(me.host) - 1);
  me.node_leader = find_node_leader(MPI_COMM_WORLD, me.world_rank);
  waiter_ = std::make_unique<Waiter>(fmt::format("rank {} on {}", me.world_rank, me.host), options);
  world_ = std::make_unique<Communicator>(describe(MPI_COMM_WORLD, /*owned=*/false, "world", *waiter_, me));
}

MpiRuntime::~MpiRuntime() {
  if (std::uncaught_exceptions() > exceptions_at_start_) return;
  try {
    sleeping_barrier(MPI_COMM_WORLD, *waiter_, "the end of the run");
  } catch (const std::exception& error) {
    abort(static_cast<int>(ExitCode::environment), error.what());
  }
  if (const int code = MPI_Finalize(); code != MPI_SUCCESS) log::error("MPI_Finalize failed with code {}", code);
}

void MpiRuntime::abort(int code, const std::string& message) {
  if (!message.empty()) log::error("{}", message);
  log::flush();
  if (world_ && world_->size() == 1) {
    MPI_Finalize();  // waits for nobody, and takes away what MPI keeps on disk
    session_.remove();
    std::_Exit(code);
  }
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

void MpiRuntime::abort_behind(int code) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::seconds kPatience{5};
  const auto end = Clock::now() + kPatience;
  // The launcher's TERM is the end; a process that leaves before it would be one that died.
  while (Clock::now() < end && !stop::requested()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  abort(code, "");
}

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  VBON_MPI(MPI_Get_library_version, text.data(), &length);
  const std::string whole(text.data());
  return whole.substr(0, whole.find_first_of("\n"));
}

}  // namespace vbon::comm
