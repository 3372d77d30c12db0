"""Weight files as the projects that release them write them, around any backbone; written from their training code."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.models.build import build

State = dict[str, torch.Tensor]


def filled(module: nn.Module, *, seed: int = 0) -> State:
    """A module's names and shapes with random values, buffers too."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_like(tensor, generator) for name, tensor in module.state_dict().items()}


def random_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if not tensor.is_floating_point():
        return torch.randint(1, 1000, tensor.shape, generator=generator)
    return torch.empty(tensor.shape).uniform_(0.1, 1.0, generator=generator)


def tensors_of(checkpoint: Checkpoint) -> State:
    """The tensors of the backbone that is built for a checkpoint, by timm's names."""
    return {name.removeprefix("network."): tensor for name, tensor in build(checkpoint, seed=0).state_dict().items()}


def put(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def other(state: State) -> State:
    """The same names with other values: a momentum encoder, a student, the other branch."""
    return {name: tensor + 1 for name, tensor in state.items()}


def weights(*names: str) -> State:
    return {name: torch.full((3, 2), 0.5) for name in names}


def optimiser(state: State) -> dict[str, Any]:
    """A state that SGD with momentum leaves: numbered, with tensors."""
    momentum = {number: {"momentum_buffer": torch.zeros(2)} for number in range(min(3, len(state)))}
    return {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}]}


def training_state(state: State, **more: Any) -> dict[str, Any]:
    return {"epoch": 99, "optimizer": optimiser(state), **more}


ARGUMENTS = argparse.Namespace(arch="resnet50", lr=0.03, bands="B13", betas=(0.9, 0.95))


def moco_v2(state: State) -> Any:
    head = weights("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")
    queue = {"module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    encoders = put("module.encoder_q.", state | head) | put("module.encoder_k.", other(state) | head)
    return training_state(state, arch="resnet50", state_dict=encoders | queue)


def moco_v3(state: State) -> Any:
    head = weights("head.0.weight", "head.1.running_mean")
    encoders = put("module.base_encoder.", state | head) | put("module.momentum_encoder.", other(state) | head)
    return training_state(state, arch="vit_small", state_dict=encoders | put("module.predictor.", head), scaler={})


def dino(state: State) -> Any:
    head = weights("module.head.mlp.0.weight", "module.head.last_layer.weight_g")
    student = put("module.backbone.", other(state)) | head
    teacher = put("module.backbone.", state) | head
    loss = {"center": torch.zeros(1, 8)}
    return training_state(state, student=student, teacher=teacher, args=ARGUMENTS, dino_loss=loss)


def dino_student(state: State) -> Any:
    content = dino(other(state))
    return content | {"student": content["teacher"] | put("module.backbone.", state)}


def dinov2(state: State) -> Any:
    return state | {"mask_token": torch.zeros(1, 8)}


def data2vec(state: State) -> Any:
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc_norm.")}
    beside = weights("mask_token", "lm_head.weight", "lm_head.bias", "norm.weight", "norm.bias")
    index = {"rel_pos_bias.relative_position_index": torch.zeros(2, 2, dtype=torch.long)}
    return training_state(state, model=backbone | beside | index, args=ARGUMENTS)


def mae(state: State) -> Any:
    decoder = weights("decoder_embed.weight", "decoder_pos_embed", "decoder_blocks.0.norm1.weight", "mask_token")
    return training_state(state, model=state | decoder, scaler={"scale": 65536.0}, args=ARGUMENTS)


def fgmae(state: State) -> Any:
    return mae(state | weights("hog.weight_x", "hog.gkern"))


def of_another_sensor(state: State) -> State:
    """The first convolution takes one band more."""
    first = ("conv1.weight", "patch_embed.proj.weight")
    return {name: torch.cat([tensor, tensor[:, :1]], 1) if name in first else tensor for name, tensor in state.items()}


def decur(mine: str, its: str) -> Callable[[State], Any]:
    def write(state: State) -> Any:
        heads = weights("module.projector1.0.weight", "module.projector2.0.weight", "module.bn.running_mean")
        branches = put(f"module.{mine}.", state) | put(f"module.{its}.", of_another_sensor(other(state)))
        return training_state(state, model=branches | heads)

    return write


CHILDREN = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def numbered(state: State) -> State:
    """A ResNet whose children were put into `nn.Sequential`."""
    parts = {name: name.partition(".") for name in state}
    return {f"{CHILDREN[parts[name][0]]}.{parts[name][2]}": tensor for name, tensor in state.items()}


def seco(state: State) -> Any:
    heads = weights("heads_q.0.0.weight", "heads_k.0.0.weight", "queue") | {"queue_ptr": torch.zeros(3, 1).long()}
    encoders = put("encoder_q.", numbered(state)) | put("encoder_k.", other(numbered(state)))
    hyperparameters = {"emb_dim": 128, "args": ARGUMENTS}
    return {"epoch": 199, "hyper_parameters": hyperparameters, "state_dict": encoders | heads, "callbacks": {}}


def solo_learn(state: State) -> Any:
    beside = weights("projector.0.weight", "predictor.0.weight", "classifier.weight", "momentum_projector.0.weight")
    backbones = put("backbone.", state) | put("momentum_backbone.", other(state))
    return {"epoch": 10, "state_dict": backbones | beside, "optimizer_states": [optimiser(state)]}


def lightly(state: State) -> Any:
    beside = weights("projection_head.layers.0.weight", "projection_head_momentum.layers.0.weight")
    backbones = put("backbone.", numbered(state)) | put("backbone_momentum.", other(numbered(state)))
    return {"epoch": 10, "state_dict": backbones | beside, "optimizer_states": [optimiser(state)]}


def lightly_teacher(state: State) -> Any:
    beside = weights("teacher_head.layers.0.weight", "student_head.layers.0.weight")
    return {"state_dict": put("teacher_backbone.", state) | put("student_backbone.", other(state)) | beside}


def torchvision_vit(state: State) -> Any:
    """timm's names, piece by piece, as torchvision has them."""
    block = {
        **{f"norm{number}": f"ln_{number}" for number in (1, 2)},
        "attn.qkv.weight": "self_attention.in_proj_weight",
        "attn.qkv.bias": "self_attention.in_proj_bias",
        "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
    }
    outside = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    renamed = {}
    for name, tensor in state.items():
        if name.startswith("blocks."):
            _, number, inner = name.split(".", 2)
            end = block[inner] if inner in block else f"{block[inner.rpartition('.')[0]]}.{inner.rpartition('.')[2]}"
            renamed[f"encoder.layers.encoder_layer_{number}.{end}"] = tensor
        else:
            new = name.replace("patch_embed.proj", "conv_proj").replace("norm.", "encoder.ln.")
            renamed[outside.get(name, new)] = tensor
    return renamed | weights("heads.head.weight", "heads.head.bias")


def torchvision_resnet(state: State) -> Any:
    """As published: without the step counters of BatchNorm, with the classifier."""
    weights_of = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    return weights_of | weights("fc.weight", "fc.bias")


def timm(state: State) -> Any:
    return state


def nested(state: State) -> Any:
    return training_state(state, state_dict=put("module.", state), args=ARGUMENTS)


WRITERS: dict[str, dict[str, Callable[[State], Any]]] = {
    "moco-v2": {"resnet": moco_v2},
    "seco": {"resnet": seco},
    "moco-v3": {"vit": moco_v3},
    "dino": {"resnet": dino, "vit": dino},
    "dino-student": {"resnet": dino_student, "vit": dino_student},
    "dinov2": {"dinov2": dinov2},
    "data2vec": {"beit": data2vec},
    "mae": {"vit": mae},
    "decur-s1": {"resnet": decur("backbone_1", "backbone_2"), "vit": decur("backbone_1", "backbone_2")},
    "decur-s2": {"resnet": decur("backbone_2", "backbone_1"), "vit": decur("backbone_2", "backbone_1")},
    "solo-learn": {"resnet": solo_learn, "vit": solo_learn},
    "lightly": {"resnet": lightly},
    "lightly-teacher": {"vit": lightly_teacher},
    "torchvision": {"resnet": torchvision_resnet, "vit": torchvision_vit},
    "timm": {"resnet": timm, "vit": nested, "dinov2": timm, "beit": timm},
}
"""By layout and family of networks, what writes a file in it."""
