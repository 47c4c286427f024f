// Runs a package of AOTInductor in a process without Python: program package library... < numbers > numbers
// The numbers are the inputs' and the results' of tests/ops/test_without_python.py, as they lie in memory.
#include <ATen/ops/empty.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <stdexcept>
#include <vector>

int main(int count, char** words) {
  for (int i = 2; i < count; ++i)
    if (dlopen(words[i], RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
  std::vector<at::Tensor> inputs{
      at::empty({2, 8, 40, 40}), at::empty({2, 8, 20, 20}), at::empty({2, 40, 4}), at::empty({2, 40, 4})};
  for (at::Tensor& input : inputs)
    if (fread(input.data_ptr(), 4, input.numel(), stdin) != static_cast<size_t>(input.numel()))
      throw std::runtime_error("fewer numbers than the inputs have");
  torch::inductor::AOTIModelPackageLoader loader(words[1]);
  for (const at::Tensor& result : loader.run(inputs)) {
    const at::Tensor flat = result.contiguous();
    fwrite(flat.data_ptr(), flat.element_size(), flat.numel(), stdout);
  }
}
