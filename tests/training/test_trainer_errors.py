"""What a run cannot use is refused before it starts, and what goes wrong on its way costs no checkpoint."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.errors import DataError, ModelError, SrganFastError, TrainingError
from srgan_fast.files import cache_folder
from srgan_fast.models import Generator, generator_config, save_generator
from srgan_fast.training import TrainConfig, Trainer

from .conftest import MakeConfig, Recorder, conduct, differing

pytestmark = pytest.mark.usefixtures("_narrow")


def refused(config: TrainConfig, resume: bool = False) -> str:
    """The message of a run that must not start."""
    recorder = Recorder()
    with pytest.raises(SrganFastError) as error:
        conduct(config, recorder, resume)
    assert recorder.steps == []
    assert "\n" not in str(error.value)
    return str(error.value)


def poison(trainer: Trainer, recorder: Recorder, at: tuple[str, int]) -> None:
    """Spoils a weight after a step, as a diverging run does."""

    def spoil(stage: str, step: int) -> None:
        if (stage, step) == at:
            with torch.no_grad():
                trainer.generator.tail.bias.fill_(float("nan"))

    recorder.on_step = spoil


@pytest.mark.parametrize(("stage", "loss"), [("pretrain", "pixel"), ("gan", "content")])
def test_a_loss_that_is_not_finite_stops_with_its_name_step_and_the_last_good_checkpoint(
    make_config: MakeConfig, stage: str, loss: str
) -> None:
    config = make_config(pretrain={"steps": 6}, gan={"steps": 6}, run={"save_every": 2})
    trainer = Trainer(config, recorder := Recorder())
    poison(trainer, recorder, (stage, 3))
    with pytest.raises(TrainingError, match=f"{stage} step 4: the {loss} loss is nan; the run stops") as error:
        trainer.run()
    good = config.run.output / "checkpoints" / f"{0 if stage == 'pretrain' else 1}-{stage}-00000002.pt"
    assert f"Last good checkpoint: {good}. " in str(error.value)
    assert "learning rate" in str(error.value)
    recorder = Recorder()
    assert conduct(config, recorder, resume=True).finished
    assert recorder.starts[0] == (stage, 2, 6)


def test_a_loss_that_is_not_finite_before_any_checkpoint(make_config: MakeConfig) -> None:
    trainer = Trainer(make_config(), recorder := Recorder())
    poison(trainer, recorder, ("pretrain", 1))
    with pytest.raises(TrainingError, match=r"pretrain step 2: .* Last good checkpoint: none yet"):
        trainer.run()


def test_a_folder_that_holds_a_run_is_not_overwritten(make_config: MakeConfig) -> None:
    config = make_config()
    conduct(config)
    before = {path: path.read_bytes() for path in config.run.output.rglob("*") if path.is_file()}
    assert (
        refused(config)
        == f"{config.run.output} already contains a run; use --resume to continue it, or another run.output"
    )
    assert {path: path.read_bytes() for path in config.run.output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"generator": {"blocks": 3}}, "generator.blocks = 2, the configuration says 3"),
        ({"generator": {"channels": 4}}, "generator.channels = 8, the configuration says 4"),
        ({"generator": {"preset": "pytorch-gan"}}, "generator.preset = 'paper', the configuration says 'pytorch-gan'"),
        ({"data": {"crop": 48}}, "data.crop = 32, the configuration says 48"),
        ({"data": {"batch": 4}}, "data.batch = 2, the configuration says 4"),
        ({"data": {"degradations": {"noise": [0, 1]}}}, "data.degradations = "),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_run_is_not_resumed_with_another_network_or_data(
    make_config: MakeConfig, changes: dict[str, Any], expected: str
) -> None:
    outcome = conduct(make_config(gan={"steps": 0}))
    text = refused(make_config(gan={"steps": 0}, **changes), resume=True)
    assert text.startswith(f"{outcome.checkpoint} was made with {expected}")
    assert text.endswith("a resumed run must use the same")


FORCE = "To continue anyway: --resume --force"


def change_a_pixel(path: Path) -> None:
    pixels = read_image(path).pixels.copy()
    pixels[3, 4, 1] ^= 1
    write_image(path, Image(pixels), quality=100)


@pytest.fixture
def folders(pictures: Path, targets: Path, low_resolution: Path, originals: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of all folders of data, to be changed."""
    sources = {"train": pictures, "targets": targets, "lr": low_resolution, "validation": originals}
    return {name: shutil.copytree(source, tmp_path / name) for name, source in sources.items()}


def with_folders(folders: dict[str, Path]) -> dict[str, Any]:
    return {"data": {name: str(folder) for name, folder in folders.items()}, "gan": {"steps": 0}}


@pytest.mark.parametrize("name", ["train", "targets", "lr", "validation"])
def test_a_run_is_not_resumed_with_other_images_unless_forced(
    make_config: MakeConfig, folders: dict[str, Path], name: str
) -> None:
    outcome = conduct(make_config(**with_folders(folders)), Recorder(("pretrain", 2)))
    change_a_pixel(sorted(folders[name].iterdir())[0])
    config = make_config(**with_folders(folders))
    count = 1 if name == "validation" else 3
    what = f"data.{name} has {count} images as before, but others or in another order ({folders[name]})"
    assert refused(config, resume=True) == f"{outcome.checkpoint} was made with other data: {what}. {FORCE}"
    recorder = Recorder()
    assert Trainer(config, recorder).run(resume=True, force=True).finished
    assert recorder.starts == [("pretrain", 2, 3)]
    assert f"continuing although {what}" in recorder.notes
    assert conduct(config, resume=True).finished  # what it went on with is recorded


def test_a_run_is_not_resumed_with_more_or_fewer_images(make_config: MakeConfig, folders: dict[str, Path]) -> None:
    config = make_config(data={"train": str(folders["train"])}, gan={"steps": 0})
    conduct(config)
    shutil.copy(folders["train"] / "0.png", folders["train"] / "3.png")
    assert f"data.train had 3 images and has 4 ({folders['train']}). {FORCE}" in refused(config, resume=True)


def test_a_run_is_not_resumed_with_another_seed_unless_forced(make_config: MakeConfig) -> None:
    conduct(make_config(gan={"steps": 0}, run={"seed": 3}), Recorder(("pretrain", 1)))
    config = make_config(gan={"steps": 0}, run={"seed": 4})
    assert refused(config, resume=True).endswith(f"other data: run.seed was 3 and is 4. {FORCE}")
    assert Trainer(config, Recorder()).run(resume=True, force=True).finished


def test_all_that_differs_is_told_at_once(make_config: MakeConfig, folders: dict[str, Path]) -> None:
    conduct(make_config(**with_folders(folders)))
    for folder in folders.values():
        change_a_pixel(sorted(folder.iterdir())[0])
    text = refused(make_config(**with_folders(folders), run={"seed": 1}), resume=True)
    assert [part for part in ("run.seed was 0", *(f"data.{name} has" for name in folders)) if part not in text] == []


def test_folders_that_were_moved_with_their_images_go_on(
    make_config: MakeConfig, folders: dict[str, Path], tmp_path: Path
) -> None:
    whole = conduct(make_config(**with_folders(folders), run={"output": str(tmp_path / "whole")}))
    conduct(make_config(**with_folders(folders)), Recorder(("pretrain", 1)))
    moved = {name: folder.rename(tmp_path / f"other {name}") for name, folder in folders.items()}
    for path in moved["train"].iterdir():  # no file is the same, but all pixels are
        write_image(path.with_suffix(".webp"), read_image(path), quality=100)
        path.unlink()
    outcome = conduct(make_config(**with_folders(moved)), resume=True)
    assert outcome.checkpoint is not None
    assert whole.checkpoint is not None
    ours, theirs = (torch.load(path, weights_only=True) for path in (outcome.checkpoint, whole.checkpoint))
    assert differing(ours["networks"], theirs["networks"]) == []


def test_validation_may_be_added_and_left_out(make_config: MakeConfig, originals: Path) -> None:
    without = make_config(gan={"steps": 0})
    conduct(without, Recorder(("pretrain", 1)))
    within = make_config(gan={"steps": 0}, data={"validation": str(originals)})
    conduct(within, Recorder(("pretrain", 2)), resume=True)
    assert conduct(without, resume=True).finished


def without_pictures(path: Path) -> None:
    """Makes a checkpoint one from before images were recorded and checksums stored."""
    state = torch.load(path, weights_only=True)
    del state["pictures"], state["sealed"]
    torch.save(state, path)


def test_a_checkpoint_from_before_images_were_recorded_goes_by_folders(
    make_config: MakeConfig, pictures: Path, tmp_path: Path
) -> None:
    config = make_config(gan={"steps": 0})
    outcome = conduct(config, Recorder(("pretrain", 1)))
    assert outcome.checkpoint is not None
    without_pictures(outcome.checkpoint)
    shutil.copytree(pictures, tmp_path / "others")
    moved = make_config(gan={"steps": 0}, data={"train": str(tmp_path / "others")})
    text = refused(moved, resume=True)
    assert f"data.train was {pictures} and is {tmp_path / 'others'}, and its images were not recorded. {FORCE}" in text
    assert conduct(config, resume=True).finished


def test_a_damaged_checkpoint_is_named_before_the_one_before_it_is_taken(make_config: MakeConfig) -> None:
    config = make_config(gan={"steps": 0}, run={"save_every": 1})
    outcome = conduct(config)
    assert outcome.checkpoint is not None
    data = bytearray(outcome.checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    data[len(data) // 3] ^= 1
    outcome.checkpoint.write_bytes(data)
    recorder = Recorder()
    conduct(config, recorder, resume=True)
    assert recorder.starts == [("pretrain", 2, 3)]
    assert [note for note in recorder.notes if "damaged" in note] == [
        f"checkpoint {outcome.checkpoint.name} is damaged (its checksum does not match); "
        "continuing from the previous one"
    ]


def test_validating_on_training_images_is_noted_in_one_line(
    make_config: MakeConfig, pictures: Path, originals: Path, tmp_path: Path
) -> None:
    def notes(folder: Path) -> list[str]:
        recorder = Recorder()
        Trainer(make_config(data={"validation": str(folder)}), recorder)
        return [note for note in recorder.notes if "also training images" in note]

    assert notes(originals) == []
    both = shutil.copytree(originals, tmp_path / "both")
    write_image(both / "a.webp", read_image(pictures / "1.png"), quality=100)  # another name and format
    then = "its figures will be better than the model"
    assert notes(both) == [
        f"1 of 2 validation images are also training images (first: a.webp, in training 1.png): {then}"
    ]
    assert notes(pictures) == [f"3 of 3 validation images are also training images (first: 0.png): {then}"]


def test_a_damaged_cache_is_said_and_costs_nothing_else(make_config: MakeConfig, folders: dict[str, Path]) -> None:
    config = make_config(**with_folders(folders))
    conduct(config)
    for path in cache_folder().glob("pixels-*.bin"):
        os.truncate(path, 10)
    recorder = Recorder()
    assert conduct(config, recorder, resume=True).finished
    made_again = [note for note in recorder.notes if "are rebuilt, since the file has 10 bytes instead of" in note]
    assert [note.split(":")[0] for note in made_again] == [str(folders[name]) for name in ("train", "targets", "lr")]


def test_a_run_is_not_resumed_with_other_targets(
    make_config: MakeConfig, targets: Path, low_resolution: Path, tmp_path: Path
) -> None:
    plain = {"output": str(tmp_path / "plain")}
    conduct(make_config(gan={"steps": 0}, run=plain))
    for key, folder in (("targets", targets), ("lr", low_resolution)):
        text = refused(make_config(gan={"steps": 0}, data={key: str(folder)}, run=plain), resume=True)
        assert f"data.{key} = None, the configuration says '{folder}'" in text
    conduct(make_config(gan={"steps": 0}, data={"targets": str(targets)}))
    text = refused(make_config(gan={"steps": 0}, data={"targets": str(targets), "targets_weight": 0.5}), resume=True)
    assert "data.targets_weight = 1.0, the configuration says 0.5" in text


def test_a_checkpoint_from_before_there_were_targets_is_one_without(make_config: MakeConfig, targets: Path) -> None:
    outcome = conduct(make_config(gan={"steps": 0}))
    assert outcome.checkpoint is not None
    without_pictures(outcome.checkpoint)
    state = torch.load(outcome.checkpoint, weights_only=True)
    config = json.loads(state["config"])
    for key in ("targets", "targets_weight", "lr"):
        del config["data"][key]
    torch.save({**state, "config": json.dumps(config)}, outcome.checkpoint)
    text = refused(make_config(gan={"steps": 0}, data={"targets": str(targets)}), resume=True)
    assert f"data.targets = None, the configuration says '{targets}'" in text
    assert conduct(make_config(gan={"steps": 0}, pretrain={"steps": 4}), resume=True).finished


def test_targets_and_low_resolution_images_that_do_not_fit(
    make_config: MakeConfig, pictures: Path, targets: Path, low_resolution: Path, tmp_path: Path
) -> None:
    for key, folder in (("targets", targets), ("lr", low_resolution)):
        lacking = tmp_path / key
        shutil.copytree(folder, lacking)
        next(lacking.glob("1*")).unlink()
        text = refused(make_config(data={key: str(lacking)}))
        assert text == (f"data.{key}: {lacking}: 1 of 3 originals have no image of the same name; first: 1.png")
        next(lacking.glob("2*")).write_bytes(b"nothing")
        assert refused(make_config(data={key: str(lacking)})).startswith(f"data.{key}: 1 of 2 images cannot be read")
        none = tmp_path / "none"
        assert refused(make_config(data={key: str(none)})) == f"data.{key}: {none}: no such folder"
    text = refused(make_config(data={"targets": str(low_resolution)}))
    assert text.endswith("originals have no image of the same name; first: 0.png")
    text = refused(make_config(data={"lr": str(pictures)}))
    assert "3 of 3 images do not have 1/4 of the original's size; first: 0.png has 96x80, its original 96x80" in text


def test_what_does_not_change_a_run_may_change(make_config: MakeConfig, originals: Path) -> None:
    conduct(make_config(), Recorder(("pretrain", 1)))
    generator = {"checkpointing": True, "start": "random"}
    config = make_config(data={"validation": str(originals)}, generator=generator, run={"keep": 7})
    assert conduct(config, resume=True).finished


def test_a_checkpoint_of_another_discriminator_is_refused(make_config: MakeConfig) -> None:
    outcome = conduct(make_config())
    text = refused(make_config(gan={"steps": 5, "discriminator": "paper"}), resume=True)
    assert text.startswith(f"{outcome.checkpoint}: belongs to other networks (")


def test_a_checkpoint_of_a_stage_that_is_left_out_is_refused(make_config: MakeConfig) -> None:
    outcome = conduct(make_config())
    text = refused(make_config(gan={"steps": 0}), resume=True)
    assert text == f"{outcome.checkpoint} is in the gan stage, which the configuration skips"


def test_all_checkpoints_damaged_is_an_error_not_a_new_start(make_config: MakeConfig) -> None:
    outcome = conduct(make_config(gan={"steps": 0}, run={"keep": 1}))
    assert outcome.checkpoint is not None
    outcome.checkpoint.write_bytes(b"")
    assert "no checkpoint can be read" in refused(make_config(gan={"steps": 0}), resume=True)


def test_images_that_do_not_serve_are_noted_and_left_out(
    make_config: MakeConfig, pictures: Path, tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(pictures, folder)
    (folder / "broken.png").write_bytes(b"\x89PNG no more")
    (folder / "notes.txt").write_text("no picture")
    write_image(folder / "small.png", Image(photo[:31, :200]))
    recorder = Recorder()
    assert conduct(make_config(data={"train": str(folder)}, gan={"steps": 0}), recorder).finished
    notes = "\n".join(recorder.notes)
    assert f"4 images in {folder}" in notes
    assert f"skipped: {folder / 'broken.png'}" in notes
    assert "1 images are smaller than a crop and were skipped: small.png" in notes
    assert "notes.txt" not in notes


def test_data_that_cannot_be_used(make_config: MakeConfig, tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    empty, small, broken = (tmp_path / name for name in ("empty", "small", "broken"))
    for folder in (empty, small, broken):
        folder.mkdir()
    write_image(small / "a.png", Image(photo[:20, :200]))
    (broken / "a.png").write_bytes(b"nothing")
    for folder, expected in [
        (empty, f"{empty}: contains no images"),
        (small, "every image is smaller than a crop of 32x32; lower the crop size"),
        (broken, f"{broken}: none of its 1 images can be read; first: {broken / 'a.png'}"),
        (tmp_path / "none", f"{tmp_path / 'none'}: "),
    ]:
        with pytest.raises(DataError) as error:
            Trainer(make_config(data={"train": str(folder)}), Recorder())
        assert str(error.value).startswith(expected)


def test_validation_images_that_cannot_be_used(
    make_config: MakeConfig, tmp_path: Path, photo: NDArray[np.uint8]
) -> None:
    empty, small, broken = (tmp_path / name for name in ("empty", "small", "broken"))
    for folder in (empty, small, broken):
        folder.mkdir()
    write_image(small / "a.png", Image(photo[:16, :200]))
    (broken / "a.png").write_bytes(b"nothing")
    for folder, expected in [
        (empty, f"validation: {empty} contains no images"),
        (small, f"validation: {small / 'a.png'} is too small to be measured"),
        (broken, f"validation: {broken / 'a.png'}"),
        (tmp_path / "none", f"validation: {tmp_path / 'none'}"),
    ]:
        assert refused(make_config(data={"validation": str(folder)})).startswith(expected)


def test_output_that_cannot_be_written(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        text = refused(make_config(run={"output": str(output)}))
        assert text.startswith(f"run.output: {output} cannot be written (")


def test_a_full_disk_stops_and_keeps_the_last_checkpoint(make_config: MakeConfig) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    config, recorder = make_config(run={"save_every": 1}), Recorder()
    with pytest.MonkeyPatch.context() as patch:
        recorder.on_step = lambda *at: patch.setattr(torch, "save", full) if at == ("gan", 2) else None
        with pytest.raises(TrainingError, match=r"1-gan-00000002\.pt could not be saved .*No space left") as error:
            conduct(config, recorder)
    good = config.run.output / "checkpoints" / "1-gan-00000001.pt"
    assert str(error.value).endswith(f"the last good checkpoint is {good}")
    assert conduct(config, resume=True).finished


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(make_config: MakeConfig) -> None:
    assert refused(make_config(run={"device": "cuda"})) == "run.device is cuda, but PyTorch finds no CUDA device"


def test_init_of_another_architecture_or_none(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_generator(Generator(generator_config("paper", channels=8, blocks=3)), path, "paper")
    text = refused(make_config(generator={"init": str(path)}))
    assert text == f"generator.init: {path} has blocks = 3 where the configuration requires 2"
    save_generator(Generator(generator_config("pytorch-gan", channels=8, blocks=2)), path, "pytorch-gan")
    text = refused(make_config(generator={"init": str(path)}))
    assert "block_bias = True where the configuration requires False" in text
    assert text.endswith(", the value ranges or BatchNorm epsilons of another preset")
    with pytest.raises(ModelError, match="neither a file nor a shipped model"):
        Trainer(make_config(generator={"init": "no-such-model"}), Recorder())


def test_a_start_that_the_network_cannot_have(make_config: MakeConfig) -> None:
    for changes, reason in [
        ({"preset": "pytorch-gan"}, "its input is not in 0..1, so an activation would distort the colours"),
        ({"channels": 2}, "2 channels cannot carry 3 colours"),
    ]:
        text = refused(make_config(generator={"start": "upscaler", **changes}))
        assert text == f"generator.start is upscaler, which this network does not support: {reason}; use random"


def test_missing_vgg_weights_are_noticed_before_the_pretraining(make_config: MakeConfig, tmp_path: Path) -> None:
    missing = {"weights": str(tmp_path / "vgg19.pth")}
    key = "gan.features (vgg, weights, cut, layers): "
    assert refused(make_config(gan={"features": missing})).startswith(f"{key}{tmp_path / 'vgg19.pth'}: no such file")
    assert conduct(make_config(gan={"features": missing, "content_weight": 0.0})).finished
    assert refused(make_config(gan={"features": {"weights": "random", "cut": "vgg99"}})).startswith(f"{key}'vgg99'")


def test_batches_that_do_not_divide(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(data={"batch": 3})
    monkeypatch.setattr("srgan_fast.training.distributed.start", lambda: (0, 2))
    assert (
        refused(config) == "data.batch is 3; it must be a multiple of 2, the number of processes times run.accumulate"
    )
