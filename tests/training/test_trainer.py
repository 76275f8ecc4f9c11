"""A run goes from configuration to model, leaves no trace of an interruption, and refuses what does not fit."""

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from srgan_fast.data.images import Image, write_image
from srgan_fast.data.st_lpips import available
from srgan_fast.errors import TrainingError
from srgan_fast.models import PRESETS, load_generator, read_generator
from srgan_fast.models.features import DEFAULT_LAYERS
from srgan_fast.training import Outcome, TrainConfig, Trainer
from srgan_fast.training.config import GanSection, PretrainSection
from srgan_fast.training.recipe import stage_recipe
from srgan_fast.training.validation import Scores

from .conftest import MakeConfig, Recorder, conduct, differing

pytestmark = pytest.mark.usefixtures("_narrow")


def checkpoint(outcome: Outcome) -> dict[str, Any]:
    assert outcome.checkpoint is not None
    state: dict[str, Any] = torch.load(outcome.checkpoint, weights_only=True)
    return state


def save_unsealed(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint as before there were checksums."""
    torch.save({key: value for key, value in state.items() if key != "sealed"}, path)


def tensors(outcome: Outcome) -> dict[str, Any]:
    state = checkpoint(outcome)
    keys = ("networks", "optimisers", "average", "stage", "step", "psnr", "st_lpips", "best")
    return {key: state[key] for key in keys}


def same_model(ours: Path, theirs: Path) -> bool:
    """Whether two files hold the same bits and the same words, in whatever order."""
    a, b = read_generator(ours), read_generator(theirs)
    equal = all(np.array_equal(a.weights[name], b.weights[name]) for name in b.weights)
    return equal and (a.config, a.metadata) == (b.config, b.metadata)


def test_a_run_leaves_models_checkpoints_and_a_record(make_config: MakeConfig) -> None:
    config, recorder = make_config(run={"metadata": {"licence": "CC0"}, "save_every": 2}), Recorder()
    outcome = conduct(config, recorder)
    folder = config.run.output
    assert outcome == Outcome(True, folder / "gan.safetensors", folder / "checkpoints" / "1-gan-00000003.pt")
    assert recorder.starts == [("pretrain", 0, 3), ("gan", 0, 3)]
    assert [(stage, step) for stage, step, _ in recorder.steps] == [
        (s, n) for s in ("pretrain", "gan") for n in (1, 2, 3)
    ]
    assert set(recorder.steps[0][2]) == {"pixel"}
    assert {"content", "adversarial", "generator", "discriminator", "D(hr)", "D(sr)"} <= set(recorder.steps[-1][2])
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "0-pretrain-00000003.pt",
        "1-gan-00000002.pt",
        "1-gan-00000003.pt",
    ]
    assert TrainConfig.model_validate_json((folder / "config.json").read_text()) == config
    for stage in ("pretrain", "gan"):
        metadata = read_generator(folder / f"{stage}.safetensors").metadata
        expected = {"stage": stage, "steps": "3", "preset": "paper", "licence": "CC0", "batch": "2 crops of 32x32"}
        assert metadata.items() >= expected.items()
        assert "validation_psnr_y" not in metadata


def test_pretraining_learns(make_config: MakeConfig, originals: Path) -> None:
    steps = 60
    config = make_config(
        generator={"start": "random"},
        data={"validation": str(originals), "batch": 4},
        pretrain={"steps": steps, "learning_rate": 5e-3},
        gan={"steps": 0},
        run={"validate_every": 20, "ema": 0.0},
    )
    recorder = Recorder()
    outcome = conduct(config, recorder)
    losses = [values["pixel"] for _, _, values in recorder.steps]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:3])
    psnrs = [psnr for _, _, psnr, _ in recorder.validations]
    assert [step for _, step, _, _ in recorder.validations] == [20, 40, 60]
    assert psnrs[-1] > psnrs[0] + 1
    assert outcome.model is not None
    assert read_generator(outcome.model).metadata["validation_psnr_y"] == f"{psnrs[-1]:.3f}"


def test_networks_that_can_start_as_upscalers_unless_told_otherwise(make_config: MakeConfig) -> None:
    def gains(**generator: Any) -> list[float]:
        module = Trainer(make_config(generator=generator), Recorder()).generator
        return [float(block.bn2.weight.detach().abs().max()) for block in module.blocks]

    assert gains() == gains(start="upscaler") == [0.0, 0.0]
    assert gains(start="random") == gains(preset="pytorch-gan") == gains(channels=2) == [1.0, 1.0]


def test_a_network_that_starts_as_an_upscaler_is_one_from_the_first_validation_on(
    make_config: MakeConfig, originals: Path
) -> None:
    psnrs = {}
    for start in ("upscaler", "random"):
        config = make_config(
            generator={"start": start},
            data={"validation": str(originals)},
            pretrain={"steps": 1, "learning_rate": 1e-6},
            gan={"steps": 0},
            run={"output": str(make_config().run.output / start)},
        )
        recorder = Recorder()
        conduct(config, recorder)
        psnrs[start] = recorder.validations[0][2]
    assert psnrs["upscaler"] > psnrs["random"] + 5


@pytest.mark.parametrize(
    ("precision", "accumulate", "threads"), [("fp32", 1, 1), ("bf16", 1, 1), ("fp32", 2, 2), ("bf16", 2, 1)]
)
def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(
    make_config: MakeConfig, tmp_path: Path, originals: Path, precision: str, accumulate: int, threads: int
) -> None:
    common = {
        "data": {"validation": str(originals), "degradations": {"noise": [0, 5], "jpeg": [50, 90]}},
        "pretrain": {"steps": 4, "schedule": {"kind": "cosine", "warmup": 2}},
        "gan": {"steps": 4, "schedule": {"kind": "steps", "milestones": [2]}},
    }
    run = {"precision": precision, "accumulate": accumulate, "threads": threads}
    run |= {"clip": 0.5, "ema": 0.9, "validate_every": 3}
    whole = conduct(make_config(**common, run={**run, "output": str(tmp_path / "whole")}))

    config = make_config(**common, run={**run, "output": str(tmp_path / "parts")})
    done = []
    for interrupt_at in (("pretrain", 2), ("gan", 1), ("gan", 3), None):
        recorder = Recorder(interrupt_at)
        outcome = conduct(config, recorder, resume=True)
        assert outcome.finished == (interrupt_at is None)
        done += [(stage, step) for stage, step, _ in recorder.steps]
    assert done == [(stage, step) for stage in ("pretrain", "gan") for step in (1, 2, 3, 4)]  # none twice

    assert differing(tensors(outcome), tensors(whole)) == []
    assert len(tensors(whole)["optimisers"]["discriminator"]["state"]) > 10
    for name in ("pretrain.safetensors", "gan.safetensors"):
        assert same_model(tmp_path / "parts" / name, tmp_path / "whole" / name)


def test_a_run_with_targets_and_low_resolution_images_is_resumed_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, targets: Path, low_resolution: Path
) -> None:
    data = {"targets": str(targets), "targets_weight": 0.75, "lr": str(low_resolution)}
    gan = {"pixel_weight": 1.0}
    whole = conduct(make_config(data=data, gan=gan, run={"output": str(tmp_path / "whole")}))
    config = make_config(data=data, gan=gan, run={"output": str(tmp_path / "parts")})
    for interrupt_at in (("pretrain", 2), ("gan", 1), None):
        outcome = conduct(config, Recorder(interrupt_at), resume=True)
    assert differing(tensors(outcome), tensors(whole)) == []


FEATURES = {"weights": "random", "vgg": "vgg16", "layers": {"conv1_2": 0.1, "conv2_2": 1.0}}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_features_in_both_stages_is_resumed_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, targets: Path, precision: str
) -> None:
    common: dict[str, Any] = {
        "data": {"targets": str(targets)},
        "pretrain": {"steps": 3, "features": FEATURES, "content_weight": 0.5},
        "gan": {"features": FEATURES, "pixel_weight": 0.1, "content": "l1"},
    }
    run = {"precision": precision, "accumulate": 2}
    whole = conduct(make_config(**common, run={**run, "output": str(tmp_path / "whole")}))
    config = make_config(**common, run={**run, "output": str(tmp_path / "parts")})
    for interrupt_at in (("pretrain", 2), ("gan", 1), None):
        recorder = Recorder(interrupt_at)
        outcome = conduct(config, recorder, resume=True)
        shown = {"content", "pixel", "generator"}
        assert all(shown <= set(losses) for _, _, losses in recorder.steps)
    assert differing(tensors(outcome), tensors(whole)) == []


def test_a_run_with_second_order_degradations_is_resumed_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, targets: Path
) -> None:
    data = {"degradations": {"second_order": {"first": {"jpeg": [40, 95]}}}, "targets": str(targets)}
    whole = conduct(make_config(data=data, run={"output": str(tmp_path / "whole"), "accumulate": 2}))
    config = make_config(data=data, run={"output": str(tmp_path / "parts"), "accumulate": 2})
    for interrupt_at in (("pretrain", 2), ("gan", 1), None):
        outcome = conduct(config, Recorder(interrupt_at), resume=True)
    assert differing(tensors(outcome), tensors(whole)) == []
    clean = conduct(make_config(data={"targets": str(targets)}, run={"output": str(tmp_path / "clean")}))
    assert differing(tensors(clean), tensors(whole)) != []


def test_a_run_goes_on_with_the_degradations_that_it_had_and_with_no_others(make_config: MakeConfig) -> None:
    config = make_config(data={"degradations": {"noise": [1, 5]}})
    outcome = conduct(config, Recorder(("pretrain", 2)))
    assert outcome.checkpoint is not None
    state = checkpoint(outcome)
    written = json.loads(state["config"])
    del written["data"]["degradations"]["second_order"]  # as of a run from before there were any
    save_unsealed({**state, "config": json.dumps(written)}, outcome.checkpoint)
    with pytest.raises(TrainingError, match=r"was made with data\.degradations"):
        conduct(make_config(data={"degradations": {"second_order": {}}}), resume=True)
    assert conduct(config, resume=True).finished


@pytest.mark.parametrize("discriminator", ["patch-sn", "unet-sn"])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_a_run_with_spectral_norm_is_resumed_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, discriminator: str, kernels: str
) -> None:
    common: dict[str, Any] = {
        "pretrain": {"steps": 1},
        "gan": {"steps": 4, "discriminator": discriminator, "adversarial": "lsgan", "adversarial_weight": 0.1},
    }
    run = {"kernels": kernels, "accumulate": 2}
    whole = conduct(make_config(**common, run={**run, "output": str(tmp_path / "whole")}))
    config = make_config(**common, run={**run, "output": str(tmp_path / "parts")})
    for interrupt_at in (("gan", 1), ("gan", 3), None):
        outcome = conduct(config, Recorder(interrupt_at), resume=True)
    assert differing(tensors(outcome), tensors(whole)) == []
    names = set(tensors(whole)["networks"]["discriminator"])
    assert any(name.endswith("weight_u") for name in names)
    assert not any("running" in name for name in names)


def test_features_without_pixels_are_compared_with_targets(
    make_config: MakeConfig, tmp_path: Path, targets: Path
) -> None:
    content = {}
    for weight in (0.0, 1.0):
        recorder = Recorder()
        data = {"targets": str(targets), "targets_weight": weight}
        pretrain = {"pixel_weight": 0.0, "features": FEATURES}
        conduct(make_config(data=data, pretrain=pretrain, run={"output": str(tmp_path / f"{weight}")}), recorder)
        assert set(recorder.steps[0][2]) == {"content"}
        content[weight] = {(stage, step): losses["content"] for stage, step, losses in recorder.steps}
    assert all(content[0.0][place] != content[1.0][place] for place in content[0.0])


def test_a_run_from_before_features_were_losses_of_the_first_stage_goes_on(make_config: MakeConfig) -> None:
    config = make_config()
    outcome = conduct(config, Recorder(("pretrain", 2)))
    assert outcome.checkpoint is not None
    state = checkpoint(outcome)
    written = json.loads(state["config"])
    new = ("pixel_weight", "content", "content_weight", "feature_scale", "features", "variation_weight")
    new += ("checkerboard_weight",)
    for key in new:
        del written["pretrain"][key]
    del written["gan"]["features"]["layers"]
    save_unsealed({**state, "config": json.dumps(written)}, outcome.checkpoint)
    assert TrainConfig.model_validate(written) == config
    assert conduct(config, resume=True).finished


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_layers_that_the_network_does_not_have_are_refused_before_the_first_step(
    make_config: MakeConfig, stage: str
) -> None:
    section = {"features": {"weights": "random", "vgg": "vgg16", "layers": {"conv3_4": 1.0}}}
    with pytest.raises(
        TrainingError, match=rf"{stage}\.features .*: 'conv3_4' is not a layer of vgg16; it has conv1_1"
    ):
        Trainer(make_config(**{stage: section}), Recorder())


def test_features_of_the_first_stage_are_five_layers_unless_said_otherwise() -> None:
    def layers(**features: Any) -> dict[str, float]:
        return dict(stage_recipe(PretrainSection.model_validate({"features": features}), PRESETS["paper"]).layers)

    assert layers(vgg="keras-vgg16") == DEFAULT_LAYERS["vgg16"]
    assert layers(vgg="vgg19", weights="random") == DEFAULT_LAYERS["vgg19"]
    assert layers(cut="vgg22") == {"vgg22": 1.0}
    assert layers(layers={"relu1_1": 2.0}) == {"relu1_1": 2.0}


def test_the_pixel_loss_is_taken_against_a_mixture_of_target_and_original(
    make_config: MakeConfig, tmp_path: Path, targets: Path
) -> None:
    batches = {}
    for weight in (0.0, 0.25, 1.0):
        data = {"targets": str(targets), "targets_weight": weight}
        (batches[weight],) = Trainer(make_config(data=data), Recorder()).batches.load("pretrain", 5)
    hr, lr, target = batches[1.0]
    assert (target - hr).abs().max() > 8 / 255
    for weight, batch in batches.items():
        assert torch.equal(batch[0], hr)
        assert torch.equal(batch[1], lr)
        torch.testing.assert_close(batch[2], weight * target + (1 - weight) * hr)
    assert torch.equal(batches[0.0][2], hr)

    pixel = {}
    for weight in (0.0, 1.0):
        recorder = Recorder()
        data = {"targets": str(targets), "targets_weight": weight}
        gan = {"pixel_weight": 1.0}
        conduct(make_config(data=data, gan=gan, run={"output": str(tmp_path / f"{weight}")}), recorder)
        pixel[weight] = {(stage, step): losses["pixel"] for stage, step, losses in recorder.steps}
    assert all(pixel[0.0][place] != pixel[1.0][place] for place in pixel[0.0])


def test_a_stage_may_weigh_targets_in_its_own_way(make_config: MakeConfig, targets: Path) -> None:
    data = {"targets": str(targets), "targets_weight": 0.75}
    trainer = Trainer(make_config(data=data, gan={"targets_weight": 0.0}), Recorder())
    own = Trainer(make_config(data={"targets": str(targets)}), Recorder())
    for stage, weight in (("pretrain", 0.75), ("gan", 0.0)):
        (batch,), (whole,) = trainer.batches.load(stage, 2), own.batches.load(stage, 2)
        torch.testing.assert_close(batch[2], weight * whole[2] + (1 - weight) * whole[0])


def test_a_batch_without_targets_is_a_pair(make_config: MakeConfig) -> None:
    (batch,) = Trainer(make_config(), Recorder()).batches.load("pretrain", 0)
    assert len(batch) == 2


def test_given_low_resolution_images_are_what_the_network_sees(
    make_config: MakeConfig, low_resolution: Path, targets: Path
) -> None:
    # Targets let the crops start at the same places.
    shrunk = Trainer(make_config(data={"targets": str(targets)}), Recorder()).batches.load("pretrain", 0)[0]
    given = Trainer(make_config(data={"lr": str(low_resolution)}), Recorder()).batches.load("pretrain", 0)[0]
    assert torch.equal(given[0], shrunk[0])
    assert torch.equal(given[1].mul(255).round(), shrunk[1].mul(255).round().div(2).floor())


def test_betas_are_those_of_the_configuration_even_of_a_resumed_run(make_config: MakeConfig) -> None:
    def betas(outcome: Outcome) -> list[tuple[float, float]]:
        optimisers = checkpoint(outcome)["optimisers"].values()
        return [tuple(group["betas"]) for state in optimisers for group in state["param_groups"]]

    config = make_config(pretrain={"betas": [0.9, 0.99]})
    assert betas(conduct(config, Recorder(("pretrain", 2)))) == [(0.9, 0.99)]
    changed = make_config(pretrain={"betas": [0.8, 0.95]}, gan={"steps": 0})
    assert betas(conduct(changed, resume=True)) == [(0.8, 0.95)]
    assert betas(conduct(make_config(gan={"betas": [0.5, 0.9]}), resume=True)) == [(0.5, 0.9)] * 2


def statistics_of(state: dict[str, Any]) -> dict[str, Tensor]:
    weights = state["networks"]["generator"]
    return {name: tensor for name, tensor in weights.items() if "running" in name or "tracked" in name}


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_a_run_that_freezes_its_batchnorms_is_resumed_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, kernels: str
) -> None:
    common: dict[str, Any] = {
        "pretrain": {"steps": 5, "freeze_batchnorm_after": 3},
        "gan": {"steps": 4, "freeze_batchnorm_after": 2},
    }
    run = {"kernels": kernels, "ema": 0.9}
    whole = conduct(make_config(**common, run={**run, "output": str(tmp_path / "whole")}))
    config = make_config(**common, run={**run, "output": str(tmp_path / "parts")})
    for interrupt_at in (("pretrain", 2), ("pretrain", 3), ("pretrain", 4), ("gan", 1), ("gan", 2), ("gan", 3), None):
        outcome = conduct(config, Recorder(interrupt_at), resume=True)
    assert differing(tensors(outcome), tensors(whole)) == []
    unfrozen = {"pretrain": {"steps": 5}, "gan": {"steps": 4}}
    other = conduct(make_config(**unfrozen, run={**run, "output": str(tmp_path / "unfrozen")}))
    assert differing(tensors(other), tensors(whole)) != []


def test_frozen_statistics_stay_and_every_stage_begins_with_those_of_batches(make_config: MakeConfig) -> None:
    config = make_config(
        pretrain={"steps": 4, "freeze_batchnorm_after": 2},
        gan={"steps": 3, "freeze_batchnorm_after": 1},
        run={"save_every": 1, "keep": 9, "ema": 0.0},
    )
    conduct(config)
    kept = [torch.load(path, weights_only=True) for path in sorted((config.run.output / "checkpoints").iterdir())]
    moved = [bool(differing(statistics_of(a), statistics_of(b))) for a, b in itertools.pairwise(kept)]
    # Before them is the first step, which moves; then pretraining's second, third and fourth; then gan's three.
    assert moved == [True, False, False, True, False, False]


def test_batchnorms_frozen_from_the_start_never_move(make_config: MakeConfig) -> None:
    config = make_config(pretrain={"freeze_batchnorm_after": 0}, gan={"steps": 0})
    fresh = {"networks": {"generator": Trainer(config, Recorder()).generator.state_dict()}}
    assert differing(statistics_of(checkpoint(conduct(config))), statistics_of(fresh)) == []


def test_equality_of_runs_is_no_accident(make_config: MakeConfig, tmp_path: Path) -> None:
    # What the test above compares does depend on batches, on their number, and on the seed.
    base = conduct(make_config(run={"output": str(tmp_path / "0")}))
    seed = conduct(make_config(run={"output": str(tmp_path / "1"), "seed": 1}))
    rate = conduct(make_config(run={"output": str(tmp_path / "2")}, gan={"learning_rate": 2e-4}))
    for other in (seed, rate):
        places = differing(tensors(base), tensors(other))
        assert any("networks.generator" in place for place in places)
        assert any("networks.discriminator" in place for place in places)
        assert any("average" in place for place in places)


def test_stop_saves_a_checkpoint_and_a_model_at_once(make_config: MakeConfig) -> None:
    config = make_config(pretrain={"steps": 50}, run={"save_every": 1000})
    outcome = conduct(config, Recorder(("pretrain", 5)))
    folder = config.run.output
    assert outcome == Outcome(False, folder / "pretrain.safetensors", folder / "checkpoints" / "0-pretrain-00000005.pt")
    assert read_generator(folder / "pretrain.safetensors").metadata["steps"] == "5"


def test_handlers_of_signals_are_given_back(make_config: MakeConfig) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    conduct(make_config(), Recorder(("pretrain", 1)))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_stops_at_once(make_config: MakeConfig) -> None:
    recorder = Recorder()

    def twice(stage: str, step: int) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    recorder.on_step = twice
    config = make_config()
    with pytest.raises(KeyboardInterrupt):
        conduct(config, recorder)
    assert len(recorder.steps) == 2
    assert not (config.run.output / "checkpoints").exists()


def test_resuming_nothing_starts_from_the_beginning_and_says_so(make_config: MakeConfig) -> None:
    config, recorder = make_config(), Recorder()
    assert conduct(config, recorder, resume=True).finished
    assert recorder.starts[0] == ("pretrain", 0, 3)
    assert f"no checkpoint in {config.run.output}, starting from the beginning" in recorder.notes


def test_resuming_a_finished_run_trains_nothing_and_restores_a_lost_model(
    make_config: MakeConfig, originals: Path
) -> None:
    config = make_config(data={"validation": str(originals)})
    first = conduct(config)
    assert first.model is not None
    kept = first.model.rename(first.model.with_name("kept.safetensors"))  # as if killed after the last checkpoint
    recorder = Recorder()
    assert conduct(config, recorder, resume=True) == first
    assert recorder.steps == []
    assert same_model(first.model, kept)
    assert "validation_psnr_y" in read_generator(kept).metadata


def test_a_finished_run_can_be_given_more_steps(make_config: MakeConfig, tmp_path: Path) -> None:
    conduct(make_config(gan={"steps": 0}))
    recorder = Recorder()
    outcome = conduct(make_config(pretrain={"steps": 5}), recorder, resume=True)
    assert recorder.starts == [("pretrain", 3, 5), ("gan", 0, 3)]
    whole = conduct(make_config(pretrain={"steps": 5}, run={"output": str(tmp_path / "whole")}))
    assert differing(tensors(outcome), tensors(whole)) == []


def test_a_damaged_newest_checkpoint_costs_only_its_steps(make_config: MakeConfig) -> None:
    config = make_config(pretrain={"steps": 6}, gan={"steps": 0}, run={"save_every": 2})
    whole = conduct(config)
    assert whole.checkpoint is not None
    expected = tensors(whole)
    whole.checkpoint.write_bytes(whole.checkpoint.read_bytes()[:-500])
    recorder = Recorder()
    outcome = conduct(config, recorder, resume=True)
    assert recorder.starts == [("pretrain", 4, 6)]
    assert differing(tensors(outcome), expected) == []


def test_checkpoints_of_a_stage_keep_their_order_when_the_other_is_left_out(make_config: MakeConfig) -> None:
    conduct(make_config(run={"keep": 1}))
    recorder = Recorder()
    config = make_config(pretrain={"steps": 0}, gan={"steps": 5}, run={"keep": 1})
    outcome = conduct(config, recorder, resume=True)
    assert recorder.starts == [("gan", 3, 5)]
    assert checkpoint(outcome)["step"] == 5
    assert [path.name for path in (config.run.output / "checkpoints").iterdir()] == ["1-gan-00000005.pt"]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_adversarial_stage_starts_from_the_averaged_weights(make_config: MakeConfig) -> None:
    seen: list[dict[str, Tensor]] = []
    config = make_config(run={"ema": 0.9})
    trainer = Trainer(config, recorder := Recorder())
    recorder.on_start = lambda stage: seen.append(
        {name: tensor.clone() for name, tensor in trainer.generator.state_dict().items()} if stage == "gan" else {}
    )
    trainer.run()
    state = torch.load(config.run.output / "checkpoints" / "0-pretrain-00000003.pt", weights_only=True)
    assert same(seen[1], state["average"])
    assert not same(seen[1], state["networks"]["generator"])
    model = load_generator(config.run.output / "pretrain.safetensors").state_dict()
    assert all(torch.equal(seen[1][n], model[n]) for n in model if not n.endswith("num_batches_tracked"))


def test_gan_from_a_pretrained_file_is_gan_after_pretraining(make_config: MakeConfig, tmp_path: Path) -> None:
    both = conduct(make_config())
    init = tmp_path / "run" / "pretrain.safetensors"
    config = make_config(generator={"init": str(init)}, pretrain={"steps": 0}, run={"output": str(tmp_path / "second")})
    alone = conduct(config)
    ours, theirs = tensors(alone), tensors(both)
    counters = [place for place in differing(ours, theirs) if not place.endswith("num_batches_tracked")]
    assert counters == []


def test_ema_0_saves_the_current_weights(make_config: MakeConfig) -> None:
    state = checkpoint(conduct(make_config(run={"ema": 0.0})))
    assert same(state["average"], state["networks"]["generator"])
    state = checkpoint(conduct(make_config(run={"ema": 0.5, "output": str(make_config().run.output / "other")})))
    assert not same(state["average"], state["networks"]["generator"])


def test_validation_sees_the_average_when_it_is_due(make_config: MakeConfig, originals: Path) -> None:
    config = make_config(
        data={"validation": str(originals)}, pretrain={"steps": 5}, gan={"steps": 2}, run={"validate_every": 2}
    )
    trainer, seen = Trainer(config, recorder := Recorder()), []
    assert trainer.validation is not None
    measure = trainer.validation.__call__
    trainer.validation = lambda generator: (seen.append(generator), measure(generator))[1]
    trainer.run()
    assert [(stage, step) for stage, step, _, _ in recorder.validations] == [
        ("pretrain", 2),
        ("pretrain", 4),
        ("pretrain", 5),
        ("gan", 2),
    ]
    assert all(generator is trainer.average.module for generator in seen)
    assert all(5 < psnr < 50 and -1 <= ssim <= 1 for _, _, psnr, ssim in recorder.validations)


def crash_at(*place: object) -> Callable[[str, int], None]:
    def crash(*at: object) -> None:
        if at == place:
            raise MemoryError

    return crash


def test_curves_run_on_from_stage_to_stage_and_over_an_interruption(make_config: MakeConfig, originals: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = make_config(data={"validation": str(originals)}, run={"validate_every": 2})
    conduct(config, Recorder(("gan", 1)))
    crashing = Recorder()
    crashing.on_step = crash_at("gan", 3)  # step 2 is in the curves by then, but in no checkpoint
    with pytest.raises(MemoryError):
        conduct(config, crashing, resume=True)
    conduct(config, resume=True)
    events = EventAccumulator(str(config.run.output), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    gan = ["content", "adversarial", "generator", "real", "fake", "discriminator", "D(hr)", "D(sr)", "learning_rate"]
    expected = {f"pretrain/{name}": [1, 2, 3] for name in ("pixel", "learning_rate")}
    expected |= {f"gan/{name}": [4, 5, 6] for name in gan}
    measured = ["psnr_y", "ssim_y", *(["st_lpips"] if available() else [])]
    expected |= {f"{stage}/{name}": s for stage, s in (("pretrain", [2, 3]), ("gan", [5, 6])) for name in measured}
    assert scalars == expected
    assert [event.value for event in events.Scalars("pretrain/learning_rate")] == pytest.approx([1e-3] * 3)
    samples = events.Images("gan/sample0: nearest, ours, original")
    assert [(sample.step, sample.height, sample.width) for sample in samples] == [(5, 48, 3 * 52), (6, 48, 3 * 52)]


@pytest.fixture
def two_sets(tmp_path: Path, photo: Any) -> dict[str, str]:
    """Two validation sets under names."""
    for name, top in (("soft", 50), ("hard", 300)):
        write_image(tmp_path / name / "a.png", Image(photo[top : top + 48, 200:248]))
    return {name: str(tmp_path / name) for name in ("soft", "hard")}


def test_each_validation_set_is_measured_and_named_in_order(make_config: MakeConfig, two_sets: dict[str, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config, recorder = make_config(data={"validation": two_sets}, gan={"steps": 0}), Recorder()
    conduct(config, recorder)
    assert [scores.name for scores in recorder.scores] == ["soft", "hard"]
    soft, hard = recorder.scores
    assert soft.psnr_y != hard.psnr_y
    alone = Recorder()
    conduct(make_config(data={"validation": two_sets["hard"]}, run={"output": str(config.run.output / "alone")}), alone)
    assert (alone.scores[0].psnr_y, alone.scores[0].name) == (hard.psnr_y, "")
    events = EventAccumulator(str(config.run.output), size_guidance={"scalars": 0, "images": 0}).Reload()
    for scores in (soft, hard):
        for figure, value in scores.figures().items():
            (event,) = events.Scalars(f"pretrain/{figure}/{scores.name}")
            assert (event.step, event.value) == (3, pytest.approx(value))
        assert events.Images(f"pretrain/{scores.name} sample0: nearest, ours, original")
    model = read_generator(config.run.output / "pretrain.safetensors")
    assert model.metadata["validation_psnr_y"] == f"{soft.psnr_y:.3f}"


def scripted(trainer: Trainer, *values: tuple[float, float | None]) -> None:
    """Lets the validation give these PSNRs and distances of the first set, one after the other."""
    coming = iter(values)

    def measure(generator: Any) -> list[Scores]:
        psnr, distance = next(coming)
        return [Scores(psnr, 0.5, [], distance, "soft"), Scores(99 - psnr, 0.5, [], 1.0, "hard")]

    trainer.validation = measure


def test_the_best_model_of_a_stage_of_pixels_has_the_highest_psnr_on_the_first_set(
    make_config: MakeConfig, two_sets: dict[str, str]
) -> None:
    config = make_config(
        data={"validation": two_sets}, pretrain={"steps": 4}, gan={"steps": 0}, run={"validate_every": 1, "ema": 0.0}
    )
    trainer = Trainer(config, Recorder())
    scripted(trainer, (20.0, 0.3), (22.0, 0.5), (21.0, 0.1), (21.5, 0.1))
    trainer.run()
    best = read_generator(config.run.output / "pretrain-best.safetensors").metadata
    assert (best["steps"], best["validation_psnr_y"], best["validation_st_lpips"]) == ("2", "22.000", "0.5000")
    assert read_generator(config.run.output / "pretrain.safetensors").metadata["steps"] == "4"


@pytest.mark.parametrize("case", ["features", "gan"])
def test_the_best_model_of_a_perceptual_stage_has_the_lowest_st_lpips(
    make_config: MakeConfig, two_sets: dict[str, str], case: str
) -> None:
    sections: dict[str, Any] = {"pretrain": {"steps": 3, "features": FEATURES}, "gan": {"steps": 0}}
    if case == "gan":
        sections = {"pretrain": {"steps": 0}, "gan": {"steps": 3}}
    config = make_config(data={"validation": two_sets}, run={"validate_every": 1}, **sections)
    trainer = Trainer(config, Recorder())
    scripted(trainer, (20.0, 0.3), (19.0, 0.2), (21.0, 0.25))
    outcome = trainer.run()
    assert outcome.model is not None
    best = outcome.model.with_name(f"{outcome.model.stem}-best.safetensors")
    assert read_generator(best).metadata["steps"] == "2"
    assert checkpoint(outcome)["best"]["value"] == 0.2


def test_without_st_lpips_a_perceptual_stage_keeps_no_best_model(
    make_config: MakeConfig, two_sets: dict[str, str]
) -> None:
    config = make_config(data={"validation": two_sets}, pretrain={"steps": 0})
    trainer = Trainer(config, Recorder())
    scripted(trainer, (20.0, None))
    outcome = trainer.run()
    assert not (config.run.output / "gan-best.safetensors").exists()
    assert checkpoint(outcome)["best"] is None


def test_a_resumed_run_remembers_its_best_model_unless_another_set_chooses(
    make_config: MakeConfig, two_sets: dict[str, str]
) -> None:
    common: dict[str, Any] = {"pretrain": {"steps": 4}, "gan": {"steps": 0}, "run": {"validate_every": 1}}
    config = make_config(data={"validation": two_sets}, **common)
    trainer = Trainer(config, Recorder(("pretrain", 2)))
    scripted(trainer, (25.0, None), (20.0, None))
    assert not trainer.run().finished
    trainer = Trainer(config, Recorder(("pretrain", 3)))
    scripted(trainer, (21.0, None))
    trainer.run(resume=True)
    best = config.run.output / "pretrain-best.safetensors"
    assert read_generator(best).metadata["steps"] == "1"
    trainer = Trainer(make_config(data={"validation": two_sets["hard"]}, **common), Recorder())
    scripted(trainer, (22.0, None))
    trainer.run(resume=True, force=True)
    assert read_generator(best).metadata["steps"] == "4"


def test_recomputing_activations_changes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    # Bit for bit on torch's kernels. Fused, a block that is kept as a tensor is rounded where it otherwise waits.
    run = {"kernels": "reference"}
    plain = tensors(conduct(make_config(run={**run, "output": str(tmp_path / "plain")})))
    saving = tensors(
        conduct(make_config(run={**run, "output": str(tmp_path / "saving")}, generator={"checkpointing": True}))
    )
    assert differing(plain, saving) == []


def test_recomputing_activations_of_fused_blocks_agrees_to_rounding(make_config: MakeConfig, tmp_path: Path) -> None:
    losses = []
    for checkpointing in (False, True):
        recorder = Recorder()
        config = make_config(
            run={"kernels": "fused", "output": str(tmp_path / str(checkpointing))},
            generator={"checkpointing": checkpointing},
        )
        conduct(config, recorder)
        losses.append(recorder.steps[0][2]["pixel"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(("preset", "discriminator"), [("paper", "paper"), ("pytorch-gan", "patch")])
def test_every_preset_trains_with_its_own_discriminator(
    make_config: MakeConfig, preset: str, discriminator: str
) -> None:
    config = make_config(generator={"preset": preset}, gan={"discriminator": None, "steps": 1})
    outcome = conduct(config)
    names = set(checkpoint(outcome)["networks"]["discriminator"])
    assert ("dense1.weight" in names) == (discriminator == "paper")
    assert outcome.model is not None
    metadata = read_generator(outcome.model).metadata
    assert metadata["preset"] == preset
    assert json.loads(checkpoint(outcome)["config"])["generator"]["preset"] == preset


def test_losses_are_the_presets_unless_the_configuration_says_otherwise() -> None:
    paper, common = stage_recipe(GanSection(), PRESETS["paper"]), stage_recipe(GanSection(), PRESETS["pytorch-gan"])
    assert (paper.content, paper.adversarial, paper.discriminator_average) == ("mse", "bce", False)
    assert (common.content, common.adversarial, common.discriminator_average) == ("l1", "lsgan", True)
    assert (paper.feature_scale, common.feature_scale) == (1 / 12.75, 1.0)
    said = {"content": "l1", "adversarial": "ragan", "adversarial_weight": 0.0, "feature_scale": 2.0}
    said |= {"discriminator_average": True, "pixel_weight": 0.5, "variation_weight": 0.25, "content_weight": 0.0}
    said |= {"checkerboard_weight": 0.75}
    changed = stage_recipe(GanSection.model_validate(said), PRESETS["paper"])
    assert {name: getattr(changed, name) for name in said} == said
