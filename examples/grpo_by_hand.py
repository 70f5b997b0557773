"""GRPO by hand: a whole training run on the package's plain functions, top to bottom, to read and to change.

  OMP_NUM_THREADS=1 python examples/grpo_by_hand.py                          two minutes
  python examples/grpo_by_hand.py --model DIR --data FILE --warm-steps 0     your own: set the constants first

It draws pictures of one coloured shape, builds a random Qwen2.5-VL of 0.4 million parameters, shows it badly drawn
boxes until it knows what an answer looks like, and then lets rewards alone teach it to draw better ones.
Seen on 250 held-out pictures, for seeds 0 and 2, in 105 s of CPU time (Xeon, 2.5 GHz): IoU above 0.5 in 19.6 and 17.2 %
of the answers before GRPO, in 56.4 and 40.0 % after it; mean reward of 1.5 at most from 0.73 and 0.72 to 0.86 and 0.83.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from random import Random

import torch
from torch.optim import AdamW, Optimizer

from vlm_r1.cli.console import quiet_libraries
from vlm_r1.config.schema import DataSource, ModelSection
from vlm_r1.data.sources import load_sources
from vlm_r1.grpo.advantage import group_advantages
from vlm_r1.grpo.loss import LOSSES, LossInput, grpo_loss, loss_normalizer
from vlm_r1.models import load_adapter
from vlm_r1.models.precision import look_at, this_device
from vlm_r1.policy.build import build_policy, choose_setup
from vlm_r1.policy.logprobs import CompletionBatch, Policy, micro_batches
from vlm_r1.rollouts.env import Env
from vlm_r1.sampling import SamplingParams, greedy
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.synthetic import RecWorld, write_dataset
from vlm_r1.tasks.templates import make_templates
from vlm_r1.testing import write_tiny_qwen2_5_vl
from vlm_r1.types import Record

RECORDS = 2500  # to draw; of these, and of yours, the last tenth is held out
P, G = 16, 8  # prompts in a step, and answers to each: only answers to the same prompt are compared
MAX_NEW_TOKENS = 32  # answers here have about 20; a model that thinks needs hundreds
TEMPLATE = "bare"  # the question alone; a real model has to be told what form an answer has: "r1"
REWARDS = {"accuracy": 1.0, "format": 0.5}  # the overlap (IoU) with the true box, and whether the tags are in order
LOSS = LOSSES["dapo"]  # every token of a batch weighs the same; try "grpo", "dr_grpo" or "gspo"
WARM_RATE, RATE = 2e-3, 5e-4  # of learning; a real model wants a hundredth or less
TOKENS_AT_ONCE = 8192  # in one pass of the model: fewer need less memory, and the gradient stays the same


# 1. Data and model: real files, as in any other run.
def make_inputs(folder: str, seed: int) -> tuple[str, str, str]:
    """Write a random model, pictures with their true boxes, and the same pictures with a careless teacher's boxes."""
    world = RecWorld(image_sizes=((56, 56),), max_objects=1, relation_share=0.0, thought="none")
    counts = {"train": RECORDS, "warmup": RECORDS * 9 // 10, "in_domain": 0, "out_of_domain": 0}
    files = write_dataset(f"{folder}/data", world, seed=seed, counts=counts, shifts=())
    lessons = load_sources([DataSource(path=str(files["warmup"]))])
    texts = (f"user\n{record.problem}\nassistant\n{record.thought}{record.answer}" for record in lessons)
    return str(write_tiny_qwen2_5_vl(f"{folder}/model", texts, seed)), str(files["train"]), str(files["warmup"])


# 2. Ask and judge: the rewards of training and the held-out accuracy come from the same lines.
def answer(policy: Policy, env: Env, records: Sequence[Record], seeds_P_G: list[list[int]], params: SamplingParams):
    """Answer each record once for each of its seeds; a rule compares the answers with the true ones (N scores)."""
    prompts_P = [env.encode(record) for record in records]
    completions_P_G = HFSampler(policy.model, env.adapter).sample(prompts_P, seeds_P_G, params)
    asked = zip(records, prompts_P, completions_P_G, strict=True)
    scores_N = env.judge([(record, prompt, one) for record, prompt, own in asked for one in own])
    return CompletionBatch.of_groups(prompts_P, completions_P_G), scores_N


def accuracy(policy: Policy, env: Env, records: Sequence[Record]) -> float:
    """The task's first metric on likeliest answers: for boxes, the share whose IoU with the true one is above 0.5."""
    _, scores = answer(policy, env, records, [[0]] * len(records), greedy(MAX_NEW_TOKENS))
    return sum(next(iter(score.metrics.values())) for score in scores) / len(scores)


# 3. Warm start: rewards can only prefer what a model sometimes does, and a random model never writes a box.
def imitate(policy: Policy, env: Env, optimizer: Optimizer, records: Sequence[Record]) -> float:
    """Make the teacher's answers likelier; returns the loss, the mean of -log p over all their tokens."""
    prompts_P, end = [env.encode(record) for record in records], env.adapter.answer_end(policy.model)
    answers_P_1_T = [[env.gold_ids(record, prompt, end)] for record, prompt in zip(records, prompts_P, strict=True)]
    logprobs_NT, _, mask_NT = policy(CompletionBatch(prompts_P, answers_P_1_T))  # log-probabilities: 0 on padding
    loss = -logprobs_NT.sum() / mask_NT.sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


# 4. GRPO: answer, compare, learn.
def grpo_step(policy: Policy, env: Env, optimizer: Optimizer, records: Sequence[Record], seeds_P_G: list[list[int]]):
    """Learn from one batch of records; returns the mean reward, the loss and the norm of the gradient."""
    batch, scores_N = answer(policy, env, records, seeds_P_G, SamplingParams(MAX_NEW_TOKENS))
    # Nobody knows how hard a question is, so an answer is measured against its siblings: (r - mean) / deviation.
    rewards_PG = torch.tensor([score.reward for score in scores_N], dtype=torch.float64).view(len(records), -1)
    advantages_N = group_advantages(rewards_PG, "group").flatten()
    # The divisor counts the whole batch, so it does not matter how many passes the batch is cut into.
    tokens = sum(sum(mask_T) for mask_T in batch.masks_N())
    normalizer, total = loss_normalizer(LOSS, len(scores_N), tokens, MAX_NEW_TOKENS), 0.0
    for micro in micro_batches(batch, TOKENS_AT_ONCE, policy.layout):
        logprobs_NT, _, mask_NT = policy(micro.batch)
        old_NT = logprobs_NT.detach()  # a batch is used once, so the policy still is the one that sampled: ratio 1
        own_N = advantages_N[micro.rows_N].to(logprobs_NT)  # one number for all tokens of a completion
        given = LossInput(logprobs_NT, old_NT, None, own_N, mask_NT, 0.2, 0.2)  # no reference, so no KL; clip at 0.2
        loss = grpo_loss(given, LOSS, normalizer=normalizer).loss
        loss.backward()  # what beat its siblings becomes likelier, what fell behind less likely
        total += float(loss.detach())
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)  # no single batch may do much harm
    optimizer.step()
    optimizer.zero_grad()
    return float(rewards_PG.mean()), total, float(norm)


# 5. The run.
def main(argv: Sequence[str] | None = None) -> None:
    """Warm up, learn from rewards, and show every 20 steps what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("model", ""), ("data", ""), ("out", ""), ("warm-steps", 400), ("steps", 120), ("seed", 0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    args = parser.parse_args(argv)
    if bool(args.model) != bool(args.data):
        parser.error("--model and --data belong together: give both, or neither")
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        inputs = (args.model, args.data, args.data) if args.data else make_inputs(folder, args.seed)
        records, lessons = (load_sources([DataSource(path=file)]) for file in inputs[1:])
        train, held_out = records[: len(records) * 9 // 10], records[len(records) * 9 // 10 :]
        section, adapter, device = ModelSection(path=inputs[0]), load_adapter(inputs[0]), this_device()
        policy = build_policy(section, adapter, choose_setup(section, adapter, look_at(device)), device=device)
        env, rng, rewards = Env(adapter, make_templates(TEMPLATE), REWARDS), Random(args.seed), []
        optimizer = AdamW(policy.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
        for step in range(1, args.warm_steps + 1):
            optimizer.param_groups[0]["lr"] = WARM_RATE * (1 - step / (args.warm_steps + 1))  # smaller and smaller
            loss = imitate(policy, env, optimizer, rng.choices(lessons, k=32))
            if step % 50 == 0:
                print(f"warm start {step:4d}   loss {loss:.3f}")
        print(f" step  CPU s  reward  held-out accuracy ({accuracy(policy, env, held_out):.1%} so far)")
        for step in range(1, args.steps + 1):
            optimizer.param_groups[0]["lr"] = RATE * (1 - step / (args.steps + 1))
            seeds_P_G = [[rng.getrandbits(64) for _ in range(G)] for _ in range(P)]
            rewards.append(grpo_step(policy, env, optimizer, rng.choices(train, k=P), seeds_P_G)[0])
            if step % 20 == 0:
                reward, share = sum(rewards[-20:]) / 20, accuracy(policy, env, held_out)
                print(f"{step:5d}{time.process_time():7.0f}{reward:8.3f}{share:10.1%}  {'#' * round(50 * share)}")
        if args.out:
            policy.model.save_pretrained(args.out)
            adapter.save(args.out)


if __name__ == "__main__":
    main()
