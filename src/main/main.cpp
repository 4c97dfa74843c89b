#include "vbon/cli/commands.hpp"

int main(int argc, char** argv) { return static_cast<int>(vbon::cli::run(argc, argv)); }
