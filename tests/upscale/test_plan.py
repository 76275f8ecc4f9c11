"""Which file becomes which; one odd file never stops the others."""

import os
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.data.images import counted
from srgan_fast.errors import UsageError
from srgan_fast.upscale import OutputOptions, Plan, plan_jobs

ADVICE = "; try --name '{parent}_{stem}_x{scale}.{ext}'"


def _empty(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def _plan(inputs: list[str], output: str, recursive: bool = False, **options: Any) -> list[tuple[str, str]]:
    plan = plan_jobs(inputs, output, OutputOptions(**options), recursive)
    assert plan.refused == []
    return [("-" if j.source is None else str(j.source), "-" if j.target is None else str(j.target)) for j in plan.jobs]


def _refused(inputs: list[str], output: str, **options: Any) -> tuple[Plan, list[str]]:
    plan = plan_jobs(inputs, output, OutputOptions(**options), recursive=True)
    return plan, [result.message for result in plan.refused]


# --- which file becomes which


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("a.png", {}, "out/a_x4.png"),
        ("a.JPG", {}, "out/a_x4.JPG"),
        ("a.jpeg", {}, "out/a_x4.jpeg"),
        ("a.webp", {}, "out/a_x4.webp"),
        ("a.tif", {}, "out/a_x4.tif"),
        ("a.TIFF", {}, "out/a_x4.TIFF"),
        ("a.gif", {}, "out/a_x4.gif"),
        ("a.avif", {}, "out/a_x4.avif"),
        ("a.bmp", {}, "out/a_x4.png"),
        ("a.gif", {"fmt": "apng"}, "out/a_x4.apng"),
        ("a", {}, "out/a_x4.png"),
        ("a.b.png", {"suffix": "_x2.5"}, "out/a.b_x2.5.png"),
        ("a.jpeg", {"fmt": "jpg"}, "out/a_x4.jpeg"),
        ("a.jpeg", {"fmt": "png"}, "out/a_x4.png"),
        ("a.png", {"fmt": "webp", "suffix": ""}, "out/a.webp"),
        ("deep/er/a.png", {}, "out/a_x4.png"),
        ("photo[1].png", {}, "out/photo[1]_x4.png"),
    ],
)
def test_a_result_is_named_after_its_image(folder: Path, name: str, options: Any, expected: str) -> None:
    _empty(name)
    assert _plan([name], "out", **options) == [(name, expected)]


def test_a_folder_gives_its_images_in_order(folder: Path) -> None:
    _empty("in/b.png", "in/a.jpg", "in/notes.txt", "in/.hidden.png", "in/deep/c.png")
    assert _plan(["in"], "out") == [("in/a.jpg", "out/a_x4.jpg"), ("in/b.png", "out/b_x4.png")]


def test_recursion_keeps_the_structure(folder: Path) -> None:
    _empty("in/a.png", "in/deep/a.png", "in/deep/er/b.tif")
    assert _plan(["in"], "out", recursive=True) == [
        ("in/a.png", "out/a_x4.png"),
        ("in/deep/a.png", "out/deep/a_x4.png"),
        ("in/deep/er/b.tif", "out/deep/er/b_x4.tif"),
    ]


def test_patterns_take_images_only(folder: Path) -> None:
    _empty("in/a1.png", "in/a2.png", "in/a3.txt", "in/b.png", "in/a4.png/x.png")
    assert [source for source, _ in _plan(["in/a*"], "out")] == ["in/a1.png", "in/a2.png"]
    assert [source for source, _ in _plan(["in/**/*.png"], "out", recursive=True)] == [
        "in/a1.png", "in/a2.png", "in/a4.png/x.png", "in/b.png",
    ]  # fmt: skip


def test_inputs_of_all_kinds_go_together_and_duplicates_once(folder: Path) -> None:
    _empty("in/a.png", "in/b.png", "c.png")
    plan = _plan(["in/a.png", "in", "c.png", "./c.png", str(folder / "in/b.png"), "-", "-"], "out")
    assert sorted(target for _, target in plan) == ["out/a_x4.png", "out/b_x4.png", "out/c_x4.png", "out/stdin_x4.png"]


@pytest.mark.parametrize("name", ["x.png", "x.JPEG", "new/x.webp"])
def test_one_image_may_be_given_its_file(folder: Path, name: str) -> None:
    _empty("a.png")
    assert _plan(["a.png"], name) == [("a.png", name)]
    assert _plan(["-"], name) == [("-", name)]


def test_a_folder_with_the_name_of_an_image_is_a_folder(folder: Path) -> None:
    _empty("a.png")
    Path("x.png").mkdir()
    Path("x.tif").mkdir()
    assert _plan(["a.png"], "x.png") == [("a.png", "x.png/a_x4.png")]
    assert _plan(["a.png"], "x.tif") == [("a.png", "x.tif/a_x4.png")]


@pytest.mark.parametrize(
    ("source", "options", "fmt"),
    [("-", {}, "png"), ("-", {"fmt": "webp"}, "webp"), ("a.jpeg", {}, "jpg"), ("a.tif", {}, "tif")],
)
def test_standard_output_takes_the_format_of_the_input(folder: Path, source: str, options: Any, fmt: str) -> None:
    _empty("a.jpeg", "a.tif")
    (job,) = plan_jobs([source], "-", OutputOptions(**options)).jobs
    assert (job.target, job.fmt) == (None, fmt)


@pytest.mark.parametrize(
    ("inputs", "output", "options", "message"),
    [
        (["empty"], "out", {}, r"no images in empty \(use --recursive to search subfolders\)"),
        (["a.png", "b.png"], "x.png", {}, "x.png is one image, but there are 2 inputs; give a folder"),
        (["a.png", "b.png"], "-", {}, "- is one image, but there are 2 inputs"),
        (["a.png"], "x.png", {"fmt": "jpg"}, "x.png and --format jpg contradict each other"),
        (["a.png"], "x.bmp", {}, "x.bmp: cannot write .bmp; use .png, .jpg, .webp, .tif, .gif, .apng or .avif"),
        (["a.png"], "x.HEIC", {}, "cannot write .HEIC"),
        (["a.png"], "out", {"name": "{stem}"}, "it must end with .{ext}"),
        (["a.png"], "out", {"name": "a.{ext}"}, "without {stem} all results would have one name"),
        (["a.png"], "out", {"name": "{stem}/{parent}.{ext}"}, "cannot hold a path"),
        (["a.png"], "out", {"name": "{stem}{date}.{ext}"}, "takes {stem}, {parent}, {type}, {scale} and {ext}"),
        (["a.png"], "out", {"name": "{stem.{ext}"}, "takes {stem}, {parent}, {type}, {scale} and {ext}"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    folder: Path, inputs: list[str], output: str, options: Any, message: str
) -> None:
    _empty("a.png", "b.png", "empty/deep/a.png", "empty/x.txt")
    with pytest.raises(UsageError, match=message.replace("{", r"\{").replace("}", r"\}")):
        plan_jobs(inputs, output, OutputOptions(**options))


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("missing.png", "missing.png: no such file or folder"),
        ("mi*.png", "mi*.png: matches no image"),
        ("in/a.png", f"a.png and in/a.png would both become out/a_x4.png{ADVICE}"),
    ],
)
def test_one_odd_input_is_refused_and_the_rest_go_on(folder: Path, odd: str, message: str) -> None:
    _empty("a.png", "b.png", "in/a.png")
    plan, messages = _refused(["a.png", "b.png", odd], "out")
    assert set(messages) == {message}
    assert str(plan.jobs[-1].source) == "b.png"
    assert len(plan.jobs) + len(messages) == 3


def test_all_that_clash_are_named_and_only_they_fail(folder: Path) -> None:
    _empty("in/a.png", "in/a.jpg", "in/a.webp", "in/b.png", "in/c.jpg", "in/c.png")
    plan, messages = _refused(["in"], "out", fmt="png")
    assert [str(job.source) for job in plan.jobs] == ["in/b.png"]
    advice = ADVICE.replace("{parent}_{stem}", "{stem}_{type}")
    of_a = f"in/a.jpg and in/a.png and in/a.webp would all become out/a_x4.png{advice}"
    of_c = f"in/c.jpg and in/c.png would both become out/c_x4.png{advice}"
    assert sorted(messages) == [of_a] * 3 + [of_c] * 2
    plan, messages = _refused(["in"], "out", fmt="png", name="{stem}_{type}_x{scale}.{ext}")
    assert messages == []
    assert [str(job.target) for job in plan.jobs][:2] == ["out/a_jpg_x4.png", "out/a_png_x4.png"]


def test_templates_name_results(folder: Path) -> None:
    _empty("one/a.png", "two/a.jpg")
    plan = plan_jobs(["one/a.png", "two/a.jpg"], "out", OutputOptions(name="{parent}_{stem}_x{scale}.{ext}"))
    assert [str(job.target) for job in plan.jobs] == ["out/one_a_x4.png", "out/two_a_x4.jpg"]


@pytest.mark.parametrize(
    ("inputs", "output", "options", "message"),
    [
        (["a.png"], ".", {"suffix": ""}, "a.png would be overwritten by its own result; give another -o or --suffix"),
        (["a.png"], "a.png", {}, "a.png would be overwritten by its own result; give another -o or --suffix"),
        (["link.png"], "a.png", {}, "a.png would be overwritten by its own result; give another -o or --suffix"),
        (
            ["a_x4.png", "a.png"],
            ".",
            {"existing": "overwrite"},
            "a_x4.png would be overwritten by the result of a.png; give another -o or --suffix",
        ),
        (
            ["."],
            ".",
            {"existing": "overwrite", "suffix": "", "fmt": "png"},
            "a.png would be overwritten by its own result; give another -o or --suffix",
        ),
    ],
)
def test_an_input_is_never_overwritten(
    folder: Path, inputs: list[str], output: str, options: Any, message: str
) -> None:
    _empty("a.png", "a_x4.png")
    Path("link.png").symlink_to("a.png")
    assert message in _refused(inputs, output, **options)[1]


# --- results of earlier runs


@pytest.mark.parametrize("out", ["album", "album/large", "album/deep"])
def test_a_run_can_be_repeated_with_its_results_among_the_inputs(folder: Path, out: str) -> None:
    _empty("album/a.png", "album/b.jpg", "album/deep/c.png")
    first = plan_jobs(["album"], out, OutputOptions(), recursive=True)
    _empty(*(str(job.target) for job in first.jobs))
    again = plan_jobs(["album"], out, OutputOptions(), recursive=True)
    if out == "album/deep":  # the output folder is no input
        first.jobs[:] = [job for job in first.jobs if job.source != Path("album/deep/c.png")]
    assert again.jobs == first.jobs
    assert again.refused == []
    assert again.earlier == (3 if out == "album" else 0)


def test_results_in_another_format_are_not_upscaled_once_more(folder: Path) -> None:
    _empty("album/a.jpg", "album/a_x4.jpg")
    plan = plan_jobs(["album"], "album", OutputOptions(fmt="png"))
    assert [str(job.target) for job in plan.jobs] == ["album/a_x4.png"]
    assert plan.earlier == 1


@pytest.mark.parametrize("earlier", ["a_x2.png", "a_x2.5.jpg", "a_3840x2160.png", "deep/b_x8.png"])
def test_results_with_another_factor_are_not_upscaled_once_more(folder: Path, earlier: str) -> None:
    _empty("album/a.png", "album/deep/b.jpg", f"album/{earlier}")
    plan = plan_jobs(["album"], "album", OutputOptions(), recursive=True)
    assert [str(job.target) for job in plan.jobs] == ["album/a_x4.png", "album/deep/b_x4.jpg"]
    assert plan.earlier == 1


@pytest.mark.parametrize(
    ("other", "out"), [("b_x2.png", "album"), ("a_2.png", "album"), ("a_wide.png", "album"), ("a_x2.png", "out")]
)
def test_other_files_with_similar_names_are_inputs(folder: Path, other: str, out: str) -> None:
    _empty("album/a.png", f"album/{other}")
    plan = plan_jobs(["album"], out, OutputOptions())
    assert [job.source for job in plan.jobs] == [Path("album/a.png"), Path("album") / other]
    assert plan.earlier == 0


def test_a_result_that_is_named_is_an_input(folder: Path) -> None:
    _empty("a.png", "a_x4.png")
    plan = plan_jobs(["a_x4.png"], ".", OutputOptions())
    assert [str(job.target) for job in plan.jobs] == ["a_x4_x4.png"]


# --- odd files


def test_a_loop_of_links_is_a_job_of_its_own(folder: Path) -> None:
    _empty("in/a.png")
    Path("in/loop.png").symlink_to("loop.png")
    assert [str(job.source) for job in plan_jobs(["in"], "out", OutputOptions()).jobs] == ["in/a.png", "in/loop.png"]


def test_links_to_folders_are_not_followed_but_counted(folder: Path) -> None:
    _empty("in/a.png", "in/b.exr", "elsewhere/c.png")
    Path("in/other").symlink_to(Path("elsewhere").absolute())
    Path("in/back").symlink_to(Path("in").absolute())
    plan = plan_jobs(["in"], "out", OutputOptions(), recursive=True)
    assert [str(job.source) for job in plan.jobs] == ["in/a.png"]
    assert counted(plan.left_out) == "1 .exr, 2 linked folders"
    assert counted(plan_jobs(["in"], "out", OutputOptions()).left_out) == "1 .exr"
    assert [str(job.source) for job in plan_jobs(["in/other"], "out", OutputOptions()).jobs] == ["in/other/c.png"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_is_refused_and_the_rest_go_on(folder: Path) -> None:
    _empty("in/a.png", "in/locked/b.png")
    Path("in/locked").chmod(0)
    plan, messages = _refused(["in"], "out")
    Path("in/locked").chmod(0o700)
    assert [str(job.source) for job in plan.jobs] == ["in/a.png"]
    assert messages == ["in/locked: cannot be listed (Permission denied)"]


def test_a_folder_that_cannot_be_listed_is_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _empty("in/a.png", "in/locked/b.png")
    listed = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    plan, messages = _refused(["in"], "out")
    assert [str(job.source) for job in plan.jobs] == ["in/a.png"]
    assert messages == ["in/locked: cannot be listed (Permission denied)"]


def test_images_of_other_kinds_are_counted_by_suffix(folder: Path) -> None:
    _empty("in/a.png", "in/b.exr", "in/c.EXR", "in/d.psd", "in/notes.txt")
    plan = plan_jobs(["in"], "out", OutputOptions())
    assert len(plan.jobs) == 1
    assert plan.left_out == {".exr": 2, ".psd": 1}
    Path("in/a.png").unlink()
    with pytest.raises(UsageError, match=r"left out: 2 \.exr, 1 \.psd"):
        plan_jobs(["in"], "out", OutputOptions())


def test_an_empty_folder_beside_others_is_no_mistake(folder: Path) -> None:
    _empty("in/a.png")
    Path("none").mkdir()
    assert _plan(["in", "none"], "out") == [("in/a.png", "out/a_x4.png")]
