"""Activations and PLS end to end, against timm's hooks, a DataLoader and scikit-learn's PLS.

    python benchmarks/activations.py --model MODEL --images FOLDER

The work: what the middle block of a ViT gives for some hundred photographs, whole, and how well PLS
with 25 components predicts responses from it, by five folds. The features are real; the responses
are a random projection of them with noise, which is work and no evidence of anything. Ours is
`brain.extract` (which writes the activations to files) and `brain.pls_predictivity`; theirs are a
hook on timm's model, torch's DataLoader (without processes and with two; the whole takes the faster
of the two) and scikit-learn's `PLSRegression(scale=False)` with Pearson's r, on the same folds and
weights. The floor is what neither can spare: the forward passes of images that are in memory
already, and for PLS one Gram matrix of the features. They take turns; told are medians of the wall
clock, half of what lies between the quartiles, the floor's share (its time over that of each), and,
measured before and apart, the peak of memory beyond what was there (not that of a DataLoader's
processes). The scores must agree; their difference is told.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from sklearn.cross_decomposition import PLSRegression
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import vitreous
from memory import peaks
from turns import medians, ratio, table, take_turns
from vitreous import brain
from vitreous.brain.splits import Split
from vitreous.data.listing import is_image

AGREEMENT = 1e-3


@dataclasses.dataclass
class Settings:
    """Settings of the benchmark."""

    images: Path
    """Photographs, in folders or not."""
    model: str = "vit_small_patch16_224"
    """A folder of a trained classifier, or timm's name (weights are then random)."""
    count: int = 200
    neuroids: int = 64
    components: int = 25
    folds: int = 5
    batch: int = 32
    repeats: int = 3
    threads: int = 2


class Files(Dataset[Tensor]):
    """Photographs as the model's input (3, H, W), plainly."""

    def __init__(self, files: list[Path], classifier: vitreous.Classifier) -> None:
        given = classifier.preprocessing
        moments = (t.flatten().tolist() for t in (classifier.mean, classifier.std))
        self.files = files
        self.view = transforms.Compose(
            [
                transforms.Resize(given.size, transforms.InterpolationMode(given.interpolation)),
                transforms.ToTensor(),
                transforms.Normalize(*moments),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as image:
            return self.view(image.convert("RGB"))


def hooked(net: nn.Module, layer: str, loader: DataLoader[Tensor]) -> np.ndarray:
    """What a layer gives for all images (images × units), by a hook."""
    found: list[Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(
        lambda module, given, output: found.append(output.flatten(1))
    )
    with torch.inference_mode():
        for images in loader:
            net(images)
    handle.remove()
    return torch.cat(found).numpy()


def scikit_learn(
    features: np.ndarray, responses: np.ndarray, splits: list[Split], components: int
) -> float:
    """Mean over the folds of the median r over neuroids."""
    medians = []
    for train, test in splits:
        fitted = PLSRegression(components, scale=False).fit(features[train], responses[train])
        predicted, true = fitted.predict(features[test]), responses[test]
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, true.T)]
        medians.append(np.median(r))
    return float(np.mean(medians))


def respond(features: np.ndarray, neuroids: int) -> np.ndarray:
    """A random projection of the features, with as much noise: images × neuroids."""
    generator = np.random.default_rng(0)
    projection = generator.standard_normal((features.shape[1], neuroids), dtype=np.float32)
    signal = (features - features.mean(0)) @ projection
    signal /= signal.std()
    return signal + generator.standard_normal(signal.shape)


class Work:
    """The alternatives, on some of the photographs."""

    def __init__(self, settings: Settings, folder: Path, count: int) -> None:
        self.settings = settings
        self.classifier = vitreous.load_model(
            settings.model, **({} if Path(settings.model).is_dir() else {"pretrained": False})
        ).eval()
        blocks = len(self.classifier.net.get_submodule("blocks"))
        self.layer = f"blocks.{blocks // 2}"
        found = sorted(file for file in settings.images.rglob("*") if is_image(file.name))
        self.files = [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]
        shown = folder / "shown"
        shown.mkdir(parents=True)
        for number, file in enumerate(self.files):
            (shown / f"{number:05d}{file.suffix}").symlink_to(file.resolve())
        self.stimuli = brain.read_stimuli(shown)
        self.batches = list(DataLoader(Files(self.files, self.classifier), settings.batch))
        self.features = self.theirs(0)()
        self.responses = respond(self.features, settings.neuroids)
        self.splits = brain.Splits(folds=settings.folds)
        self.scores: dict[str, float] = {}

    def ours(self) -> np.ndarray:
        """Activations by `brain.extract`, as a copy in memory."""
        with tempfile.TemporaryDirectory() as cache:
            settings = brain.Extraction(batch_size=self.settings.batch)
            made = brain.extract(self.classifier, self.stimuli, [self.layer], cache, settings)
            return np.array(made[self.layer])

    def theirs(self, workers: int) -> Callable[[], np.ndarray]:
        """Activations by a hook and a DataLoader."""
        read = Files(self.files, self.classifier)

        def made() -> np.ndarray:
            loader = DataLoader(read, self.settings.batch, num_workers=workers)
            return hooked(self.classifier.net, self.layer, loader)

        return made

    def bare(self) -> None:
        """The forward passes."""
        with torch.inference_mode():
            for images in self.batches:
                self.classifier.net(images)

    def our_score(self, features: np.ndarray) -> None:
        """Score by this package."""
        score = brain.pls_predictivity(
            features, self.responses, components=self.settings.components, splits=self.splits
        )
        self.scores["ours"] = score.score

    def their_score(self, features: np.ndarray) -> None:
        """Score by scikit-learn."""
        drawn = self.splits.draw(len(features))
        self.scores["theirs"] = scikit_learn(
            features, self.responses, drawn, self.settings.components
        )

    def gram(self) -> None:
        """One Gram matrix."""
        wide = self.features.astype(np.float64)
        wide @ wide.T

    def extraction(self) -> dict[str, Callable[[], object]]:
        """The first half, by who does it."""
        return {
            "ours": self.ours,
            "hooks, no process": self.theirs(0),
            "hooks, 2 processes": self.theirs(2),
            "floor": self.bare,
        }

    def whole(self, workers: int) -> dict[str, Callable[[], object]]:
        """Both halves, by who does them."""
        read = self.theirs(workers)
        return {
            "ours": lambda: self.our_score(self.ours()),
            "hooks and scikit-learn": lambda: self.their_score(read()),
            "floor": lambda: (self.bare(), self.gram()),
        }


def show(title: str, work: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Measure memory, then time in turns, and print a line for each."""
    needed = peaks(work)
    times = take_turns(work, repeats, warm=False)
    print(title, *table(times, needed), sep="\n", flush=True)
    return times


def main(settings: Settings) -> None:
    """Print both tables and the difference of the scores.

    Raises:
        SystemExit: If the scores do not agree.
    """
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory() as name, threadpool_limits(settings.threads, "blas"):
        warm = dataclasses.replace(settings, components=2, folds=2)
        for call in Work(warm, Path(name) / "warm", 2 * settings.batch).whole(0).values():
            call()
        work = Work(settings, Path(name) / "work", settings.count)
        images, units = work.features.shape
        print(f"{Path(settings.model).name}, {work.layer}: {images} photographs × {units:,} units")
        times = medians(show("activations", work.extraction(), settings.repeats))
        workers = 2 if times["hooks, 2 processes"] < times["hooks, no process"] else 0
        told = f"activations and PLS-{settings.components}, {settings.folds} folds"
        whole = show(
            f"{told} (DataLoader: {workers} processes)", work.whole(workers), settings.repeats
        )
    gain = ratio(whole, "hooks and scikit-learn", "ours")
    difference = abs(work.scores["ours"] - work.scores["theirs"])
    print(
        f"  theirs / ours {gain:.2f}; score {work.scores['ours']:.4f}, differs by {difference:.1e}"
    )
    if difference > AGREEMENT:
        raise SystemExit(f"the scores do not agree: {work.scores}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
