#include "vbon/comm/mailbox.hpp"

#include <algorithm>
#include <exception>
#include <functional>
#include <list>
#include <string>
#include <utility>

#include "comm/requests.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"

namespace vbon::comm {
namespace {

constexpr int kAreYouThere = Mailbox::kMaxTag + 1;
constexpr int kHere = Mailbox::kMaxTag + 2;
constexpr double kAnswer_s = 1.0;  // for ranks that wait: they look at their mail every millisecond

bool holds(std::span<const int> tags, int tag) { return std::find(tags.begin(), tags.end(), tag) != tags.end(); }

}  // namespace

class Mailbox::Post final : public Progress {
 public:
  explicit Post(Communicator group) : group_(std::move(group)) { group_.waiter().add(*this); }
  ~Post() override;

  void send(int destination, int tag, std::span<const std::byte> bytes);
  std::optional<Message> take(std::span<const int> tags);
  const Message* find(std::span<const int> tags);
  bool advance() override;
  std::string diagnosis() override;

  const Communicator& group() const { return group_; }
  std::size_t unsent() const { return outgoing_.size(); }
  std::uint64_t arrived() const { return arrived_; }
  std::string unsent_text() const;

 private:
  struct Incoming {
    Message message;
    MPI_Request request = MPI_REQUEST_NULL;  // not null: still on its way
  };
  struct Outgoing {
    int destination = 0;
    int tag = 0;
    std::vector<std::byte> bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  void post(int destination, int tag, std::vector<std::byte> bytes);
  void take_call(MPI_Message handle, const MPI_Status& status);
  bool match_new();
  bool finish_sends();
  std::list<Incoming>::iterator oldest(std::span<const int> tags);

  Communicator group_;
  std::list<Incoming> incoming_;  // in the order of matching, which MPI keeps for each (source, tag)
  std::list<Outgoing> outgoing_;
  std::uint64_t arrived_ = 0;
  std::vector<bool> answered_;  // by rank of the group, to the question that is asked now
};

void Mailbox::Post::send(int destination, int tag, std::span<const std::byte> bytes) {
  check(destination >= 0 && destination < group_.size(), "the destination is a rank of the group");
  check(tag >= 0 && tag <= kMaxTag, "a tag is 0 to 32765");
  check(static_cast<std::int64_t>(bytes.size()) <= kMaxMessageBytes, "a message has at most 1 GiB");
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  if (destination == group_.rank()) {
    incoming_.push_back({.message = {.source = destination, .tag = tag, .bytes = std::move(copy)}});
    ++arrived_;
    return;
  }
  post(destination, tag, std::move(copy));
}

void Mailbox::Post::post(int destination, int tag, std::vector<std::byte> bytes) {
  Outgoing& out = outgoing_.emplace_back(Outgoing{.destination = destination, .tag = tag, .bytes = std::move(bytes)});
  VBON_MPI(MPI_Isend, out.bytes.data(), static_cast<int>(out.bytes.size()), MPI_BYTE, destination, tag,
           group_.state().comm, &out.request);
}

void Mailbox::Post::take_call(MPI_Message handle, const MPI_Status& status) {
  VBON_MPI(MPI_Mrecv, nullptr, 0, MPI_BYTE, &handle, MPI_STATUS_IGNORE);  // it is empty, so it is here
  if (status.MPI_TAG == kAreYouThere) post(status.MPI_SOURCE, kHere, {});
  else if (!answered_.empty()) answered_[static_cast<std::size_t>(status.MPI_SOURCE)] = true;
}

bool Mailbox::Post::match_new() {
  bool moved = false;
  while (true) {
    int found = 0;
    MPI_Message handle = MPI_MESSAGE_NULL;
    MPI_Status status;
    VBON_MPI(MPI_Improbe, MPI_ANY_SOURCE, MPI_ANY_TAG, group_.state().comm, &found, &handle, &status);
    if (found == 0) return moved;
    if (status.MPI_TAG > kMaxTag) {
      take_call(handle, status);
      continue;
    }
    int bytes = 0;
    VBON_MPI(MPI_Get_count, &status, MPI_BYTE, &bytes);
    Incoming& in = incoming_.emplace_back();
    in.message = {.source = status.MPI_SOURCE, .tag = status.MPI_TAG};
    in.message.bytes.resize(static_cast<std::size_t>(bytes));
    VBON_MPI(MPI_Imrecv, in.message.bytes.data(), bytes, MPI_BYTE, &handle, &in.request);
    moved = true;
  }
}

bool Mailbox::Post::finish_sends() {
  return std::erase_if(outgoing_, [](Outgoing& out) {
           int over = 0;
           VBON_MPI(MPI_Test, &out.request, &over, MPI_STATUS_IGNORE);
           return over != 0;
         }) > 0;
}

bool Mailbox::Post::advance() {
  if (group_.size() == 1) return false;
  bool moved = finish_sends();
  moved = match_new() || moved;
  for (Incoming& in : incoming_) {
    if (in.request == MPI_REQUEST_NULL) continue;
    int over = 0;
    VBON_MPI(MPI_Test, &in.request, &over, MPI_STATUS_IGNORE);
    if (over == 0) continue;
    ++arrived_;
    moved = true;
  }
  return moved;
}

// A large message may still be on its way when a later one of the same source and tag is here: that one has to wait.
std::list<Mailbox::Post::Incoming>::iterator Mailbox::Post::oldest(std::span<const int> tags) {
  std::vector<std::pair<int, int>> held;  // (source, tag)
  for (auto in = incoming_.begin(); in != incoming_.end(); ++in) {
    if (!holds(tags, in->message.tag)) continue;
    const std::pair<int, int> stream(in->message.source, in->message.tag);
    if (std::find(held.begin(), held.end(), stream) != held.end()) continue;
    if (in->request == MPI_REQUEST_NULL) return in;
    held.push_back(stream);
  }
  return incoming_.end();
}

const Message* Mailbox::Post::find(std::span<const int> tags) {
  const auto in = oldest(tags);
  return in == incoming_.end() ? nullptr : &in->message;
}

std::optional<Message> Mailbox::Post::take(std::span<const int> tags) {
  const auto in = oldest(tags);
  if (in == incoming_.end()) return std::nullopt;
  Message message = std::move(in->message);
  incoming_.erase(in);
  return message;
}

std::string Mailbox::Post::unsent_text() const {
  return fmt::format("{} unsent messages of group '{}', the first with tag {} to {}", outgoing_.size(), group_.name(),
                     outgoing_.front().tag, group_.place_of(outgoing_.front().destination));
}

Mailbox::Post::~Post() {
  group_.waiter().remove(*this);
  const bool quiet = std::uncaught_exceptions() > 0;  // the error that is passing is the one to read
  try {
    for (int i = 0; i < 100 && !outgoing_.empty(); ++i) finish_sends();
    if (!quiet && !outgoing_.empty()) log::error("internal error: {}", unsent_text());
    if (!quiet && !incoming_.empty())
      log::error("internal error: {} unread messages of group '{}', the first with tag {} from {}", incoming_.size(),
                 group_.name(), incoming_.front().message.tag, group_.place_of(incoming_.front().message.source));
  } catch (const std::exception& error) {
    log::error("{}", error.what());
  }
  // Buffers of messages under way are leaked on purpose: a peer may still read or write them.
  for (Outgoing& out : outgoing_) new std::vector<std::byte>(std::move(out.bytes));
  for (Incoming& in : incoming_)
    if (in.request != MPI_REQUEST_NULL) new std::vector<std::byte>(std::move(in.message.bytes));
}

namespace {

class ForMessage final : public Awaited {
 public:
  ForMessage(std::function<bool()> here, std::function<std::uint64_t()> arrived, std::string description)
      : here_(std::move(here)), arrived_(std::move(arrived)), description_(std::move(description)) {}
  bool done() override { return here_(); }
  std::uint64_t moves() const override { return arrived_(); }
  std::string description() const override { return description_; }

 private:
  std::function<bool()> here_;
  std::function<std::uint64_t()> arrived_;
  std::string description_;
};

}  // namespace

std::string Mailbox::Post::diagnosis() {
  if (group_.size() == 1) return {};
  answered_.assign(static_cast<std::size_t>(group_.size()), false);
  answered_[static_cast<std::size_t>(group_.rank())] = true;
  for (int rank = 0; rank < group_.size(); ++rank)
    if (rank != group_.rank()) post(rank, kAreYouThere, {});
  const auto silent = [&] { return std::count(answered_.begin(), answered_.end(), false); };
  ForMessage answers([&] { return silent() == 0; }, [] { return std::uint64_t{0}; }, "answers");
  group_.waiter().wait_for(answers, kAnswer_s);
  if (silent() == 0) return "all other ranks answer: they wait, too";
  std::vector<std::string> places;
  for (int rank = 0; rank < group_.size(); ++rank)
    if (!answered_[static_cast<std::size_t>(rank)]) places.push_back(group_.place_of(rank));
  return fmt::format("no answer from {}: stopped, lost, or busy with something other than waiting", joined(places));
}

Mailbox::Mailbox(Communicator group) : post_(std::make_unique<Post>(std::move(group))) {}
Mailbox::~Mailbox() = default;

const Communicator& Mailbox::group() const { return post_->group(); }

void Mailbox::send(int destination, int tag, std::span<const std::byte> bytes) { post_->send(destination, tag, bytes); }

std::optional<Message> Mailbox::poll(std::initializer_list<int> tags) {
  group().waiter().advance();
  return post_->take(std::span(tags.begin(), tags.size()));
}

Message Mailbox::wait(std::initializer_list<int> tags, std::string_view what) {
  const std::span<const int> wanted(tags.begin(), tags.size());
  ForMessage awaited([&] { return post_->find(wanted) != nullptr; }, [&] { return post_->arrived(); },
                     fmt::format("the wait for a message ({}) of group '{}'", what, group().name()));
  group().waiter().wait(awaited);
  return *post_->take(wanted);
}

std::optional<Message> Mailbox::wait_for(std::initializer_list<int> tags, double seconds) {
  const std::span<const int> wanted(tags.begin(), tags.size());
  ForMessage awaited([&] { return post_->find(wanted) != nullptr; }, [&] { return post_->arrived(); }, "a message");
  group().waiter().wait_for(awaited, seconds);
  return post_->take(wanted);
}

void Mailbox::flush() {
  if (unsent() == 0) return;
  ForMessage awaited([&] { return post_->unsent() == 0; }, [&] { return std::uint64_t{0} - post_->unsent(); },
                     fmt::format("the sending of {}", post_->unsent_text()));
  group().waiter().wait(awaited);
}

std::int64_t Mailbox::unsent() const { return static_cast<std::int64_t>(post_->unsent()); }

}  // namespace vbon::comm
