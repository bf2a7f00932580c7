#include <malloc.h>

#include <cstring>
#include <iostream>

#include "apps/common.h"

namespace {

void TakeOneValueEach(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    for (CLI::Option* option : command->get_options()) {
      if (!option->get_positional()) option->allow_extra_args(false);
    }
    TakeOneValueEach(*command);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thimble;
  // Activations come and go with every operation: keep their memory instead of returning it to the system
  // each time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  InstallInterruptHandler();
  CLI::App app(
      "Thimble shrinks a pretrained language model, proves what that cost, teaches it with small adapters, "
      "and runs it.");
  app.name("thimble");
  app.set_version_flag("--version", THIMBLE_VERSION);
  app.require_subcommand(0, 1);  // at least one is asked for below: CLI11's own check hides an unknown name
  for (auto add :
       {AddInspect, AddConvert, AddQuantize, AddFit,      AddImatrix,    AddDequantize, AddEval,
        AddRotate,  AddCompare, AddReport,   AddTune,     AddRecover,    AddAdapter,    AddRun,
        AddChat,    AddBench,   AddDoctor,   AddTokenize, AddDetokenize, AddTemplate,   AddLogits}) {
    add(app);
  }
  // A repeatable option takes one value each time, so that MODEL may follow it.
  TakeOneValueEach(app);
  // llama.cpp's names, which CLI11 would take for one letter with a value.
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "-ctk") == 0) argv[i] = const_cast<char*>("--cache-type-k");
    if (std::strcmp(argv[i], "-ctv") == 0) argv[i] = const_cast<char*>("--cache-type-v");
    if (std::strcmp(argv[i], "-md") == 0) argv[i] = const_cast<char*>("--model-draft");
  }
  CLI11_PARSE(app, argc, argv);
  if (!app.get_subcommands().empty()) return 0;
  std::cerr << app.help();
  return 1;
}
