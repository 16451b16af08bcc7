"""The networks of docs/compatibility.md: each is made with random weights and loaded as a user loads it."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import underfire
from underfire.classifiers.timm_sizes import created
from underfire.plan.check import trial_images

CLASSES = 10
NAMES = json.dumps([f"thing {i}" for i in range(CLASSES)])
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


@dataclass(frozen=True)
class Made:
    """A network: its name on the page, its kind, the side of its input in px, and how it is built in a folder."""

    name: str
    kind: str
    side: int
    build: Callable[[Path], Any]


CNNS = """
resnet18 resnet26d resnet50 resnext50_32x4d resnetv2_50 legacy_seresnet18 ecaresnet26t res2net50_26w_4s
resnest14d skresnet18 resnetblur50 densenet121 efficientnet_b0 tf_efficientnetv2_b0
tf_efficientnet_lite0 mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small
mnasnet_small fbnetc_100 ghostnet_050 ghostnetv2_100 hardcorenas_a regnetx_002 regnety_002 repvgg_a0
mobileone_s0 convnext_atto convnextv2_atto dla34 dpn48b hrnet_w18_small selecsls42 cspresnet50
ese_vovnet19b_dw nf_resnet26 lcnet_050 tinynet_e rexnet_100 starnet_s1 mambaout_femto inception_next_atto
hgnetv2_b0 test_nfnet test_efficientnet_gn fasternet_t0 convmixer_768_32
"""
HYBRIDS = """
edgenext_xx_small fastvit_t8 repvit_m0_9 efficientvit_b0 efficientvit_m0 efficientformer_l1
efficientformerv2_s0 poolformer_s12 mobilevit_xxs mobilevitv2_050 levit_128s visformer_tiny swiftformer_xs
shvit_s1 tiny_vit_5m_224 vit_tiny_r_s16_p8_224
"""
TRANSFORMERS = """
vit_tiny_patch16_224 vit_small_patch14_dinov2 vit_small_patch16_dinov3 deit_tiny_patch16_224
deit_tiny_distilled_patch16_224 cait_xxs24_224 eva02_tiny_patch14_224 swin_tiny_patch4_window7_224
swinv2_tiny_window8_256 pvt_v2_b0 mixer_s32_224 gmlp_s16_224 resmlp_12_224 convit_tiny coat_lite_tiny
pit_ti_224 xcit_nano_12_p8_224 crossvit_tiny_240 mvitv2_tiny gcvit_xxtiny tnt_s_patch16_224 hiera_tiny_224
test_vit
"""
TORCHVISION = """
alexnet squeezenet1_1 vgg11 googlenet inception_v3 shufflenet_v2_x0_5 mnasnet0_5 mobilenet_v3_small resnet18
densenet121 regnet_y_400mf efficientnet_b0 convnext_tiny swin_t
"""
EXPORTED = "resnet18 mobilenetv3_small_050 convnext_atto vit_tiny_patch16_224 regnetx_002"
SIDES = {"eva02_tiny_patch14_224": 112, "vit_small_patch14_dinov2": 112, "swin_tiny_patch4_window7_224": 112}
SIDES |= {"swinv2_tiny_window8_256": 128, "inception_v3": 128, "crossvit_tiny_240": 240}
SIDES |= {"gcvit_xxtiny": 224, "tiny_vit_5m_224": 224, "levit_128s": 224, "efficientvit_m0": 224, "shvit_s1": 128}
SIDES |= {"efficientformer_l1": 224, "efficientformerv2_s0": 224, "visformer_tiny": 224, "selecsls42": 128}


def networks() -> Iterator[Made]:
    """All networks of the page, the quick kinds first."""
    for name, odd in ODDITIES.items():
        yield Made(f"wrap: {name}", "wrapped", 64, _wrapped(odd))
    if importlib.util.find_spec("transformers"):
        for name, config in _configs().items():
            yield Made(f"hf:{name}", "transformers (tiny, from their configs)", 64, _transformers(name, config))
    for name in EXPORTED.split():
        yield Made(f"onnx:{name}.onnx", "ONNX files", 96, _exported(name))
    yield Made("script:resnet18.pt", "TorchScript files", 96, _scripted)
    for kind, names in (
        ("timm: convolutional", CNNS),
        ("timm: hybrids", HYBRIDS),
        ("timm: transformers", TRANSFORMERS),
    ):
        for name in names.split():
            yield Made(f"timm:{name}", kind, SIDES.get(name, 64), _timm(name))
    for name in TORCHVISION.split():
        yield Made(f"torchvision:{name}", "torchvision", SIDES.get(name, 64), _torchvision(name))


def settled(net: nn.Module, side: int) -> nn.Module:
    """Give batch norms the statistics of pictures, as training does, so that signals neither die nor explode.

    Heads that a library fills with zeros get random weights: until they are trained, they answer all images alike.
    """
    for part in net.modules():
        if isinstance(part, nn.Linear) and not bool(part.weight.any()):
            nn.init.normal_(part.weight, std=0.1)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    drops = [m for m in net.modules() if "Drop" in type(m).__name__]
    for norm in norms:
        norm.momentum = None
    if norms:
        net.train()
        for drop in drops:
            drop.eval()
        with torch.no_grad():
            net(torch.cat([(trial_images(3, side, side) - 0.5) / 0.25] * 2) + 0.1 * torch.randn(6, 3, side, side))
    return net.eval()


def _timm(name: str) -> Callable[[Path], Any]:
    side = SIDES.get(name, 64)

    def build(folder: Path) -> Any:
        torch.manual_seed(0)
        net = settled(created(name, name, side, num_classes=CLASSES), side)
        state = {k: v.contiguous().clone() for k, v in net.state_dict().items()}
        save_file(state, folder / "net.safetensors", {"classes": NAMES, "input_size": str(side), "resize": str(side)})
        return underfire.classifier(f"timm:{name}", weights=str(folder / "net.safetensors"))

    return build


def _torchvision(name: str) -> Callable[[Path], Any]:
    side = SIDES.get(name, 64)

    def build(folder: Path) -> Any:
        torch.manual_seed(0)
        more = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        net = settled(torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **more), side)
        torch.save({"state_dict": net.state_dict()}, folder / "net.pth")
        return underfire.classifier(f"torchvision:{name}", weights=str(folder / "net.pth"), input_size=side)

    return build


def _exported(name: str) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        torch.manual_seed(0)
        net = settled(created(name, name, 96, num_classes=CLASSES), 96)
        path = folder / f"{name}.onnx"
        torch.onnx.export(
            net,
            (torch.rand(2, 3, 96, 96),),
            str(path),
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
        return underfire.classifier(f"onnx:{path}", **HALF)

    return build


def _scripted(folder: Path) -> Any:
    torch.manual_seed(0)
    net = settled(timm.create_model("resnet18", num_classes=CLASSES), 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(net, torch.rand(1, 3, 96, 96))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, str(folder / "resnet18.pt"))
    return underfire.classifier(f"script:{folder / 'resnet18.pt'}", input_size=96, **HALF)


def _configs() -> dict[str, dict[str, Any]]:
    """Names of transformers' configurations, and what makes each of them tiny."""
    vit = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    vit |= {"image_size": 64, "patch_size": 16}
    stages = {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "window_size": 4,
        "image_size": 64,
        "patch_size": 4,
    }
    steps = {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
    return {
        "ViT": vit,
        "DeiT": vit,
        "ViTMSN": vit,
        "Dinov2": vit,
        "Dinov2WithRegisters": vit,
        "Beit": vit,
        "Data2VecVision": vit,
        "Swin": stages,
        "Swinv2": stages,
        "ConvNext": steps,
        "ConvNextV2": steps,
        "ResNet": {**steps, "embedding_size": 8, "layer_type": "basic"},
        "RegNet": {**steps, "embedding_size": 8, "groups_width": 4},
        "Bit": {**steps, "embedding_size": 8, "num_groups": 4},
        "PoolFormer": {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]},
        "Segformer": {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 4, 8]},
        "FocalNet": {
            "embed_dim": 16,
            "depths": [1, 1],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "image_size": 64,
        },
        "MobileNetV1": {"depth_multiplier": 0.25, "image_size": 64},
        "MobileNetV2": {"depth_multiplier": 0.25, "image_size": 64},
        "MobileViT": {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 24, 24, 32, 64], "image_size": 64},
    }


def _transformers(name: str, config: dict[str, Any]) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        import transformers  # noqa: PLC0415 (an extra)

        torch.manual_seed(0)
        names = {
            "id2label": {i: f"thing {i}" for i in range(CLASSES)},
            "label2id": {f"thing {i}": i for i in range(CLASSES)},
        }
        made = getattr(transformers, f"{name}Config")(**config, **names)
        net = getattr(transformers, f"{name}ForImageClassification")(made)
        with torch.no_grad():
            for p in net.parameters():
                if p.dim() > 1:
                    p.mul_(3)  # their start is so small that random logits hardly differ
        settled(net, 64)
        net.save_pretrained(folder / name)
        own = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
        transformers.BitImageProcessor(**own).save_pretrained(folder / name)
        return underfire.classifier(f"hf:{folder / name}")

    return build


# -- oddities ---------------------------------------------------------------------------------------------------------


class Body(nn.Module):
    """A small convolutional network, with a part of it put in another way."""

    def __init__(self, end: Callable[[Tensor], Any] = lambda z: z, head: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        )
        self.head, self.end = head or nn.Linear(32, CLASSES), end

    def forward(self, x: Tensor) -> Any:
        return self.end(self.head(self.pooled(self.body(x))))

    def pooled(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


class MaxPooled(Body):
    def pooled(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3))


class Flattened(Body):
    def pooled(self, maps: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)


class ConvHead(Body):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x)).mean((2, 3))


class ChannelsLast(Body):
    def forward(self, x: Tensor) -> Any:
        maps = self.body(x).permute(0, 2, 3, 1)
        return self.head(maps.mean((1, 2)))


class InPlace(Body):
    def forward(self, x: Tensor) -> Any:
        maps = self.body[0](x)
        nn.functional.relu(maps, inplace=True)
        return self.head(nn.functional.relu(self.body[3](maps)).mean((2, 3)))


ODDITIES: dict[str, Callable[[], nn.Module]] = {
    "logits in a dictionary": lambda: Body(lambda z: {"logits": z, "aux": z[:, :1]}),
    "logits in a tuple": lambda: Body(lambda z: (z,)),
    "a log-softmax at the end": lambda: Body(lambda z: z.log_softmax(1)),
    "a softmax at the end": lambda: Body(lambda z: z.softmax(1)),
    "a 1×1 convolution as head": lambda: ConvHead(head=nn.Conv2d(32, CLASSES, 1)),
    "a head of two layers": lambda: Body(head=nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, CLASSES))),
    "maps flattened into the head": lambda: Flattened(head=nn.Linear(128, CLASSES)),
    "global max-pooling": MaxPooled,
    "channels last": ChannelsLast,
    "a ReLU in place, its result unused": InPlace,
    "two outputs": lambda: Body(head=nn.Linear(32, 2)),
}


def _wrapped(make: Callable[[], nn.Module]) -> Callable[[Path], Any]:
    def build(folder: Path) -> Any:
        torch.manual_seed(0)
        net = make()
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(2)
        return underfire.wrap(settled(net, 64), input_size=64, mean=0.5, std=0.25, name="network")

    return build
