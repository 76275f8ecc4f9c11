"""Every architecture that is trained by its list goes from a configuration to a model, like SRGAN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN

from srgan_fast.errors import TrainingError
from srgan_fast.models import Generator, generator_config, read_model, save_generator
from srgan_fast.models.network_generator import NetworkGenerator, load_network_generator
from srgan_fast.network import scale_of
from srgan_fast.network.interpreter import run
from srgan_fast.training import Outcome, TrainConfig, Trainer

from .conftest import MakeConfig, Recorder, conduct, differing

pytestmark = pytest.mark.usefixtures("_narrow")

NETWORKS: dict[str, dict[str, Any]] = {
    "compact": {"convolutions": 2, "scale": 3},
    "rrdb": {"blocks": 1, "growth": 4, "scale": 2},
    "msrresnet": {"blocks": 2},
    "edsr": {"blocks": 2, "res_scale": 0.5},
}


def generator_of(key: str, **changes: Any) -> dict[str, Any]:
    """The generator's section of a small network; what the tiny run says of SRGAN is taken back."""
    return {"architecture": key, "channels": 8, "blocks": None, **NETWORKS[key], **changes}


@pytest.fixture(params=NETWORKS)
def key(request: pytest.FixtureRequest) -> str:
    """Each architecture."""
    return str(request.param)


def state(outcome: Outcome) -> dict[str, Any]:
    assert outcome.checkpoint is not None
    found = torch.load(outcome.checkpoint, weights_only=True)
    return {name: found[name] for name in ("networks", "optimisers", "average", "stage", "step")}


def test_interrupted_and_resumed_is_bit_for_bit_uninterrupted(
    key: str, make_config: MakeConfig, tmp_path: Path, originals: Path
) -> None:
    common: dict[str, Any] = {
        "generator": generator_of(key),
        "data": {"validation": str(originals), "crop": 48},
        "gan": {"steps": 0},
    }
    whole = conduct(make_config(**common, run={"output": str(tmp_path / "whole")}))
    config = make_config(**common, run={"output": str(tmp_path / "parts")})
    assert not conduct(config, Recorder(("pretrain", 1)), resume=True).finished
    outcome = conduct(config, resume=True)
    assert outcome.finished
    assert differing(state(outcome), state(whole)) == []
    assert outcome.model is not None
    assert whole.model is not None
    for a, b in zip(*(read_model(path).network.convs for path in (outcome.model, whole.model)), strict=True):
        assert np.array_equal(a.weight, b.weight)


def test_the_saved_model_is_the_averaged_generator(key: str, make_config: MakeConfig, originals: Path) -> None:
    config = make_config(
        generator=generator_of(key),
        data={"validation": str(originals), "crop": 48},
        gan={"steps": 0},
        run={"metadata": {"licence": "CC0"}},
    )
    trainer = Trainer(config, Recorder())
    outcome = trainer.run()
    assert outcome.model is not None
    file = read_model(outcome.model)
    average = trainer.average.module
    assert isinstance(average, NetworkGenerator)
    assert file.architecture == average.description
    assert scale_of(file.network) == config.generator.scale
    expected = {"stage": "pretrain", "steps": "3", "licence": "CC0", "batch": "2 crops of 48x48"}
    assert file.metadata.items() >= {**expected, **average.facts}.items()
    assert "preset" not in file.metadata
    lr = np.random.default_rng(0).random((3, 6, 8))
    with torch.no_grad():
        upscaled = average.double()(torch.from_numpy(lr)[None])[0].numpy()
    np.testing.assert_allclose(run(file.network, lr), upscaled, atol=1e-5)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_a_compact_generator_plays_against_a_discriminator(
    make_config: MakeConfig, kernels: str, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"generator": generator_of("compact", scale=4)}
    recorder, whole = Recorder(), {"kernels": kernels, "output": str(tmp_path / "whole")}
    outcome = conduct(make_config(**common, run=whole), recorder)
    assert outcome.model is not None
    assert read_model(outcome.model).metadata["stage"] == "gan"
    assert {"content", "adversarial", "discriminator"} <= set(recorder.steps[-1][2])
    config = make_config(**common, run={**whole, "output": str(tmp_path / "parts")})
    assert not conduct(config, Recorder(("gan", 2)), resume=True).finished
    assert differing(state(conduct(config, resume=True)), state(outcome)) == []


def test_pretraining_learns(key: str, make_config: MakeConfig, low_resolution: Path) -> None:
    recorder = Recorder()
    rate = 1e-3 if key == "edsr" else 3e-3  # its maps are of 0..255
    config = make_config(
        generator=generator_of(key, scale=4),
        data={"lr": str(low_resolution), "batch": 4},  # half as bright, which no start makes up for
        pretrain={"steps": 100, "learning_rate": rate, "loss": "l1"},
        gan={"steps": 0},
    )
    conduct(config, recorder)
    losses = [values["pixel"] for _, _, values in recorder.steps]
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:3])


def test_recomputed_blocks_train_the_same_network(make_config: MakeConfig, tmp_path: Path) -> None:
    def losses(checkpointing: bool) -> list[float]:
        recorder = Recorder()
        config = make_config(
            generator=generator_of("rrdb", checkpointing=checkpointing),
            gan={"steps": 0},
            run={"output": str(tmp_path / str(checkpointing))},
        )
        conduct(config, recorder)
        return [values["pixel"] for _, _, values in recorder.steps]

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)


def test_other_peoples_weights_are_what_a_run_starts_from(make_config: MakeConfig, tmp_path: Path) -> None:
    torch.manual_seed(8)
    theirs = ESRGAN(num_filters=8, num_blocks=1, scale=4)
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "theirs.pth")
    section = generator_of("rrdb", scale=4, growth=32, init=str(tmp_path / "theirs.pth"))
    config = make_config(generator=section, gan={"steps": 0}, pretrain={"learning_rate": 1e-4})
    trainer = Trainer(config, Recorder())
    lr = torch.rand(1, 3, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(trainer.generator(lr), theirs.eval()(lr), rtol=1e-4, atol=1e-5)
    outcome = trainer.run()
    assert outcome.model is not None
    names = load_network_generator(outcome.model).state_dict().keys()
    assert {"conv_first.weight", "body.0.rdb1.conv1.weight", "conv_up2.bias"} <= names
    again = make_config(generator={**section, "init": str(outcome.model)}, run={"output": str(tmp_path / "again")})
    assert Trainer(again, Recorder()).generator.state_dict().keys() == names


def refused(config: TrainConfig) -> str:
    with pytest.raises(TrainingError) as error:
        Trainer(config, Recorder())
    text = str(error.value)
    assert "\n" not in text
    return text


def test_an_init_of_another_network_is_refused_by_what_it_is(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(ESRGAN(num_filters=8, num_blocks=2, scale=4).state_dict(), path)
    text = refused(make_config(generator=generator_of("rrdb", scale=4, growth=32, init=str(path))))
    assert text == (
        f"generator.init: {path} is RRDB (ESRGAN), 2 blocks, 8 channels, growth 32, x4, which is not "
        "RRDB (ESRGAN), 1 blocks, 8 channels, growth 32, x4, as the configuration requires"
    )
    ours = tmp_path / "ours.safetensors"
    save_generator(Generator(generator_config("paper", channels=8, blocks=2)), ours, "paper")
    text = refused(make_config(generator=generator_of("compact", scale=4, init=str(ours))))
    assert text == (
        f"generator.init: {ours}: is an SRGAN generator of ours already; the configuration requires "
        "Compact (SRVGGNet), 2 convolutions of 8 channels, x4"
    )


def test_an_init_that_computes_otherwise_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(generator=generator_of("compact", activation="relu"), data={"crop": 48}, gan={"steps": 0})
    relu = conduct(config).model
    section = generator_of("compact", activation="leakyrelu", init=str(relu))
    text = refused(make_config(generator=section, data={"crop": 48}, run={"output": str(tmp_path / "other")}))
    assert text.endswith(
        "is Compact (SRVGGNet), 2 convolutions of 8 channels, x3, with other activations, biases or value ranges than "
        "the configuration requires"
    )


def test_a_checkpoint_from_before_there_were_architectures_is_resumed(make_config: MakeConfig) -> None:
    config = make_config(gan={"steps": 0}, run={"save_every": 1})
    outcome = conduct(config, Recorder(("pretrain", 2)))
    assert outcome.checkpoint is not None
    found = torch.load(outcome.checkpoint, weights_only=True)
    written = json.loads(found["config"])
    known = ("preset", "scale", "channels", "blocks", "init", "start", "checkpointing")
    written["generator"] = {name: written["generator"][name] for name in known}
    del found["sealed"]  # there were no checksums either
    torch.save({**found, "config": json.dumps(written)}, outcome.checkpoint)
    recorder = Recorder()
    assert conduct(config, recorder, resume=True).finished
    assert recorder.starts == [("pretrain", 2, 3)]


def test_a_run_is_not_resumed_with_another_architecture(make_config: MakeConfig) -> None:
    conduct(make_config(gan={"steps": 0}), Recorder(("pretrain", 1)))
    config = make_config(generator=generator_of("msrresnet"), gan={"steps": 0})
    with pytest.raises(TrainingError, match=r"was made with generator\.architecture = 'srgan'.* says 'msrresnet'"):
        conduct(config, resume=True)
