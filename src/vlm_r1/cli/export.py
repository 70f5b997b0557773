"""Write a run's model as an ordinary Hugging Face folder: LoRA merged, with processor and model card.

  vlm-r1 export runs/rec --to models/rec --dtype bfloat16
  vlm-r1 export runs/rec --to models/rec-100 --checkpoint 100
  vlm-r1 export runs/rec_lora --to models/rec-adapter --adapter-only
  vlm-r1 export runs/rec --to models/rec --push-to-hub my-name/rec-3b --private

The folder is loaded with plain transformers and compared with the run's own model before it gets its name.
"""

from __future__ import annotations

import argparse

from vlm_r1.cli.options import add_allow, add_trust, count, local_path

_CODE = "trust_remote_code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run, the new folder, and what is written into it."""
    parser.add_argument(
        "run", metavar="RUN", type=local_path, help="run folder; the run trained LoRA adapters or all weights"
    )
    parser.add_argument("--to", type=local_path, required=True, metavar="DIR", help="new folder")
    parser.add_argument(
        "--checkpoint", type=count, metavar="N", help="take the checkpoint of step N (default: the final model)"
    )
    parser.add_argument(
        "--adapter-only", action="store_true", help="write only the LoRA adapter, which peft loads on its base model"
    )
    add_allow(parser, "adapter", "task", "template")
    add_trust(parser)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="type of the weights (default: the run's; float32 for LoRA)"
    )
    group = parser.add_argument_group("push it to the Hugging Face Hub")
    group.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload the export; with the token of hf auth login")
    group.add_argument("--private", action="store_true", help="a new model of the Hub is seen by its owner only")
    group.add_argument("--commit-message", metavar="TEXT", help="of the upload (default: the name of the run)")


def run(args: argparse.Namespace) -> int:
    """Export, and print what is done."""
    from vlm_r1.cli.console import quiet_libraries
    from vlm_r1.export.model import export_run
    from vlm_r1.runtime.lock import lock_output
    from vlm_r1.runtime.terminal import Terminal

    _check_push(args)
    quiet_libraries()
    console = Terminal()
    allowed = {"adapter": args.allow_adapter, "task": args.allow_task, "template": args.allow_template}
    allowed["checkpoint"] = [_CODE] if args.trust_remote_code else []
    with lock_output(args.to, "--to"):
        export_run(
            args.run,
            args.to,
            step=args.checkpoint,
            adapter_only=args.adapter_only,
            dtype=args.dtype,
            allowed=allowed,
            say=lambda line: console.print(line, soft_wrap=True),
        )
    line = f"written to {args.to}; README.md says how to load it, vlm_r1.json how it was trained to be asked"
    console.print(line, soft_wrap=True)
    if args.push_to_hub:
        from vlm_r1.export.push import push

        message = args.commit_message or f"{args.run.resolve().name}, exported by VLM-R1"
        console.print(f"pushing {args.to} to {args.push_to_hub} …", soft_wrap=True)
        address = push(args.to, args.push_to_hub, private=args.private, message=message)
        console.print(f"pushed to {address}", soft_wrap=True)
    return 0


def _check_push(args: argparse.Namespace) -> None:
    """Refuse what cannot be pushed, before minutes are spent on the export."""
    from vlm_r1.errors import ConfigError
    from vlm_r1.export.push import check_push

    for name, value in (("--private", args.private), ("--commit-message", args.commit_message)):
        if value and not args.push_to_hub:
            raise ConfigError(f"{name} has no effect without --push-to-hub OWNER/NAME")
    if args.push_to_hub:
        check_push(args.push_to_hub)
