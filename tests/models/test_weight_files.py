"""Weight files of all sources are fetched once and checked; a refused file leaves nothing behind."""

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from huggingface_hub import constants
from pydantic import ValidationError

from ssl4eo_bench.config.layouts import Layout
from ssl4eo_bench.config.weights import (
    DriveWeights,
    FileWeights,
    HubFileWeights,
    HubWeights,
    PackagedWeights,
    RandomWeights,
    RemoteWeights,
    UrlWeights,
    Weights,
    weights_identity,
)
from ssl4eo_bench.errors import WeightsError
from ssl4eo_bench.files import downloads
from ssl4eo_bench.models import fetching
from ssl4eo_bench.models.weight_files import checked_file, is_here, obtain, unpinned_sha256, weights_place
from ssl4eo_bench.models.weight_reader import read_weights
from tests.conftest import Recorder
from tests.remote import Remote

STATE = {"conv.weight": torch.arange(100_000.0), "conv.bias": torch.zeros(3)}
DRIVE_ID = "1aB2_cD3-eF4gH5iJ6kL7mN8oP9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KINDS = ["url", "hf", "drive"]
Offer = Callable[..., RemoteWeights]


def torch_file(*, seed: float = 0.0) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE | {"seed": torch.tensor([seed])}, buffer)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    return buffer.getvalue()


CONTENT = torch_file()
OTHER = torch_file(seed=1.0)
PAGE = b"<!DOCTYPE html><html><body>Too many users</body></html>"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSES", (0.0, 0.0))


@pytest.fixture
def offer(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Publishes a file as one of the kinds; gives the entry's weights, by default with the hash of the file."""
    monkeypatch.setattr(fetching, "DRIVE", f"{remote.url}download")
    monkeypatch.setattr(constants, "ENDPOINT", remote.url.rstrip("/"))
    template = remote.url + "{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def publish(kind: str, content: bytes = CONTENT, *, given: str | None = "all", **more: Any) -> RemoteWeights:
        shown = sha256(content) if given == "all" else given
        if kind == "url":
            remote.files["some/w.pth"] = content
            return UrlWeights(url=f"{remote.url}some/w.pth", sha256=shown, **more)
        if kind == "drive":
            remote.files[f"download?id={DRIVE_ID}&export=download&confirm=t"] = content
            return DriveWeights(drive=DRIVE_ID, file="w.pth", sha256=shown)
        for revision in ("main", COMMIT):
            remote.files[f"owner/repo/resolve/{revision}/sub/w.pth"] = content
        remote.headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
        } | remote.headers
        return HubFileWeights(hf="owner/repo@main/sub/w.pth", sha256=shown)

    return publish


def left(cache: Path) -> list[str]:
    """All that is in the weights of a cache, folders too."""
    return sorted(str(path.relative_to(cache / "weights")) for path in (cache / "weights").rglob("*"))


def refused(weights: RemoteWeights | FileWeights, cache: Path, how: Callable[..., object] = obtain) -> str:
    with pytest.raises(WeightsError) as refusal:
        how(weights, "mine", cache)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(".")
    return str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digits", [64, 8])
def test_a_file_is_fetched_once_and_shown(
    progress: Recorder, remote: Remote, tmp_path: Path, offer: Offer, kind: str, digits: int
) -> None:
    weights = offer(kind, given=sha256(CONTENT)[:digits])
    assert not is_here(weights, tmp_path)
    file = obtain(weights, "mine", tmp_path)
    assert file == weights_place(weights, tmp_path) == tmp_path / "weights" / weights.place
    assert file.read_bytes() == CONTENT
    assert is_here(weights, tmp_path)
    assert progress.stages == [[str(weights.place), len(CONTENT), len(CONTENT)]]
    files = {path.name for path in (tmp_path / "weights").rglob("*") if path.is_file()}
    assert files == ({"w.pth"} if digits == 64 else {"w.pth", "w.pth.sha256"})
    asked = len(remote.seen)
    assert obtain(weights, "mine", tmp_path) == file
    assert checked_file(weights, "mine", tmp_path) == file
    assert torch.equal(read_weights(checked_file(weights, "mine", tmp_path))[""]["conv.weight"], STATE["conv.weight"])
    assert len(remote.seen) == asked


@pytest.mark.parametrize("kind", ["url", "drive"])
def test_a_transfer_that_is_cut_off_goes_on(remote: Remote, tmp_path: Path, offer: Offer, kind: str) -> None:
    weights = offer(kind)
    remote.cuts = [200_000, 0, 0]
    sentence = refused(weights, tmp_path)
    assert "the weights of checkpoint 'mine' are not here: " in sentence
    assert sentence.endswith(f"put it at {weights_place(weights, tmp_path)}.")
    obtain(weights, "mine", tmp_path)
    assert str(remote.asked[-1]).startswith("bytes=")
    assert [name for name in left(tmp_path) if ".part" in name] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["00000000", "0" * 64])
def test_a_file_with_another_hash_is_refused(tmp_path: Path, offer: Offer, kind: str, given: str) -> None:
    sentence = refused(offer(kind, given=given), tmp_path)
    assert sha256(CONTENT) in sentence
    assert given in sentence
    assert left(tmp_path) == []


def test_a_file_with_another_md5_is_refused(tmp_path: Path, offer: Offer) -> None:
    assert "came with md5" in refused(offer("url", given=None, md5="0" * 32), tmp_path)
    assert left(tmp_path) == []
    weights = offer("url", given=None, md5=hashlib.md5(CONTENT).hexdigest())
    file = obtain(weights, "mine", tmp_path)
    file.write_bytes(OTHER)
    assert "has md5" in refused(weights, tmp_path, checked_file)


def test_a_file_that_is_not_what_the_hub_says_is_refused(remote: Remote, tmp_path: Path, offer: Offer) -> None:
    remote.headers = {"X-Linked-Etag": f'"{sha256(OTHER)}"'}
    sentence = refused(offer("hf", given=None), tmp_path)
    assert f"came with sha256 {sha256(CONTENT)}, but the published file has {sha256(OTHER)}" in sentence
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "what"),
    [(CONTENT[:300_000], "is cut off (a zip archive"), (bomb(), "is compressed"), (b"", "is empty")],
    ids=["truncated", "bomb", "empty"],
)
def test_what_is_no_complete_weight_file_is_refused(
    tmp_path: Path, offer: Offer, kind: str, content: bytes, what: str
) -> None:
    weights = offer(kind, content)
    sentence = refused(weights, tmp_path)
    assert sentence.startswith(f"{weights_place(weights, tmp_path)}, as it came from {fetching.address(weights)}, ")
    assert what in sentence
    assert left(tmp_path) == []


@pytest.mark.parametrize("header", [{"Content-Type": "text/html; charset=utf-8"}, {}], ids=["html", "bare"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_web_page_is_refused(remote: Remote, tmp_path: Path, offer: Offer, kind: str, header: dict[str, str]) -> None:
    remote.headers = header
    weights = offer(kind, PAGE, given="0" * 64 if kind == "url" else None)
    sentence = refused(weights, tmp_path)
    if kind == "drive":
        assert "Google Drive does not give them without a browser" in sentence
        assert f"open https://drive.google.com/file/d/{DRIVE_ID}/view" in sentence
    else:
        assert "web page" in sentence
    assert str(weights_place(weights, tmp_path)) in sentence
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_drive_that_refuses_wants_a_browser(remote: Remote, tmp_path: Path, offer: Offer, status: int) -> None:
    weights = offer("drive")
    remote.statuses = [status]
    sentence = refused(weights, tmp_path)
    assert sentence.endswith(f"/{DRIVE_ID}/view, and put the file at {weights_place(weights, tmp_path)}.")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (403, "GatedRepo", "its owner wants terms to be accepted, and HF_TOKEN to be set"),
        (401, "RepoNotFound", "there is no such repository, or none without HF_TOKEN"),
        (404, "RevisionNotFound", "there is no such revision"),
        (404, "EntryNotFound", "there is no such file"),
        (500, "", "Server Error"),
    ],
)
def test_a_hub_that_refuses_is_one_sentence(
    remote: Remote, tmp_path: Path, offer: Offer, status: int, code: str, why: str
) -> None:
    weights = offer("hf")
    remote.statuses, remote.sorry = [status], {"X-Error-Code": code}
    sentence = refused(weights, tmp_path)
    assert why in sentence
    assert sentence.endswith(
        "get the file from https://huggingface.co/owner/repo/resolve/main/sub/w.pth and put it at "
        f"{weights_place(weights, tmp_path)}."
    )
    assert left(tmp_path) == []


def test_what_a_killed_process_left_of_a_hub_file_is_cleared(tmp_path: Path, offer: Offer) -> None:
    weights = offer("hf")
    old = weights_place(weights, tmp_path).with_name(".incoming-old")
    old.mkdir(parents=True)
    (old / "w.pth").write_bytes(CONTENT[:1000])
    file = obtain(weights, "mine", tmp_path)
    assert list(file.parent.iterdir()) == [file]


def test_the_offline_switch_of_the_hub_is_respected(
    tmp_path: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "(HF_HUB_OFFLINE is set)" in refused(offer("hf"), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_without_network_a_file_may_be_put_there_by_hand(
    tmp_path: Path, offer: Offer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    weights = offer(kind, given=None if kind != "url" else "all")
    if isinstance(weights, UrlWeights):
        weights = weights.model_copy(update={"url": "http://127.0.0.1:9/w.pth"})
    monkeypatch.setattr(fetching, "DRIVE", "http://127.0.0.1:9/download")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    place = weights_place(weights, tmp_path)
    assert refused(weights, tmp_path).endswith(f"put it at {place}.")
    assert f"({place}); get the file from {fetching.address(weights)}" in refused(weights, tmp_path, checked_file)
    assert left(tmp_path) == []
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert obtain(weights, "mine", tmp_path) == place
    place.write_bytes(PAGE)
    assert "is a web page" in refused(weights, tmp_path)
    assert place.read_bytes() == PAGE, "a file of the user's is never deleted"


@pytest.mark.parametrize("kind", ["hf", "drive"])
def test_a_file_without_published_hash_stays_the_one_that_was_first(
    remote: Remote, tmp_path: Path, offer: Offer, kind: str
) -> None:
    weights = offer(kind, given=None)
    file = obtain(weights, "mine", tmp_path)
    note = file.with_name("w.pth.sha256")
    assert note.read_text() == f"{sha256(CONTENT)}  w.pth\n"
    file.write_bytes(OTHER)
    sentence = refused(weights, tmp_path)
    assert f"is not the file that was there first: it had sha256 {sha256(CONTENT)}, now {sha256(OTHER)}" in sentence
    assert file.is_file()
    file.unlink()
    remote.headers = {}
    offer(kind, OTHER)
    assert "is not the file that was there first" in refused(weights, tmp_path)
    assert [path.name for path in file.parent.iterdir()] == ["w.pth.sha256"], "what came is deleted, the note stays"
    note.unlink()
    assert obtain(weights, "mine", tmp_path).read_bytes() == OTHER


class Code:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code in a weight file was run')",))


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_comes_with_a_file_is_refused_and_nothing_is_left(tmp_path: Path, offer: Offer, kind: str) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "hook": Code()}, buffer)
    weights = offer(kind, buffer.getvalue(), given=sha256(buffer.getvalue())[:8])
    sentence = refused(weights, tmp_path)
    assert "needs code (" in sentence
    assert "exec" in sentence
    assert left(tmp_path) == []


def test_two_processes_do_not_fetch_at_once(progress: Recorder, remote: Remote, tmp_path: Path, offer: Offer) -> None:
    weights = offer("url")
    with FileLock(tmp_path / "weights.lock"):
        thread = threading.Thread(target=obtain, args=(weights, "mine", tmp_path))
        thread.start()
        while not progress.notes:
            time.sleep(0.01)
        assert remote.seen == []
        place = weights_place(weights, tmp_path)
        place.parent.mkdir(parents=True)
        place.write_bytes(CONTENT)  # the other process is done
    thread.join()
    assert progress.notes == [f"another process is fetching weights into {tmp_path / 'weights'}; waiting for it"]
    assert remote.seen == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path, offer: Offer, kind: str) -> None:
    (tmp_path / "weights").touch()
    assert "with --cache-dir" in refused(offer(kind), tmp_path)
    assert "with --cache-dir" in refused(offer(kind), tmp_path / "weights")


def test_weights_that_need_no_file_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_here(None, tmp_path)
    assert is_here(RandomWeights(random=True), tmp_path)
    assert not is_here(FileWeights(path=str(tmp_path / "w.pth"), sha256="0" * 64), tmp_path)
    packaged = PackagedWeights(package="ssl4eo_bench", file="py.typed", sha256="0" * 64, install="it")
    assert weights_place(packaged, tmp_path).parent.name == "ssl4eo_bench"


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("HF_HUB_CACHE", "."),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
        ("HOME", ".cache/huggingface/hub"),
    ],
)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_the_hubs_own_cache_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, below: str, file: str
) -> None:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, str(tmp_path))
    weights = HubWeights(timm="resnet50.a1_in1k")
    assert not is_here(weights, tmp_path / "cache")
    snapshot = tmp_path / below / "models--timm--resnet50.a1_in1k" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    assert not is_here(weights, tmp_path / "cache")
    (snapshot / file).touch()
    assert is_here(weights, tmp_path / "cache")


def test_timm_weights_brought_by_hand_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    weights = HubWeights(timm="resnet50.a1_in1k")
    place = weights_place(weights, tmp_path)
    place.parent.mkdir(parents=True)
    place.touch()
    assert is_here(weights, tmp_path)


@pytest.mark.parametrize("hf", ["../..@main/w.pth", "a/..@main/w.pth", "a/b@../w.pth", "a/b@main/../w.pth"])
def test_a_place_never_leaves_the_cache(hf: str) -> None:
    with pytest.raises(ValidationError):
        HubFileWeights(hf=hf)


@pytest.mark.parametrize("name", ["_w.pth", "..", "%2e%2e", "ä.pth", "a%20b.pth", "w.pth?download=1"])
def test_any_address_has_a_place_that_can_be_fetched(remote: Remote, tmp_path: Path, name: str) -> None:
    weights = UrlWeights(url=f"{remote.url}{name}", sha256="0" * 64)
    assert str(weights_place(weights, tmp_path)) in refused(weights, tmp_path)


def test_the_file_is_hashed_where_the_entry_leaves_it_open(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(CONTENT)
    whole = sha256(CONTENT)
    pinned: list[Weights | None] = [None, RandomWeights(random=True), FileWeights(path=str(file), sha256=whole)]
    pinned += [UrlWeights(url="https://host/w.pth", sha256=whole, md5="0" * 32)]
    open_ones: list[RemoteWeights | HubWeights] = [
        UrlWeights(url="https://host/w.pth", md5="0" * 32),
        UrlWeights(url="https://host/w.pth", sha256=whole[:63]),
        HubFileWeights(hf="owner/repo@main/w.pth"),
        DriveWeights(drive=DRIVE_ID, file="w.pth"),
        HubWeights(timm="resnet50.a1_in1k"),
    ]
    assert [unpinned_sha256(weights, tmp_path) for weights in [*pinned, *open_ones]] == [None] * 9
    for weights in open_ones:
        place = weights_place(weights, tmp_path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
        assert unpinned_sha256(weights, tmp_path) == whole


def test_what_an_entry_says_of_its_file_tells_results_apart() -> None:
    said = [{"md5": "0" * 32}, {"md5": "1" * 32}, {"sha256": "0" * 8}, {"sha256": "0" * 8, "md5": "0" * 32}]
    identities = [weights_identity(UrlWeights(url="https://host/w.pth", **hashes)) for hashes in said]
    assert all(identities.count(identity) == 1 for identity in identities)
    assert weights_identity(UrlWeights(url="https://host/w.pth", sha256="0" * 8)) == {
        "source": "https://host/w.pth",
        "sha256": "0" * 8,
        "layout": "auto",
    }


def test_the_prose_of_a_layout_tells_no_results_apart() -> None:
    def identity(**layout: Any) -> object:
        return weights_identity(FileWeights(path="w.pth", sha256="0" * 64, layout=Layout(keys=("model",), **layout)))

    assert identity() == identity(about="mine") == identity(detected=False) != identity(prefix="net.")


def test_each_file_of_google_drive_has_its_place(remote: Remote, tmp_path: Path, offer: Offer) -> None:
    ids = (DRIVE_ID, f"-{DRIVE_ID}", f"_{DRIVE_ID}", f"{DRIVE_ID}-", f"id{DRIVE_ID}")
    places = {weights_place(DriveWeights(drive=each, file="w.pth"), tmp_path) for each in ids}
    assert len(places) == len(ids)
    remote.files[f"download?id=-{DRIVE_ID}&export=download&confirm=t"] = CONTENT
    offer("drive", OTHER)
    signed = DriveWeights(drive=f"-{DRIVE_ID}", file="w.pth")
    assert obtain(signed, "mine", tmp_path).read_bytes() == CONTENT
