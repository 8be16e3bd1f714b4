"""A Milvus server, or the embedded Milvus Lite: collections and their rows, and what goes wrong in one sentence."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import SplitResult, urlsplit

import numpy as np

from magface.errors import DataError
from magface.types import F32

Row = dict[str, Any]
"""Values by the names of fields; `id` is a whole number above 0."""

TEXT = 65_535
"""Bytes of a text in a row, at most."""
MOST = 16_384
"""Rows that one search gives, at most."""
_SECONDS = 60.0
_CONNECT = 10.0
_PORT = 19_530
_BYTES = 1 << 23
_IDS = 256
_ROWS = (64, 4096)
_FIRST = 256
_WORKERS = 4
_LOOSE = 128


class Index(NamedTuple):
    """How the vectors of a collection are searched.

    Attributes:
        kind: `FLAT` compares with all, `HNSW` with the likely ones.
        build: parameters of the kind.
        search: parameters of the kind in a search.
    """

    kind: str = "FLAT"
    build: Mapping[str, int] = {}
    search: Mapping[str, int] = {}


class Server:
    """A connection.

    Args:
        place: `http://host:port`, `https://host:port/database`, or the path of a Milvus Lite folder.
        key: token of the server, `user:password` or what it gave out; "" where it asks for none.
        new: whether a folder or database that is not there is made.

    Raises:
        DataError: there is no such place, it is none of Milvus, it does not answer, or it cannot use a key.
    """

    def __init__(self, place: str, key: str = "", *, new: bool = False) -> None:
        self.remote = is_address(place)
        self.name = place
        self._engine: _Engine | None = None
        self._loose: dict[str, int] = {}
        if self.remote:
            address = _address(place)
            self.name = f"{address.scheme}://{address.hostname}:{address.port or _PORT}"
            token = key or ":".join(filter(None, (address.username, address.password)))
            self._connect(self.name, token, address.path.strip("/"), new)
        else:
            if key:
                raise DataError(f"{place} cannot be encrypted, Milvus Lite knows no key; give none, or use SQLite.")
            self._engine = _Engine.at(Path(place), new)
            self._connect(self._engine.uri, "", "", new)
        self.writer = self._engine.writer if self._engine else threading.Lock()
        """Held while there are changes to come."""

    def _connect(self, uri: str, token: str, database: str, new: bool) -> None:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        # what it logs is in the sentence that we give
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        try:
            # a connection of its own: one that is shared stays open after `close`
            self._client = MilvusClient(uri, token=token, timeout=_CONNECT, dedicated=True)
            if database and new and database not in self._client.list_databases(timeout=_CONNECT):
                self._client.create_database(database, timeout=_CONNECT)
            if database:
                self._client.use_database(database)
        except MilvusException as error:
            self._release()
            raise DataError(
                f"cannot reach Milvus at {self.name} ({_reason(error)}); start it, or check the address and the key."
            ) from error

    def close(self) -> None:
        """End the connection, and the embedded engine where nobody else in the process has it open."""
        self._client.close()
        self._release()

    def _release(self) -> None:
        if self._engine is not None:
            self._engine.release()
            self._engine = None

    def collections(self) -> list[str]:
        """Names of all."""
        return self._call("list_collections")

    def create(self, name: str, fields: Mapping[str, str], size: int, index: Index) -> None:
        """Make a collection that is read as it was last written.

        Args:
            name: of the collection.
            fields: what rows hold beside `id`: `vector`, `key` (64 characters), `keys`, `integer`, `flag` or `text`.
            size: numbers of a vector.
            index: of the vector.
        """
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        more: dict[str, tuple[Any, dict[str, Any]]] = {
            "vector": (DataType.FLOAT_VECTOR, {"dim": size}),
            "key": (DataType.VARCHAR, {"max_length": 64}),
            "keys": (DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 4096, "max_length": 64}),
            "integer": (DataType.INT64, {}),
            "flag": (DataType.BOOL, {}),
            "text": (DataType.VARCHAR, {"max_length": TEXT}),
        }
        for field, kind in fields.items():
            schema.add_field(field, more[kind][0], **more[kind][1])
        self._call("create_collection", name, schema=schema, consistency_level="Strong")
        if self.remote or index.kind != "FLAT":  # the embedded engine compares with all where there is no index
            self._index(name, fields, index)

    def _index(self, name: str, fields: Mapping[str, str], index: Index) -> None:
        """Build indexes, and load the collection, which a server wants before it reads."""
        from pymilvus import MilvusClient

        wanted = MilvusClient.prepare_index_params()
        for field, kind in fields.items():
            if kind == "vector":
                wanted.add_index(field, index_type=index.kind, metric_type="IP", params=dict(index.build))
            elif self.remote and kind in ("key", "integer"):
                wanted.add_index(field, index_type="INVERTED")
        self._call("create_index", name, index_params=wanted, sync=False)  # there are no rows to wait for
        self.load(name)

    def load(self, name: str) -> None:
        """Make a collection ready to be read."""
        self._call("load_collection", name)

    def drop(self, name: str) -> None:
        """Remove a collection with its rows."""
        self._call("drop_collection", name)

    def count(self, name: str, filter: str = "") -> int:
        """Rows that fit."""
        return int(self._call("query", name, filter=filter, output_fields=["count(*)"])[0]["count(*)"])

    def rows(self, name: str, filter: str = "", fields: Sequence[str] = ("*",)) -> Iterator[Row]:
        """All rows that fit, in the order of `id`; as many at a time as memory allows."""
        last, page = 0, _FIRST
        while True:
            found = self._page(name, f"({filter}) and id > {last}" if filter else f"id > {last}", fields, page)
            yield from found
            if len(found) < page:
                return
            last = found[-1]["id"]
            page = int(np.clip(_BYTES // max(map(_bytes, found)), *_ROWS))

    def _page(self, name: str, filter: str, fields: Sequence[str], limit: int) -> list[Row]:
        # what pymilvus's own iterator asks for: the least ids, not any
        order = {"iterator": "True", "reduce_stop_for_best": "True"}
        return list(self._call("query", name, filter=filter, output_fields=list(fields), limit=limit, **order))

    def picked(self, name: str, ids: Iterable[int], fields: Sequence[str] = ("*",)) -> Iterator[Row]:
        """The rows of ids that there are, in the order of `id`."""
        for some in _blocks(sorted(set(ids)), _IDS):
            found = self._call("query", name, filter=f"id in {some}", output_fields=list(fields))
            yield from sorted(found, key=lambda row: row["id"])

    def insert(self, name: str, rows: Iterable[Row], after: Callable[[], object] | None = None) -> None:
        """Add rows whose ids are new; `after` is called as parts of them are written."""
        self._write("insert", name, rows, after)

    def upsert(self, name: str, rows: Iterable[Row], after: Callable[[], object] | None = None) -> None:
        """Add rows, or replace those of the same ids; `after` is called as parts of them are written."""
        self._write("upsert", name, rows, after)

    def _write(self, method: str, name: str, rows: Iterable[Row], after: Callable[[], object] | None) -> None:
        part: list[Row] = []
        size = written = 0
        for row in rows:
            part.append(row)
            size += _bytes(row)
            if size >= _BYTES:
                self._call(method, name, data=part)
                written += len(part)
                part, size = [], 0
                if after:
                    after()
        if part:
            self._call(method, name, data=part)
        self._settle(name, written + len(part))

    def _settle(self, name: str, rows: int) -> None:
        """Have the embedded engine sort rows into a file once they are many: it is slow with those that are not."""
        self._loose[name] = self._loose.get(name, 0) + rows
        if not self.remote and self._loose[name] >= _LOOSE:
            self._call("flush", name)
            self._loose[name] = 0

    def delete(self, name: str, filter: str) -> None:
        """Remove rows that fit."""
        self._call("delete", name, filter=filter)

    def remove(self, name: str, ids: Iterable[int]) -> None:
        """Remove rows by ids."""
        for some in _blocks(sorted(set(ids)), _IDS):
            self.delete(name, f"id in {some}")

    def search(self, name: str, field: str, vectors: F32, k: int, filter: str, index: Index) -> list[list[Row]]:
        """The rows with the largest inner product: `id` and `distance`, which is that product; 1 <= `k` <= 16,384."""
        asked = {"data": list(vectors), "anns_field": field, "limit": k, "filter": filter, "output_fields": ["id"]}
        how = {"metric_type": "IP", "params": dict(index.search)}
        return [list(hits) for hits in self._call("search", name, **asked, search_params=how)]

    def compact(self, name: str) -> None:
        """Ask the server to drop what was removed from its files."""
        self._call("flush", name)
        self._call("compact", name)

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        from pymilvus.exceptions import MilvusException

        try:
            return getattr(self._client, method)(*arguments, timeout=_SECONDS, **named)
        except MilvusException as error:
            raise DataError(f"Milvus at {self.name} could not do it ({_reason(error)}); try again.") from error


class _Engine:
    """Milvus Lite of a folder, for all of the process; reached over a socket that only this user can open."""

    running: ClassVar[dict[Path, _Engine]] = {}
    guard: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def at(cls, path: Path, new: bool) -> _Engine:
        with cls.guard:
            place = path.resolve()
            if place not in cls.running:
                _check_folder(path, new)
                cls.running[place] = cls(place)
            cls.running[place].users += 1
            return cls.running[place]

    def __init__(self, place: Path) -> None:
        import grpc
        from milvus_lite.adapter.grpc.servicer import MilvusServicer
        from milvus_lite.db import MilvusLite
        from milvus_lite.exceptions import MilvusLiteError
        from pymilvus.grpc_gen import milvus_pb2_grpc

        logging.getLogger("milvus_lite").addHandler(logging.NullHandler())
        self.users = 0
        self.writer = threading.Lock()
        self._place = place
        try:
            database = MilvusLite(str(place))
        except MilvusLiteError as error:
            raise DataError(f"{place} is in use by another process, and Milvus Lite serves one; close that.") from error
        except OSError as error:
            raise DataError(f"cannot open {place} ({error.strerror}); check the path.") from error
        pool = ThreadPoolExecutor(_WORKERS)
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        server = grpc.server(pool, options=unlimited)
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
        folder = tempfile.mkdtemp(prefix="magface-")
        self.uri = f"unix:{folder}/socket"
        server.add_insecure_port(self.uri)
        server.start()
        self._stop = weakref.finalize(self, _stop, server, pool, database, folder)

    def release(self) -> None:
        with self.guard:
            self.users -= 1
            if not self.users:
                del self.running[self._place]
                self._stop()


def _stop(server: Any, pool: ThreadPoolExecutor, database: Any, folder: str) -> None:
    server.stop(None).wait()
    pool.shutdown()
    database.close()
    shutil.rmtree(folder, ignore_errors=True)


def is_address(place: str) -> bool:
    """Whether a place is a server, not a folder.

    Example:
        >>> is_address("http://localhost:19530"), is_address("faces.milvus")
        (True, False)
    """
    return place.lower().startswith(("http://", "https://"))


def is_folder(place: str) -> bool:
    """Whether a path is a folder of Milvus Lite."""
    return Path(place, "collections").is_dir()


def _address(place: str) -> SplitResult:
    try:
        address = urlsplit(place)
        if address.hostname and address.port != 0 and address.path.count("/") <= 1:
            return address
    except ValueError:  # a port that is no number
        pass
    raise DataError("that is no address of a Milvus server; write http://host:port or http://host:port/database.")


def _check_folder(path: Path, new: bool) -> None:
    """Make no folders inside of what is none of Milvus Lite."""
    if is_folder(str(path)):
        return
    if new and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} is something else than a folder of Milvus Lite; choose a place where nothing is.")
    if not new:
        what = "it is no folder of Milvus Lite" if path.exists() else "nothing is there"
        raise DataError(f"there is no gallery {path}, {what}; check the path.")


def _reason(error: Exception) -> str:
    """First line of what a library says."""
    text = str(getattr(error, "message", "") or error).strip()
    return text.partition("\n")[0][:200].rstrip(".:") or type(error).__name__


def _blocks(ids: Sequence[int], size: int) -> Iterator[list[int]]:
    return (list(ids[start : start + size]) for start in range(0, len(ids), size))


def _bytes(row: Row) -> int:
    """Size of a row, about."""
    texts = sum(len(value) for value in row.values() if isinstance(value, str))
    return 64 + texts + sum(4 * len(value) for value in row.values() if isinstance(value, list | np.ndarray))
