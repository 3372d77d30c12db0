"""Layouts of weight files: where in a file the backbone's tensors lie, under which names, and what else is there.

A layout is a statement about names alone. It is strict in both directions: what it neither takes nor expects makes a
file another one.
"""

import re
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, Field

from ssl4eo_bench.config.canonical import LISTED, Frozen

WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""


AVERAGED = "n_averaged"
"""Counts, in an AveragedModel of PyTorch's, what was averaged; no network has it, and no wrapper stands before it."""


LONGEST_NAME = 200
"""Characters of a name that is renamed; no network has longer ones."""

LONGEST_RENAME = 500
"""Characters of a regular expression, and of what is put for it."""

REPEATS = 3
"""Most repeats in a regular expression: the time that it takes grows with a power of the length of a name."""

_TOKEN = re.compile(
    r"""
    \\. | \[\^?\]?(?:\\.|[^\]\\])*\] | \(\?(?: : | P<\w+> | <?[=!] | > )
    | (?P<other> \(\? )                        # flags, comments and conditions, which change what follows them
    | (?P<loop> \) (?:[*+]|\{\d*,?\d*\}) )      # a group that is repeated
    | (?P<repeat> (?:[*+?]|\{\d*,?\d*\})[+?]? )
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
"""A part of a regular expression."""


def _rename(rename: tuple[str, str]) -> tuple[str, str]:
    pattern, replacement = rename
    if max(map(len, rename)) > LONGEST_RENAME:
        raise ValueError(f"a regular expression or its replacement has more than {LONGEST_RENAME} characters")
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern!r} is not a regular expression ({error})") from None
    _require_fast(pattern)
    try:
        expression.sub(replacement, "")  # reads the replacement, whether there is a match or not
    except (re.error, IndexError) as error:
        raise ValueError(f"{replacement!r} cannot be put for {pattern!r} ({error})") from None
    return rename


def _require_fast(pattern: str) -> None:
    """Refuse expressions that may take for ever, such as those that repeat a group that repeats."""
    kinds = Counter(token.lastgroup for token in _TOKEN.finditer(pattern))
    if kinds["other"] or kinds["loop"] or kinds["repeat"] > REPEATS:
        raise ValueError(
            f"{pattern!r} repeats a group, has flags, or has more than {REPEATS} repeats, and such regular expressions "
            "can take for ever; write several simple ones"
        )


Rename = Annotated[tuple[str, str], LISTED, AfterValidator(_rename)]
"""A regular expression, and what to put for it."""


class Layout(Frozen):
    """Where a backbone lies in a file. Names are those after `WRAPPERS` are taken off.

    Attributes:
        about: what writes such files.
        keys: of the dict in the file that holds the tensors, the first that is there; the empty one is the file
            itself. Without keys it may be any dict of the file, if only one of them holds the backbone. So it may
            where the layout is to be detected, unless no file is ever the dict itself.
        prefix: what every tensor of the backbone starts with; taken off.
        leftovers: patterns of what else such a dict holds. They win over `prefix`.
        marker: a pattern of a name that tells the layout from others where the prefix does not.
        renames: regular expressions and what to put for them, in this order, to get timm's names.
        constants: tensors of the backbone that such files do not have, and the number they are filled with.
        detected: whether it is tried when no layout is named; not where such a file has another for a default.
    """

    about: str = ""
    keys: Annotated[tuple[str, ...], LISTED] = ()
    prefix: str = ""
    leftovers: Annotated[tuple[str, ...], LISTED] = ()
    marker: str | None = None
    renames: Annotated[tuple[Rename, ...], LISTED] = ()
    constants: dict[str, float] = Field(default_factory=dict)
    detected: bool = True

    def identity(self) -> dict[str, object]:
        """Everything about it that can move a number, for digests."""
        return self.model_dump(exclude={"about", "detected"})

    def written(self) -> dict[str, object]:
        """What of it has to be written in an entry."""
        return self.model_dump(exclude={"about", "detected"}, exclude_defaults=True)

    def is_leftover(self, name: str) -> bool:
        """Whether such files hold this beside the backbone."""
        return name == AVERAGED or any(fnmatchcase(name, pattern) for pattern in self.leftovers)

    def backbone_name(self, name: str) -> str | None:
        """Timm's name of a tensor, or none if it is not the backbone's."""
        if not name.startswith(self.prefix) or self.is_leftover(name):
            return None
        bare = name.removeprefix(self.prefix)
        for pattern, replacement in self.renames:
            if len(bare) <= LONGEST_NAME:  # or else it is none of the network's
                bare = re.sub(pattern, replacement, bare)
        return bare

    def is_marked(self, names: Iterable[str]) -> bool:
        """Whether names show that this may be the layout, and no other of the same prefix."""
        pattern = self.marker or f"{self.prefix}*"
        return any(fnmatchcase(name, pattern) for name in names)


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Names as they are in a file, by what they are without `WRAPPERS`, if all of them have these."""
    found = {name: name for name in names}
    while wrapper := next((w for w in WRAPPERS if _all_begin(found, w)), None):
        found = {name.removeprefix(wrapper): original for name, original in found.items()}
    return found


def _all_begin(names: Iterable[str], wrapper: str) -> bool:
    wrapped = [name.startswith(wrapper) for name in names if name != AVERAGED]
    return bool(wrapped) and all(wrapped)


# A ResNet whose children were put into `nn.Sequential` has numbers for names.
_NUMBERED_RESNET = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^4\.", "layer1."),
    (r"^5\.", "layer2."),
    (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
)

_TORCHVISION_VIT = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:linear_1|0)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:linear_2|3)\.", ".mlp.fc2."),
)

LAYOUTS = {
    "moco-v2": Layout(
        about="training state of MoCo-v2: the query encoder",
        keys=("state_dict", ""),
        prefix="encoder_q.",
        leftovers=("encoder_q.fc.*", "encoder_k.*", "queue", "queue_ptr"),
    ),
    "seco": Layout(
        about="Lightning checkpoint of Seasonal Contrast: the query encoder, its children numbered",
        keys=("state_dict", ""),
        prefix="encoder_q.",
        marker="encoder_q.0.*",
        leftovers=("encoder_k.*", "heads_q.*", "heads_k.*", "queue", "queue_ptr"),
        renames=_NUMBERED_RESNET,
    ),
    "moco-v3": Layout(
        about="training state of MoCo-v3: the base encoder",
        keys=("state_dict", ""),
        prefix="base_encoder.",
        leftovers=("base_encoder.head.*", "base_encoder.fc.*", "momentum_encoder.*", "predictor.*"),
    ),
    "dino": Layout(
        about="training state of DINO: the teacher, which its authors evaluate",
        keys=("teacher",),
        prefix="backbone.",
        leftovers=("head.*",),
    ),
    "dino-student": Layout(
        about="training state of DINO: the student",
        keys=("student",),
        prefix="backbone.",
        leftovers=("head.*",),
        detected=False,
    ),
    "dinov2": Layout(
        about="backbone of DINOv2 (also SoftCon), with the mask token of its training",
        keys=("", "teacher", "model", "state_dict"),
        marker="blocks.*.ls1.gamma",
        leftovers=("mask_token",),
    ),
    "data2vec": Layout(
        about="training state of data2vec on BEiT; features are the normalised mean of the patch tokens",
        keys=("model", "module", ""),
        marker="rel_pos_bias.*",
        leftovers=("mask_token", "lm_head.*", "head.*", "norm.*", "*relative_position_index"),
        # The pretraining network ends in another norm; the reference probe puts one without weights in its place.
        constants={"fc_norm.weight": 1.0, "fc_norm.bias": 0.0},
    ),
    "mae": Layout(
        about="training state of MAE or FG-MAE: the encoder",
        keys=("model", ""),
        marker="decoder_*",
        leftovers=("decoder_*", "mask_token", "hog*", "pred_proj.*"),
    ),
    "decur-s1": Layout(
        about="joint training state of DeCUR: the Sentinel-1 branch",
        keys=("model", ""),
        prefix="backbone_1.",
        leftovers=("backbone_2.*", "projector1.*", "projector2.*", "bn.*"),
    ),
    "decur-s2": Layout(
        about="joint training state of DeCUR: the Sentinel-2 branch",
        keys=("model", ""),
        prefix="backbone_2.",
        leftovers=("backbone_1.*", "projector1.*", "projector2.*", "bn.*"),
    ),
    "solo-learn": Layout(
        about="Lightning checkpoint of solo-learn: the backbone, not its momentum copy",
        keys=("state_dict", ""),
        prefix="backbone.",
        leftovers=(
            *("backbone.fc.*", "backbone.head.*", "classifier.*", "projector.*", "predictor.*", "prototypes.*"),
            *("momentum_backbone.*", "momentum_projector.*", "momentum_classifier.*", "momentum_predictor.*"),
            *("queue", "queue_*", "head.*", "momentum_head.*", "decoder.*", "*_loss_func.*"),
        ),
    ),
    "lightly": Layout(
        about="Lightning checkpoint of a module written with lightly, children of a ResNet numbered or not",
        keys=("state_dict", ""),
        prefix="backbone.",
        leftovers=(
            *("projection_head.*", "prediction_head.*", "projection_head_momentum.*", "backbone_momentum.*"),
            *("prototypes.*", "criterion.*", "decoder.*", "fc.*", "head.*", "queue", "queue_*"),
        ),
        renames=_NUMBERED_RESNET,
    ),
    "lightly-teacher": Layout(
        about="Lightning checkpoint of a teacher and student module written with lightly: the teacher",
        keys=("state_dict", ""),
        prefix="teacher_backbone.",
        leftovers=("teacher_head.*", "student_backbone.*", "student_head.*", "criterion.*"),
        renames=_NUMBERED_RESNET,
    ),
    "torchvision": Layout(
        about="state dict of a torchvision ResNet or ViT",
        keys=("", "state_dict", "model", "model_state_dict"),
        marker="encoder.layers.*",
        leftovers=("heads.*",),
        renames=_TORCHVISION_VIT,
    ),
    "timm": Layout(about="timm's names, in any dict of the file"),
}
"""By name, in the order in which they are tried. The model's own classifier may be in any of them."""

DETECTED = {name: layout for name, layout in LAYOUTS.items() if layout.detected}

CLAIMED = frozenset(key for layout in LAYOUTS.values() if "" not in layout.keys for key in layout.keys)
"""Keys by which alone some layouts are known; others do not look under them."""
