#include "vbon/store/eval_file.hpp"

#include <functional>

#include "examples.hpp"
#include "temp_folder.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

using EvalFiles = TempFolder;

TEST_F(EvalFiles, an_evaluation_comes_back) {
  const EvalFile eval = example_eval();
  const std::string sha256 = write_eval(folder_ / "eval.h5", eval);
  const EvalFile back = read_eval(folder_ / "eval.h5");
  EXPECT_EQ(back.content_sha256, sha256);
  EXPECT_EQ(back.header.method, "vbon");
  EXPECT_EQ(back.header.n, 4);
  EXPECT_EQ(back.header.beta, 1.0 / 3);
  EXPECT_EQ(back.header.training_seed, 1);
  EXPECT_EQ(back.header.evaluation_seed, 2);
  EXPECT_EQ(back.header.bootstrap_seed, 3);
  EXPECT_EQ(back.header.checkpoint_sha256, eval.header.checkpoint_sha256);
  EXPECT_EQ(back.header.checkpoint_step, 32);
  EXPECT_EQ(back.header.provenance.pool_sha256, std::string(64, 'e'));
  EXPECT_EQ(back.block.samples.tokens, eval.block.samples.tokens);
  EXPECT_EQ(back.block.rewards, eval.block.rewards);
  EXPECT_EQ(back.kl, eval.kl);
  EXPECT_EQ(back.win, eval.win);
  EXPECT_EQ(back.bon.n, eval.bon.n);
  EXPECT_EQ(back.bon.se, eval.bon.se);
  EXPECT_EQ(back.summary.at("win"), 0.58);
  EXPECT_TRUE(std::isnan(back.summary.at("evaluator")));
}

TEST_F(EvalFiles, contradictions_are_refused) {
  const std::vector<std::function<void(EvalFile&)>> mistakes = {
      [](EvalFile& e) { e.kl.pop_back(); },
      [](EvalFile& e) { e.kl[0] = -1; },
      [](EvalFile& e) { e.kl[0] = std::nanf(""); },
      [](EvalFile& e) { e.win.pop_back(); },
      [](EvalFile& e) { e.win[0] = 1.5; },
      [](EvalFile& e) { e.win[0] = std::nan(""); },
      [](EvalFile& e) { e.bon.se.pop_back(); },
      [](EvalFile& e) { e.bon.n[0] = 0.5; },
      [](EvalFile& e) { e.block = {}; },
      [](EvalFile& e) { e.block.prompts.id[1] = e.block.prompts.id[0]; }};
  for (std::size_t i = 0; i < mistakes.size(); ++i) {
    EvalFile eval = example_eval();
    mistakes[i](eval);
    EXPECT_THROW(write_eval(folder_ / "eval.h5", eval), UserError) << i;
  }
  EXPECT_EQ(num_files(), 0u);
}

}  // namespace
}  // namespace vbon
