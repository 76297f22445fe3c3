"""The architectures that ``new_exports`` exports: small configurations of what public packages define, random weights.

Belongs here: making a network and its example inputs, and the list of all architectures. Not here: estimators of tables
(``new_export_tables``), exporting, explaining, counting (``new_exports``).

A package that isn't installed leaves out its architectures. No weights are downloaded: networks are configured, not named.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.architecture import Architecture
from benchmarks.new_export_tables import tables

#: Size of pictures, where a network doesn't need another.
SIZE = 64


class Wrapped(nn.Module):
    """A network of transformers by positional tensors and with its scores alone as output."""

    def __init__(self, net: nn.Module, names: list[str], output: str = "logits") -> None:
        super().__init__()
        self.net, self.names, self.output = net, names, output

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.net(**dict(zip(self.names, inputs, strict=True)))
        return getattr(found, self.output)  # type: ignore[no-any-return]


def lively(net: nn.Module, seed: int = 0) -> nn.Module:
    """Random statistics, scales and shifts: untrained networks have ones and zeros there, which hide whole branches."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(getattr(module, "running_mean", None), Tensor):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
        for name, value in net.named_parameters():
            if value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()):
                if "bias" in name or not float(value.reshape(-1)[0]):
                    value.normal_(0, 0.1)
                else:
                    value.uniform_(0.5, 1.2)
    return net.eval()


def picture(size: int = SIZE) -> dict[str, Tensor]:
    """A batch of one picture of noise."""
    torch.manual_seed(1)
    return {"image": torch.rand(1, 3, size, size) * 2 - 1}


def ids(count: int = 12, most: int = 90) -> Tensor:
    """Token ids, none of them special."""
    torch.manual_seed(2)
    return torch.randint(5, most, (1, count))


def architectures() -> Iterator[Architecture]:
    """All whose packages are installed."""
    for found in (*_timm(), *_transformers(), *_torchvision(), *tables()):
        name = {"scikit-learn": "sklearn"}.get(found.package, found.package)
        if importlib.util.find_spec(name) is not None:
            yield found


_LAYERS: dict[str, Any] = {"layers": (1, 1, 1, 1)}
_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
_STAGES: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 40)}
#: Name in timm -> (what makes it small, size of its pictures).
TIMM: dict[str, tuple[dict[str, Any], int]] = {
    "resnet18": (_LAYERS, SIZE), "resnetv2_50": ({"layers": (1, 1, 1, 1), "channels": (32, 32, 64, 64)}, SIZE),
    "seresnet50": (_LAYERS, SIZE), "resnest14d": ({}, SIZE), "res2net50_26w_4s": (_LAYERS, SIZE),
    "skresnet18": (_LAYERS, SIZE), "densenet121": ({"block_config": (2, 2), "growth_rate": 8}, SIZE),
    "regnety_002": ({}, SIZE), "mobilenetv3_small_050": ({}, SIZE), "mobilenetv4_conv_small_035": ({}, SIZE),
    "efficientnet_lite0": ({}, SIZE),
    "ghostnet_050": ({}, SIZE), "tinynet_e": ({}, SIZE), "lcnet_035": ({}, SIZE), "hgnetv2_b0": ({}, SIZE),
    "repvgg_a0": ({}, SIZE), "mobileone_s0": ({}, SIZE), "starnet_s1": ({}, SIZE), "ese_vovnet19b_slim": ({}, SIZE),
    "dla34": ({}, SIZE), "cspresnet50": ({}, SIZE), "nf_resnet26": ({}, SIZE), "xception41": ({}, SIZE),
    "inception_next_atto": ({}, SIZE),
    "convnext_atto": (_STAGES, SIZE), "convnextv2_atto": (_STAGES, SIZE), "vit_tiny_patch16_224": (_VIT, 32),
    "deit3_small_patch16_224": (_VIT, 32), "beit_base_patch16_224": (_VIT, 32), "cait_xxs24_224": (_VIT, 32),
    "eva02_tiny_patch14_224": (_VIT, 32), "xcit_nano_12_p16_224": ({"img_size": 32, "depth": 2}, 32),
    "swin_tiny_patch4_window7_224": (
        {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)}, 32),
    "swinv2_tiny_window8_256": (
        {"img_size": 32, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2)}, 32),
    "mixer_s32_224": ({"img_size": 64}, 64), "gmlp_ti16_224": ({"img_size": 64}, 64), "resmlp_12_224": ({"img_size": 64}, 64),
    "pvt_v2_b0": ({"depths": (1, 1, 1, 1)}, SIZE), "twins_svt_small": ({"depths": (1, 1, 2, 1)}, SIZE),
    "levit_128s": ({"img_size": 64}, 64), "maxvit_pico_rw_256": ({"img_size": 128}, 128),
    "coatnet_pico_rw_224": ({"img_size": 64}, 64), "mobilevit_xxs": ({}, SIZE), "mobilevitv2_050": ({}, SIZE),
    "edgenext_xx_small": ({}, SIZE), "efficientformer_l1": ({}, 224),
    "fastvit_t8": ({}, SIZE), "efficientvit_b0": ({}, SIZE), "efficientvit_m0": ({"img_size": 64}, 64),
    "hiera_tiny_224": ({"img_size": (64, 64), "stages": (1, 1, 1, 1), "embed_dim": 32}, 64),
    "sequencer2d_s": ({"layers": (1, 1, 1, 1), "embed_dims": (32, 32, 32, 32), "hidden_sizes": (8, 8, 8, 8)}, 56),
    "mambaout_femto": ({"depths": (1, 1, 1, 1)}, SIZE), "repvit_m0_9": ({}, SIZE), "volo_d1_224": ({"img_size": 64}, 64),
    "gcvit_xxtiny": ({}, 224),
    "visformer_tiny": ({"img_size": 64}, 64), "rdnet_tiny": ({}, SIZE), "swiftformer_xs": ({}, SIZE),
}  # fmt: skip


def _timm() -> Iterator[Architecture]:
    def make(name: str, small: Mapping[str, Any], size: int) -> tuple[Any, dict[str, Any]]:
        import timm

        torch.manual_seed(0)
        return lively(timm.create_model(name, num_classes=10, **small)), picture(size)

    for name, (small, size) in TIMM.items():
        yield Architecture("timm", name, "picture", lambda n=name, k=small, s=size: make(n, k, s))  # type: ignore[misc]


_WORDS: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64, "num_labels": 3, "pad_token_id": 0,
}  # fmt: skip
_DECODER = _WORDS | {"num_key_value_heads": 1, "head_dim": 16}
_VISION: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip
_SOUND: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "num_labels": 4,
    "conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 3), "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
}  # fmt: skip
#: Class of configuration -> (class of model, its settings) of networks that read words.
WORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertConfig": ("BertForSequenceClassification", _WORDS),
    "RobertaConfig": ("RobertaForSequenceClassification", _WORDS),
    "AlbertConfig": ("AlbertForSequenceClassification", _WORDS | {"embedding_size": 16}),
    "ElectraConfig": ("ElectraForSequenceClassification", _WORDS | {"embedding_size": 16}),
    "DistilBertConfig": ("DistilBertForSequenceClassification", {
        "vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "num_labels": 3}),
    "MPNetConfig": ("MPNetForSequenceClassification", _WORDS),
    "DebertaConfig": ("DebertaForSequenceClassification", _WORDS | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DebertaV2Config": (
        "DebertaV2ForSequenceClassification", _WORDS | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "ConvBertConfig": ("ConvBertForSequenceClassification", _WORDS | {"embedding_size": 32, "conv_kernel_size": 3}),
    "SqueezeBertConfig": ("SqueezeBertForSequenceClassification", _WORDS | {"embedding_size": 32}),
    "MobileBertConfig": ("MobileBertForSequenceClassification", _WORDS | {
        "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}),
    "RoFormerConfig": ("RoFormerForSequenceClassification", _WORDS | {"embedding_size": 32}),
    "FNetConfig": ("FNetForSequenceClassification", _WORDS | {"use_tpu_fourier_optimizations": False}),
    "NystromformerConfig": ("NystromformerForSequenceClassification", _WORDS | {
        "num_landmarks": 4, "segment_means_seq_len": 12}),
    "ModernBertConfig": ("ModernBertForSequenceClassification", _WORDS | {"attn_implementation": "eager"}),
    "XLNetConfig": ("XLNetForSequenceClassification", {
        "vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48, "num_labels": 3, "pad_token_id": 0}),
    "GPT2Config": ("GPT2ForSequenceClassification", {
        "vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "num_labels": 3, "pad_token_id": 0}),
    "GPTNeoXConfig": ("GPTNeoXForSequenceClassification", _WORDS), "OPTConfig": ("OPTForSequenceClassification", _WORDS | {
        "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "LlamaConfig": ("LlamaForSequenceClassification", _DECODER), "MistralConfig": ("MistralForSequenceClassification", _DECODER),
    "Qwen2Config": ("Qwen2ForSequenceClassification", _DECODER), "Qwen3Config": ("Qwen3ForSequenceClassification", _DECODER),
    "GemmaConfig": ("GemmaForSequenceClassification", _DECODER), "Gemma2Config": ("Gemma2ForSequenceClassification", _DECODER),
    "PhiConfig": ("PhiForSequenceClassification", _WORDS), "MixtralConfig": ("MixtralForSequenceClassification", _DECODER | {
        "num_local_experts": 2, "num_experts_per_tok": 2}),
    "MambaConfig": ("MambaForCausalLM", {
        "vocab_size": 99, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "use_mambapy": False}),
    "T5Config": ("T5EncoderModel", {
        "vocab_size": 99, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "pad_token_id": 0}),
}  # fmt: skip
#: The same of networks that read pictures.
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTConfig": ("ViTForImageClassification", _VISION), "DeiTConfig": ("DeiTForImageClassification", _VISION),
    "BeitConfig": ("BeitForImageClassification", _VISION), "Dinov2Config": ("Dinov2ForImageClassification", _VISION),
    "SwinConfig": ("SwinForImageClassification", {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4,
        "num_labels": 5}),
    "ConvNextConfig": ("ConvNextForImageClassification", {
        "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5}),
    "SegformerConfig": ("SegformerForSemanticSegmentation", {
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 16], "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16, "num_labels": 5}),
    "PoolFormerConfig": ("PoolFormerForImageClassification", {
        "hidden_sizes": [16, 16, 24, 32], "depths": [1, 1, 1, 1], "num_labels": 5}),
    "MobileViTConfig": ("MobileViTForImageClassification", {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 32], "num_labels": 5}),
    "RegNetConfig": ("RegNetForImageClassification", {
        "embedding_size": 8, "hidden_sizes": [8, 16, 16, 24], "depths": [1, 1, 1, 1], "groups_width": 8, "num_labels": 5}),
    "Swinv2Config": ("Swinv2ForImageClassification", {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4,
        "num_labels": 5}),
}  # fmt: skip
SOUNDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Wav2Vec2Config": ("Wav2Vec2ForSequenceClassification", _SOUND),
    "HubertConfig": ("HubertForSequenceClassification", _SOUND), "WavLMConfig": ("WavLMForSequenceClassification", _SOUND),
}  # fmt: skip


def _configured(config: str, model: str, settings: Mapping[str, Any]) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    settings = dict(settings)
    attention = settings.pop("attn_implementation", None)
    made = getattr(transformers, config)(**settings)
    if attention:
        made._attn_implementation = attention
    if hasattr(made, "use_cache"):
        made.use_cache = False
    return lively(getattr(transformers, model)(made))


def _transformers() -> Iterator[Architecture]:
    def words(config: str) -> tuple[Any, dict[str, Any]]:
        model, settings = WORDS[config]
        output = "last_hidden_state" if model.endswith("EncoderModel") else "logits"
        mask = (
            {} if config in ("FNetConfig", "MambaConfig") else {"attention_mask": torch.ones(1, 12, dtype=torch.int64)}
        )
        feed = {"input_ids": ids()} | mask
        return Wrapped(_configured(config, model, settings), list(feed), output), feed

    def pictures(config: str) -> tuple[Any, dict[str, Any]]:
        model, settings = PICTURES[config]
        feed = {"pixel_values": picture(settings.get("image_size", SIZE))["image"]}
        return Wrapped(_configured(config, model, settings), list(feed)), feed

    def sounds(config: str) -> tuple[Any, dict[str, Any]]:
        torch.manual_seed(3)
        feed = {"input_values": torch.randn(1, 1600)}
        return Wrapped(_configured(config, *SOUNDS[config]), list(feed)), feed

    def pair(config: str, model: str) -> tuple[Any, dict[str, Any]]:
        text = {k: v for k, v in _WORDS.items() if k not in ("num_labels", "pad_token_id")}
        text |= {"eos_token_id": 1, "bos_token_id": 2, "projection_dim": 16}
        settings = {"text_config": text, "vision_config": _VISION | {"projection_dim": 16}, "projection_dim": 16}
        feed = {"input_ids": ids(), "pixel_values": picture(32)["image"]}
        if config == "CLIPConfig":
            feed["attention_mask"] = torch.ones(1, 12, dtype=torch.int64)
        return Wrapped(_configured(config, model, settings), list(feed), "logits_per_image"), feed

    def by(kind: str, label: str, make: Callable[..., Any], *args: str) -> Architecture:
        return Architecture("transformers", label, kind, lambda: make(*args))

    yield from (by("words", config, words, config) for config in WORDS)
    yield from (by("picture", config, pictures, config) for config in PICTURES)
    yield from (by("sound", config, sounds, config) for config in SOUNDS)
    yield by("several", "CLIPConfig", pair, "CLIPConfig", "CLIPModel")
    yield by("several", "SiglipConfig", pair, "SiglipConfig", "SiglipModel")


def _torchvision() -> Iterator[Architecture]:
    from analyzer.importer import onnx2torch_fallback

    def make(name: str, size: int, **settings: Any) -> tuple[Any, dict[str, Any]]:
        onnx2torch_fallback.available()  # declares what torchvision lacks beside a CPU-only torch
        import torchvision

        torch.manual_seed(0)
        return lively(getattr(torchvision.models, name)(**{"num_classes": 10} | settings)), picture(size)

    small = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 48}
    swin = {"patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": [4, 4]}
    chosen: dict[str, tuple[int, dict[str, Any]]] = {
        "vgg11_bn": (32, {}), "squeezenet1_1": (64, {}), "shufflenet_v2_x0_5": (64, {}),
        "mobilenet_v2": (64, {"width_mult": 0.35}), "mnasnet0_5": (64, {}), "googlenet": (64, {"aux_logits": False}),
        "inception_v3": (96, {"aux_logits": False}), "densenet121": (64, {}), "regnet_y_400mf": (64, {}),
        "VisionTransformer": (32, small), "SwinTransformer": (32, swin),
    }  # fmt: skip
    for name, (size, settings) in chosen.items():
        yield Architecture("torchvision", name, "picture", lambda n=name, s=size, k=settings: make(n, s, **k))  # type: ignore[misc]
