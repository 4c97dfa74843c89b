// fuzz_readers: reads changed copies of valid files with every reader. A reader may take a file or refuse it
// (UserError, with a message of decent length); an InternalError or any other exception, a signal, more than kSeconds
// of processor time for one input, or one allocation of more than 512 MiB is a fault. Every fault prints the command
// that repeats it.
//
// The sanitizers see the rest: it is built with AddressSanitizer (preset asan) only.
#include <fmt/format.h>
#include <sanitizer/asan_interface.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <typeinfo>

#include "fuzz/readers.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/log.hpp"

extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=512:allocator_may_return_null=1:hard_rss_limit_mb=3000:quarantine_size_mb=16:handle_abort=1:"
         "detect_stack_use_after_return=0:suppressions=" VBON_TEST_DATA "/sanitizers/addresses.txt";
}

extern "C" const char* __lsan_default_options() {
  return "print_suppressions=0:suppressions=" VBON_TEST_DATA "/sanitizers/leaks.txt";
}

namespace vbon::fuzz {
namespace {

constexpr int kSeconds = 20;

char repeat[512];  // the command that repeats the input at hand

void say_how_to_repeat() {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, repeat, std::strlen(repeat));
}

void too_slow(int) {
  constexpr std::string_view what = "\nFAULT: does not come to an end\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, what.data(), what.size());
  say_how_to_repeat();
  ::_exit(1);
}

void limit_time(int seconds) {
  itimerval timer = {};
  timer.it_value.tv_sec = seconds;
  ::setitimer(ITIMER_PROF, &timer, nullptr);  // processor time: a machine at work elsewhere is no fault
}

struct Counts {
  std::int64_t accepted = 0, refused = 0, faults = 0;
  double slowest_s = 0;
};

enum class Outcome { accepted, refused, fault };

// Reads the folder; prints what is wrong with the way it went.
Outcome run_one(const Reader& reader, const fs::path& folder) {
  const auto fault = [](const std::string& what) {
    std::fprintf(stderr, "FAULT: %s\n%s", what.substr(0, 2000).c_str(), repeat);
    return Outcome::fault;
  };
  try {
    reader.read(folder);
    return Outcome::accepted;
  } catch (const UserError& error) {
    const std::size_t length = std::strlen(error.what());
    if (length == 0 || length > kMaxMessageBytes)
      return fault(fmt::format("a message of {} bytes: {}", length, error.what()));
    return Outcome::refused;
  } catch (const std::exception& error) {
    return fault(fmt::format("{}: {}", typeid(error).name(), error.what()));
  }
}

Outcome timed(const Reader& reader, const fs::path& folder, const Files& files, Counts& counts) {
  fs::remove_all(folder);
  write_files(folder, files);
  const auto begin = std::chrono::steady_clock::now();
  limit_time(kSeconds);
  const Outcome outcome = run_one(reader, folder);
  limit_time(0);
  counts.slowest_s =
      std::max(counts.slowest_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  (outcome == Outcome::accepted ? counts.accepted : outcome == Outcome::refused ? counts.refused : counts.faults) += 1;
  return outcome;
}

Counts run_reader(const Reader& reader, const fs::path& folder, std::uint64_t first, std::uint64_t count,
                  const char* program) {
  Counts counts, untouched;
  for (const Files& seed : reader.seeds) {
    std::snprintf(repeat, sizeof repeat, "%s: an unchanged file\n", reader.name.c_str());
    if (timed(reader, folder, seed, untouched) != Outcome::accepted) {
      std::fprintf(stderr, "FAULT: %s refuses a valid file\n", reader.name.c_str());
      try {
        reader.read(folder);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "  %s\n", error.what());
      }
      ++counts.faults;
    }
  }
  for (std::uint64_t number = first; number < first + count; ++number) {
    std::snprintf(repeat, sizeof repeat, "  again: %s '%s' %llu 1\n", program, reader.name.c_str(),
                  static_cast<unsigned long long>(number));
    Random random(reader.name, number);
    Files files = random.any_of(reader.seeds);
    reader.change(files, random);
    timed(reader, folder, files, counts);
  }
  if (reader.refuses && count >= 100 && counts.refused == 0) {
    std::fprintf(stderr, "FAULT: %s takes whatever it is given\n", reader.name.c_str());
    ++counts.faults;
  }
  return counts;
}

fs::path own_folder() {
  const char* const memory = "/dev/shm";  // quick, and spares the disk
  const fs::path base = ::access(memory, W_OK) == 0 ? fs::path(memory) : fs::temp_directory_path();
  return base / fmt::format("vbon-fuzz-{}", ::getpid());
}

int run(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s READER|all FIRST COUNT\n", argv[0]);
    return 2;
  }
  const std::string wanted = argv[1];
  const std::uint64_t first = std::strtoull(argv[2], nullptr, 10), count = std::strtoull(argv[3], nullptr, 10);
  log::init(0, 1, log::Level::quiet);
  std::signal(SIGPROF, too_slow);
  __sanitizer_set_death_callback(say_how_to_repeat);
  const fs::path folder = own_folder();
  fs::remove_all(folder);
  make_folders(folder / "made");
  std::vector<Reader> readers;
  for (auto& more : {text_readers(), model_readers(folder / "made"), run_folder_readers(folder / "made"),
                     h5_readers(folder / "made")})
    readers.insert(readers.end(), more.begin(), more.end());
  Counts all;
  std::printf("%-28s %8s %8s %8s %8s %9s\n", "reader", "inputs", "accepted", "refused", "faults", "slowest");
  for (const Reader& reader : readers) {
    if (wanted != "all" && wanted != reader.name) continue;
    const Counts counts = run_reader(reader, folder / "input", first, count, argv[0]);
    const auto row = [](const char* name, const Counts& c) {
      std::printf("%-28s %8lld %8lld %8lld %8lld %7.2f s\n", name,
                  static_cast<long long>(c.accepted + c.refused + c.faults), static_cast<long long>(c.accepted),
                  static_cast<long long>(c.refused), static_cast<long long>(c.faults), c.slowest_s);
      std::fflush(stdout);
    };
    row(reader.name.c_str(), counts);
    all = {all.accepted + counts.accepted, all.refused + counts.refused, all.faults + counts.faults,
           std::max(all.slowest_s, counts.slowest_s)};
    if (&reader == &readers.back() && wanted == "all") row("all", all);
  }
  fs::remove_all(folder);
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("most memory: %ld MiB\n", usage.ru_maxrss / 1024);
  if (all.accepted + all.refused + all.faults == 0 && count > 0) {
    std::fprintf(stderr, "no reader is called '%s'\n", wanted.c_str());
    return 2;
  }
  return all.faults == 0 ? 0 : 1;
}

}  // namespace

Files files_in(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  return files;
}

void write_files(const fs::path& folder, const Files& files) {
  for (const auto& [name, bytes] : files) {
    const fs::path path = folder / name;
    fs::create_directories(path.parent_path());
    std::FILE* const file = std::fopen(path.c_str(), "wb");
    if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0)
      throw std::runtime_error("cannot write " + path.string());
  }
}

}  // namespace vbon::fuzz

int main(int argc, char** argv) { return vbon::fuzz::run(argc, argv); }
