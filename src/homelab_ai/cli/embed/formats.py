"""The formats that vectors are written in, batch by batch: none of them holds all in memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
import orjson

from homelab_ai.cli.embed.vectors import Embedded
from homelab_ai.cli.ending import Stop

if TYPE_CHECKING:
    import pyarrow as pa

_NOTHING = "There are no texts, so there is nothing to write"
_ROWS_OF_A_GROUP = 8192
"""Rows that Parquet keeps together."""


class Writer(Protocol):
    """Writes vectors into a file."""

    def write(self, embedded: Embedded) -> None:
        """Add these."""
        ...

    def finish(self) -> None:
        """Write what stands at the end. Raises `Stop` where the format cannot say that there is nothing."""
        ...


class JsonLines:
    """An object in each line: the text or its record, and the vector with where it comes from."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, embedded: Embedded) -> None:
        """Add these, and have them read at once, if somebody is reading."""
        for text, row, cut in zip(embedded.texts, embedded.matrix, embedded.truncated, strict=True):
            record = text.fields | {
                "embedding": row,
                "embedding_model": embedded.model,
                "embedding_fingerprint": embedded.fingerprint,
                "embedding_truncated": cut,
            }
            self._file.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
        self._file.flush()

    def finish(self) -> None:
        """Nothing more stands at the end."""


class Npy:
    """A matrix as NumPy saves it (`numpy.load`, with `mmap_mode` too): one row for each text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rows = self._columns = 0

    def write(self, embedded: Embedded) -> None:
        """Add these rows."""
        if not self._rows:
            self._columns = embedded.matrix.shape[1]
            self._write_header()
        self._file.write(embedded.matrix.astype("<f4").tobytes())
        self._rows += len(embedded.matrix)

    def finish(self) -> None:
        """Write the number of rows, for which the header has room."""
        if not self._rows:
            raise Stop(_NOTHING)
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._columns)}
        np.lib.format.write_array_header_1_0(self._file, header)


class Parquet:
    """Columns as pyarrow and pandas read them: the text or its record, its vector, and whether it was cut."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import pyarrow.parquet  # noqa: PLC0415 - an extra
        except ImportError:
            raise Stop("Parquet needs pyarrow: pip install 'homelab-ai-api[parquet]'") from None
        self._pa = pyarrow
        self._parquet = pyarrow.parquet
        self._file = file
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0

    def write(self, embedded: Embedded) -> None:
        """Add these rows."""
        batch = self._batch(embedded)
        if not self._writer:
            self._writer = self._parquet.ParquetWriter(self._file, batch.schema)
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= _ROWS_OF_A_GROUP:
            self._write_group()

    def finish(self) -> None:
        """Write the rest, and the index of all."""
        if not self._writer:
            raise Stop(_NOTHING)
        self._write_group()
        self._writer.close()

    def _batch(self, embedded: Embedded) -> "pa.RecordBatch":
        pa = self._pa
        own = pa.Table.from_pylist([text.columns for text in embedded.texts])
        values = pa.array(embedded.matrix.ravel(), pa.float32())
        vectors = pa.FixedSizeListArray.from_arrays(values, embedded.matrix.shape[1])
        columns = {name: own[name].combine_chunks() for name in own.column_names}
        columns |= {"embedding": vectors, "embedding_truncated": pa.array(embedded.truncated, pa.bool_())}
        about = {"embedding_model": embedded.model, "embedding_fingerprint": embedded.fingerprint}
        return pa.RecordBatch.from_pydict(columns, metadata=about)

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(self._pa.Table.from_batches(self._waiting))
        self._waiting, self._waiting_rows = [], 0


_WRITERS: dict[str, Callable[[BinaryIO], Writer]] = {"jsonl": JsonLines, "npy": Npy, "parquet": Parquet}


def writer(form: str, file: BinaryIO) -> Writer:
    """Return what writes this format. Raises `Stop` for want of a library."""
    return _WRITERS[form](file)
