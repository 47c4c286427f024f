"""What is read of a CUDA library and what follows from it, worked by hand; the committed report passes its bars."""

import json
from pathlib import Path

import pytest

from cascadezoo.benchmarks.measure import kernels
from cascadezoo.benchmarks.measure.kernels import LIMITS, broken, described, loads, occupancy, plain, usages
from cascadezoo.errors import MissingResource

REPORT = Path(__file__).parents[3] / "benchmarks/results/kernels.json"
USAGE = """
Fatbin elf code:
arch = sm_75
arch = sm_90
 Function _Z3onev:
  REG:40 STACK:8 SHARED:1040 LOCAL:4 CONSTANT[0]:552 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z3twov:
  REG:64 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:552 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
SASS = """
        Function : _Z3onev
        /*0070*/                   LDG.E.128.CONSTANT R4, desc[UR8][R4.64] ;
        /*0080*/                   LDG.E R4, desc[UR8][R4.64] ;
        /*0090*/                   LDS.128 R4, [R4] ;
        Function : _Z3twov
        /*0070*/                   LDG.E.CONSTANT.128 R4, [R4.64] ;
        /*0080*/                   LDG.E.128 R4, [R4.64] ;
        /*0090*/                   LDG.E.64 R4, [R4.64] ;
"""


def test_usages_are_read_with_their_architecture() -> None:
    one, two = usages(USAGE)
    assert one == {
        "kernel": "_Z3onev",
        "arch": "sm_90",
        "registers": 40,
        "stack": 8,
        "local": 4,
        "static_shared": 1040,
    }
    assert (two["kernel"], two["registers"], two["stack"]) == ("_Z3twov", 64, 0)


def test_wide_loads_from_global_memory_are_counted_by_kernel() -> None:
    wide, pairs = loads(SASS, 128), loads(SASS, 64)
    assert (wide["_Z3onev"], wide["_Z3twov"]) == (1, 2)
    assert (pairs["_Z3onev"], pairs["_Z3twov"]) == (0, 1)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (
            "void cascadezoo::(anonymous namespace)::forward_kernel<__half, 8>(Pyramid, int)",
            "forward_kernel<__half, 8>",
        ),
        ("cascadezoo::(anonymous namespace)::merge_kernel(Plan, int)", "merge_kernel"),
        ("void f<cascadezoo::G<float, 4> >(long, cascadezoo::G<float, 4>)", "f<G<float, 4> >"),
    ],
)
def test_names_are_shortened(name: str, short: str) -> None:
    assert plain(name) == short


@pytest.mark.parametrize(
    ("arch", "registers", "threads", "shared", "share"),
    [
        ("sm_90", 64, 256, 0, 0.5),  # 64 * 32 = 2048 a warp: 32 warps, 4 blocks of 8
        ("sm_90", 65, 256, 0, 0.375),  # given out by 256: 2304 a warp, 28 warps, 3 blocks
        ("sm_90", 32, 256, 0, 1.0),
        ("sm_90", 16, 32, 0, 0.5),  # 32 blocks of one warp
        ("sm_90", 32, 256, 100 << 10, 0.25),  # 228 KB: 2 blocks of 100
        ("sm_80", 32, 256, 54 << 10, 0.25),  # 164 KB: 2 blocks of 54, with a KB each for the system; 3 without
    ],
)
def test_occupancy(arch: str, registers: int, threads: int, shared: int, share: float) -> None:
    assert occupancy(LIMITS[arch], registers, threads, shared) == share


def test_without_the_tool_a_sentence_says_where_it_comes_from(monkeypatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(MissingResource, match="install triton"):
        kernels.measure(Path("library.so"))


def row(kernel: str, wide: int = 1, pairs: int = 0, **changes: int) -> dict:
    usage = {"kernel": kernel, "arch": "sm_80", "registers": 64, "stack": 0, "local": 0, "static_shared": 0}
    return described({**usage, **changes}, pairs, wide)


def test_each_bar_is_a_sentence() -> None:
    assert broken([row("forward_kernel<float, 4>"), row("forward_kernel<float, 1>", wide=0)]) == []
    assert broken([row("forward_kernel<double, 2>", wide=0, stack=8, registers=128)]) == []
    assert broken([row("merge_kernel", registers=128)]) == []
    assert broken([row("merge_kernel", stack=8)]) == [
        "merge_kernel on sm_80 uses 8 bytes of stack and 0 of local memory"
    ]
    assert broken([row("backward_kernel<__half, 8>", wide=0)]) == [
        "backward_kernel<__half, 8> on sm_80 has no 128-bit load"
    ]
    assert broken([row("rpn_select_kernel<float>", wide=0)]) == [
        "rpn_select_kernel<float> on sm_80 has no 128-bit load"
    ]
    assert broken([row("rpn_select_kernel<__half>", wide=0, pairs=1)]) == []
    assert broken([row("rpn_select_kernel<__half>")]) == ["rpn_select_kernel<__half> on sm_80 has no 64-bit load"]
    assert broken([row("dcnv3_forward_kernel<float>", registers=65)]) == [
        "dcnv3_forward_kernel<float> on sm_80 fills 38% of a multiprocessor"
    ]


def test_the_committed_report_passes_and_has_every_kernel_on_every_architecture() -> None:
    rows = json.loads(REPORT.read_text())["kernels"]
    assert broken(rows) == []
    names = [row["kernel"] for row in rows]
    counts = {
        start: sum(name.startswith(start) for name in names)
        for start in ("dcnv3_fused", "dcnv3", "forward", "backward")
    }
    # four types in two packs; DCNv3 forward and backward: two types more, those with float32 points
    one = 4 * 2 * 3
    assert counts == {"dcnv3_fused": one, "dcnv3": one + 2 * 6 * 2 * 3, "forward": one, "backward": one}
    assert sum(name.startswith("group_kernel") for name in names) == 2 * 2 * 3
    assert sum(name.startswith("preprocess_kernel") for name in names) == 4 * 2 * 3
    assert names.count("merge_kernel") == 3
    assert sum(name.startswith("rpn_select_kernel") for name in names) == 3 * 3
