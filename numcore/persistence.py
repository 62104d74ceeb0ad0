"""Results and estimators in one file of arrays and JSON, without pickle: a file from a stranger cannot run code.

A file is an uncompressed zip archive, which :func:`numpy.load` opens too: ``manifest.json``, and one ``.npy`` member an
array. The manifest holds a tree in which an object with one key stands for what JSON lacks, ``{"tuple": [...]}`` or
``{"array": 3}``; and the instances of the library's classes, each after those that it refers to, so what is shared
stays shared.

How an instance is taken apart and put together again:

* a dataclass (every result) and a named tuple: by its fields, through its constructor;
* any other class (estimators, costs, maps): by the parameters of its constructor, which it holds under their names (or
  those that its dict ``_saved_as`` gives), and by the attributes in which it then differs from a new instance.

Arrays lie in the byte order of the machine that wrote them, and those that were in its own order come back in that of
the machine that reads them.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import importlib
import inspect
import io
import json
import math
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import array_api_compat
import numpy as np

from numcore import __version__
from numcore.arrays import to_numpy

__all__ = ["FileError", "load", "save"]

FORMAT, VERSION = "numcore", 1
MANIFEST = "manifest.json"
SPARSE = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}
MACHINERY = ("numcore.accel", "numcore.autodiff.engine", "numcore.dispatch", "numcore.persistence", "numcore.results")
"""Modules whose classes are no data, but for their dataclasses; an instance of some changes more than itself."""
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class FileError(ValueError):
    """A file that :func:`load` refuses: damaged, tampered with, or not one that :func:`save` wrote."""


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write a result, an estimator or any of their parts to a file, from which :func:`load` makes it again.

    Parameters
    ----------
    obj : object
        An instance of a class of the library; or numbers, strings, None, NumPy and CuPy arrays (these come back as
        NumPy arrays), SciPy sparse arrays, dtypes, random generators; or tuples, lists and dicts (with str keys) of
        such.
    path : str or path-like
        Where to write. A file that is there is replaced in one step, once the new one is complete and on the disk:
        whatever happens meanwhile, a good file stays good.

    Raises
    ------
    TypeError
        If something in `obj` is no data: a function, an object of another library. The message says where it is.
    ValueError
        If an object refers to itself or is nested too deeply, or `path` is that of a device or a pipe.
    OSError
        If the file cannot be written.

    Notes
    -----
    What can be computed again (cached properties, such as a plan) is left out.

    Examples
    --------
    >>> import tempfile, numcore
    >>> from pathlib import Path
    >>> from numcore.algorithms.transport import sinkhorn
    >>> result = sinkhorn([[0.0, 1.0], [1.0, 0.0]], reg=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     numcore.save(result, Path(folder) / "plan.numcore")
    ...     again = numcore.load(Path(folder) / "plan.numcore")
    >>> again.value == result.value
    True
    """
    writer = _Writer()
    try:
        root = writer.encode(obj, "obj")
    except RecursionError:
        raise ValueError("obj is nested too deeply to be saved, or refers to itself") from None
    with _replacing(Path(os.path.realpath(os.fsdecode(path)))) as file:
        writer.write(file, root)


def load(path: str | os.PathLike[str]) -> Any:
    """Make again what :func:`save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    object

    Raises
    ------
    FileError
        If the file is truncated, damaged or tampered with, is not of this format or of a later version of it, names a
        class that is not the library's, or does not hold exactly the fields of its class. (It is a ``ValueError``.)
    OSError
        If the file cannot be read.

    Notes
    -----
    Nothing in a file is run. Constructors of the library's own classes are called with what it holds, and check it as
    they check any argument.

    Examples
    --------
    As for :func:`save`.
    """
    with open(path, "rb") as file:  # noqa: PTH123  # a path of any kind
        try:
            with zipfile.ZipFile(file) as archive:
                reader = _Reader(archive, os.fstat(file.fileno()).st_size)
                try:
                    return reader.read()
                except FileError as failure:
                    raise FileError(f"{failure}{reader.origin}") from failure.__cause__
        except FileError as failure:
            raise FileError(f"{os.fsdecode(path)}: {failure}") from failure.__cause__
        except Exception as failure:  # of a hostile file anything may be expected
            if isinstance(failure, OSError) and failure.errno != errno.EINVAL:  # which comes of seeking out of bounds
                raise
            raise FileError(f"{os.fsdecode(path)}: no complete numcore file ({failure})") from failure


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path`, that takes its place when the block ends well."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be that of a file; {path} is a device or a pipe")
    part = path.with_name(f".numcore-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Put the folder's new entry on the disk, where the system knows of such a thing and allows it."""
    if os.name == "posix":
        with suppress(OSError):  # the new file is in its place, and complete
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _own(cls: type) -> bool:
    return _within(cls, "numcore") and (dataclasses.is_dataclass(cls) or not any(_within(cls, m) for m in MACHINERY))


def _within(cls: type, package: str) -> bool:
    return cls.__module__ == package or cls.__module__.startswith(f"{package}.")


def _path_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _parameters(cls: type) -> list[str]:
    """The names of the constructor's parameters, all of which an instance has to hold."""
    names = inspect.signature(cls).parameters
    loose = [p.name for p in names.values() if p.kind in (p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
    loose += [p.name for k, p in enumerate(names.values()) if p.kind is p.VAR_POSITIONAL and k > 0]
    if loose:
        raise TypeError(f"the constructor of {_path_of(cls)} takes *{loose[0]}, so it cannot be saved")
    return list(names)


def _called(cls: type, fields: dict[str, Any]) -> Any:
    """A new instance; what a parameter ``*args`` stands for is a field too."""
    spread = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.VAR_POSITIONAL]
    named = {name: value for name, value in fields.items() if name not in spread}
    return cls(*(fields[spread[0]] if spread else ()), **named)


class _Writer:
    """Takes objects apart into a tree for JSON, a list of instances and a list of arrays."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.objects: list[dict[str, Any]] = []
        # the objects themselves are kept, so that no identity is used twice
        self._seen: dict[int, tuple[dict[str, Any] | None, Any]] = {}

    def encode(self, x: Any, where: str) -> Any:
        """`x` as a tree; `where` is its place, for errors."""
        if x is None or type(x) in (bool, int, str):
            return x
        if type(x) is float:
            return x if math.isfinite(x) else {"float": repr(x)}
        if type(x) is list:
            return [self.encode(entry, f"{where}[{k}]") for k, entry in enumerate(x)]
        if type(x) is tuple:
            return {"tuple": [self.encode(entry, f"{where}[{k}]") for k, entry in enumerate(x)]}
        if type(x) is dict:
            return {"dict": self._mapping(x, where)}
        return self._once(x, where)

    def _mapping(self, x: dict[Any, Any], where: str) -> dict[str, Any]:
        for key in x:
            if type(key) is not str:
                raise TypeError(f"{where} has the key {key!r}; keys must be str to be saved")
        return {key: self.encode(entry, f"{where}[{key!r}]") for key, entry in x.items()}

    def _once(self, x: Any, where: str) -> dict[str, Any]:
        """What may be shared is written once, and referred to."""
        known = self._seen.get(id(x))
        if known is None:
            self._seen[id(x)] = (None, x)
            known = (self._leaf(x, where), x)
            self._seen[id(x)] = known
        if known[0] is None:
            raise ValueError(f"{where} refers to an object that holds it, so it cannot be saved")
        return known[0]

    def _leaf(self, x: Any, where: str) -> dict[str, Any]:
        if isinstance(x, type):
            return self._type(x, where)
        if isinstance(x, np.generic):
            return {"scalar": self._array(np.asarray(x), where)}
        if array_api_compat.is_array_api_obj(x) and (
            not isinstance(x, np.ndarray) or type(x) in (np.ndarray, np.memmap)
        ):
            return {"array": self._array(to_numpy(x), where)}
        if isinstance(x, np.dtype):
            return {"dtype": self._dtype(x, where)}
        if isinstance(x, (np.random.Generator, np.random.RandomState)):
            return {"random": self._random(x, where)}
        if type(x).__module__.startswith("scipy.sparse.") and hasattr(x, "format"):
            return {"sparse": self._sparse(x, where)}
        if _own(type(x)):
            self.objects.append(self._instance(x, where))
            return {"object": len(self.objects) - 1}
        what = f"a function ({x.__qualname__})" if inspect.isroutine(x) else f"of {_path_of(type(x))}"
        raise TypeError(f"{where} is {what}; numcore.save keeps data and instances of the library's classes only")

    def _type(self, x: type, where: str) -> dict[str, Any]:
        if not issubclass(x, np.generic):
            raise TypeError(f"{where} is the class {_path_of(x)}; numcore.save keeps data only")
        return {"scalar_type": self._dtype(np.dtype(x), where)}

    def _array(self, x: np.ndarray[Any, Any], where: str) -> Any:
        if x.dtype.kind == "O":
            if not all(entry is None or type(entry) in (bool, int, float, str) for entry in x.flat):
                raise TypeError(f"{where} is an array of objects; only strings and numbers in it can be saved")
            return {"shape": list(x.shape), "objects": self.encode(x.ravel().tolist(), where)}
        self._dtype(x.dtype, where)
        self.arrays.append(x)
        return len(self.arrays) - 1

    def _dtype(self, dtype: np.dtype[Any], where: str) -> str:
        if dtype.kind not in "biufcSUmM":
            raise TypeError(f"{where} has the dtype {dtype}, which cannot be saved")
        return _code(dtype)

    def _random(self, x: Any, where: str) -> dict[str, Any]:
        bits = x.bit_generator if isinstance(x, np.random.Generator) else x._bit_generator
        name = type(bits).__name__
        if type(bits).__module__.partition(".")[0] != "numpy" or name not in BIT_GENERATORS:
            raise TypeError(f"{where} draws from {name}, which cannot be saved")
        state: dict[str, Any] = {"class": type(x).__name__, "state": self.encode(_plain(bits.state), where)}
        if isinstance(x, np.random.RandomState):
            legacy = x.get_state(legacy=False)
            state["gauss"] = [int(legacy["has_gauss"]), float(legacy["gauss"])]
        seed = getattr(bits, "seed_seq", None)
        if isinstance(seed, np.random.SeedSequence):
            entropy = (
                seed.entropy if seed.entropy is None or isinstance(seed.entropy, int) else list(map(int, seed.entropy))
            )
            state["seed"] = [entropy, list(map(int, seed.spawn_key)), seed.pool_size, seed.n_children_spawned]
        return state

    def _sparse(self, x: Any, where: str) -> dict[str, Any]:
        if x.format not in SPARSE or x.ndim != 2:
            raise TypeError(f"{where} is a sparse array of format {x.format}; save {', '.join(SPARSE)} instead")
        parts = {name: self._array(getattr(x, name), where) for name in SPARSE[x.format]}
        return {"class": type(x).__name__, "shape": list(map(int, x.shape)), "parts": parts}

    def _instance(self, x: Any, where: str) -> dict[str, Any]:
        cls = type(x)
        if "<locals>" in cls.__qualname__ or any(part.startswith("__") for part in cls.__module__.split(".")):
            raise TypeError(f"{where} is of {_path_of(cls)}, a class that cannot be found again")
        if dataclasses.is_dataclass(cls):
            fields = {field.name: getattr(x, field.name) for field in dataclasses.fields(cls)}
        elif isinstance(x, tuple):
            fields = dict(zip(getattr(cls, "_fields", ()), x, strict=True))
        else:
            return self._by_constructor(x, where)
        return {"class": _path_of(cls), "fields": self._attributes(fields, where)}

    def _by_constructor(self, x: Any, where: str) -> dict[str, Any]:
        cls, held = type(x), vars(x)
        kept = {name: getattr(cls, "_saved_as", {}).get(name, name) for name in _parameters(cls)}
        missing = [name for name, attribute in kept.items() if attribute not in held]
        if missing:
            raise TypeError(
                f"{where} ({_path_of(cls)}) does not hold its parameter {missing[0]}, so it cannot be saved"
            )
        parameters = {name: held[attribute] for name, attribute in kept.items()}
        encoded = self._attributes(parameters, where)
        fresh = vars(_called(cls, parameters))
        lost = [name for name in fresh if name not in held and not _is_cached(cls, name)]
        if lost:
            raise TypeError(f"{where} ({_path_of(cls)}) lacks its attribute {lost[0]}, so it cannot be saved")
        differing = {
            name: value
            for name, value in held.items()
            if name not in kept.values()
            and not _is_cached(cls, name)
            and not (name in fresh and _same(value, fresh[name]))
        }
        odd = [name for name in differing if not _settable(cls, fresh, name)]
        if odd:
            raise TypeError(
                f"{where} ({_path_of(cls)}) has the attribute {odd[0]}, neither set by the constructor nor private, "
                "nor ending in an underscore, so it cannot be saved"
            )
        return {"class": _path_of(cls), "fields": encoded, "state": self._attributes(differing, where)}

    def _attributes(self, held: dict[str, Any], where: str) -> dict[str, Any]:
        return {name: self.encode(value, f"{where}.{name}") for name, value in held.items()}

    def write(self, file: IO[bytes], root: Any) -> None:
        """The archive: the arrays, then the manifest that describes them, then the manifest's own checksum."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            entries = [_write_array(archive, _member(k), array) for k, array in enumerate(self.arrays)]
            manifest = json.dumps(
                {
                    "format": FORMAT,
                    "version": VERSION,
                    "numcore": __version__,
                    "arrays": entries,
                    "objects": self.objects,
                    "root": root,
                },
                allow_nan=False,
                ensure_ascii=True,
            ).encode()
            archive.writestr(zipfile.ZipInfo(MANIFEST), manifest)
            archive.comment = hashlib.sha256(manifest).hexdigest().encode()


def _plain(x: Any) -> Any:
    """The nested state of a bit generator, NumPy's integers as Python's."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    return x.item() if isinstance(x, np.generic) else x


def _is_cached(cls: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(cls, name, None), functools.cached_property)


def _same(x: Any, y: Any) -> bool:
    """Whether `y`, freshly computed, may stand for `x`."""
    if x is y:
        return True
    if type(x) is not type(y):
        return False
    if array_api_compat.is_array_api_obj(x):
        x, y = to_numpy(x), to_numpy(y)
        return x.dtype == y.dtype and x.shape == y.shape and bool(np.all((x == y) | ((x != x) & (y != y))))
    if isinstance(x, (list, tuple)):
        return len(x) == len(y) and all(map(_same, x, y))
    if isinstance(x, dict):
        return list(x) == list(y) and all(_same(x[key], y[key]) for key in x)
    if _own(type(x)) and hasattr(x, "__dict__"):
        return _same(
            {k: v for k, v in vars(x).items() if not _is_cached(type(x), k)},
            {k: v for k, v in vars(y).items() if not _is_cached(type(y), k)},
        )
    if isinstance(x, (np.random.Generator, np.random.RandomState)) or hasattr(x, "format"):
        return False
    answer = x == y or (x != x and y != y)
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def _member(k: int) -> str:
    return f"array{k}.npy"


def _write_array(archive: zipfile.ZipFile, name: str, x: np.ndarray[Any, Any]) -> dict[str, Any]:
    x = np.asarray(x, order="K")
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        x = np.ascontiguousarray(x)
    fortran = x.flags.f_contiguous and not x.flags.c_contiguous
    with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
        np.lib.format.write_array_header_2_0(member, {"descr": x.dtype.str, "fortran_order": fortran, "shape": x.shape})
        data = _bytes_of(x.T if fortran else x)
        member.write(data)
    return {
        "dtype": _code(x.dtype),
        "shape": list(x.shape),
        "fortran": fortran,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _bytes_of(x: np.ndarray[Any, Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return x.reshape(-1).view(np.uint8).data if x.nbytes else memoryview(b"")


class _Reader:
    """Puts together what a :class:`_Writer` took apart, and trusts nothing."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.size = archive, size
        self.origin = ""
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.objects: list[Any] = []

    def read(self) -> Any:
        """The object, once all has been checked."""
        manifest = self._manifest()
        self._check_members(len(manifest["arrays"]))
        self.arrays = [self._array(k, entry) for k, entry in enumerate(manifest["arrays"])]
        try:
            for entry in manifest["objects"]:
                self.objects.append(self._instance(entry))
            return self._decode(manifest["root"])
        except RecursionError as failure:
            raise FileError("the manifest is nested too deeply") from failure

    def _manifest(self) -> dict[str, Any]:
        names = self.archive.namelist()
        if names.count(MANIFEST) != 1:
            raise FileError("no numcore file: it holds no manifest")
        self._refuse_compressed()
        text = self.archive.read(MANIFEST)
        if hashlib.sha256(text).hexdigest().encode() != self.archive.comment:
            raise FileError("the manifest does not match its checksum")
        try:
            manifest = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as failure:
            raise FileError(f"the manifest cannot be read ({failure})") from failure
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise FileError("no numcore file: the manifest is another's")
        version, writer = manifest.get("version"), manifest.get("numcore")
        if type(writer) is str and writer != __version__:
            self.origin = f" (written by numcore {writer[:50]!r}; this is {__version__!r})"
        if type(version) is not int or version != VERSION:
            raise FileError(f"format version {version!r}; this version of numcore reads {VERSION}")
        _expect(set(manifest) == {"format", "version", "numcore", "arrays", "objects", "root"}, "the manifest")
        _expect(type(writer) is str, "the manifest")
        _expect(isinstance(manifest["arrays"], list) and isinstance(manifest["objects"], list), "the manifest")
        return manifest

    def _refuse_compressed(self) -> None:
        """Members are as large as they say: stored as they are, and no larger together than the file."""
        members = self.archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise FileError(f"{member.filename} is compressed, which numcore.save never does")
        if sum(member.file_size for member in members) > self.size:
            raise FileError("its members declare more bytes than the file has")

    def _check_members(self, count: int) -> None:
        expected = sorted([MANIFEST, *map(_member, range(count))])
        found = sorted(self.archive.namelist())
        if found != expected:
            odd = sorted(set(found) ^ set(expected)) or [name for name in found if found.count(name) > 1]
            raise FileError(f"it does not hold exactly the arrays that the manifest lists ({odd[0]})")

    def _array(self, k: int, entry: Any) -> np.ndarray[Any, Any]:
        what = f"entry {k} of the arrays"
        _expect(isinstance(entry, dict) and set(entry) == {"dtype", "shape", "fortran", "sha256"}, what)
        dtype, shape, fortran = _as_dtype(entry["dtype"]), _as_shape(entry["shape"], what), entry["fortran"]
        _expect(type(fortran) is bool and type(entry["sha256"]) is str, what)
        member = self.archive.getinfo(_member(k))
        declared = math.prod(shape) * dtype.itemsize
        if declared > member.file_size:  # before any memory is asked for
            raise FileError(f"{member.filename} declares {declared} bytes and has {member.file_size}")
        with self.archive.open(member) as file:
            head = io.BytesIO(file.read(member.file_size - declared))
            stored = self._stored_dtype(head, dtype, shape, fortran, member.filename)
            x = np.empty(shape[::-1] if fortran else shape, stored)
            data = _bytes_of(x)
            filled = 0
            while filled < declared:
                more = file.readinto(data[filled:])  # type: ignore[attr-defined]  # typeshed calls members IO[bytes]
                if not more:
                    raise FileError(f"{member.filename} ends too early")
                filled += more
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise FileError(f"{member.filename} does not match its checksum")
        x = x.astype(dtype, copy=False)
        return x.T if fortran else x

    def _stored_dtype(
        self, head: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool, name: str
    ) -> np.dtype[Any]:
        """The header's dtype: what the manifest says, or that in another machine's byte order."""
        try:
            magic, found = np.lib.format.read_magic(head), np.lib.format.read_array_header_2_0(head)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as failure:
            raise FileError(f"{name} has no header that can be read ({failure})") from failure
        stored: np.dtype[Any] = found[2]
        same = stored == dtype or (dtype.isnative and stored.newbyteorder("=") == dtype)
        if magic != (2, 0) or found[:2] != (shape, fortran) or not same or head.read(1):
            raise FileError(f"{name} is not what the manifest says")
        return stored

    def _decode(self, x: Any) -> Any:
        if x is None or type(x) in (bool, int, str):
            return x
        if type(x) is float:
            _expect(math.isfinite(x), "a float")
            return x
        if type(x) is list:
            return [self._decode(entry) for entry in x]
        _expect(isinstance(x, dict) and len(x) == 1, "a value")
        ((kind, content),) = x.items()
        decode = getattr(self, f"_as_{kind}", None) if kind in KINDS else None
        _expect(decode is not None, f"a value of kind {kind!r}")
        assert decode is not None
        return decode(content)

    def _as_float(self, x: Any) -> float:
        _expect(x in ("nan", "inf", "-inf"), "a float")
        return float(x)

    def _as_tuple(self, x: Any) -> tuple[Any, ...]:
        _expect(isinstance(x, list), "a tuple")
        return tuple(self._decode(entry) for entry in x)

    def _as_dict(self, x: Any) -> dict[str, Any]:
        _expect(isinstance(x, dict), "a dict")
        return {key: self._decode(entry) for key, entry in x.items()}

    def _as_array(self, x: Any) -> np.ndarray[Any, Any]:
        if isinstance(x, dict):
            return self._object_array(x)
        _expect(type(x) is int and 0 <= x < len(self.arrays), "a reference to an array")
        return self.arrays[x]

    def _object_array(self, x: dict[str, Any]) -> np.ndarray[Any, Any]:
        what = "an array of objects"
        _expect(set(x) == {"shape", "objects"} and isinstance(x["objects"], list), what)
        shape, entries = _as_shape(x["shape"], what), self._decode(x["objects"])
        _expect(math.prod(shape) == len(entries), what)
        _expect(all(entry is None or type(entry) in (bool, int, float, str) for entry in entries), what)
        array = np.empty(len(entries), object)
        array[:] = entries
        return array.reshape(shape)

    def _as_scalar(self, x: Any) -> Any:
        array = self._as_array(x)
        _expect(array.shape == (), "a scalar")
        return array[()]

    def _as_dtype(self, x: Any) -> np.dtype[Any]:
        return _as_dtype(x)

    def _as_scalar_type(self, x: Any) -> type:
        return _as_dtype(x).type

    def _as_random(self, x: Any) -> Any:
        _expect(
            isinstance(x, dict) and {"class", "state"} <= set(x) <= {"class", "state", "seed", "gauss"}, "a generator"
        )
        state = self._decode(x["state"])
        name = state.get("bit_generator") if isinstance(state, dict) else None
        _expect(name in BIT_GENERATORS and x["class"] in ("Generator", "RandomState"), "a generator")
        _check_positions(state)
        try:
            bits = getattr(np.random, str(name))(self._seed(x.get("seed")))
            bits.state = state
            generator = getattr(np.random, x["class"])(bits)
            if x["class"] == "RandomState":
                has_gauss, gauss = x["gauss"]
                generator.set_state({**state, "has_gauss": int(has_gauss), "gauss": float(gauss)})
        except (KeyError, TypeError, ValueError, OverflowError) as failure:
            raise FileError(f"a generator has no valid state ({failure})") from failure
        return generator

    def _seed(self, x: Any) -> Any:
        if x is None:
            return 0
        _expect(isinstance(x, list) and len(x) == 4 and type(x[2]) is int and 4 <= x[2] <= 1024, "a seed")
        entropy, key, pool, children = x
        return np.random.SeedSequence(entropy, spawn_key=key, pool_size=pool, n_children_spawned=children)

    def _as_sparse(self, x: Any) -> Any:
        import scipy.sparse

        _expect(isinstance(x, dict) and set(x) == {"class", "shape", "parts"}, "a sparse array")
        names = {f"{layout}_{kind}": layout for layout in SPARSE for kind in ("array", "matrix")}
        _expect(x["class"] in names and isinstance(x["parts"], dict), "a sparse array")
        layout = names[x["class"]]
        _expect(set(x["parts"]) == set(SPARSE[layout]), "a sparse array")
        shape = _as_shape(x["shape"], "a sparse array")
        parts = [self._as_array(x["parts"][name]) for name in SPARSE[layout]]
        content = (parts[0], tuple(parts[1:])) if layout == "coo" else tuple(parts)
        try:
            sparse = getattr(scipy.sparse, x["class"])(content, shape=shape)
            if hasattr(sparse, "check_format"):
                sparse.check_format(full_check=True)
        except (ValueError, TypeError, IndexError) as failure:
            raise FileError(f"a sparse array is not well formed ({failure})") from failure
        return sparse

    def _as_object(self, x: Any) -> Any:
        _expect(type(x) is int and 0 <= x < len(self.objects), "a reference to an object")
        return self.objects[x]

    def _instance(self, entry: Any) -> Any:
        _expect(
            isinstance(entry, dict) and {"class", "fields"} <= set(entry) <= {"class", "fields", "state"}, "an object"
        )
        _expect(all(isinstance(entry.get(key, {}), dict) for key in ("fields", "state")), "an object")
        cls = _find(entry["class"])
        fields = {name: self._decode(value) for name, value in entry["fields"].items()}
        state = {name: self._decode(value) for name, value in entry.get("state", {}).items()}
        plain = not dataclasses.is_dataclass(cls) and not hasattr(cls, "_fields")
        _check_names(cls, set(fields), _fields_of(cls))
        _expect(plain == ("state" in entry), f"an instance of {_path_of(cls)}")
        try:
            instance = _constructed(cls, fields)
        except Exception as failure:  # whatever a constructor says of what it was given
            raise FileError(f"{_path_of(cls)} refuses its fields: {failure}") from failure
        for name, value in state.items():
            if not _settable(cls, vars(instance), name):
                raise FileError(f"an instance of {_path_of(cls)} has the unknown field {name}")
            object.__setattr__(instance, name, value)
        return instance


KINDS = ("float", "tuple", "dict", "array", "scalar", "dtype", "scalar_type", "random", "sparse", "object")


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise FileError(f"{what} is not well formed")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _code(dtype: np.dtype[Any]) -> str:
    """The dtype as text: with ``=`` for the byte order of this machine, whichever that is."""
    return dtype.str.replace("<" if sys.byteorder == "little" else ">", "=", 1)


def _as_dtype(x: Any) -> np.dtype[Any]:
    _expect(type(x) is str, "a dtype")
    try:
        dtype = np.dtype(x)
    except (TypeError, ValueError) as failure:
        raise FileError(f"{x!r} is no dtype") from failure
    # arrays of text without length are made with one, and would be larger than declared
    known = dtype.kind in "biufcSUmM" and x in (_code(dtype), dtype.str) and dtype.itemsize > 0
    _expect(known, f"the dtype {x!r}")
    return dtype


def _as_shape(x: Any, what: str) -> tuple[int, ...]:
    _expect(isinstance(x, list) and len(x) <= 64 and all(type(n) is int and n >= 0 for n in x), f"the shape of {what}")
    return tuple(x)


def _check_positions(state: Any) -> None:
    """Positions in a generator's buffers, which NumPy takes on trust."""
    inner = state.get("state")
    limits = {"MT19937": (inner, "pos", 624), "Philox": (state, "buffer_pos", 4)}
    if state["bit_generator"] in limits:
        holder, name, limit = limits[state["bit_generator"]]
        position = holder.get(name) if isinstance(holder, dict) else None
        _expect(type(position) is int and 0 <= position <= limit, "the state of a generator")


def _find(path: Any) -> type:
    """A class of the library, by its path; nothing else is imported or returned."""
    _expect(type(path) is str and path.count(":") == 1, "the path of a class")
    module, qualname = path.split(":")
    parts = module.split(".")
    if parts[0] != "numcore" or not all(part.isidentifier() and not part.startswith("__") for part in parts):
        raise FileError(f"{path} is no class of numcore")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = vars(found)[part]
    except (ImportError, KeyError, TypeError) as failure:
        raise FileError(f"{path} is no class of numcore") from failure
    if not isinstance(found, type) or _path_of(found) != path or not _own(found):
        raise FileError(f"{path} is no class of numcore")
    return found


def _fields_of(cls: type) -> set[str]:
    if dataclasses.is_dataclass(cls):
        return {field.name for field in dataclasses.fields(cls)}
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return set(cls._fields)
    try:
        return set(_parameters(cls))
    except (TypeError, ValueError) as failure:
        raise FileError(f"{_path_of(cls)} is never saved ({failure})") from failure


def _check_names(cls: type, found: set[str], expected: set[str]) -> None:
    for odd, what in ((expected - found, "lacks"), (found - expected, "has the unknown")):
        if odd:
            names = ", ".join(sorted(odd))
            raise FileError(f"an instance of {_path_of(cls)} {what} field{'s' * (len(odd) > 1)} {names}")


def _constructed(cls: type, fields: dict[str, Any]) -> Any:
    if not dataclasses.is_dataclass(cls):
        return _called(cls, fields)
    late = {field.name for field in dataclasses.fields(cls) if not field.init}
    instance = cls(**{name: value for name, value in fields.items() if name not in late})
    for name in late:
        object.__setattr__(instance, name, fields[name])
    return instance


def _settable(cls: type, fresh: dict[str, Any], name: str) -> bool:
    """Whether instances may have this attribute: new ones do, or it is learned or private, and no method."""
    marked = name.endswith("_") or name.startswith("_")
    return name in fresh or (name.isidentifier() and marked and not name.startswith("__") and not hasattr(cls, name))
