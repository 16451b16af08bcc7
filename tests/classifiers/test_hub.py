"""The hub's path, really: timm's and transformers' own loading code, and a hub on the loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save

import underfire
from support import hub as hubs
from underfire.core import DamagedFileError, UnderfireError

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:huggingface_hub")]
NAME, REPO = "timm:test_resnet.r160_in1k", "timm/test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def resnet() -> dict[str, bytes]:
    torch.manual_seed(0)
    module = timm.create_model("test_resnet", num_classes=1000)
    return {"model.safetensors": save(module.state_dict())}


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def gets(hub: hubs.Hub) -> list[str]:
    return [path for method, path in hub.asked if method == "GET"]


def test_first_use_cache_and_offline(resnet: Any, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hubs.Hub({REPO: resnet})
    with hubs.serving(hub) as address:
        hubs.point(monkeypatch, address, cache)
        first: Any = underfire.classifier(NAME)
        assert [p for p in gets(hub) if p.endswith("model.safetensors")]
        n = len(gets(hub))
        again: Any = underfire.classifier(NAME)
        assert len(gets(hub)) == n
    offline: Any = underfire.classifier(NAME)  # nobody answers any more
    assert first.digest == again.digest == offline.digest
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(first.logits(x), offline.logits(x))


@pytest.mark.long
def test_the_papers_resnet50_from_the_hub(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = timm.create_model("resnet50").eval()
    hub = hubs.Hub({"timm/resnet50.tv_in1k": {"model.safetensors": save(module.state_dict())}})
    with hubs.serving(hub) as address:
        hubs.point(monkeypatch, address, cache)
        first: Any = underfire.classifier("resnet50")
    offline: Any = underfire.classifier("resnet50")
    assert first.digest == offline.digest
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(offline.logits(x), module((x - first._mean) / first._std), rtol=1e-3, atol=1e-4)


def test_a_download_that_breaks_off_is_told(resnet: Any, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hubs.Hub({REPO: resnet})
    hub.cut = 1000
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its tries
    with hubs.serving(hub) as address:
        hubs.point(monkeypatch, address, cache)
        with pytest.raises(
            UnderfireError, match=rf"'{NAME}' could not be downloaded \(the download broke off\).*--weights"
        ):
            underfire.classifier(NAME)
        hub.cut = 0
        assert len(underfire.classifier(NAME).classes) == 1000


def test_a_wrong_digest_is_refused(resnet: Any, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hubs.Hub({REPO: resnet})
    other = {k: v + 1 for k, v in timm.create_model("test_resnet").state_dict().items()}
    hub.swap = save(other)
    assert len(hub.swap) == len(resnet["model.safetensors"])
    with hubs.serving(hub) as address:
        hubs.point(monkeypatch, address, cache)
        with pytest.raises(DamagedFileError, match=rf"'model.safetensors' of '{REPO}'.*another digest.*Remove"):
            underfire.classifier(NAME)


def test_no_network_and_no_such_repository(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hubs.point(monkeypatch, "http://127.0.0.1:9", cache)
    with pytest.raises(UnderfireError, match=rf"'{NAME}' could not be downloaded \(no answer.*go online once"):
        underfire.classifier(NAME)
    with hubs.serving(hubs.Hub({})) as address:
        hubs.point(monkeypatch, address, cache)
        for name, what in ((NAME, "--weights"), ("hf:nobody/nothing", "hf:DIR")):
            with pytest.raises(UnderfireError, match=rf"'{name}'.*no such repository.*{what}"):
                underfire.classifier(name)


def test_a_transformer_from_the_hub(tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.transformers_nets import saved_vit

    folder = saved_vit(tmp_path / "vit")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    hub = hubs.Hub({"someone/vit": files})
    with hubs.serving(hub) as address:
        hubs.point(monkeypatch, address, cache)
        first: Any = underfire.classifier("hf:someone/vit")
    offline: Any = underfire.classifier("hf:someone/vit")
    local: Any = underfire.classifier(f"hf:{folder}")
    assert first.name == "hf:someone/vit"
    assert local.name == "hf:vit"
    assert first.digest == offline.digest == local.digest
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(first.logits(x), local.logits(x))
    blob = next(Path(cache).glob("models--someone--vit/blobs/*"))
    content = json.loads(blob.read_bytes()) if blob.stat().st_size < 5000 else None
    blob.write_bytes(b"{}" if content is None else json.dumps(content | {"x": 1}).encode())
    with pytest.raises(UnderfireError, match=r"'hf:someone/vit'|another digest"):
        underfire.classifier("hf:someone/vit")
