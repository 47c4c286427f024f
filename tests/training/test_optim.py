"""What learns how fast and decays how much, for each publisher."""

import pytest
import torch

from cascadezoo import registry
from cascadezoo.errors import UsageError
from cascadezoo.modeling.build import build
from cascadezoo.training.config import recipe_of
from cascadezoo.training.optim import build_optimizer, parameter_groups, set_lr

from tiny import tiny


def rules(architecture: str, entry: str) -> tuple[dict[str, tuple[float, float]], torch.nn.Module]:
    """Name -> (part of the learning rate, decay) of a small network of the architecture."""
    found = registry.info(entry)
    model = build(tiny(architecture, found.publisher))
    groups = parameter_groups(model, recipe_of(found).solver)
    named = [(n, (g["scale"], g["weight_decay"])) for g in groups for n in g["names"]]
    assert len(named) == len(dict(named))
    assert {n for n, _ in named} == {n for n, p in model.named_parameters() if p.requires_grad}
    return dict(named), model


def test_mmdet_treats_all_alike_and_leaves_the_stem_alone():
    held, _ = rules("cascade_mask_r50_fpn", "cascade_mask_r50_fpn_1x.mmdet")
    assert set(held.values()) == {(1.0, 1e-4)}
    assert not [name for name in held if name.startswith(("backbone.stem", "backbone.layer1."))]


def test_resnet_strikes_back_decays_all_but_its_norms():
    held, _ = rules("cascade_mask_r50_fpn", "cascade_mask_r50_fpn_rsb_1x")
    norms = {name for name in held if ".norm." in name}
    assert norms
    assert {held[name] for name in norms} == {(1.0, 0.0)}
    assert {held[name] for name in held.keys() - norms} == {(1.0, 0.05)}
    assert "rpn.conv.bias" in held


def test_offsets_of_deformable_convolutions_learn_as_all_else():
    held, model = rules("cascade_mask_r50_dconv_c3c5_fpn", "cascade_mask_r50_dconv_c3c5_fpn_1x.mmdet")
    offsets = {name: rule for name, rule in held.items() if ".offset." in name}
    assert set(offsets.values()) == {(1.0, 1e-4)}
    assert offsets.keys() == {f"backbone.layer{s}.0.conv2.offset.{p}" for s in (2, 3, 4) for p in ("weight", "bias")}
    assert not any(model.get_parameter(name).any() for name in offsets)


def test_detectron_biases_learn_twice_as_fast_and_do_not_decay():
    held, _ = rules("cascade_mask_r50_fpn", "cascade_mask_r50_fpn_1x.detectron")
    assert held["rpn.conv.weight"] == (1.0, 1e-4)
    assert held["rpn.conv.bias"] == (2.0, 0.0)
    assert held["box_heads.2.cls_score.bias"] == (2.0, 0.0)
    assert not [name for name in held if ".norm." in name]  # its scales and biases of the norms are fixed


def test_paddle_ssld_stages():
    held, _ = rules("cascade_r50_vd_fpn", "cascade_r50_vd_ssld_fpn_1x")
    scales = {name.split(".")[1]: scale for name, (scale, _) in held.items() if name.startswith("backbone.")}
    assert scales == {"layer2": 0.05, "layer3": 0.1, "layer4": 0.15}  # the stem and layer1 do not learn
    assert held["neck.lateral.0.weight"] == (1.0, 1e-4)


def test_internimage_layers():
    # four stages of one block each: the last block is one layer from the neck, the stem five
    held, _ = rules("cascade_mask_internimage_l_fpn", "cascade_mask_internimage_l_fpn_1x")
    expected = {
        "backbone.stem.conv1.weight": (0.94**5, 0.05),
        "backbone.stages.0.blocks.0.dcn.input_proj.weight": (0.94**4, 0.05),
        "backbone.stages.0.downsample.conv.weight": (0.94**3, 0.05),  # with the block after it
        "backbone.stages.1.blocks.0.mlp.fc1.weight": (0.94**3, 0.05),
        "backbone.stages.2.downsample.norm.weight": (0.94, 0.0),
        "backbone.stages.3.blocks.0.mlp.fc2.weight": (0.94, 0.05),
        "backbone.stages.3.blocks.0.mlp.fc2.bias": (0.94, 0.0),
        "backbone.stages.3.blocks.0.gamma1": (0.94, 0.0),
        "neck.lateral.0.weight": (1.0, 0.05),
        "rpn.conv.bias": (1.0, 0.0),
        "box_heads.0.cls_score.weight": (1.0, 0.05),
    }
    assert {name: held[name] for name in expected} == {
        name: (pytest.approx(scale), decay) for name, (scale, decay) in expected.items()
    }


def test_internimage_layers_of_the_published_depth():
    # L has 37 blocks: the stem lies 38 layers from the neck, the first block of the third stage 37 - 10 = 27
    found = registry.info("cascade_mask_internimage_l_fpn_3x")
    with torch.device("meta"):
        model = build(registry.spec_of(found), device="meta")
    groups = parameter_groups(model, recipe_of(found).solver)
    held = {n: g["scale"] for g in groups for n in g["names"]}
    assert held["backbone.stem.conv2.weight"] == pytest.approx(0.9**38)
    assert held["backbone.stages.2.blocks.0.mlp.fc1.weight"] == pytest.approx(0.9**27)
    assert held["backbone.stages.3.blocks.4.mlp.fc1.weight"] == pytest.approx(0.9)


SWIN_RULES = {
    "backbone.stem.norm.weight": 0.0,
    "backbone.stages.0.blocks.0.norm1.bias": 0.0,
    "backbone.stages.0.blocks.0.attn.relative_position_bias_table": 0.0,
    "backbone.stages.0.downsample.norm.weight": 0.0,
    "backbone.stages.3.norm.weight": 0.0,
    "backbone.stages.0.blocks.0.attn.qkv.weight": 0.05,
    "backbone.stages.0.blocks.0.attn.qkv.bias": 0.05,  # biases decay
    "neck.lateral.0.weight": 0.05,
    "box_heads.0.convs.0.norm.weight": 0.05,  # "bn" to mmdetection; no LayerNorm of torch's to detectron2
    "box_heads.0.cls_score.bias": 0.05,
}


@pytest.mark.parametrize(
    ("architecture", "entry"),
    [
        ("cascade_mask_swin_t_fpn", "cascade_mask_swin_t_fpn_3x.swin"),
        ("cascade_mask_swin_b", "cascade_mask_swin_b_50ep.detectron2"),
    ],
)
def test_swin_decays_norms_of_the_heads_but_not_its_own(architecture, entry):
    held, _ = rules(architecture, entry)
    assert {name: held[name] for name in SWIN_RULES} == {name: (1.0, decay) for name, decay in SWIN_RULES.items()}
    assert ("neck.lateral.0.norm.weight" in held) == entry.endswith("detectron2")
    assert held.get("neck.lateral.0.norm.weight", (1.0, 0.05)) == (1.0, 0.05)


def published(entry: str) -> dict[str, tuple[float, float]]:
    """Name -> (part of the learning rate, decay) of the whole network."""
    found = registry.info(entry)
    groups = parameter_groups(build(registry.spec_of(found), device="meta"), recipe_of(found).solver)
    return {n: (g["scale"], g["weight_decay"]) for g in groups for n in g["names"]}


def test_convnext_layers_of_the_published_depths():
    """The publisher's numbers: T has 6 layers below the output norms, S to XL 12; stage 3 counts every three blocks."""
    held = published("cascade_mask_convnext_t_fpn_3x.convnext")
    expected = {
        "backbone.stem.conv.weight": (0.7**7, 0.05),
        "backbone.stem.norm.weight": (0.7**7, 0.0),
        "backbone.stages.0.blocks.2.dwconv.weight": (0.7**6, 0.05),
        "backbone.stages.1.downsample.conv.weight": (0.7**5, 0.05),
        "backbone.stages.1.blocks.0.gamma": (0.7**5, 0.0),
        "backbone.stages.2.downsample.norm.bias": (0.7**4, 0.0),
        "backbone.stages.2.blocks.2.mlp.fc1.weight": (0.7**4, 0.05),
        "backbone.stages.2.blocks.3.mlp.fc1.weight": (0.7**3, 0.05),
        "backbone.stages.2.blocks.8.mlp.fc1.bias": (0.7**2, 0.0),
        "backbone.stages.3.downsample.conv.weight": (0.7, 0.05),
        "backbone.stages.3.blocks.0.mlp.fc2.weight": (0.7, 0.05),
        "backbone.stages.0.norm.weight": (1.0, 0.0),
        "neck.lateral.0.weight": (1.0, 0.05),
        "box_heads.0.convs.0.norm.weight": (1.0, 0.0),
    }
    assert {n: held[n] for n in expected} == {n: (pytest.approx(s), d) for n, (s, d) in expected.items()}
    held = published("cascade_mask_convnext_b_fpn_3x.convnext")
    assert held["backbone.stem.conv.weight"][0] == pytest.approx(0.8**13)
    assert held["backbone.stages.2.blocks.0.dwconv.weight"][0] == pytest.approx(0.8**10)
    assert held["backbone.stages.2.blocks.26.dwconv.weight"][0] == pytest.approx(0.8**2)
    assert held["backbone.stages.3.blocks.2.dwconv.weight"][0] == pytest.approx(0.8)


def test_vitdet_layers_of_the_published_depth():
    held = published("cascade_mask_vitdet_b_100ep")
    expected = {
        "backbone.pos_embed": (0.7**13, 0.0),
        "backbone.patch_embed.weight": (0.7**13, 0.1),
        "backbone.blocks.0.attn.qkv.weight": (0.7**12, 0.1),
        "backbone.blocks.0.attn.qkv.bias": (0.7**12, 0.1),
        "backbone.blocks.0.norm1.weight": (0.7**12, 0.0),
        "backbone.blocks.0.attn.rel_pos_h": (0.7**12, 0.1),
        "backbone.blocks.11.mlp.fc2.weight": (0.7, 0.1),
        "neck.levels.0.0.weight": (1.0, 0.1),
        "neck.levels.0.4.norm.weight": (1.0, 0.1),  # no LayerNorm of torch's
        "box_heads.0.convs.0.norm.bias": (1.0, 0.1),
    }
    assert {n: held[n] for n in expected} == {n: (pytest.approx(s), d) for n, (s, d) in expected.items()}


def test_a_vit_counts_no_layers_of_other_tensors():
    assert registry.spec_of(registry.info("cascade_mask_vitdet_b_100ep")).backbone.layers_to_neck("norm.weight") is None


def test_the_largest_vitdet_decays_everything():
    held = published("cascade_mask_vitdet_h_75ep")
    assert {decay for _, decay in held.values()} == {0.1}
    assert held["backbone.pos_embed"][0] == pytest.approx(0.9**33)
    assert held["backbone.blocks.31.norm2.weight"][0] == pytest.approx(0.9)


def test_a_decay_by_layer_needs_a_backbone_that_counts_them():
    solver = recipe_of(registry.info("cascade_mask_internimage_l_fpn_1x")).solver
    with pytest.raises(UsageError, match="layer_decay: no layers are counted in a backbone of kind resnet"):
        parameter_groups(build(tiny()), solver)


def test_one_step_of_sgd_by_hand():
    # lr 0.1: a bias moves by 2 * 0.1 * its gradient; a weight of 1 by 0.1 * (gradient + 1e-4 * 1)
    found = registry.info("cascade_mask_r50_fpn_1x.detectron")
    model = build(tiny("cascade_mask_r50_fpn", "detectron"))
    optimizer = build_optimizer(model, recipe_of(found).solver, lr=123.0)
    set_lr(optimizer, 0.1)
    weight, bias = model.rpn.conv.weight, model.rpn.conv.bias
    with torch.no_grad():
        weight.fill_(1.0)
        bias.fill_(1.0)
    weight.grad, bias.grad = torch.full_like(weight, 0.5), torch.full_like(bias, 0.5)
    optimizer.step()
    assert weight.flatten()[0].item() == pytest.approx(1 - 0.1 * 0.5001)
    assert bias[0].item() == pytest.approx(1 - 0.2 * 0.5)


def test_one_step_of_adamw_by_hand():
    # the first step of Adam moves by lr against the gradient's sign, after a decay of lr * 0.05 of a matrix
    found = registry.info("cascade_mask_internimage_l_fpn_1x")
    model = build(tiny("cascade_mask_internimage_l_fpn", "internimage"))
    optimizer = build_optimizer(model, recipe_of(found).solver, lr=0.01)
    head = model.box_heads[0].cls_score
    with torch.no_grad():
        head.weight.fill_(1.0)
        head.bias.fill_(1.0)
    head.weight.grad, head.bias.grad = torch.full_like(head.weight, 3.0), torch.full_like(head.bias, 3.0)
    optimizer.step()
    assert head.weight.flatten()[0].item() == pytest.approx(1 * (1 - 0.01 * 0.05) - 0.01)
    assert head.bias[0].item() == pytest.approx(1 - 0.01)
