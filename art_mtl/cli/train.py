"""``art-mtl train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from tyro.conf import Positional

from art_mtl.cli.console import console, say
from art_mtl.cli.options import Command, Maybe, Seed, Size
from art_mtl.core import checks
from art_mtl.evaluation.experiment import Device

_Small = Literal["rooms", "rooms-robust", "rooms-detection", "digits", "multilabel", "nyuv2"]
# Options of --data alone: of the recipe, and of how it is carried out.
_RECIPE = ("batch_size", "lr", "augment", "crop", "precision", "validate_every", "limit")
_RUN = ("model", "trunk", "workers", "checkpoint_minutes", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a victim.

    One of the paper's networks: art-mtl train --data nyuv2 --root DIR --model mtan --out DIR. A run that was stopped
    goes on when the same command is given again. Or a small victim: art-mtl train rooms --out FILE.safetensors.

    Attributes:
        victim: A small victim; nyuv2 is a small net that memorises a few images.
        out: Folder of the run; of a small victim, the file of its weights.
        root: Folder of the data.
        epochs: Default: the recipe's; 200 for the paper's networks.
        device: Default: auto; of small victims cpu.
        data: Data set in --root, for one of the paper's networks. The options below are for these.
        model: Network. Default: mtan.
        trunk: ResNet-50 weights to start from. Default: from scratch.
        batch_size: Images a step, of all processes together. Default: 4.
        lr: Learning rate at the start. Default: 0.1.
        precision: What the network computes in. Default: fp32.
        augment: Enlarge, crop and mirror at random.
        crop: Size of augmented images. Default: the data set's.
        limit: First images of each split, for a trial. Default: all.
        validate_every: Epochs from one validation to the next. Default: 1.
        workers: Loading processes of each process. Default: by the number of CPUs.
        checkpoint_minutes: Longest time between checkpoints. Default: 10, and after every epoch.
        tensorboard: Write logs to OUT/logs.
    """

    with_torchrun: ClassVar[bool] = True

    victim: Positional[_Small | None] = None
    out: Path
    root: Path | None = None
    epochs: Maybe[int] = None
    seed: Seed = 0
    device: Maybe[Device] = None
    data: Literal["nyuv2", "cityscapes"] | None = None
    model: Maybe[Literal["mtan", "split"]] = None
    trunk: Maybe[Path] = None
    batch_size: Maybe[int] = None
    lr: Maybe[float] = None
    precision: Maybe[Literal["fp32", "bf16", "fp16"]] = None
    augment: bool = True
    crop: Maybe[Size] = None
    limit: Maybe[int] = None
    validate_every: Maybe[int] = None
    workers: Maybe[Annotated[int, checks.integer(0)]] = None
    checkpoint_minutes: Maybe[float] = None
    tensorboard: bool = True

    def run(self, command_line: str) -> None:
        """Train, and tell what was reached."""
        if (self.victim is None) == (self.data is None):
            found = "neither" if self.victim is None else "both"
            small = ", ".join(get_args(_Small))
            raise ValueError(f"Expected --data (with --root, --model, --out), or one of {small}. Found {found}.")
        if self.data is not None:
            _train_network(self, self.data)
        elif self.victim is not None:
            _train_small(self, self.victim)


def _train_network(options: Train, data: str) -> None:
    from art_mtl.training import EpochResult, NetworkResult, ProgressBar, Recipe, paper_units, train_network
    from art_mtl.training.network import describe
    from art_mtl.training.process_group import is_first

    root = options.root
    if root is None:
        raise ValueError("Parameter `root` should be the folder of the data. Found none.")
    given = _given(options, "epochs", *_RECIPE)
    if "lr" in given:
        given["rate"] = given.pop("lr")
    recipe = Recipe(seed=options.seed, **given)
    tasks = describe(data).tasks()
    settings = {"recipe": recipe, **_given(options, "device", *_RUN)}

    def run(**told: Any) -> NetworkResult:
        return train_network(data, root, options.out, **settings, **told)

    if not is_first():
        run()
        return
    try:
        with ProgressBar(f"{options.model or 'mtan'} on {data}", console()) as bar:

            def line(epoch: EpochResult) -> None:
                best = ", best so far" if epoch.best else ""
                bar.say(f"epoch {epoch.epoch}/{epoch.epochs}: {paper_units(tasks, epoch.metrics)}{best}")

            result = run(progress=bar, validated=line)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what was reached is in {options.out}, and the same command goes on from there."
        ) from None
    if result.resumed == result.steps:
        say(f"{options.out} was finished already; nothing was done")
    say(
        f"{result.epochs} epochs, {result.seconds:.0f} s now; val: {paper_units(tasks, result.metrics)} in "
        f"{result.path / 'last.safetensors'}; best, of epoch {result.best_epoch}: "
        f"{paper_units(tasks, result.best_metrics)} in {result.path / 'best.safetensors'}"
    )


def _train_small(options: Train, victim: str) -> None:
    from art_mtl.training import ProgressBar, embedded

    unfit = list(_given(options, *_RECIPE, *_RUN))
    if unfit:
        raise ValueError(f"Parameter `{unfit[0]}` should be given with --data only. Found it for {victim}.")
    if options.out.is_dir():
        raise ValueError(f"Parameter `out` should be a file. Found the folder {str(options.out)!r}.")
    settings: dict[str, Any] = {"seed": options.seed, "epochs": options.epochs}
    settings["device"] = _torch_device(options.device or "cpu")
    if victim == "nyuv2":
        if options.root is None:
            raise ValueError("Parameter `root` should be the folder of NYUv2. Found none.")
        with ProgressBar(victim) as bar:
            result = embedded.memorise(options.root, options.out, progress=bar, **settings)
    else:
        if options.root is not None:
            raise ValueError(f"Parameter `root` should be left out for {victim}. Found {str(options.root)!r}.")
        with ProgressBar(victim) as bar:
            result = embedded.train(victim, options.out, progress=bar, **settings)
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    say(f"wrote {result.path} after {result.epochs} epochs, {result.seconds:.0f} s; held-out metrics: {metrics}")


def _torch_device(name: str) -> str:
    import torch

    return "cuda" if name == "gpu" or (name == "auto" and torch.cuda.is_available()) else "cpu"


def _given(options: Train, *names: str) -> dict[str, Any]:
    """The options that were given; the functions themselves have the defaults."""
    return {name: getattr(options, name) for name in names if getattr(options, name) != getattr(Train, name)}
