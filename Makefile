# Every target sets up its own environment first: python3 with venv and pip is all a fresh machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

PROCESSES ?= 2
# tests in as many processes, of one thread each; a process that is done takes over what another still has before it
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal
MUTANTS ?= all

.PHONY: setup demo demo-convert embedded test test-extras test-lowest test-standalone test-parity check docs \
	mutants ops pictures test-browser screenshots wheel-ops asan cuda-emulated cuda-coverage cuda-compile \
	cuda-report gpu lint format bench fuzz night notebooks \
	release-check clean
setup: $(VENV)/.ok

# the last line fails early, and by name, where torch and torchvision do not belong together
$(VENV)/.ok: pyproject.toml constraints-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-dev.txt -e ".[dev]"
	$(BIN)/python -c "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)"
	touch $@

demo: setup
	$(BIN)/cascadezoo demo --out demo

# the shipped entry, from nothing: draws its data and trains (about 40 minutes on 2 cores); then copy final.safetensors over
# zoo_manifest/cascade_mask_r18_fpn_shapes.safetensors
embedded: setup
	$(BIN)/cascadezoo build-ops
	$(BIN)/cascadezoo shapes --split train --out build/shapes
	$(BIN)/cascadezoo shapes --split val --out build/shapes
	$(BIN)/cascadezoo train --entry cascade_mask_r18_fpn_shapes --batch-size 8 --workers 1 --eval-every 2 --save-every 300 \
		--train-json build/shapes/annotations/instances_train.json --train-images build/shapes/train \
		--val-json build/shapes/annotations/instances_val.json --val-images build/shapes/val --run-dir runs/embedded

# the pictures of docs/pictures.md and of the README, drawn by the model inside the package
pictures: setup
	$(BIN)/python -m cascadezoo.benchmarks.measure.pictures
	$(BIN)/cascadezoo demo --out build/demo
	cp build/demo/detections.jpg docs/images/demo.jpg

demo-convert: setup
	$(BIN)/python tests/parity/demo.py --output demo

# one case of each publisher, which `make test` runs with the compiled operators too
COMPILED_CASES := convnext-mask or detectron-faster_r50_fpn or detectron2-cascade_mask_r50_fpn or internimage or mmdet-cascade_r50_caffe_fpn or paddle-cascade_r50_fpn or swin-mask_swin_t_fpn

# the operators' tests run twice where there is a compiler, as they are and compiled; and so does one parity case each
test: setup
	$(TESTS) -m "not slow and not emulated"
	if command -v "$${CXX:-c++}" > /dev/null; then \
		$(BIN)/cascadezoo build-ops && export CASCADEZOO_OPS=compiled && \
		$(TESTS) -m "not slow and not emulated" tests/ops && \
		$(TESTS) -m "not slow" -k "$(COMPILED_CASES)" tests/parity/test_parity.py; \
	else echo "no C++ compiler: compiled operators not tested"; fi

# an environment of its own that sees the packages of the first one
define beside
rm -rf $(1)
$(PYTHON) -m venv $(1)
$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $(1)/base.pth
mv $(1)/base.pth "$$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
endef

# what needs optional packages (0.8 GB)
EXTRAS := build/extras
$(EXTRAS)/.ok: pyproject.toml constraints-dev.txt $(VENV)/.ok
	$(call beside,$(EXTRAS))
	$(EXTRAS)/bin/pip install --quiet --disable-pip-version-check -c constraints-dev.txt \
		-e ".[fleet,openvino,sahi,serve,tables,tensorboard]" albumentations
	touch $@

# FiftyOne wants OpenCV 4, which shadows the first environment's (0.9 GB)
FIFTYONE := build/fiftyone
$(FIFTYONE)/.ok: $(EXTRAS)/.ok
	$(call beside,$(FIFTYONE))
	$(FIFTYONE)/bin/pip install --quiet --disable-pip-version-check fiftyone==1.22.1
	touch $@

# the example notebooks, made of examples/*.py and executed
NOTEBOOKS := build/notebooks
$(NOTEBOOKS)/.ok: pyproject.toml $(VENV)/.ok
	$(call beside,$(NOTEBOOKS))
	$(NOTEBOOKS)/bin/pip install --quiet --disable-pip-version-check -c constraints-dev.txt -e ".[notebooks]"
	touch $@

notebooks: $(NOTEBOOKS)/.ok
	OMP_NUM_THREADS=1 $(NOTEBOOKS)/bin/python .ci/notebooks.py

# Label Studio's SDK wants OpenCV 4 too, and LabelMe Qt (1.0 GB)
LABELLING := build/labelling
$(LABELLING)/.ok: $(EXTRAS)/.ok
	$(call beside,$(LABELLING))
	$(LABELLING)/bin/pip install --quiet --disable-pip-version-check label-studio-sdk==2.1.2 labelme==6.3.1
	touch $@

test-extras: $(EXTRAS)/.ok $(FIFTYONE)/.ok $(LABELLING)/.ok
	$(EXTRAS)/bin/python -m pytest tests/fleet tests/serving tests/training/test_writers.py tests/training/test_hook.py \
		tests/integrations/test_sahi.py tests/integrations/test_pandas.py tests/outputs/test_parquet.py \
		tests/test_docker.py
	$(TESTS:$(BIN)%=$(EXTRAS)/bin%) -m "export and not slow" tests/exporting tests/benchmarks/measure
	$(EXTRAS)/bin/python -m pytest -m parity -k mmdet/cascade_r50_fpn tests/exporting/test_runtimes_parity.py
	$(FIFTYONE)/bin/python -m pytest tests/integrations/test_fiftyone.py
	$(FIFTYONE)/bin/python -m pytest -k integrations tests/documentation
	$(LABELLING)/bin/python -m pytest tests/outputs/test_programs.py
	$(EXTRAS)/bin/python -m pytest -m optional tests/documentation

# pages in Chromium, which has to be there (`apt-get install chromium fonts-dejavu-core`); the driver in an environment of its own (0.2 GB)
BROWSER := build/browser
$(BROWSER)/.ok: pyproject.toml constraints-dev.txt $(VENV)/.ok
	$(call beside,$(BROWSER))
	$(BROWSER)/bin/pip install --quiet --disable-pip-version-check -c constraints-dev.txt -e ".[browser]"
	touch $@

test-browser: $(BROWSER)/.ok
	$(BROWSER)/bin/python -m pytest tests/browser

# docs/images, to be looked at before they are committed; the report is of the embedded entry
screenshots: $(BROWSER)/.ok
	mkdir -p build/screenshots
	$(BIN)/cascadezoo verify cascade_mask_r18_fpn_shapes --ap --analysis build/screenshots/analysis \
		--json build/screenshots/report.json --html build/screenshots/report.html
	$(BIN)/cascadezoo report zoo build/screenshots/report.json --html build/screenshots/zoo.html
	$(BROWSER)/bin/python .ci/screenshots.py docs/images build/screenshots

# every dependency at its lower bound, in an environment of its own (5 GB); left to `make test`: recorded
# parity, what checks this project's own source, processes that wait for each other, and a file that pydantic words anew
LOWEST := build/lowest
$(LOWEST)/.ok: pyproject.toml .ci/lowest.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e ".[test]"
	touch $@

# the operators are compiled with that torch's headers too, in a home of their own
LOWEST_HOME := CASCADEZOO_HOME=$(CURDIR)/$(LOWEST)/home
test-lowest: $(LOWEST)/.ok
	if command -v "$${CXX:-c++}" > /dev/null; then $(LOWEST_HOME) $(LOWEST)/bin/cascadezoo build-ops; fi
	if command -v nvcc > /dev/null; then $(LOWEST_HOME) $(LOWEST)/bin/cascadezoo build-ops --cuda --archs 90; fi
	$(LOWEST_HOME) $(TESTS:$(BIN)%=$(LOWEST)/bin%) -m "not slow and not emulated" --ignore tests/parity --ignore tests/mutants \
		--ignore tests/documentation \
		--ignore tests/test_contract.py --ignore tests/test_house_rules.py --ignore tests/hub/test_processes.py \
		--ignore tests/readers --ignore tests/benchmarks/verify --ignore tests/training/test_resume.py \
		--deselect tests/test_manifest.py::test_schema_file_is_the_codes \
		--deselect tests/hub/test_answers.py::test_U1_answers_after_a_lost_connection_are_checked_too

check:
	bash .ci/run

# packages of torch.export and AOTInductor in programs without Python, and the wheel of prebuilt operators: compilers
# take minutes
test-standalone: setup
	$(BIN)/python -m pytest -m slow -k "not (of_detectrons or convnext or swin or vitdet or dconv)" \
		tests/ops/test_without_python.py tests/ops/test_wheel.py tests/exporting/test_packages.py

# PARITY_OPS="torch auto compiled" runs all cases with each of these ways of CASCADEZOO_OPS
PARITY_OPS ?= auto
# CASES chooses some of them by name, as pytest's -k does
test-parity: setup
	for ops in $(PARITY_OPS); do CASCADEZOO_OPS=$$ops $(TESTS) -m parity -k "$(CASES)" tests/parity || exit 1; done

# by hand, for hours: MUTANTS=150 draws a sample, ARGS takes what else tests/mutants knows (docs/testing.md)
mutants: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints-dev.txt -e ".[dev,mutants]"
	$(BIN)/python -m pytest tests/mutants
	PYTHONPATH=tests $(BIN)/python -W ignore::SyntaxWarning -m mutants --sample $(MUTANTS) --processes $(PROCESSES) $(ARGS)

ops: setup
	$(BIN)/cascadezoo build-ops

# the CPU's operators, prebuilt, for machines like this one without a compiler
wheel-ops: setup
	$(BIN)/python .ci/wheel_ops.py dist

# the CPU operators under gcc's sanitizers of memory and of undefined behaviour, on degenerate input: a finding ends the
# process, and -s shows its words.  Python is built without them, hence the preloaded libraries, and never frees all it has
ASAN_CXX := g++ -g -fno-sanitize-recover=all -fsanitize=address,undefined,float-cast-overflow -D_GLIBCXX_ASSERTIONS
asan: setup
	rm -rf build/asan
	mkdir -p -m 700 build/asan
	export CXX="$(ASAN_CXX)" CASCADEZOO_HOME=$(CURDIR)/build/asan CASCADEZOO_OPS=compiled OMP_NUM_THREADS=1 \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" && \
	$(BIN)/cascadezoo build-ops && $(BIN)/python -m pytest -v -s -p no:cacheprovider -m "not emulated" \
		tests/ops/test_degenerate.py tests/ops/test_nms_compiled.py tests/ops/test_operators.py \
		tests/ops/test_paste_rle_compiled.py tests/ops/test_roi_align_level.py tests/ops/test_rpn_select_compiled.py \
		tests/ops/test_winograd.py tests/ops/test_winograd_bf16.py tests/ops/test_one_class_masks.py \
		tests/ops/test_one_class_masks_bf16.py tests/ops/test_deform_conv2d.py

# the CUDA kernels on the CPU, by g++ and the emulator in tests/cuda_emulation: results against the references (with the race
# check, by gcc's thread sanitizer, and the emulator's own tests), then the same under the sanitizers of memory and of
# undefined behaviour, then on the portable fibres
EMULATED_TESTS := tests/cuda_emulation tests/ops -m emulated
cuda-emulated: setup
	$(TESTS) $(EMULATED_TESTS)
	export EMULATED_SANITIZER=address OMP_NUM_THREADS=1 UBSAN_OPTIONS=print_stacktrace=1 \
		ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" && \
	$(BIN)/python -m pytest -s -p no:cacheprovider $(EMULATED_TESTS) \
		--ignore tests/cuda_emulation/test_emulator.py --ignore tests/cuda_emulation/test_races.py \
		--ignore tests/cuda_emulation/test_reached.py
	EMULATED_FIBRES=ucontext OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m emulated tests/ops/test_dcnv3.py

# the lines and branches of the kernels that the race cases reach, as a report; needs g++ and its gcov
cuda-coverage: setup
	PYTHONPATH=tests $(BIN)/python -m cuda_emulation.reached

# without a warning from either compiler (the host's pass over nvcc's pragmas aside); needs nvcc and no GPU; build-ops
# exits 0 where nvcc does not fit torch, hence the last line
cuda-compile: setup
	rm -rf build/cuda
	CXX="g++ -Wall -Wextra -Werror -Wno-unknown-pragmas" NVCC_APPEND_FLAGS="-Werror all-warnings" \
		CASCADEZOO_HOME=build/cuda $(BIN)/cascadezoo build-ops --cuda --archs 80,90
	ls build/cuda/ops/*/cascadezoo_cu*_sm80_sm90.so

# needs nvcc and Triton's wheel: registers, stack, shared memory and occupancy of each kernel, and the bars they have to pass
cuda-report: setup
	CASCADEZOO_HOME=build/cuda $(BIN)/python -m cascadezoo.benchmarks.measure.kernels

# what a GPU is needed for, in nine minutes, most worth first: make gpu ARGS="--only build,ops --budget 4".  Exit code 1
# where something failed, 3 where there is no GPU
gpu: setup
	$(BIN)/python -m cascadezoo.benchmarks.measure.gpu $(ARGS)

# the site, into build/site, in an environment of its own (0.1 GB) that sees the packages of the first one
DOCS := build/docs
$(DOCS)/.ok: pyproject.toml constraints-dev.txt $(VENV)/.ok
	$(call beside,$(DOCS))
	$(DOCS)/bin/pip install --quiet --disable-pip-version-check -c constraints-dev.txt -e ".[docs]"
	touch $@

docs: $(DOCS)/.ok
	rm -rf build/site
	$(DOCS)/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/site/.doctrees . build/site

# mypy and the import contract see the rooms beside cascadezoo/ only where they are installed as plain folders
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/installed build/lib build/bdist.*
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/installed .
	$(BIN)/mypy -p cascadezoo
	cd build/installed && $(CURDIR)/$(BIN)/lint-imports $(CURDIR)/pyproject.toml --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup $(EXTRAS)/.ok
	$(BIN)/python -m cascadezoo.benchmarks.measure.startup
	$(BIN)/python -m cascadezoo.benchmarks.measure.convert
	$(BIN)/python -m cascadezoo.benchmarks.measure.load
	$(BIN)/python -m cascadezoo.benchmarks.measure.evaluation
	$(BIN)/python -m cascadezoo.benchmarks.measure.data_check
	$(BIN)/python -m cascadezoo.benchmarks.measure.growth
	CASCADEZOO_OPS=torch $(BIN)/python -m cascadezoo.benchmarks.measure.latency
	$(BIN)/cascadezoo build-ops
	$(BIN)/python -m cascadezoo.benchmarks.measure.latency --output benchmarks/results/latency_compiled.json
	$(BIN)/python -m cascadezoo.benchmarks.measure.latency --entries --runs 2
	$(BIN)/python -m cascadezoo.benchmarks.measure.floor
	$(BIN)/python -m cascadezoo.benchmarks.measure.network_growth
	$(BIN)/python -m cascadezoo.benchmarks.measure.ops
	$(BIN)/python -m cascadezoo.benchmarks.measure.roi_align
	$(BIN)/python -m cascadezoo.benchmarks.measure.nms
	$(BIN)/python -m cascadezoo.benchmarks.measure.paste
	$(BIN)/python -m cascadezoo.benchmarks.measure.folding
	$(BIN)/python -m cascadezoo.benchmarks.measure.launches
	$(BIN)/python -m cascadezoo.benchmarks.measure.precision
	$(BIN)/python -m cascadezoo.benchmarks.measure.training
	$(BIN)/python -m cascadezoo.benchmarks.measure.dense
	$(BIN)/python -m cascadezoo.benchmarks.measure.footprint
	$(BIN)/python -m cascadezoo.benchmarks.measure.predicting
	$(EXTRAS)/bin/python -m cascadezoo.benchmarks.measure.tiling --sahi
	$(EXTRAS)/bin/python -m cascadezoo.benchmarks.measure.serving
	$(BIN)/python -m cascadezoo.benchmarks.measure.pages

# bent files for every reader; FUZZ_SECONDS, for each of the 12, is 10 in a smoke run.  Finds lie in tests/fuzz/crashes
FUZZ_SECONDS ?= 60
fuzz: setup
	$(BIN)/pip install --quiet --disable-pip-version-check "atheris>=3.0"
	$(BIN)/python tests/fuzz/fuzz.py all --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

# what people will install, in an environment of its own and an empty folder; dist/ holds what was checked
release-check: setup
	rm -rf dist build/release && mkdir -p build/release/empty
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTHON) -m venv build/release/venv
	build/release/venv/bin/pip install --quiet dist/*.whl
	cd build/release/empty && CASCADEZOO_HOME=$(CURDIR)/build/release/home $(CURDIR)/build/release/venv/bin/python $(CURDIR)/.ci/smoke.py

# a night of verification with a sleeping detector, in 17 minutes
night: $(EXTRAS)/.ok
	$(EXTRAS)/bin/python -m cascadezoo.benchmarks.measure.night

clean:
	rm -rf build dist demo *.egg-info
