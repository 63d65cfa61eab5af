"""Any ``torch.nn.Module`` as a model, by ``functional_call``."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from moiety.core.axes import Axes, Part, expand_entry, read_axis_lengths, take_piece
from moiety.core.protocols import Kept
from moiety.core.types import RESERVED, TARGET, Batch, Params

REFUSE: Mapping[type[nn.Module], str] = {
    nn.LayerNorm: "its normalized_shape is fixed",
    nn.RMSNorm: "its normalized_shape is fixed",
    nn.MultiheadAttention: "its embed_dim and num_heads are fixed",
    nn.RNNBase: "its hidden_size is fixed",
    nn.RNNCellBase: "its hidden_size is fixed",
    nn.TransformerEncoderLayer: "its widths are fixed",
    nn.TransformerDecoderLayer: "its widths are fixed",
    nn.Bilinear: "its widths are fixed",
}
"""Stock layers that keep their widths beside their weights, so that a slice does not fit them."""

NOISY = (nn.modules.dropout._DropoutNd, nn.RReLU)  # noqa: SLF001  (the one base of all dropouts)
DROPPING = (nn.MultiheadAttention, nn.RNNBase)
ROWWISE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
)  # fmt: skip
"""Stock layers all of whose tensors have the outputs as their first dim."""

COUPLED = (nn.modules.batchnorm._NormBase,)  # noqa: SLF001  (batch and instance norms)


@dataclass(frozen=True)
class ModuleModel:
    """A module as a model: parameters and buffers outside, the module only computes.

    Made by ``from_module``. Its flags say what a solver must know: ``draws_noise`` (dropout),
    ``uses_batch_statistics`` (batch norm). ``constants`` are frozen: they are no parameters, and
    where a part is cut along their axes, each worker cuts them for itself.
    """

    module: nn.Module
    params: Params
    axes: Axes
    buffers: Mapping[str, str]
    call: Callable[[nn.Module, Batch], Tensor] | None = None
    draws_noise: bool = False
    uses_batch_statistics: bool = False
    constants: Params = field(default_factory=dict)
    constant_axes: Axes = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    def replace_constants(self, constants: Params, /) -> ModuleModel:
        return replace(self, constants=constants)

    def config(self) -> Mapping[str, Any]:
        """Name the module; its code is the user's and must be given again to load a run."""
        return {"kind": "module", "class": type(self.module).__qualname__}

    def redraw(self, rng: Generator, /) -> Params:
        """Draw fresh first values with the layers' own ``reset_parameters``.

        Parameters of layers that have none keep their values.
        """
        again = copy.deepcopy(self.module)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(rng.get_state())
            for layer in again.modules():
                if isinstance(layer, Resets):
                    layer.reset_parameters()
        trained = {n: p.detach() for n, p in again.named_parameters() if n in self.params}
        return {**dict(again.named_buffers()), **trained}

    def run(
        self, params: Params, batch: Batch, kept: Kept, *, train: bool
    ) -> tuple[Tensor, Params]:
        """Call the module on any values; nothing of the module itself changes."""
        frozen = self.constants
        if kept and self.constant_axes:
            frozen = take_piece(frozen, self.constant_axes, Part(kept))
        held = {name: t.clone() if name in self.buffers else t for name, t in params.items()}
        # The mode is set for the call alone: it is part of the call, not state of the model.
        self.module.train(train)
        call = Caller(self)
        named = {f"module.{name}": t for name, t in {**frozen, **held}.items()}
        if self.draws_noise and (not train or "seed" in batch):
            with torch.random.fork_rng(devices=list_devices(params)):
                torch.default_generator.manual_seed(int(batch["seed"]) if train else 0)
                out = self.called(call, named, batch, params)
        else:
            out = self.called(call, named, batch, params)
        return out, {name: held[name] for name in self.buffers}

    def called(
        self, call: Caller, named: dict[str, Tensor], batch: Batch, params: Params
    ) -> Tensor:
        """Call the module; where it fails on a piece, say what is cut and what is not."""
        try:
            out = functional_call(call, named, (batch,))
        except RuntimeError as error:
            cut = [name for name, t in params.items() if t.shape != self.params[name].shape]
            if not cut or isinstance(error, torch.OutOfMemoryError):
                raise
            whole = [name for name in params if name not in cut]
            raise ValueError(
                f"the module does not run on a piece ({error}): {cut} are cut, {whole} are not; "
                "name in axes every dim that lies along an axis, or leave its layer whole"
            ) from error
        if not isinstance(out, Tensor):
            raise TypeError(
                f"the module returns a {type(out).__name__}, not a tensor of outputs; say what is "
                "to be scored: from_module(module, call=lambda net, batch: net(batch['x'])[0])"
            )
        return out

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        return self.run(params, batch, kept, train=False)[0]

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.run(params, batch, kept, train=True)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give what the last linear layer reads, [B, D]."""
        caught: list[Tensor] = []
        layer = [m for m in self.module.modules() if isinstance(m, nn.Linear)][-1:]
        if not layer:
            raise ValueError(
                f"{type(self.module).__name__} has no linear layer whose inputs could be its "
                "features; use one of moiety.models as the common expert"
            )
        hook = layer[0].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            self.logits(params, batch, {})
        finally:
            hook.remove()
        return caught[-1].flatten(1)


@runtime_checkable
class Resets(Protocol):
    """A layer that can draw its own first values."""

    def reset_parameters(self) -> None: ...


class Caller(nn.Module):
    """Lets ``functional_call`` reach a module through a function of the batch."""

    def __init__(self, model: ModuleModel) -> None:
        super().__init__()
        self.module = model.module
        self.call = model.call
        self.names = model.inputs

    def forward(self, batch: Batch) -> Tensor:
        """Call as the user says, else on the columns that the module names, else on ``x``."""
        if self.call:
            return self.call(self.module, batch)
        named = {name: batch[name] for name in self.names if name in batch}
        if named:
            return self.module(**named)
        if "x" not in batch:
            found = sorted(batch.keys() - {*RESERVED, TARGET})
            raise ValueError(
                f"the rows have columns {found}, but the module takes {list(self.names)}; name "
                "columns so, or say from_module(module, call=...)"
            )
        return self.module(batch["x"])


def list_devices(params: Params) -> list[torch.device]:
    """List the accelerators that parameters lie on."""
    return list({t.device for t in params.values() if t.device.type == "cuda"})


def from_module(
    module: nn.Module,
    axes: Axes | None = None,
    *,
    call: Callable[[nn.Module, Batch], Tensor] | None = None,
    buffers: str | Mapping[str, str] = "mean",
    draws_noise: bool | None = None,
) -> ModuleModel:
    """Make a model of any module.

    Args:
        module: gives logits [B, C] for inputs [B, ...].
        axes: parameter name -> one axis name or None per dim, for methods that cut along axes.
        call: how to call it on a batch; by default with the columns that its ``forward`` has
            arguments for, or else ``module(batch["x"])``.
        buffers: how buffers (running statistics) merge: ``mean`` over workers, or ``keep`` the
            server's; one word for all or a mapping from buffer names. Parameters that do not
            require a gradient are constants: every worker downloads them once.
        draws_noise: whether it draws noise in training; by default read off its layers. Say True
            where ``forward`` calls ``torch.nn.functional.dropout`` itself.

    Raises:
        ValueError: if an axis cuts a layer that refuses slices, some but not all of a layer's
            tensors, or fits no parameter.

    >>> model = from_module(nn.Linear(3, 2), {"weight": ("out", None), "bias": ("out",)})
    >>> model.logits(model.params, {"x": torch.zeros(4, 3)}, {}).shape
    torch.Size([4, 2])
    """
    named = dict(module.named_parameters())
    if lazy := [name for name, t in named.items() if is_lazy(t)]:
        raise ValueError(f"{lazy} have no shape yet; call the module on a batch before: module(x)")
    params = {name: t.detach().clone() for name, t in named.items() if t.requires_grad}
    constants = {name: t.detach().clone() for name, t in named.items() if not t.requires_grad}
    kept = {name: t.detach().clone() for name, t in module.named_buffers()}
    rules = dict.fromkeys(kept, buffers) if isinstance(buffers, str) else dict(buffers)
    wrong = {name: rule for name, rule in rules.items() if rule not in ("mean", "keep")}
    if wrong or rules.keys() != kept.keys():
        raise ValueError(
            f"buffers need a rule 'mean' or 'keep' each, got {rules} for {sorted(kept)}"
        )
    axes = dict(axes or {})
    refuse_rigid_layers(module, axes)
    read_axis_lengths({**params, **constants, **kept}, axes)
    check_output_axes(module, axes)
    return ModuleModel(
        copy.deepcopy(module),
        {**params, **kept},
        {name: entries for name, entries in axes.items() if name not in constants},
        rules,
        call,
        draws_noise=any(is_noise_layer(layer) for layer in module.modules())
        if draws_noise is None
        else draws_noise,
        uses_batch_statistics=any(isinstance(layer, COUPLED) for layer in module.modules()),
        constants=constants,
        constant_axes={name: entries for name, entries in axes.items() if name in constants},
        inputs=list_inputs(module),
    )


def list_inputs(module: nn.Module) -> tuple[str, ...]:
    """List the arguments of ``forward`` that may be columns of a batch."""
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    arguments = inspect.signature(module.forward).parameters.values()
    named = [one.name for one in arguments if one.kind in kinds]
    return tuple(name for name in named if name not in (*RESERVED, TARGET))


def is_noise_layer(layer: nn.Module) -> bool:
    """Say whether a layer draws noise in training."""
    if isinstance(layer, DROPPING):
        return layer.dropout > 0
    return isinstance(layer, NOISY) and getattr(layer, "p", 1.0) > 0


def refuse_rigid_layers(module: nn.Module, axes: Axes) -> None:
    """Refuse axes on layers that cannot run on slices of their weights."""
    layers = dict(module.named_modules())
    for name, entries in axes.items():
        path = name.split(".")[:-1]
        above = [".".join(path[:depth]) for depth in range(len(path) + 1)]
        rigid = [(where, why) for where in above if (why := explain_rigidity(layers.get(where)))]
        if rigid and any(entry is not None for entry in entries):
            where, why = rigid[0]
            raise ValueError(
                f"axes cut {name!r} along {entries}, but layer {where or 'itself'!r} is a "
                f"{type(layers[where]).__name__} and cannot run on a slice: {why}. Leave it whole "
                "(None for its dims), or write it with torch.nn.functional from its own "
                "weights, reading widths off the tensors"
            )


def check_output_axes(module: nn.Module, axes: Axes) -> None:
    """Refuse axes along the outputs of a stock layer that leave out its bias, or its statistics."""
    named = [*module.named_parameters(), *module.named_buffers()]
    names = {id(t): name for name, t in named}  # of tied ones the first, as in axes
    for layer in module.modules():
        if type(layer) in ROWWISE:
            held = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
            entries = {names[id(t)]: axes.get(names[id(t)], (None,)) for t in held if t.ndim}
            if len({expand_entry(some[0]) for some in entries.values()}) > 1:
                raise ValueError(
                    f"the first dims of {list(entries)} are one, the outputs of a "
                    f"{type(layer).__name__}, but axes say {entries}; name the same axis for each"
                )


def explain_rigidity(layer: nn.Module | None) -> str | None:
    """Say why a layer cannot run on slices of its weights; None if it can."""
    return next((why for kind, why in REFUSE.items() if isinstance(layer, kind)), None)
