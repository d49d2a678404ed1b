"""``art-mtl train``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from art_mtl.cli.common import PROGRAM, add_command, console, count, say, seed

_SMALL = ("rooms", "rooms-robust", "digits", "multilabel", "nyuv2")
_DEVICES = ("auto", "cpu", "gpu")
# Options of --data alone, whose default is None: of the recipe, and of how it is carried out.
_RECIPE = ("batch_size", "rate", "augment", "crop", "precision", "validate_every", "limit")
_RUN = ("model", "trunk", "workers", "checkpoint_minutes", "tensorboard")


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "train",
        help="train a victim",
        description=f"Train one of the paper's networks: {PROGRAM} train --data nyuv2 --root DIR --model mtan --out "
        f"DIR. Or a small victim: {PROGRAM} train rooms --out FILE.safetensors.",
    )
    add = command.add_argument
    add("victim", nargs="?", choices=_SMALL, help="a small victim; nyuv2 is a small net that memorises a few images")
    add("--out", type=Path, required=True, metavar="PATH", help="folder of the run; of a small victim, its weights")
    add("--root", type=Path, metavar="DIR", help="folder of the data")
    add("--epochs", type=count, help="default: the recipe's; 200 for the paper's networks")
    add("--seed", type=seed, default=0, help="default: %(default)s")
    add("--device", choices=_DEVICES, help="default: auto; of small victims: cpu")
    _add_network_options(command)
    command.set_defaults(run=_train)


def _add_network_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "the paper's networks", "A run that was stopped goes on when the same command is given again."
    )
    add = group.add_argument
    add("--data", choices=("nyuv2", "cityscapes"), help="data set in --root")
    add("--model", choices=("mtan", "split"), help="default: mtan")
    add("--trunk", type=Path, metavar="FILE", help="ResNet-50 weights to start from; default: from scratch")
    add("--batch-size", type=count, help="images a step, of all processes together; default: 4")
    add("--lr", dest="rate", type=_positive, help="learning rate at the start; default: 0.1")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="default: fp32")
    add("--augment", action=argparse.BooleanOptionalAction, default=None,
        help="enlarge, crop and mirror at random; default: yes")  # fmt: skip
    add("--crop", type=_size, metavar="HxW", help="of augmented images; default: the data set's")
    add("--limit", type=count, metavar="N", help="first images of each split, for a trial; default: all")
    add("--validate-every", type=count, metavar="N", help="epochs; default: 1")
    add("--workers", type=seed, metavar="N", help="loading processes of each process; default: by the number of CPUs")
    add("--checkpoint-minutes", type=_positive, metavar="M",
        help="longest time between checkpoints; default: 10, and after every epoch")  # fmt: skip
    add("--tensorboard", action=argparse.BooleanOptionalAction, default=None, help="logs in OUT/logs; default: yes")


def _train(options: argparse.Namespace) -> None:
    if (options.victim is None) == (options.data is None):
        found = "neither" if options.victim is None else "both"
        raise ValueError(f"expected --data (with --root, --model, --out), or a small victim {_SMALL}; found {found}")
    if options.victim is None:
        _train_network(options)
    else:
        _train_small(options)


def _train_network(options: argparse.Namespace) -> None:
    from art_mtl.training import EpochResult, NetworkResult, ProgressBar, Recipe, paper_units, train_network
    from art_mtl.training.network import describe
    from art_mtl.training.process_group import is_first

    if options.root is None:
        raise ValueError("argument --root: expected the folder of the data; found none")
    recipe = Recipe(seed=options.seed, **_given(options, "epochs", *_RECIPE))
    tasks = describe(options.data).tasks()
    settings = {"recipe": recipe, **_given(options, "device", *_RUN)}

    def run(**told: Any) -> NetworkResult:
        return train_network(options.data, options.root, options.out, **settings, **told)

    if not is_first():
        run()
        return
    try:
        with ProgressBar(f"{options.model or 'mtan'} on {options.data}", console()) as bar:

            def line(epoch: EpochResult) -> None:
                best = ", best so far" if epoch.best else ""
                bar.say(f"epoch {epoch.epoch}/{epoch.epochs}: {paper_units(tasks, epoch.metrics)}{best}")

            result = run(progress=bar, validated=line)
    except KeyboardInterrupt:
        say(f"interrupted; what was reached is in {options.out}, and the same command goes on from there.")
        raise SystemExit(130) from None
    if result.resumed == result.steps:
        say(f"{options.out} was finished already; nothing was done")
    say(
        f"{result.epochs} epochs, {result.seconds:.0f} s now; val: {paper_units(tasks, result.metrics)} in "
        f"{result.path / 'last.safetensors'}; best, of epoch {result.best_epoch}: "
        f"{paper_units(tasks, result.best_metrics)} in {result.path / 'best.safetensors'}"
    )


def _train_small(options: argparse.Namespace) -> None:
    from art_mtl.training import ProgressBar, embedded

    unfit = [name for name in (*_RECIPE, *_RUN) if getattr(options, name) is not None]
    if unfit:
        flag = {"rate": "lr"}.get(unfit[0], unfit[0]).replace("_", "-")
        raise ValueError(f"argument --{flag}: expected it with --data only; found it with victim {options.victim}")
    if options.out.is_dir():
        raise ValueError(f"argument --out: expected a file; found the folder {str(options.out)!r}")
    settings: dict[str, Any] = {"seed": options.seed, "epochs": options.epochs}
    settings["device"] = _torch_device(options.device or "cpu")
    if options.victim == "nyuv2":
        if options.root is None:
            raise ValueError("argument --root: expected the folder of NYUv2 for victim nyuv2; found none")
        with ProgressBar(options.victim) as bar:
            result = embedded.memorise(options.root, options.out, progress=bar, **settings)
    else:
        if options.root is not None:
            raise ValueError(f"argument --root: expected none for victim {options.victim}; found {str(options.root)!r}")
        with ProgressBar(options.victim) as bar:
            result = embedded.train(options.victim, options.out, progress=bar, **settings)
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    say(f"wrote {result.path} after {result.epochs} epochs, {result.seconds:.0f} s; held-out metrics: {metrics}")


def _torch_device(name: str) -> str:
    import torch

    return "cuda" if name == "gpu" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given; the functions themselves have the defaults."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _positive(text: str) -> float:
    """An argument that is a positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number; found {text!r}")
    return value


def _size(text: str) -> tuple[int, int]:
    """An argument such as 288x384."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a height and a width such as 288x384; found {text!r}")
    return int(match[1]), int(match[2])
