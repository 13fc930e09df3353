"""The process that reads an HDF5 file: `python hdf5_child.py REQUEST RESULT MAX_BYTES`.

The HDF5 library can hang or crash on damaged files and follows links to other ones, so a file from a stranger is read
here, within limits of time and memory, and only plain arrays and texts come out. RESULT is a `.npz` without pickles:
`tree`, JSON as bytes, lists the groups and datasets, and `0`, `1`, … are the datasets' values. Refusals are told on
stdout, with exit status 3. Run by its path, it imports nothing of Thumbnet, so that it starts fast.
"""

from __future__ import annotations

import io
import json
import math
import sys
from typing import Any

import h5py
import numpy as np

MAX_OBJECTS = 1 << 16  # groups and datasets
MAX_DEPTH = 64
MAX_TEXT_BYTES = 16 << 20  # of one attribute
_MAX_SECONDS = 120
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


class RefusedError(Exception):
    """What is wrong with the file, in a sentence."""


def read(data: bytes, max_bytes: int) -> tuple[list[dict[str, Any]], list[np.ndarray[Any, Any]]]:
    """(groups and datasets, values of the datasets). What Keras keeps of its optimizer is left out."""
    tree: list[dict[str, Any]] = []
    arrays: list[np.ndarray[Any, Any]] = []
    with h5py.File(io.BytesIO(data), "r") as file:
        seen: set[Any] = set()
        total, todo = 0, [(file, 0)]
        while todo:
            item, depth = todo.pop()
            where = h5py.h5o.get_info(item.id).addr
            if where in seen or len(seen) >= MAX_OBJECTS or depth > MAX_DEPTH:
                raise RefusedError(f"'{item.name[:80]}' is linked to twice, or there is too much in the file.")
            seen.add(where)
            entry: dict[str, Any] = {"name": item.name, "attributes": _attributes(item), "array": None}
            if isinstance(item, h5py.Dataset):
                total += _size(item)
                if total > max_bytes:
                    raise RefusedError(f"It holds more than {max_bytes >> 20} MB of weights.")
                entry["array"] = len(arrays)
                arrays.append(np.asarray(item[()]))
            else:
                todo += [(member, depth + 1) for member in _members(item)]
            tree.append(entry)
    return tree, arrays


def _members(group: Any) -> list[Any]:
    count = group.id.get_num_objs()
    if count > MAX_OBJECTS:
        raise RefusedError(f"The group '{group.name[:80]}' has {count} members.")
    found = []
    for k in range(count):
        raw = group.id.get_objname_by_idx(k)
        name = raw.decode(errors="replace")[:80]
        if group.name == "/" and raw == b"optimizer_weights":
            continue
        if group.id.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
            raise RefusedError(f"'{name}' in '{group.name[:80]}' points elsewhere; links are not followed.")
        member = group[raw]
        if not isinstance(member, h5py.Group | h5py.Dataset):
            raise RefusedError(f"'{name}' is no weight.")
        found.append(member)
    return found


def _size(item: Any) -> int:
    """Bytes of a dataset of plain numbers that is stored in this very file."""
    plan = item.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise RefusedError(f"'{item.name[:80]}' is stored in another file.")
    if item.dtype.kind not in "fiub" or item.shape is None:
        raise RefusedError(f"'{item.name[:80]}' holds {item.dtype}, not numbers.")
    if any(plan.get_filter(k)[0] not in _FILTERS for k in range(plan.get_nfilters())):
        raise RefusedError(f"'{item.name[:80]}' is packed in an unusual way.")
    return math.prod(int(d) for d in item.shape) * int(item.dtype.itemsize)


def _attributes(item: Any) -> dict[str, Any]:
    """Texts, lists of texts and numbers; others are left out."""
    count = h5py.h5a.get_num_attrs(item.id)
    if count > MAX_OBJECTS:
        raise RefusedError(f"'{item.name[:80]}' has {count} attributes.")
    found: dict[str, Any] = {}
    for k in range(count):
        attribute = h5py.h5a.open(item.id, index=k)
        kind, size, name = attribute.get_type(), math.prod(attribute.shape), attribute.name.decode(errors="replace")
        if kind.get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT):
            continue
        if size * kind.get_size() > MAX_TEXT_BYTES:
            raise RefusedError(f"The attribute '{name[:80]}' of '{item.name[:80]}' is too large.")
        value = item.attrs[name]
        if isinstance(value, np.ndarray):
            found[name] = [_plain(v) for v in value.reshape(-1)]
        else:
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def _limit(max_bytes: int) -> None:
    """Memory for the file, its values, and the libraries, and processor time, should nobody wait for it any more; where
    the system can limit them.
    """
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_SECONDS, _MAX_SECONDS))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = 4 * max_bytes + (2 << 30)
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def main(request: str, result: str, max_bytes: str) -> int:
    _limit(int(max_bytes))
    with open(request, "rb") as f:
        data = f.read()
    try:
        tree, arrays = read(data, int(max_bytes))
    except RefusedError as e:
        print(e)
        return 3
    except Exception as e:  # whatever HDF5 raises on damaged bytes; the process has no other task
        print(f"It is damaged or no HDF5 file ({type(e).__name__}).")
        return 3
    told = np.frombuffer(json.dumps(tree).encode(), np.uint8)
    np.savez(result, tree=told, **{str(k): a for k, a in enumerate(arrays)})  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
