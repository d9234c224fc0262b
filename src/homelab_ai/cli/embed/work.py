"""From texts to where their vectors go: a file, standard output, or a table of which are alike."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from homelab_ai.cli.asking import Asking
from homelab_ai.cli.embed import formats, similar
from homelab_ai.cli.embed.texts import Text, batches
from homelab_ai.cli.embed.vectors import Embedded, Embedder
from homelab_ai.cli.ending import Stop
from homelab_ai.cli.progress import showing
from homelab_ai.cli.writing import new_file, put_record, shown

_PLACES_NAMED = 3


@dataclass(frozen=True)
class Order:
    """What is to be embedded."""

    url: str
    model: str | None
    texts: Iterable[Text]
    total_bytes: int | None


def write(order: Order, path: Path, form: str, *, force: bool) -> None:
    """Write the vectors into a file, and say what is in it. Raises `Stop` and `ServiceUnavailableError`."""
    run = _Run(order)
    with new_file(path, force=force) as file:
        writer = formats.writer(form, file)
        for embedded in run.vectors(beside_output=False):
            writer.write(embedded)
        writer.finish()
    print(f"{shown(path)}: {run.about()}", file=sys.stderr)


def put(order: Order) -> None:
    """Print a line of JSON for each text. Raises as `write`."""
    writer = formats.JsonLines(sys.stdout.buffer)
    for embedded in _Run(order).vectors(beside_output=True):
        writer.write(embedded)


def compare(order: Order, *, as_json: bool) -> None:
    """Print which texts are alike. Raises as `write`."""
    texts = list(islice(order.texts, similar.MOST + 1))
    if not similar.FEWEST <= len(texts) <= similar.MOST:
        raise Stop(f"--similar compares {similar.FEWEST} to {similar.MOST} texts", 2)
    run = _Run(Order(order.url, order.model, texts, order.total_bytes))
    cosines = similar.similarities(np.concatenate([each.matrix for each in run.vectors(beside_output=False)]))
    if as_json:
        put_record({"texts": [text.fields for text in texts], "similarities": cosines.tolist()})
    else:
        similar.show(texts, cosines)


@dataclass
class _Run:
    """The vectors of all texts, and what is to be said of them in the end."""

    order: Order
    count: int = 0
    last: Embedded | None = None
    cut: int = 0
    cut_places: list[str] = field(default_factory=list)

    def vectors(self, *, beside_output: bool) -> Iterator[Embedded]:
        """Yield them batch by batch, show how far it is, and say at the end which texts were too long."""
        with showing("texts", self.order.total_bytes, beside_output=beside_output) as progress:
            asking = Asking(self.order.url, progress.wait)
            for embedded in Embedder(asking, self.order.model).embed(batches(self.order.texts)):
                yield embedded
                self._note(embedded)
                progress.advance(len(embedded.texts), sum(text.size for text in embedded.texts))
            if self.cut:
                places = ", ".join(self.cut_places) + (", ..." if self.cut > len(self.cut_places) else "")
                progress.say(
                    f"Of {self.cut:,} texts only the beginning is in the vector, for they are longer than the "
                    f"model's window: {places}"
                )

    def about(self) -> str:
        """Say what came of it."""
        if not self.last:
            return "no vectors, for there were no texts"
        dimensions = self.last.matrix.shape[1]
        return (
            f"{self.count:,} vectors of {dimensions} numbers by {self.last.model}, fingerprint {self.last.fingerprint}"
        )

    def _note(self, embedded: Embedded) -> None:
        self.last = embedded
        self.count += len(embedded.texts)
        cut = [text.place for text, truncated in zip(embedded.texts, embedded.truncated, strict=True) if truncated]
        self.cut += len(cut)
        self.cut_places += cut[: _PLACES_NAMED - len(self.cut_places)]
