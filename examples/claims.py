r"""Put results of `art-mtl benchmark` beside the claims made of `worst-task`, as Markdown.

    art-mtl benchmark --victim rooms --methods all --schedule published linear restarts --steps 10 \
        --out results/rooms-10
    art-mtl benchmark --victim rooms --methods worst-task --steps 5 --out results/rooms-5
    art-mtl benchmark --victim rooms --methods equal normalize dgba alternate minmax minmax-official --steps 20 \
        --out results/rooms-20
    art-mtl benchmark --victim rooms --methods worst-image --steps 10 --out results/rooms-image
    python examples/claims.py results/rooms
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from art_mtl.evaluation import AttackResult, Block, Results

OURS = "worst-task"
PER_IMAGE = "worst-image"
PUBLISHED = ("equal", "normalize", "dgba", "alternate", "minmax", "minmax-official")


def main(argv: Sequence[str] | None = None) -> None:
    """Print two tables for every stem: all rows, and the claims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stems", nargs="+", help="STEM-10, STEM-5, STEM-20 and STEM-image are folders of the runs")
    for stem in parser.parse_args(argv).stems:
        runs = [Results.from_json(f"{stem}-{run}/results.json") for run in ("10", "5", "20", "image")]
        print(f"## {runs[0].victim}, {runs[0].samples} images\n")
        print("".join(f"    {run.command}\n" for run in runs))
        print(claims(*runs))
        print()
        print(all_rows(runs[0]))
        print()


def all_rows(results: Results) -> str:
    """Δ_Wor and Δ_MTL of every attack in every cell, in percent, strongest Δ_Wor of a cell in bold."""
    blocks = list(results.blocks())
    names = list(dict.fromkeys(attack.name for attack in results.attacks if not attack.name.startswith("single:")))
    table = {name: [_named(block, name) for block in blocks] for name in names}
    strongest = [min(_wor(row[column]) for row in table.values()) for column in range(len(blocks))]
    lines = [_header("Δ_Wor / Δ_MTL (%)", blocks)]
    for name, row in table.items():
        shown = [
            f"{_bold(f'{100 * _wor(a):.1f}', _wor(a) == best)} / {100 * (a.delta_mtl or 0):.1f}"
            for a, best in zip(row, strongest, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(shown)} | {100 * sum(map(_wor, row)) / len(row):.1f} |")
    bounds = [results.reference(block) for block in blocks]
    if all(bounds):
        found = [100 * _wor(bound) for bound in bounds if bound is not None]
        lines.append(
            f"| single-task reference | {' | '.join(f'{b:.1f}' for b in found)} | {sum(found) / len(found):.1f} |"
        )
    return "\n".join(lines)


def claims(ten: Results, five: Results, twenty: Results, image: Results) -> str:
    """One row a claim, one column a cell; positive where the claim holds."""
    blocks = list(ten.blocks())
    ours = [_named(block, OURS) for block in blocks]
    published = [[a for a in block.attacks if a.name in PUBLISHED] for block in blocks]
    improved = [[a for a in block.attacks if a.name.partition(" + ")[0] in PUBLISHED] for block in blocks]
    long = [[a for a in block.attacks if a.name in PUBLISHED] for block in twenty.blocks()]
    short = [_named(block, OURS) for block in five.blocks()]
    images = [_named(block, PER_IMAGE) for block in image.blocks()]
    rows = {
        "Δ_Wor stronger than the best published method by": _leads(ours, published, _wor),
        "… than the best baseline with a decaying step and restarts": _leads(ours, improved, _wor),
        "Δ_MTL stronger than the best published method by": _leads(ours, published, _mtl),
        "5 steps stronger than 20 of the best published by": _leads(short, long, _wor),
        "least degradation of an image, `worst-image`, stronger by": _leads(images, published, _least),
    }
    lines = [_header("points", blocks)]
    for name, values in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{v:+.1f}' for v in values)} | {sum(values) / len(values):+.1f} |")
    bounds = [ten.reference(block) for block in blocks]
    if all(bounds):
        shares = [100 * _wor(a) / _wor(b) for a, b in zip(ours, bounds, strict=True) if b is not None]
        shown = " | ".join(f"{share:.1f}" for share in shares)
        lines.append(f"| share of the bound (%) | {shown} | {sum(shares) / len(shares):.1f} |")
    return "\n".join(lines)


def _header(corner: str, blocks: Sequence[Block]) -> str:
    cells = [f"{'L∞' if block.norm == 'linf' else 'L2'} {_radius(block)}" for block in blocks]
    return f"| {corner} | {' | '.join(cells)} | mean |\n| :--- |{' ---: |' * (len(blocks) + 1)}"


def _radius(block: Block) -> str:
    eps = block.eps or 0.0
    levels = 255 * eps
    whole = block.norm == "linf" and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole else f"{eps:g}"


def _named(block: Block, name: str) -> AttackResult:
    return next(attack for attack in block.attacks if attack.name == name)


def _leads(
    ours: Sequence[AttackResult], baselines: Sequence[Sequence[AttackResult]], figure: Callable[[AttackResult], float]
) -> list[float]:
    """By how many points we are stronger than the strongest baseline, cell by cell."""
    return [100 * (min(map(figure, those)) - figure(own)) for own, those in zip(ours, baselines, strict=True)]


def _wor(attack: AttackResult) -> float:
    return attack.delta_wor if attack.delta_wor is not None else 0.0


def _mtl(attack: AttackResult) -> float:
    return attack.delta_mtl if attack.delta_mtl is not None else 0.0


def _least(attack: AttackResult) -> float:
    return attack.least_degradation if attack.least_degradation is not None else 0.0


def _bold(text: str, yes: bool) -> str:
    return f"**{text}**" if yes else text


if __name__ == "__main__":
    main()
