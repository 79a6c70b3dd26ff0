"""How strongly to change images that a training sees a few times, or many: what the policy's choice rests on.

MobileNetV2 x0.35 on parts of Fashion-MNIST's training images: every training takes as many steps, on a part
of its images so small that each is seen so many times, under each strength of augmentation. Judged on the
same validation images; the test images are not read. What was finished is in the records file.

    python benchmarks/augmentation.py --data ../shared/data/fashion_mnist --json augmentation.json
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import torch
from harness import Figure, Record, Records, parser, publish

from netsmith.data import AugmentPolicy, Loader, Splits, batch_generator, load, named_policy, split
from netsmith.nn.network import Network
from netsmith.nn.runtime import keep_memory
from netsmith.spaces.mobilenetv2 import mobilenetv2
from netsmith.train import Recipe, train

SHAPE, CLASSES = (1, 28, 28), 10
POLICIES = {
    "plain": AugmentPolicy(),
    "mirrored": AugmentPolicy(flip=True),
    "light": replace(named_policy("light", SHAPE), flip=True),
    "standard": replace(named_policy("standard", SHAPE), flip=True),
}


def trained(splits: Splits, policy: AugmentPolicy, passes: int, images: int, seed: int) -> Record:
    """Train on the part that ``images`` draws see ``passes`` times; return accuracy and loss.

    An epoch is several passes where there are many, since each ends with a validation.
    """
    chosen = torch.randperm(len(splits.train), generator=batch_generator(seed, "part"))[: images // passes]
    passes_an_epoch = max(1, passes // 10)
    part = splits.train.subset(chosen.repeat(passes_an_epoch))
    common = {"mean": splits.mean, "std": splits.std}
    batches = Loader(part, 64, policy=policy, seed=seed, drop_last=True, **common)
    validation = Loader(splits.validation, 256, shuffle=False, **common)
    torch.manual_seed(seed)
    network = Network(mobilenetv2(SHAPE, CLASSES, 0.35))
    recipe = Recipe(passes // passes_an_epoch, 64, warmup_epochs=min(2.0, passes / 10) / passes_an_epoch)
    last = train(network, batches, validation, recipe, seed=seed).last
    return {"accuracy": last.accuracy, "loss": last.loss, "train_loss": last.train_loss}


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, default=Path("../shared/data/fashion_mnist"))
    arguments.add_argument("--records", type=Path, default=Path("benchmarks/records/augmentation.json"))
    arguments.add_argument("--passes", type=int, nargs="+", default=[2, 8, 20, 60])
    arguments.add_argument("--images", type=int, default=108_000, help="images seen by each training")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = arguments.parse_args()
    if not options.data.exists():
        print(f"skipped: {options.data} is not there; give the folder of Fashion-MNIST's IDX files")
        return
    keep_memory()
    records, splits, figures = Records(options.records), split(load(options.data), 0), []
    for passes in options.passes:
        for name, policy in POLICIES.items():
            found = [
                records.once(
                    f"{passes} passes over {options.images // passes} images, {name}, seed {seed}",
                    lambda p=policy, n=passes, s=seed: trained(splits, p, n, options.images, s),
                )
                for seed in options.seeds
            ]
            for unit, key, scale in (("%", "accuracy", 100), ("", "loss", 1)):
                mean = scale * statistics.mean(record[key] for record in found)
                figures.append(Figure(f"{passes} passes, {name}: validation {key}", mean, unit))
    publish(figures, options.json)


if __name__ == "__main__":
    main()
