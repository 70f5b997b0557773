"""Computes the memory that a recipe needs on each GPU, phase by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from vlm_r1.config import Config
from vlm_r1.evaluation.runner import params_of
from vlm_r1.grpo.parts import check_parts
from vlm_r1.models import Adapter
from vlm_r1.models.parts import PartSize, size_by_part
from vlm_r1.models.precision import frozen_copy, in_4bit
from vlm_r1.planning.batches import Lengths, fullest, lengths_of
from vlm_r1.planning.passes import Peak, optimizer_step, policy_pass, sampling_pass
from vlm_r1.planning.prompts import PlannedPrompt
from vlm_r1.planning.shapes import GPU, Shapes, load_shapes
from vlm_r1.policy.build import setup_of
from vlm_r1.policy.logprobs import CompletionBatch, count_positions
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.build import get_sampler
from vlm_r1.training.held_out import decoding_of
from vlm_r1.training.inputs import named_reward_models
from vlm_r1.training.trust import CHECKED_COMPLETIONS, CHECKED_TOKENS
from vlm_r1.training.witness import is_wide
from vlm_r1.types import EncodedPrompt

GB = 10**9

CONTEXT = GB
"""Bytes assumed for CUDA and its libraries' workspaces; the same again for NCCL's buffers if there are several GPUs."""

FRAGMENTATION = 0.1
"""Bytes assumed for gaps between tensors, as a share of those that passes make and free."""

_NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a weight in 4 bits: each 64 weights have a scale of 8 bits, and each 256 scales have one of 32 bits (QLoRA,
arXiv 2305.14314, section 3)."""


@dataclass(frozen=True)
class StaticMemory:
    """Bytes on each GPU that do not depend on the batch.

    Attributes:
        sizes: parameters by part.
        weights: of the policy.
        gradients: they exist from a step's first micro-batch to the optimizer's step.
        optimizer: the optimizer's state.
        optimizer_working: tensors that exist only during the optimizer's step.
        reference: weights of a separate reference model; 0 if there is none.
        unsharded: what FSDP or ZeRO-3 keeps whole at a time: everything outside the layers and two layers, weights and
            gradients, in the type that computes.
        reward_models: weights of those that a GPU holds; their passes are not counted.
    """

    sizes: list[PartSize]
    weights: int
    gradients: int
    optimizer: int
    optimizer_working: int
    reference: int
    unsharded: int
    reward_models: int


@dataclass(frozen=True)
class Plan:
    """The memory that a recipe needs on each GPU, in bytes.

    Attributes:
        policy, sampling, checks: bytes at the peak of their passes.
        prompt: every prompt is taken to be like this one.
        budget: the recipe's max_tokens_per_micro_batch.
        positions, images: of the fullest micro-batch.
        whole_step: positions of a step in which all completions have maximal length.
    """

    static: StaticMemory
    policy: Peak
    sampling: Peak
    checks: Peak
    prompt: PlannedPrompt
    lengths: Lengths
    budget: int
    positions: int
    images: int
    whole_step: int
    gpus: int

    @property
    def phases(self) -> Mapping[str, int]:
        """Bytes at the peak of each phase, without the margin."""
        own = self.static
        always = own.weights + own.optimizer + own.reference + own.reward_models
        return {
            "trust checks": always + self.checks.total,
            "policy pass": always + own.gradients + self.policy.total,
            "sampling": always + self.sampling.total,
            "optimizer step": always + own.gradients + own.optimizer_working,
        }

    @property
    def margin(self) -> int:
        """Bytes assumed for CUDA and fragmentation."""
        moving = max(peak.working + peak.cache for peak in (self.policy, self.sampling, self.checks))
        return CONTEXT * (1 if self.gpus == 1 else 2) + int(FRAGMENTATION * moving)

    @property
    def total(self) -> int:
        """Bytes that a GPU must have."""
        return max(self.phases.values()) + self.margin

    def sharded(self, gpus: int) -> Mapping[str, int]:
        """Estimate the bytes on each of `gpus` GPUs if the static memory were sharded; the margin is included.

        ZeRO-2 shards gradients and optimizer. ZeRO-3 and FSDP shard everything except what they gather at a time
        (`StaticMemory.unsharded`); autocast then needs no copies of its own.
        """
        own, passing = self.static, max(self.policy, self.sampling, self.checks, key=lambda peak: peak.total)
        updated = (own.gradients + own.optimizer) // gpus
        whole = own.weights + own.reference
        return {
            "ZeRO-2": whole + own.reward_models + updated + passing.total + self.margin,
            "ZeRO-3, FSDP": whole // gpus
            + own.reward_models
            + updated
            + own.unsharded
            + passing.total
            - passing.weight_copies
            + self.margin,
        }


def make_plan(config: Config, prompt: PlannedPrompt, gpus: int) -> Plan:
    """Compute what a recipe of `vlm-r1 train` needs on each of `gpus` GPUs, without loading weights.

    Args:
        prompt: every prompt is taken to be like this one.

    Raises:
        ConfigError: the section `model` asks for what this model does not have, or a step cannot be shared out.
        ModelError: a family without an adapter; see `load_shapes`.
    """
    adapter, encoded = prompt.adapter, prompt.encoded
    get_sampler(config.sampling.engine)
    check_parts(config, gpus)
    shapes = shapes_of(config, adapter)
    lengths = lengths_of(config, gpus, len(encoded.ids_L))
    if config.grpo.perception_coef and encoded.frames:
        lengths = replace(lengths, copies=2)
    layout = shapes.setup.layout
    budget = config.training.max_tokens_per_micro_batch
    many_images = bool(encoded.frames) and not adapter.sees_with_frozen_parts(shapes.model)
    part = _of_a_part(config, lengths)
    completions = fullest(part, budget, layout, many_images)
    batch = CompletionBatch([encoded] * len(completions), [[[0] * T for T in own] for own in completions])
    members = [(p, g) for p, own in enumerate(completions) for g in range(len(own))]
    return Plan(
        static=static_memory(config, shapes, gpus),
        policy=policy_pass(
            shapes,
            batch,
            entropy_gradient=bool(config.grpo.entropy_coef),
            repetition_penalty=config.sampling.repetition_penalty,
        ),
        sampling=_sampling(config, shapes, lengths, encoded),
        checks=_checks(shapes, encoded, lengths.completion) if config.training.trust_checks else Peak(),
        prompt=prompt,
        lengths=lengths,
        budget=budget,
        positions=count_positions(batch, members, layout),
        images=len(completions) * len(encoded.frames),
        whole_step=part.positions(layout),
        gpus=gpus,
    )


def _of_a_part(config: Config, lengths: Lengths) -> Lengths:
    """The share of one optimizer step: a micro-batch holds groups of one part only."""
    return replace(lengths, prompts=lengths.prompts // config.grpo.steps_per_generation)


def shapes_of(config: Config, adapter: Adapter) -> Shapes:
    """Return the recipe's model, without weights, as it computes on the GPU that plans assume."""
    return load_shapes(config.model, adapter, setup_of(config, adapter, GPU))


def least_total(config: Config, adapter: Adapter) -> int:
    """A lower bound of `Plan.total`, in bytes: static memory and CUDA, without any pass."""
    shapes = shapes_of(config, adapter)
    own = static_memory(config, shapes)
    return own.weights + own.gradients + own.optimizer + own.reference + own.reward_models + CONTEXT


def _sampling(config: Config, shapes: Shapes, lengths: Lengths, prompt: EncodedPrompt) -> Peak:
    """The peak of sampling in training, or in evaluation if that needs more."""
    params = SamplingParams.of(config.sampling)
    peak = sampling_pass(shapes, [prompt] * lengths.prompts, lengths.generations, params)
    if not config.data.eval:
        return peak
    answered = [prompt] * config.training.eval_batch_size
    decoding = decoding_of(config)
    evaluation = sampling_pass(shapes, answered, decoding.samples, params_of(decoding))
    return max(peak, evaluation, key=lambda one: one.total)


def _checks(shapes: Shapes, prompt: EncodedPrompt, completion: int) -> Peak:
    """The largest pass of the trust checks: it computes in float32 if the weights are float32."""
    short = [[0] * min(completion, CHECKED_TOKENS)]
    batch = CompletionBatch([prompt] * len(CHECKED_COMPLETIONS), [short * n for n in CHECKED_COMPLETIONS])
    return policy_pass(shapes.computing_exactly() if is_wide(shapes.model) else shapes, batch)


def static_memory(config: Config, shapes: Shapes, gpus: int = 1) -> StaticMemory:
    """Count the bytes that no pass is needed for.

    Raises:
        ModelError: the config of a reward model cannot be loaded.
    """
    state, working = optimizer_step(shapes, config.training)
    times = {id(p): times for _, p, times in shapes.parameters()}
    return StaticMemory(
        sizes=size_by_part(shapes.model, shapes.adapter, lambda p: p.numel() * times[id(p)]),
        weights=_weights(shapes, config.model.load_in_4bit),
        gradients=sum(p.nbytes * times for _, p, times in shapes.parameters(trainable=True)),
        optimizer=state,
        optimizer_working=working,
        reference=_reference(config, shapes),
        unsharded=_unsharded(shapes),
        reward_models=_reward_models(config, gpus),
    )


def _weights(shapes: Shapes, quantized: bool) -> int:
    small = {id(p) for p in in_4bit(shapes.model, shapes.adapter) if not p.requires_grad} if quantized else set[int]()
    sizes = (times * (p.numel() * _NF4 if id(p) in small else p.nbytes) for _, p, times in shapes.parameters())
    return int(sum(sizes))


def _reference(config: Config, shapes: Shapes) -> int:
    """Bytes of the copy that `grpo.reference.Reference` makes; under LoRA it makes none."""
    if not config.grpo.beta or config.model.lora is not None:
        return 0
    dtype = frozen_copy(shapes.setup.precision).dtype
    return sum(p.numel() * times * (dtype or p.dtype).itemsize for _, p, times in shapes.parameters())


def _reward_models(config: Config, gpus: int) -> int:
    """Bytes of the reward models on the GPU that holds most; a process loads one once, however often it is named."""
    judges = named_reward_models(config).values()
    different = {(judge.path, judge.revision, judge.device, judge.dtype): judge for judge in judges}
    sizes = {key: judge.nbytes() for key, judge in different.items() if judge.device != "cpu"}
    own = sum(size for key, size in sizes.items() if different[key].gpu is None)
    # on a GPU that is named by its number, every process loads it
    fixed = [sum(size for key, size in sizes.items() if different[key].gpu == gpu) for gpu in range(gpus)]
    return own + gpus * max(fixed)


def _unsharded(shapes: Shapes) -> int:
    """See `StaticMemory.unsharded`."""

    def computing(p: nn.Parameter) -> int:
        size = 2 if shapes.setup.precision.autocast else p.element_size()
        return p.numel() * size * (2 if p.requires_grad else 1)

    layers = [sum(computing(p) for p in layer.module.parameters()) for layer in shapes.layers]
    in_layers = {id(p) for layer in shapes.layers for p in layer.module.parameters()}
    rest = sum(computing(p) for p in shapes.model.parameters() if id(p) not in in_layers)
    return rest + 2 * max(layers, default=0)
