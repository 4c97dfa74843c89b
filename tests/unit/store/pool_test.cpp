#include "vbon/store/pool.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "examples.hpp"
#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/store/h5_commit.hpp"
#include "vbon/store/pool_parts.hpp"

namespace vbon {
namespace {

using PoolFiles = TempFolder;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return "";
}

void expect_equal(const SampleBlock& a, const SampleBlock& b) {
  EXPECT_EQ(a.prompts.id, b.prompts.id);
  EXPECT_EQ(a.prompts.text, b.prompts.text);
  EXPECT_EQ(a.prompts.text_sha256, b.prompts.text_sha256);
  EXPECT_EQ(a.prompts.tokens, b.prompts.tokens);
  EXPECT_EQ(a.prompts.offset, b.prompts.offset);
  EXPECT_EQ(a.samples.tokens, b.samples.tokens);
  EXPECT_EQ(a.samples.length, b.samples.length);
  EXPECT_EQ(a.samples.finished, b.samples.finished);
  EXPECT_EQ(a.samples.logp_reference, b.samples.logp_reference);
  EXPECT_EQ(a.rewards, b.rewards);
}

// Cut after every token but the last.
SampleBlock cut_block(std::int64_t first_id, std::int64_t prompts) {
  SampleBlock block = example_block(first_id, prompts);
  block.prefixes.every = 1;
  block.prefixes.samples = block.samples.num_samples;
  const std::int64_t cuts = block.prefixes.num_cuts(block.samples.max_new_tokens);
  for (const std::int32_t length : block.samples.length)
    for (std::int64_t cut = 1; cut <= cuts; ++cut) {
      const auto place = static_cast<float>(block.prefixes.reward.size());
      block.prefixes.reward.push_back(length > cut ? place : std::nanf(""));
      block.prefixes.logp_reference.push_back(length > cut ? -place : std::nanf(""));
    }
  return block;
}
PoolHeader cut_header() {
  PoolHeader header = example_pool_header();
  header.prefix_every = 1;
  header.prefix_samples = header.num_samples;
  return header;
}

// Makes a pool of five prompts part by part, two prompts each; returns what was written.
template <class Block>
SampleBlock merged_from_parts(const fs::path& pool, const PoolHeader& header, Block&& block_of) {
  const PoolParts parts(pool, header, 5, 2);
  SampleBlock joined;
  for (const std::int64_t chunk : parts.missing()) {
    const SampleBlock rows = block_of(parts.first_prompt(chunk), parts.prompts_in(chunk));
    append(joined, rows);
    parts.write(chunk, rows, 0.5);
  }
  parts.merge();
  return joined;
}

// What is said against a block that was whole before `harm`.
std::string refusal(const fs::path& pool, const PoolHeader& header, SampleBlock block,
                    const std::function<void(SampleBlock&)>& harm) {
  harm(block);
  return message_of([&] { write_pool(pool, header, block); });
}

TEST_F(PoolFiles, a_pool_comes_back_with_its_tables) {
  const SampleBlock block = example_block(0, 9);
  const std::string sha256 = write_pool(folder_ / "pool.h5", example_pool_header(), block);
  const Pool pool = read_pool(folder_ / "pool.h5");
  expect_equal(pool.block, block);
  EXPECT_EQ(pool.content_sha256, sha256);
  EXPECT_EQ(pool.header.temperature, 0.7);
  EXPECT_EQ(pool.header.eos_ids, std::vector<std::int64_t>{kEos});
  EXPECT_EQ(pool.header.provenance.reference_sha256, std::string(64, 'a'));
  EXPECT_EQ(pool.header.provenance.evaluator_sha256, "");
  EXPECT_EQ(pool.header.provenance.library_versions.at("torch"), "2.11.0");
  EXPECT_EQ(pool.header.seconds, 1.25);
  std::vector<float> row(block.rewards.at("main").begin() + 8, block.rewards.at("main").begin() + 12);
  std::sort(row.begin(), row.end());
  EXPECT_TRUE(std::equal(row.begin(), row.end(), pool.table(2).begin(), pool.table(2).end()));
  const Pool table = read_pool(folder_ / "pool.h5", SampleParts::without_samples);
  EXPECT_EQ(table.sorted_rewards, pool.sorted_rewards);
  EXPECT_TRUE(table.block.samples.tokens.empty());
  const Pool two = first_samples(pool, 2);
  EXPECT_EQ(two.table(2).size(), 2u);
  EXPECT_EQ(two.block.samples.tokens_of(3, 1).size(), pool.block.samples.tokens_of(3, 1).size());
  EXPECT_THROW(first_samples(pool, 5), UserError);
}

TEST_F(PoolFiles, prefixes_come_back_and_join) {
  const auto expect_same = [](const PrefixRows& a, const PrefixRows& b) {
    EXPECT_EQ(a.every, b.every);
    EXPECT_EQ(a.samples, b.samples);
    for (const auto& [x, y] : {std::pair(&a.reward, &b.reward), std::pair(&a.logp_reference, &b.logp_reference)}) {
      ASSERT_EQ(x->size(), y->size());
      for (std::size_t i = 0; i < x->size(); ++i)
        EXPECT_TRUE((*x)[i] == (*y)[i] || (std::isnan((*x)[i]) && std::isnan((*y)[i])));
    }
  };
  const SampleBlock block = cut_block(0, 5);
  EXPECT_GT(
      std::count_if(block.prefixes.reward.begin(), block.prefixes.reward.end(), [](float r) { return std::isnan(r); }),
      0);
  const std::string plain = write_pool(folder_ / "plain.h5", example_pool_header(), example_block(0, 5));
  EXPECT_NE(write_pool(folder_ / "pool.h5", cut_header(), block), plain);
  const Pool pool = read_pool(folder_ / "pool.h5");
  EXPECT_EQ(pool.header.prefix_every, 1);
  expect_same(pool.block.prefixes, block.prefixes);
  EXPECT_EQ(read_pool(folder_ / "plain.h5").header.prefix_every, 0);
  EXPECT_TRUE(read_pool(folder_ / "pool.h5", SampleParts::without_samples).block.prefixes.reward.empty());

  const SampleBlock joined = merged_from_parts(folder_ / "merged.h5", cut_header(), cut_block);
  expect_same(read_pool(folder_ / "merged.h5").block.prefixes, joined.prefixes);

  const PrefixRows few = first_samples(pool, 2).block.prefixes;
  const auto cuts = static_cast<std::size_t>(few.num_cuts(pool.header.max_new_tokens)),
             m = static_cast<std::size_t>(pool.header.num_samples);
  ASSERT_EQ(few.reward.size(), 5 * 2 * cuts);
  PrefixRows by_hand{.every = 1, .samples = 2};
  for (std::size_t row = 0; row < 5; ++row)
    for (std::size_t i = 0; i < 2 * cuts; ++i) {
      by_hand.reward.push_back(block.prefixes.reward[row * m * cuts + i]);
      by_hand.logp_reference.push_back(block.prefixes.logp_reference[row * m * cuts + i]);
    }
  expect_same(few, by_hand);

  // A pool whose first two samples alone have them, and what its first one and three samples are.
  SampleBlock of_two = block;
  of_two.prefixes = by_hand;
  PoolHeader two = cut_header();
  two.prefix_samples = 2;
  write_pool(folder_ / "two.h5", two, of_two);
  const Pool back = read_pool(folder_ / "two.h5");
  EXPECT_EQ(back.header.prefix_samples, 2);
  expect_same(back.block.prefixes, by_hand);
  expect_same(first_samples(back, 3).block.prefixes, by_hand);
  EXPECT_EQ(first_samples(back, 3).header.prefix_samples, 2);
  EXPECT_EQ(first_samples(back, 1).header.prefix_samples, 1);
  const PrefixRows one = first_samples(back, 1).block.prefixes;
  EXPECT_EQ(one.samples, 1);
  ASSERT_EQ(one.reward.size(), 5 * cuts);
  for (std::size_t row = 0; row < 5; ++row)
    for (std::size_t i = 0; i < cuts; ++i) {
      const float kept = one.reward[row * cuts + i], want = block.prefixes.reward[row * m * cuts + i];
      EXPECT_TRUE(kept == want || (std::isnan(kept) && std::isnan(want)));
    }
}

// Rows of two numbers that tell where they belong: the prompt's or sample's place and the row in it.
SampleBlock block_with_trunk(std::int64_t first_id, std::int64_t prompts) {
  SampleBlock block = example_block(first_id, prompts);
  block.trunk = {.block = 3, .width = 2};
  const auto add = [](std::vector<float>& rows, std::size_t place, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
      rows.insert(rows.end(), {static_cast<float>(place), static_cast<float>(i)});
  };
  for (std::size_t row = 0; row < block.prompts.id.size(); ++row)
    add(block.trunk.prompt, row, block.prompts.offset[row + 1] - block.prompts.offset[row]);
  for (std::size_t i = 0; i < block.samples.length.size(); ++i)
    add(block.trunk.samples, i, block.samples.length[i] - 1);
  return block;
}
PoolHeader trunk_header() {
  PoolHeader header = example_pool_header();
  header.trunk_block = 3;
  return header;
}

TEST_F(PoolFiles, rows_of_the_trunk_come_back_where_they_are_asked_for) {
  const SampleBlock block = block_with_trunk(0, 5);
  write_pool(folder_ / "pool.h5", trunk_header(), block);
  const Pool pool = read_pool(folder_ / "pool.h5", SampleParts::with_trunk);
  EXPECT_EQ(pool.block.trunk.block, 3);
  EXPECT_EQ(pool.block.trunk.width, 2);
  EXPECT_EQ(pool.block.trunk.prompt, block.trunk.prompt);
  EXPECT_EQ(pool.block.trunk.samples, block.trunk.samples);
  const Pool without = read_pool(folder_ / "pool.h5");
  EXPECT_EQ(without.header.trunk_block, 3);
  EXPECT_TRUE(without.block.trunk.samples.empty());
  expect_equal(without.block, block);

  const SampleBlock joined = merged_from_parts(folder_ / "merged.h5", trunk_header(), block_with_trunk);
  const TrunkRows merged = read_pool(folder_ / "merged.h5", SampleParts::with_trunk).block.trunk;
  EXPECT_EQ(merged.samples, joined.trunk.samples);
  EXPECT_EQ(merged.prompt, joined.trunk.prompt);

  const Pool few = first_samples(pool, 2);
  const std::vector<std::int64_t> offset = trunk_offsets(few.block.samples);
  const auto m = static_cast<std::size_t>(pool.header.num_samples);
  ASSERT_EQ(few.block.trunk.samples.size(), static_cast<std::size_t>(offset.back()) * 2);
  for (std::size_t i = 0; i < few.block.samples.length.size(); ++i)
    for (std::int64_t row = offset[i]; row < offset[i + 1]; ++row) {
      EXPECT_EQ(few.block.trunk.samples[static_cast<std::size_t>(2 * row)], static_cast<float>(i / 2 * m + i % 2));
      EXPECT_EQ(few.block.trunk.samples[static_cast<std::size_t>(2 * row + 1)], static_cast<float>(row - offset[i]));
    }
}

TEST_F(PoolFiles, a_trunk_that_contradicts_its_samples_is_refused) {
  const auto refused = [&](const std::function<void(SampleBlock&)>& harm) {
    return refusal(folder_ / "pool.h5", trunk_header(), block_with_trunk(0, 5), harm);
  };
  EXPECT_NE(refused([](SampleBlock& b) { b.trunk.samples.pop_back(); }).find("not one a token"), std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.trunk.prompt[1] = std::nanf(""); }).find("not finite"), std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.trunk = {}; }).find("enter block 0, where 3"), std::string::npos);
}

TEST_F(PoolFiles, prefixes_that_contradict_their_samples_are_refused) {
  const auto refused = [&](const std::function<void(SampleBlock&)>& harm) {
    return refusal(folder_ / "pool.h5", cut_header(), cut_block(0, 5), harm);
  };
  const auto first_nan = [](const std::vector<float>& values) {
    return std::find_if(values.begin(), values.end(), [](float r) { return std::isnan(r); }) - values.begin();
  };
  EXPECT_NE(refused([&](SampleBlock& b) {
              b.prefixes.reward[static_cast<std::size_t>(first_nan(b.prefixes.reward))] = 1;
            }).find("behind the end"),
            std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) {
              for (float& r : b.prefixes.reward) r = std::nanf("");
            }).find("is missing"),
            std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.prefixes.logp_reference.pop_back(); }).find("cuts a sample"),
            std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.prefixes = {}; }).find("every 0 tokens"), std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.prefixes.samples = 5; }).find("prefixes of 5 samples"), std::string::npos);
  EXPECT_NE(refused([](SampleBlock& b) { b.prefixes.samples = 2; }).find("cuts a sample"), std::string::npos);
}

TEST_F(PoolFiles, parts_of_any_size_order_and_number_of_starts_merge_into_the_same_pool) {
  const std::string whole = write_pool(folder_ / "whole.h5", example_pool_header(), example_block(0, 10));
  for (const std::int64_t chunk_size : {1, 3, 10, 16}) {
    const fs::path path = folder_ / "pool.h5";
    const PoolParts parts(path, example_pool_header(), 10, chunk_size);
    std::vector<std::int64_t> todo = parts.missing();
    EXPECT_EQ(static_cast<std::int64_t>(todo.size()), parts.num_chunks());
    std::reverse(todo.begin(), todo.end());
    for (const std::int64_t chunk : todo) {
      PoolHeader again = example_pool_header();  // as a later attempt would write it
      again.provenance.attempt = chunk;
      PoolParts(path, again, 10, chunk_size)
          .write(chunk, example_block(parts.first_prompt(chunk), parts.prompts_in(chunk)), 0.5);
    }
    EXPECT_TRUE(parts.missing().empty());
    EXPECT_EQ(parts.merge(), whole);
    EXPECT_EQ(read_pool(path).header.seconds, 0.5 * static_cast<double>(parts.num_chunks()));
    parts.remove();
    EXPECT_FALSE(fs::exists(parts.folder()));
    expect_equal(read_pool(path).block, read_pool(folder_ / "whole.h5").block);
  }
}

TEST_F(PoolFiles, missing_damaged_and_foreign_parts_are_told_apart) {
  const PoolParts parts(folder_ / "pool.h5", example_pool_header(), 6, 2);
  parts.write(0, example_block(0, 2), 1);
  parts.write(2, example_block(4, 2), 1);
  EXPECT_EQ(parts.missing(), std::vector<std::int64_t>{1});
  EXPECT_EQ(parts.missing(1, 2), std::vector<std::int64_t>{1});
  EXPECT_TRUE(parts.missing(0, 2).empty());
  EXPECT_NE(message_of([&] { parts.merge(); }).find("lacks 1 of 3 chunks (1)"), std::string::npos);

  PoolHeader other = example_pool_header();
  other.temperature = 0.8;
  const PoolParts foreign(folder_ / "pool.h5", other, 6, 2);
  EXPECT_NE(message_of([&] { foreign.missing(); }).find("another pool"), std::string::npos);

  const fs::path damaged = parts.folder() / "chunk-000002.h5";
  const std::string content = read_file(damaged);
  write_raw(damaged, content.substr(0, content.size() / 2));
  write_raw(parts.folder() / ".chunk-000001.h5.tmp", "left over");
  write_raw(parts.folder() / "notes.txt", "the user's");
  EXPECT_EQ(parts.missing(), (std::vector<std::int64_t>{1, 2}));
  EXPECT_FALSE(fs::exists(damaged));
  EXPECT_FALSE(fs::exists(parts.folder() / ".chunk-000001.h5.tmp"));
  parts.remove();
  EXPECT_TRUE(fs::exists(parts.folder() / "notes.txt"));
}

TEST_F(PoolFiles, rows_that_contradict_themselves_are_refused) {
  const std::vector<std::function<void(SampleBlock&)>> mistakes = {
      [](SampleBlock& b) { b.prompts.id[1] = b.prompts.id[0]; },
      [](SampleBlock& b) { b.prompts.text[1] += "x"; },
      [](SampleBlock& b) { b.prompts.offset[1] = 99; },
      [](SampleBlock& b) { b.prompts.offset[0] = 1; },
      [](SampleBlock& b) { b.prompts.offset.pop_back(); },
      [](SampleBlock& b) { b.prompts.tokens[0] = -1; },
      [](SampleBlock& b) { b.samples.tokens[0] = -1; },
      [](SampleBlock& b) { b.samples.tokens[1] = -2; },
      [](SampleBlock& b) { b.samples.length[0] = 0; },
      [](SampleBlock& b) { b.samples.length[0] = 6; },
      [](SampleBlock& b) { b.samples.length[0] = std::numeric_limits<std::int32_t>::min(); },
      [](SampleBlock& b) { b.samples.finished[0] = 2; },
      [](SampleBlock& b) { b.samples.finished[0] ^= 1; },
      [](SampleBlock& b) { b.samples.logp_reference[2] = std::nanf(""); },
      [](SampleBlock& b) { b.samples.logp_reference[2] = 0.5f; },
      [](SampleBlock& b) { b.rewards["main"][3] = INFINITY; },
      [](SampleBlock& b) { b.rewards["evaluator"][3] = std::nanf(""); },
      [](SampleBlock& b) { b.rewards["main"].pop_back(); },
      [](SampleBlock& b) { b.rewards.erase("main"); },
      [](SampleBlock& b) { b = example_block(0, 0); },
      [](SampleBlock& b) { b = example_block(0, 2, 3); },
  };
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    SampleBlock block = example_block(0, 3);
    mistakes[i](block);
    EXPECT_THROW(write_pool(folder_ / "pool.h5", example_pool_header(), block), UserError) << "mistake " << i;
  }
  EXPECT_EQ(num_files(), 0u);
  PoolHeader header = example_pool_header();
  header.temperature = 0;
  EXPECT_THROW(write_pool(folder_ / "pool.h5", header, example_block(0, 3)), UserError);
}

TEST_F(PoolFiles, a_table_that_is_not_the_sorted_rewards_is_refused) {
  const SampleBlock block = example_block(0, 2);
  const PoolHeader header = example_pool_header();
  write_h5_atomically(folder_ / "pool.h5", [&](H5File& file) {
    write_provenance(file, kPoolFormat, kPoolSchema, header.provenance);
    write_pool_attributes(file, header);
    write_sample_block(file, block);
    for (const auto& [name, values] : block.rewards) file.write("logf/" + name + "/sorted_reward", {2, 4}, values);
  });
  EXPECT_NE(message_of([&] { read_pool(folder_ / "pool.h5"); }).find("ascending"), std::string::npos);
}

TEST_F(PoolFiles, use_with_something_else_names_every_difference_unless_forced) {
  const PoolHeader header = example_pool_header();
  PoolUse use{.reference_sha256 = std::string(64, 'a'),
              .tokenizer_sha256 = std::string(64, 'b'),
              .reward_sha256 = std::string(64, 'c'),
              .prompts_sha256 = std::string(64, 'd'),
              .temperature = 0.7,
              .max_new_tokens = 5,
              .reward_round = 1e-5,
              .reward_output = "log_prob",
              .start_token = "0"};
  EXPECT_EQ(check_pool_use("pool.h5", header, use, false), "") << "a file that does not say its start token fits";
  EXPECT_EQ(check_pool_use("pool.h5", header, PoolUse{}, false), "");
  use.reference_sha256 = "other";
  use.temperature = 1.0;
  use.evaluator_sha256 = "some";
  const std::string message = message_of([&] { check_pool_use("pool.h5", header, use, false); });
  for (const std::string part : {"reference: other here, aaa", "temperature: 1 here, 0.7 in the file",
                                 "evaluator: some here, none", "--force", "pool.h5"})
    EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
  EXPECT_NE(check_pool_use("pool.h5", header, use, true).find("temperature"), std::string::npos);
  PoolHeader other = header;
  other.provenance.start_token = "none";
  EXPECT_NE(message_of([&] {
              check_pool_use("pool.h5", other, PoolUse{.start_token = "0"}, false);
            }).find("model.start_token: 0 here, none in the file"),
            std::string::npos);
}

TEST_F(PoolFiles, prompts_are_found_by_text_and_missing_ones_are_named) {
  const SampleBlock block = example_block(0, 5);
  const PoolIndex index(block.prompts);
  EXPECT_EQ(index.find(1003, block.prompts.text_sha256[3]), 3);
  EXPECT_EQ(index.find(77, block.prompts.text_sha256[3]), 3);
  EXPECT_EQ(index.find(1003, sha256_hex("other")), std::nullopt);
  EXPECT_EQ(index.rows_of(example_block(2, 3).prompts, "pool.h5"), (std::vector<std::int64_t>{2, 3, 4}));
  const std::string message = message_of([&] { index.rows_of(example_block(3, 9).prompts, "pool.h5"); });
  EXPECT_NE(message.find("lacks 7 of 9 prompts (id 1005, 1006, 1007, 1008, 1009, …)"), std::string::npos) << message;
}

}  // namespace
}  // namespace vbon
